// Most text is known to be in NFC by ranges of characters that no normalisation touches; only stretches with
// other characters are decomposed, ordered and composed, with utf8proc's tables.
#include "text/nfc.h"

#include <utf8proc.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "base/error.h"
#include "text/unicode.h"

namespace smelt {

namespace {

// Characters that are starters, stay as they are and never compose with what stands before them
// (NFC_Quick_Check = Yes and combining class 0). Not all of them: the rest takes the long way.
// tests/text/nfc_test.cpp compares with utf8proc.
constexpr std::pair<char32_t, char32_t> inert_ranges[] = {
    {0x0000, 0x02ff},   {0x0388, 0x0482},   {0x048a, 0x052f},   {0x05d0, 0x05ea}, {0x0620, 0x064a},
    {0x0660, 0x066f},   {0x0671, 0x06d3},   {0x0904, 0x0939},   {0x0e01, 0x0e37}, {0x0e3f, 0x0e47},
    {0x10a0, 0x10ff},   {0x1e00, 0x1eff},   {0x2002, 0x20cf},   {0x2100, 0x2125}, {0x2127, 0x2129},
    {0x212c, 0x2328},   {0x232b, 0x2adb},   {0x2add, 0x2cee},   {0x2e80, 0x3029}, {0x3030, 0x3098},
    {0x309b, 0xa66e},   {0xac00, 0xd7a3},   {0xe000, 0xf8ff},   {0xfe00, 0xfe0f}, {0xff00, 0xffef},
    {0x1f000, 0x1faff}, {0x20000, 0x2f7ff}, {0x30000, 0x3ffff},
};

bool is_inert(char32_t c) {
    if (c <= inert_ranges[0].second) return true;
    const auto* range = std::upper_bound(std::begin(inert_ranges), std::end(inert_ranges), c,
                                         [](char32_t value, const auto& r) { return value < r.first; });
    return c <= std::prev(range)->second;
}

// `text` is valid UTF-8.
void append_composed(std::string_view text, std::string& out) {
    std::vector<utf8proc_int32_t> chars;
    std::vector<utf8proc_int32_t> parts(32);
    for (const char* p = text.data(); p != text.data() + text.size();) {
        const Utf8Char c = decode_utf8(p, text.data() + text.size());
        const auto n =
            utf8proc_decompose_char(static_cast<utf8proc_int32_t>(c.value), parts.data(),
                                    static_cast<utf8proc_ssize_t>(parts.size()), UTF8PROC_DECOMPOSE, nullptr);
        CHECK(n > 0 && n <= static_cast<utf8proc_ssize_t>(parts.size()), "U+{:04X}",
              static_cast<uint32_t>(c.value));
        chars.insert(chars.end(), parts.begin(), parts.begin() + n);
        p += c.length;
    }

    // Canonical order: stable by combining class between starters. (utf8proc's own ordering is quadratic.)
    const auto combining_class = [](utf8proc_int32_t c) { return utf8proc_get_property(c)->combining_class; };
    const auto is_starter = [&](utf8proc_int32_t c) { return combining_class(c) == 0; };
    for (auto it = chars.begin(); it != chars.end();) {
        const auto end = std::find_if(it, chars.end(), is_starter);
        std::stable_sort(it, end, [&](auto a, auto b) { return combining_class(a) < combining_class(b); });
        it = std::find_if_not(end, chars.end(), is_starter);
    }

    const auto n =
        utf8proc_normalize_utf32(chars.data(), static_cast<utf8proc_ssize_t>(chars.size()),
                                 static_cast<utf8proc_option_t>(UTF8PROC_COMPOSE | UTF8PROC_STABLE));
    CHECK(n >= 0, "{}", n);
    for (utf8proc_ssize_t i = 0; i < n; ++i) {
        append_utf8(out, static_cast<char32_t>(chars[static_cast<size_t>(i)]));
    }
}

}  // namespace

std::string_view nfc(std::string_view text, std::string& buffer) {
    const char* const end = text.data() + text.size();
    const char* p = text.data();
    const char* done = p;        // everything before it is in buffer
    const char* last_inert = p;  // start of the last inert character: marks may compose with it
    buffer.clear();
    while (p != end) {
        const Utf8Char c = decode_utf8(p, end);
        if (c.value == invalid_char) {
            last_inert = p + c.length;
        } else if (is_inert(c.value)) {
            last_inert = p;
        } else {
            const char* stop = p + c.length;
            while (stop != end) {
                const Utf8Char next = decode_utf8(stop, end);
                if (next.value == invalid_char || is_inert(next.value)) break;
                stop += next.length;
            }
            buffer.append(done, last_inert);
            append_composed({last_inert, stop}, buffer);
            p = done = last_inert = stop;
            continue;
        }
        p += c.length;
    }
    if (done == text.data()) return text;
    buffer.append(done, end);
    return buffer;
}

}  // namespace smelt
