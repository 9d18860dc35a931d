// The part of a Hugging Face folder that is about pictures, as a model file of its own with the names of
// llama.cpp's mmproj files.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/json.h"
#include "files/family.h"
#include "files/readers.h"

namespace smelt {

// From a whole config.json and preprocessor_config.json (empty text: there is none); null where the model has
// no tower. Refuses what the code does not know, as the text's reader does.
std::shared_ptr<ModelFile> read_vision_config(const Json& config, std::string_view preprocessor,
                                              const Family& family, const std::string& folder);

// Whether a tensor's name is the tower's; then the entry has the name that its table knows, and two
// dimensions.
bool take_vision_name(SafetensorsEntry& entry);
// GGUF names deep mergers by their layers, Hugging Face counts them.
std::string vision_name(const Family& tower, const ModelFile& vision, const std::string& hf_name);

}  // namespace smelt
