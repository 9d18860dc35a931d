// UTF-8 and the few Unicode properties that tokenizers ask for. Bytes that are not UTF-8 are never refused:
// they come out as `invalid_char`, one maximal broken sequence at a time.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace smelt {

constexpr char32_t invalid_char = 0xffffffff;
constexpr std::string_view replacement_char = "\xef\xbf\xbd";

struct Utf8Char {
    char32_t value;  // invalid_char for a broken sequence
    int length;      // bytes
    bool truncated;  // broken only because the text ends here
};

namespace detail {
Utf8Char decode_multibyte(const char* p, const char* end);
}

// The character at p; p < end.
inline Utf8Char decode_utf8(const char* p, const char* end) {
    const auto b = static_cast<unsigned char>(*p);
    if (b < 0x80) return {b, 1, false};
    return detail::decode_multibyte(p, end);
}

void append_utf8(std::string& out, char32_t c);

// Broken sequences as U+FFFD.
std::string replace_broken_utf8(std::string text);

// Bytes at the end that may become a character when more bytes follow.
size_t truncated_tail(std::string_view text);

// What pre-tokenizer patterns distinguish.
enum class CharClass : uint8_t {
    other,
    letter,   // \p{L}
    number,   // \p{N}
    space,    // \s without the next
    newline,  // \r \n
};

namespace detail {
CharClass classify_wide(char32_t c);
extern const std::array<CharClass, 128> ascii_class;
}  // namespace detail

inline CharClass classify(char32_t c) {
    return c < 0x80 ? detail::ascii_class[c] : detail::classify_wide(c);
}

inline bool is_white_space(char32_t c) {
    return classify(c) >= CharClass::space;
}

// \w: letters, marks, digits, connectors.
bool is_word_char(char32_t c);

}  // namespace smelt
