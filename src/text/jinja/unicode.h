// Python's view of text for the template interpreter: code points, character classes, case. Input is valid
// UTF-8 throughout; what is built from it stays so.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace smelt::jinja {

// Offset of the first byte that is not UTF-8; npos where all is well.
size_t find_invalid_utf8(std::string_view text);

size_t count_chars(std::string_view text);
// Byte offset of code point n; text.size() where n is behind the end.
size_t char_offset(std::string_view text, size_t n);
// The code point at byte offset `at`, which moves behind it.
char32_t next_char(std::string_view text, size_t& at);
// The code point that ends before byte offset `at`, which moves to its first byte.
char32_t previous_char(std::string_view text, size_t& at);
void append_char(std::string& out, char32_t c);

bool is_space(char32_t c);
bool is_line_end(char32_t c);
bool is_alpha(char32_t c);
bool is_decimal(char32_t c);
bool is_digit(char32_t c);
bool is_numeric(char32_t c);
bool is_upper(char32_t c);
bool is_lower(char32_t c);
bool is_title(char32_t c);
bool is_printable(char32_t c);
inline bool is_cased(char32_t c) {
    return is_upper(c) || is_lower(c) || is_title(c);
}

std::string to_upper(std::string_view text);
std::string to_lower(std::string_view text);
std::string case_folded(std::string_view text);     // for comparisons
std::string to_title(std::string_view text);        // str.title(): each word
std::string to_capitalized(std::string_view text);  // first character in title case, the rest lower
std::string swap_case(std::string_view text);

inline bool is_digit_ascii(char c) {
    return c >= '0' && c <= '9';
}

std::string_view strip_left(std::string_view text);
std::string_view strip_right(std::string_view text);
inline std::string_view strip(std::string_view text) {
    return strip_left(strip_right(text));
}

// First position of needle at or behind `from`; linear whatever the two hold.
size_t find_bytes(std::string_view text, std::string_view needle, size_t from = 0);
// What that takes at worst, in bytes copied: long needles may agree with much of the text.
inline size_t search_cost(std::string_view text, std::string_view needle) {
    return text.size() * (needle.size() <= 32 ? 2 : 8);
}

}  // namespace smelt::jinja
