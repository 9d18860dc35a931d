// tokenizer.json taken apart without meaning yet: a vocabulary of 150,000 entries and its merges as plain
// lists, everything else as a small JSON tree. One pass, because a tree of all of it would be slow (Json's
// objects are searched linearly).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/json.h"

namespace smelt {

struct TokenizerJson {
    Json rest;                                                // without model.vocab and model.merges
    std::vector<std::string> tokens;                          // model.vocab: spellings in file order
    std::vector<int32_t> ids;                                 // and their ids
    std::vector<std::pair<std::string, std::string>> merges;  // model.merges: spellings
};

// Throws Error where the text is no JSON, or the two lists are not what they must be.
TokenizerJson parse_tokenizer_json(std::string_view text, std::string_view source);

}  // namespace smelt
