// GGUF names pre-tokenizers instead of giving their patterns: what each name stands for.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <vector>

namespace smelt {

struct PreTokenizerName {
    std::string_view name;
    std::array<std::string_view, 5> patterns;  // applied in order; the rest are empty
    // As the models of this name have it.
    bool nfc = false, ignore_merges = false, add_bos = false;

    std::vector<std::string> list() const;
};

// Null: not known.
const PreTokenizerName* find_pre_tokenizer(std::string_view name);
// The name that is written for these patterns; null: there is none.
const PreTokenizerName* name_of_patterns(const std::vector<std::string>& patterns);
std::string known_pre_tokenizers();

}  // namespace smelt
