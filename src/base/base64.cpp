// Six bits a character.
#include "base/base64.h"

#include <cstdint>

namespace smelt {

namespace {

int value_of(char c) {
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    if (c == '+' || c == '-') return 62;
    return c == '/' || c == '_' ? 63 : -1;
}

}  // namespace

std::optional<std::string> decode_base64(std::string_view text) {
    std::string bytes;
    bytes.reserve(text.size() / 4 * 3 + 2);
    uint32_t bits = 0;
    int n = 0, n_padding = 0;  // characters of the group
    for (const char c : text) {
        if (c == ' ' || c == '\n' || c == '\r' || c == '\t') continue;
        if (c == '=') {
            if (++n_padding > 2) return std::nullopt;
            continue;
        }
        const int value = value_of(c);
        if (value < 0 || n_padding > 0) return std::nullopt;
        bits = bits << 6 | static_cast<uint32_t>(value);
        if (++n < 4) continue;
        for (const int shift : {16, 8, 0}) bytes += static_cast<char>(bits >> shift & 0xff);
        bits = 0;
        n = 0;
    }
    if (n == 1 || (n_padding > 0 && n + n_padding != 4)) return std::nullopt;
    if (n >= 2) bytes += static_cast<char>(bits >> (n == 2 ? 4 : 10) & 0xff);
    if (n == 3) bytes += static_cast<char>(bits >> 2 & 0xff);
    return bytes;
}

}  // namespace smelt
