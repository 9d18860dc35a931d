// Classes and mappings of one character come from utf8proc, the rest from a table.
#include "text/jinja/unicode.h"

#include <string.h>
#include <utf8proc.h>

#include <algorithm>

#include "text/jinja/special_casing.h"

namespace smelt::jinja {

namespace {

bool is_continuation(char c) {
    return (static_cast<unsigned char>(c) & 0xc0) == 0x80;
}

utf8proc_category_t category(char32_t c) {
    return utf8proc_category(static_cast<utf8proc_int32_t>(c));
}

void append_upper(std::string& out, char32_t c) {
    if (c < 0x80) {
        out += static_cast<char>(c >= 'a' && c <= 'z' ? c - 32 : c);
    } else if (const SpecialCase* special = special_case(c)) {
        out += special->upper;
    } else {
        append_char(out, static_cast<char32_t>(utf8proc_toupper(static_cast<utf8proc_int32_t>(c))));
    }
}

void append_title(std::string& out, char32_t c) {
    if (c < 0x80) {
        append_upper(out, c);
    } else if (const SpecialCase* special = special_case(c)) {
        out += special->title;
    } else {
        append_char(out, static_cast<char32_t>(utf8proc_totitle(static_cast<utf8proc_int32_t>(c))));
    }
}

// A capital sigma becomes the final form behind a letter with none following.
bool is_final_sigma(std::string_view text, size_t begin, size_t end) {
    const auto ignorable = [](char32_t c) {
        const auto k = category(c);
        return c == '\'' || c == '.' || c == ':' || c == 0xb7 || c == 0x2019 || k == UTF8PROC_CATEGORY_MN ||
               k == UTF8PROC_CATEGORY_ME || k == UTF8PROC_CATEGORY_CF || k == UTF8PROC_CATEGORY_LM ||
               k == UTF8PROC_CATEGORY_SK;
    };
    bool before = false;
    while (begin > 0) {
        const char32_t c = previous_char(text, begin);
        if (ignorable(c)) continue;
        before = is_cased(c);
        break;
    }
    while (before && end < text.size()) {
        const char32_t c = next_char(text, end);
        if (!ignorable(c)) return !is_cased(c);
    }
    return before;
}

void append_lower(std::string& out, std::string_view text, size_t begin, size_t end, char32_t c) {
    if (c < 0x80) {
        out += static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c);
    } else if (c == 0x130) {
        out += "i\xcc\x87";
    } else if (c == 0x3a3) {
        append_char(out, is_final_sigma(text, begin, end) ? 0x3c2 : 0x3c3);
    } else {
        append_char(out, static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))));
    }
}

}  // namespace

size_t find_invalid_utf8(std::string_view text) {
    const auto* bytes = reinterpret_cast<const utf8proc_uint8_t*>(text.data());
    size_t at = 0;
    while (at < text.size()) {
        if (bytes[at] < 0x80) {
            ++at;
            continue;
        }
        utf8proc_int32_t c;
        const auto n = utf8proc_iterate(bytes + at, static_cast<utf8proc_ssize_t>(text.size() - at), &c);
        if (n <= 0) return at;
        at += static_cast<size_t>(n);
    }
    return std::string_view::npos;
}

size_t count_chars(std::string_view text) {
    return static_cast<size_t>(
        std::count_if(text.begin(), text.end(), [](char c) { return !is_continuation(c); }));
}

size_t char_offset(std::string_view text, size_t n) {
    for (size_t at = 0; at < text.size(); ++at) {
        if (!is_continuation(text[at]) && n-- == 0) return at;
    }
    return text.size();
}

char32_t next_char(std::string_view text, size_t& at) {
    const auto byte = [&](size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u; };
    const uint32_t first = byte(at++);
    if (first < 0xc0) return first;
    const int n_more = first < 0xe0 ? 1 : first < 0xf0 ? 2 : 3;
    char32_t c = first & (0x3fu >> n_more);
    for (int i = 0; i < n_more; ++i) c = (c << 6) | (byte(at++) & 0x3fu);
    at = std::min(at, text.size());
    return c;
}

char32_t previous_char(std::string_view text, size_t& at) {
    do {
        --at;
    } while (at > 0 && is_continuation(text[at]));
    size_t end = at;
    return next_char(text, end);
}

void append_char(std::string& out, char32_t c) {
    utf8proc_uint8_t bytes[4];
    const auto n = utf8proc_encode_char(static_cast<utf8proc_int32_t>(c), bytes);
    out.append(reinterpret_cast<const char*>(bytes), static_cast<size_t>(n));
}

bool is_space(char32_t c) {
    return (c >= 0x09 && c <= 0x0d) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f ||
           c == 0x3000;
}

bool is_line_end(char32_t c) {
    return (c >= 0x0a && c <= 0x0d) || (c >= 0x1c && c <= 0x1e) || c == 0x85 || c == 0x2028 || c == 0x2029;
}

bool is_alpha(char32_t c) {
    const auto k = category(c);
    return k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LO;
}

bool is_decimal(char32_t c) {
    return category(c) == UTF8PROC_CATEGORY_ND;
}

bool is_digit(char32_t c) {
    return is_decimal(c) || is_in(other_digits, c);
}

bool is_numeric(char32_t c) {
    const auto k = category(c);
    return k == UTF8PROC_CATEGORY_ND || k == UTF8PROC_CATEGORY_NL || k == UTF8PROC_CATEGORY_NO ||
           is_in(numeric_letters, c);
}

bool is_upper(char32_t c) {
    return category(c) == UTF8PROC_CATEGORY_LU || is_in(other_uppercase, c);
}

bool is_lower(char32_t c) {
    return category(c) == UTF8PROC_CATEGORY_LL || is_in(other_lowercase, c);
}

bool is_title(char32_t c) {
    return category(c) == UTF8PROC_CATEGORY_LT;
}

bool is_printable(char32_t c) {
    if (c < 0x7f) return c >= 0x20;
    const auto k = category(c);
    return k != UTF8PROC_CATEGORY_CN && (k < UTF8PROC_CATEGORY_ZS || k > UTF8PROC_CATEGORY_CO);
}

std::string to_upper(std::string_view text) {
    std::string out;
    out.reserve(text.size());
    for (size_t at = 0; at < text.size();) append_upper(out, next_char(text, at));
    return out;
}

std::string to_lower(std::string_view text) {
    std::string out;
    out.reserve(text.size());
    for (size_t at = 0; at < text.size();) {
        const size_t begin = at;
        const char32_t c = next_char(text, at);
        append_lower(out, text, begin, at, c);
    }
    return out;
}

std::string case_folded(std::string_view text) {
    std::string out;
    out.reserve(text.size());
    for (size_t at = 0; at < text.size();) {
        utf8proc_int32_t folded[8];
        int boundary = 0;
        const auto n = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(next_char(text, at)), folded,
                                               std::ssize(folded), UTF8PROC_CASEFOLD, &boundary);
        for (utf8proc_ssize_t i = 0; i < n; ++i) append_char(out, static_cast<char32_t>(folded[i]));
    }
    return out;
}

std::string to_title(std::string_view text) {
    std::string out;
    out.reserve(text.size());
    bool inside = false;
    for (size_t at = 0; at < text.size();) {
        const size_t begin = at;
        const char32_t c = next_char(text, at);
        if (inside) {
            append_lower(out, text, begin, at, c);
        } else {
            append_title(out, c);
        }
        inside = is_cased(c);
    }
    return out;
}

std::string to_capitalized(std::string_view text) {
    std::string out;
    if (text.empty()) return out;
    out.reserve(text.size());
    size_t at = 0;
    append_title(out, next_char(text, at));
    while (at < text.size()) {
        const size_t begin = at;
        const char32_t c = next_char(text, at);
        append_lower(out, text, begin, at, c);
    }
    return out;
}

std::string swap_case(std::string_view text) {
    std::string out;
    out.reserve(text.size());
    for (size_t at = 0; at < text.size();) {
        const size_t begin = at;
        const char32_t c = next_char(text, at);
        if (is_upper(c)) {
            append_lower(out, text, begin, at, c);
        } else if (is_lower(c)) {
            append_upper(out, c);
        } else {
            append_char(out, c);
        }
    }
    return out;
}

std::string_view strip_left(std::string_view text) {
    size_t at = 0;
    while (at < text.size()) {
        size_t next = at;
        if (!is_space(next_char(text, next))) break;
        at = next;
    }
    return text.substr(at);
}

std::string_view strip_right(std::string_view text) {
    size_t end = text.size();
    while (end > 0) {
        size_t before = end;
        if (!is_space(previous_char(text, before))) break;
        end = before;
    }
    return text.substr(0, end);
}

size_t find_bytes(std::string_view text, std::string_view needle, size_t from) {
    if (from > text.size()) return std::string_view::npos;
    if (needle.empty()) return from;
    // memmem is two-way: no pair of strings makes it quadratic, unlike string_view::find.
    const void* found = memmem(text.data() + from, text.size() - from, needle.data(), needle.size());
    if (!found) return std::string_view::npos;
    return static_cast<size_t>(static_cast<const char*>(found) - text.data());
}

}  // namespace smelt::jinja
