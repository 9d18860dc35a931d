// Letters and blanks of ASCII text, whatever the locale; other bytes stay as they are.
#pragma once

#include <string>
#include <string_view>

namespace smelt {

inline std::string ascii_lower(std::string_view text) {
    std::string s(text);
    for (char& c : s) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
    return s;
}

inline std::string ascii_upper(std::string_view text) {
    std::string s(text);
    for (char& c : s) c = c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c;
    return s;
}

// Without `blanks` at both ends.
inline std::string_view trimmed(std::string_view text, std::string_view blanks = " \t\r\n") {
    const size_t first = text.find_first_not_of(blanks);
    if (first == std::string_view::npos) return {};
    return text.substr(first, text.find_last_not_of(blanks) - first + 1);
}

}  // namespace smelt
