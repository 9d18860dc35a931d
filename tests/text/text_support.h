// Random Unicode text and small vocabularies for the tests of text/.
#pragma once

#include <random>
#include <string>
#include <vector>

#include "text/unicode.h"
#include "text/vocabulary.h"

namespace smelt {

// Code points of all planes, weighted to those where tokenizers differ; no surrogates.
inline char32_t random_char(std::mt19937& rng) {
    const auto between = [&](uint32_t low, uint32_t high) {
        return static_cast<char32_t>(std::uniform_int_distribution<uint32_t>(low, high)(rng));
    };
    switch (between(0, 11)) {
        case 0:
        case 1:
            return between(' ', '~');
        case 2:
        case 3:
            return U" \n\r\t'\u00a0\u3000\u2028 \n"[between(0, 9)];
        case 4:
            return U"'stmdrevlSTMDREVL\u017f1234567890"[between(0, 27)];
        case 5:
            return between(0x80, 0x52f);
        case 6:
            return between(0x300, 0x36f);  // combining marks
        case 7:
            return between(0x4e00, 0x9fff);
        case 8:
            return between(0x1f300, 0x1faff);
        case 9:
            return between(0, 0xd7ff);
        case 10:
            return between(0x1100, 0x11ff);  // Hangul parts
        default:
            return between(0xe000, 0x10ffff);
    }
}

inline std::string random_text(std::mt19937& rng, int max_chars) {
    std::string text;
    for (int n = std::uniform_int_distribution<int>(0, max_chars)(rng); n > 0; --n) {
        append_utf8(text, random_char(rng));
    }
    return text;
}

inline std::string random_bytes(std::mt19937& rng, size_t n) {
    std::string bytes(n, '\0');
    for (char& c : bytes) c = static_cast<char>(rng());
    return bytes;
}

// The 256 bytes in order, without merges.
inline Vocabulary byte_vocabulary() {
    Vocabulary v;
    for (int b = 0; b < 256; ++b) v.tokens.emplace_back(1, static_cast<char>(b));
    v.types.assign(256, TokenType::normal);
    v.patterns = {std::string(qwen2_pattern)};
    return v;
}

inline int32_t add_token(Vocabulary& v, const std::string& text, TokenType type = TokenType::normal) {
    v.tokens.push_back(text);
    v.types.push_back(type);
    return v.n_tokens() - 1;
}

inline int32_t add_merge(Vocabulary& v, int32_t left, int32_t right) {
    const int32_t id =
        add_token(v, v.tokens[static_cast<size_t>(left)] + v.tokens[static_cast<size_t>(right)]);
    v.merges.push_back({left, right, id});
    return id;
}

}  // namespace smelt
