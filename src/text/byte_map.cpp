// Bytes that are printable in Latin-1 stand for themselves, the others for the characters from U+0100 on, in
// order.
#include "text/byte_map.h"

#include <array>
#include <cstdint>

#include "text/unicode.h"

namespace smelt {

namespace {

struct ByteMap {
    std::array<char32_t, 256> to_char{};
    std::array<int16_t, 0x144> to_byte{};  // -1: not in the map

    ByteMap() {
        to_byte.fill(-1);
        char32_t next = 0x100;
        for (char32_t b = 0; b < 256; ++b) {
            const bool printable =
                (b >= '!' && b <= '~') || (b >= 0xa1 && b <= 0xac) || (b >= 0xae && b <= 0xff);
            to_char[b] = printable ? b : next++;
            to_byte[to_char[b]] = static_cast<int16_t>(b);
        }
    }

    int byte_of(char32_t c) const { return c < to_byte.size() ? to_byte[c] : -1; }
};

const ByteMap map;

}  // namespace

std::string spell_bytes(std::string_view bytes) {
    std::string out;
    for (const char b : bytes) append_utf8(out, map.to_char[static_cast<unsigned char>(b)]);
    return out;
}

std::optional<std::string> unspell_bytes(std::string_view spelling) {
    std::string out;
    for (const char* p = spelling.data(); p != spelling.data() + spelling.size();) {
        const Utf8Char c = decode_utf8(p, spelling.data() + spelling.size());
        const int byte = map.byte_of(c.value);
        if (byte < 0) return std::nullopt;
        out += static_cast<char>(byte);
        p += c.length;
    }
    return out;
}

std::string unspell_bytes_or_keep(std::string_view spelling) {
    std::string out;
    for (const char* p = spelling.data(); p != spelling.data() + spelling.size();) {
        const Utf8Char c = decode_utf8(p, spelling.data() + spelling.size());
        const int byte = map.byte_of(c.value);
        if (byte < 0) {
            out.append(p, static_cast<size_t>(c.length));
        } else {
            out += static_cast<char>(byte);
        }
        p += c.length;
    }
    return out;
}

}  // namespace smelt
