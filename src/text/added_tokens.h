// Finds added tokens in text: at each place the longest that begins there, from left to right, with the flags
// of Hugging Face's tokenizers.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "text/vocabulary.h"

namespace smelt {

class AddedTokenMatcher {
 public:
    // At most this long; a place in the text costs as many steps at worst.
    static constexpr size_t max_token_bytes = 4096;

    void insert(const AddedToken& token, std::string_view text);
    bool empty() const { return tokens_.empty(); }

    struct Part {
        std::string_view text;
        int32_t id;  // -1: text to encode
    };
    // The whole text in order, without empty parts. parse_special = false leaves special tokens in the text,
    // and so does one of the ascending offsets plain_at inside of one.
    std::vector<Part> split(std::string_view text, bool parse_special,
                            std::span<const size_t> plain_at = {}) const;

 private:
    struct Match {
        size_t length = 0;  // 0: none
        int32_t index = -1;
    };
    Match longest_at(std::string_view text, size_t begin) const;

    std::vector<AddedToken> tokens_;
    std::vector<int32_t> node_token_ = {-1};           // by node of the trie: index into tokens_, or -1
    std::unordered_map<uint64_t, uint32_t> children_;  // node << 8 | byte
    std::array<bool, 256> starts_{};                   // first bytes of tokens
};

}  // namespace smelt
