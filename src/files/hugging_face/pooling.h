// How a model made for embeddings pools its hidden states. sentence-transformers' folders say it in
// modules.json and the config.json of a folder that it names; in metadata it is
// "<architecture>.pooling_type", as in GGUF.
#pragma once

#include <cstdint>
#include <filesystem>

#include "files/model_file.h"

namespace smelt {

// GGUF's numbers.
enum class PoolingType : int64_t { none = 0, mean = 1, first = 2, last = 3, rank = 4 };

// Of a Hugging Face folder. What smelt does not do is added to model.refused by name.
void read_pooling(const std::filesystem::path& folder, ModelFile& model);
void write_pooling(const ModelFile& model, const std::filesystem::path& folder);

}  // namespace smelt
