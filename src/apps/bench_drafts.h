// smelt bench --speculate, --draft-model: how much faster answers are with drafts, by the kind of text.
#pragma once

#include <functional>
#include <string>

#include "engine/draft_policy.h"
#include "engine/kv_formats.h"
#include "model/model.h"

namespace smelt {

struct DraftBenchOptions {
    DraftOptions drafts = {};
    int n_runs = 5;
    KvFormats kv = {};
    bool json = false;
    // Of the model; null: it has no vocabulary, and words stand for tokens.
    std::function<std::vector<int32_t>(const std::string&)> encode = {};
};

// `draft` is the model that guesses; null: none. Prints a row for each kind of text.
void bench_drafts(const std::string& name, const Model& model, const Model* draft, Backend& backend,
                  const DraftBenchOptions& options);

}  // namespace smelt
