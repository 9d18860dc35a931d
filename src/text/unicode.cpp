#include "text/unicode.h"

#include <utf8proc.h>

#include <cstddef>

namespace smelt {

namespace detail {

// Well-formed sequences are those of table 3-7 of the Unicode standard.
Utf8Char decode_multibyte(const char* p, const char* end) {
    const auto first = static_cast<unsigned char>(*p);
    int length = 0;
    unsigned char low = 0x80, high = 0xbf;  // of the second byte
    char32_t value = 0;
    if (first >= 0xc2 && first <= 0xdf) {
        length = 2;
        value = first & 0x1fu;
    } else if (first >= 0xe0 && first <= 0xef) {
        length = 3;
        value = first & 0x0fu;
        if (first == 0xe0) low = 0xa0;
        if (first == 0xed) high = 0x9f;
    } else if (first >= 0xf0 && first <= 0xf4) {
        length = 4;
        value = first & 0x07u;
        if (first == 0xf0) low = 0x90;
        if (first == 0xf4) high = 0x8f;
    } else {
        return {invalid_char, 1, false};
    }
    for (int i = 1; i < length; ++i) {
        if (p + i == end) return {invalid_char, i, true};
        const auto b = static_cast<unsigned char>(p[i]);
        if (b < low || b > high) return {invalid_char, i, false};
        low = 0x80;
        high = 0xbf;
        value = value << 6 | (b & 0x3fu);
    }
    return {value, length, false};
}

namespace {

constexpr std::array<CharClass, 128> make_ascii_class() {
    std::array<CharClass, 128> classes{};
    for (int c = 'a'; c <= 'z'; ++c) classes[c] = classes[c - 'a' + 'A'] = CharClass::letter;
    for (int c = '0'; c <= '9'; ++c) classes[c] = CharClass::number;
    for (const char c : {' ', '\t', '\v', '\f'}) classes[c] = CharClass::space;
    classes['\n'] = classes['\r'] = CharClass::newline;
    return classes;
}

}  // namespace

constexpr std::array<CharClass, 128> ascii_class = make_ascii_class();

CharClass classify_wide(char32_t c) {
    if (c == invalid_char) return CharClass::other;
    switch (utf8proc_category(static_cast<utf8proc_int32_t>(c))) {
        case UTF8PROC_CATEGORY_LU:
        case UTF8PROC_CATEGORY_LL:
        case UTF8PROC_CATEGORY_LT:
        case UTF8PROC_CATEGORY_LM:
        case UTF8PROC_CATEGORY_LO:
            return CharClass::letter;
        case UTF8PROC_CATEGORY_ND:
        case UTF8PROC_CATEGORY_NL:
        case UTF8PROC_CATEGORY_NO:
            return CharClass::number;
        case UTF8PROC_CATEGORY_ZS:
        case UTF8PROC_CATEGORY_ZL:
        case UTF8PROC_CATEGORY_ZP:
            return CharClass::space;
        default:
            return c == 0x85 ? CharClass::space : CharClass::other;  // NEXT LINE is White_Space, but Cc
    }
}

}  // namespace detail

void append_utf8(std::string& out, char32_t c) {
    utf8proc_uint8_t bytes[4];
    const auto length = utf8proc_encode_char(static_cast<utf8proc_int32_t>(c), bytes);
    out.append(reinterpret_cast<const char*>(bytes), static_cast<size_t>(length));
}

std::string replace_broken_utf8(std::string text) {
    const char* const begin = text.data();
    const char* const end = begin + text.size();
    const char* p = begin;
    while (p != end) {
        const Utf8Char c = decode_utf8(p, end);
        if (c.value == invalid_char) break;
        p += c.length;
    }
    if (p == end) return text;
    std::string out(begin, p);
    while (p != end) {
        const Utf8Char c = decode_utf8(p, end);
        if (c.value == invalid_char) {
            out += replacement_char;
        } else {
            out.append(p, static_cast<size_t>(c.length));
        }
        p += c.length;
    }
    return out;
}

size_t truncated_tail(std::string_view text) {
    const char* const end = text.data() + text.size();
    for (size_t n = 1; n <= 3 && n <= text.size(); ++n) {
        if ((static_cast<unsigned char>(end[-static_cast<ptrdiff_t>(n)]) & 0xc0u) == 0x80) continue;
        const Utf8Char c = decode_utf8(end - n, end);
        return c.truncated && static_cast<size_t>(c.length) == n ? n : 0;
    }
    return 0;
}

bool is_word_char(char32_t c) {
    if (c == invalid_char) return false;
    switch (utf8proc_category(static_cast<utf8proc_int32_t>(c))) {
        case UTF8PROC_CATEGORY_MN:
        case UTF8PROC_CATEGORY_MC:
        case UTF8PROC_CATEGORY_ME:
        case UTF8PROC_CATEGORY_ND:
        case UTF8PROC_CATEGORY_NL:
        case UTF8PROC_CATEGORY_PC:
            return true;
        default:
            return classify(c) == CharClass::letter;
    }
}

}  // namespace smelt
