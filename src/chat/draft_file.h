// The model that drafts for another one: opened, and found to speak the same tokens.
#pragma once

#include <filesystem>
#include <memory>

#include "model/model.h"
#include "text/tokenizer.h"

namespace smelt {

struct OpenedDraft {
    std::shared_ptr<const ModelFile> file;
    std::unique_ptr<Model> model;
};

// `large` is the vocabulary of the model that it drafts for; null: that has none, and the sizes must agree.
// Throws Error where the vocabularies differ, or where the model carries states.
OpenedDraft open_draft_model(const std::filesystem::path& path, const Tokenizer* large,
                             const ModelConfig& large_config, Backend& backend);

}  // namespace smelt
