// Numbers and characters by their numbers.
#include "grammar/text_cursor.h"

#include <fmt/format.h>

#include <algorithm>

#include "grammar/expr.h"

namespace smelt::grammar {

namespace {

constexpr uint32_t most_turns = 1 << 20;  // of a quantifier

}  // namespace

TextCursor::TextCursor(std::string_view utf8) : text_(decode_text(utf8)) {}

int TextCursor::line() const {
    const auto end = text_.begin() + static_cast<ptrdiff_t>(std::min(at_, text_.size()));
    return 1 + static_cast<int>(std::count(text_.begin(), end, U'\n'));
}

bool TextCursor::take(char32_t c) {
    if (!more() || text_[at_] != c) return false;
    ++at_;
    return true;
}

char32_t TextCursor::take_any() {
    if (!more()) fail("the text ends too early");
    return text_[at_++];
}

uint32_t TextCursor::number() {
    if (!at_digit()) fail("expected a number");
    uint32_t n = 0;
    while (at_digit()) {
        n = n * 10 + (take_any() - '0');
        if (n > most_turns) fail(fmt::format("a quantifier of more than {}", most_turns));
    }
    return n;
}

char32_t TextCursor::hex(int n) {
    char32_t value = 0;
    for (int i = 0; i < n; ++i) value = add_hex_digit(value);
    return checked_char(value);
}

char32_t TextCursor::hex_in_braces() {
    char32_t value = 0;
    while (!take('}')) value = checked_char(add_hex_digit(value));
    return value;
}

char32_t TextCursor::add_hex_digit(char32_t value) {
    const char32_t c = take_any();
    const char32_t lower = c | 0x20;
    if (c >= '0' && c <= '9') return value * 16 + (c - '0');
    if (lower < 'a' || lower > 'f') fail("expected a hexadecimal digit");
    return value * 16 + (lower - 'a' + 10);
}

char32_t TextCursor::checked_char(char32_t c) const {
    if (c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff)) fail("no such character");
    return c;
}

}  // namespace smelt::grammar
