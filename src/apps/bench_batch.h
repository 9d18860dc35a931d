// smelt bench --batch: decode of several sequences at once.
#pragma once

#include <string>
#include <vector>

#include "engine/kv_formats.h"
#include "model/model.h"

namespace smelt {

struct BatchBenchOptions {
    std::vector<int> n_seqs;  // a measurement each
    int n_decode = 64, depth = 0, chunk = 512, n_runs = 5;
    KvFormats kv = {};
    bool json = false;
};

// Prints a table with a row for each of `n_seqs`. Throws Error when the KV cache of the most does not fit.
void bench_batch(const std::string& name, const Model& model, Backend& backend,
                 const BatchBenchOptions& options);

}  // namespace smelt
