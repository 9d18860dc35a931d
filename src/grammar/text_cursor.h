// Reads a pattern or a grammar text character by character; what both notations have in common.
#pragma once

#include <string>
#include <string_view>

namespace smelt::grammar {

class TextCursor {
 protected:
    explicit TextCursor(std::string_view utf8);
    ~TextCursor() = default;

    // Throws Refused that names the place.
    [[noreturn]] virtual void fail(const std::string& what) const = 0;

    size_t at() const { return at_; }
    void go_to(size_t at) { at_ = at; }
    int line() const;

    bool more() const { return at_ < text_.size(); }
    char32_t peek(size_t ahead = 0) const { return at_ + ahead < text_.size() ? text_[at_ + ahead] : 0; }
    bool take(char32_t c);
    char32_t take_any();
    bool at_digit() const { return peek() >= '0' && peek() <= '9'; }

    uint32_t number();         // of turns; stands at its first digit
    char32_t hex(int n);       // a character of n digits
    char32_t hex_in_braces();  // its digits and the closing brace

 private:
    char32_t checked_char(char32_t c) const;
    char32_t add_hex_digit(char32_t value);

    std::u32string text_;
    size_t at_ = 0;
};

}  // namespace smelt::grammar
