#include "text/jinja/lexer.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/number.h"
#include "text/jinja/unicode.h"
#include "text/jinja/value.h"

namespace smelt::jinja {

namespace {

[[noreturn]] void fail(std::string message) {
    raise("TemplateSyntaxError", std::move(message));
}

// \r\n and \r become \n; one newline at the end goes.
std::string normalize(std::string_view source) {
    std::string text;
    text.reserve(source.size());
    for (size_t i = 0; i < source.size(); ++i) {
        if (source[i] != '\r') {
            text += source[i];
        } else {
            text += '\n';
            if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
        }
    }
    if (!text.empty() && text.back() == '\n') text.pop_back();
    return text;
}

bool is_name_start(char32_t c) {
    return c == '_' || is_alpha(c);
}
bool is_name_part(char32_t c) {
    return is_name_start(c) || is_numeric(c);
}

class StringDecoder {
 public:
    explicit StringDecoder(std::string_view body) : body_(body) {}

    std::string decode() {
        while (at_ < body_.size()) {
            const char c = body_[at_++];
            if (c != '\\') {
                out_ += c;
            } else if (at_ == body_.size()) {
                fail("\\ at end of string");
            } else {
                escape();
            }
        }
        return std::move(out_);
    }

 private:
    void escape() {
        static constexpr std::string_view letters = "abfnrtv\\'\"", meanings = "\a\b\f\n\r\t\v\\'\"";
        const char c = body_[at_++];
        if (const size_t i = letters.find(c); i != std::string_view::npos) {
            out_ += meanings[i];
        } else if (c == '\n') {
            return;
        } else if (c >= '0' && c <= '7') {
            uint32_t code = static_cast<uint32_t>(c - '0');
            for (int n = 1; n < 3 && at_ < body_.size() && body_[at_] >= '0' && body_[at_] <= '7'; ++n) {
                code = code * 8 + static_cast<uint32_t>(body_[at_++] - '0');
            }
            append_char(out_, code);
        } else if (c == 'x') {
            append_char(out_, hex(2, "truncated \\xXX escape"));
        } else if (c == 'u') {
            unicode(hex(4, "truncated \\uXXXX escape"));
        } else if (c == 'U') {
            unicode(hex(8, "truncated \\UXXXXXXXX escape"));
        } else if (c == 'N') {
            fail("character names (\\N{...}) are not supported");
        } else {
            out_ += '\\';
            out_ += c;
        }
    }

    uint32_t hex(size_t n, const char* complaint) {
        const std::string_view digits = body_.substr(at_, n);
        const auto code = parse_integer<uint32_t>(digits, 16);
        if (digits.size() < n || !code) fail(complaint);
        at_ += n;
        return *code;
    }

    void unicode(uint32_t code) {
        if (code > 0x10ffff) fail("illegal Unicode character");
        // "\ud83d\ude00": Python would keep two halves that no output can hold; the character is meant.
        if (code >= 0xd800 && code < 0xdc00 && body_.substr(at_, 2) == "\\u") {
            at_ += 2;
            const uint32_t low = hex(4, "truncated \\uXXXX escape");
            if (low < 0xdc00 || low > 0xdfff) fail("half of a surrogate pair in a string");
            code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
        }
        if (code >= 0xd800 && code <= 0xdfff) fail("half of a surrogate pair in a string");
        append_char(out_, code);
    }

    std::string_view body_;
    size_t at_ = 0;
    std::string out_;
};

class Lexer {
 public:
    Lexer(std::string_view source, int& line) : text_(normalize(source)), line_(line) { line_ = 1; }

    std::vector<Lexeme> run() {
        while (at_ < text_.size()) root();
        add(Token::end, "");
        return std::move(lexemes_);
    }

 private:
    bool at(std::string_view s) const { return std::string_view(text_).substr(at_, s.size()) == s; }

    void advance_to(size_t to) {
        line_ += static_cast<int>(std::count(text_.begin() + static_cast<std::ptrdiff_t>(at_),
                                             text_.begin() + static_cast<std::ptrdiff_t>(to), '\n'));
        line_starting_ = to > 0 && text_[to - 1] == '\n';
        at_ = to;
    }

    void add(Token token, std::string text) { lexemes_.push_back({token, line_, std::move(text)}); }

    size_t skip_space(size_t from) const {
        const std::string_view rest = std::string_view(text_).substr(from);
        return from + (rest.size() - strip_left(rest).size());
    }

    // Text up to a tag whose sign ('-', '+' or other) and kind decide what of its end goes.
    void add_data(size_t end, char sign, bool is_variable) {
        std::string_view data = std::string_view(text_).substr(at_, end - at_);
        if (sign == '-') {
            data = strip_right(data);
        } else if (sign != '+' && !is_variable) {
            const size_t newline = data.rfind('\n');
            const size_t line_begin = newline == std::string_view::npos ? 0 : newline + 1;
            const bool begins_line = line_begin > 0 || line_starting_;
            if (begins_line && strip_left(data.substr(line_begin)).empty()) data = data.substr(0, line_begin);
        }
        if (!data.empty()) add(Token::data, std::string(data));
        advance_to(end);
    }

    char char_at(size_t i) const { return i < text_.size() ? text_[i] : '\0'; }

    // Behind "%}" or "#}" at `i`: one newline goes, or all space after a '-'.
    size_t skip_after_tag(size_t i, char sign) const {
        if (sign == '-') return skip_space(i);
        return sign != '+' && char_at(i) == '\n' ? i + 1 : i;
    }

    void root() {
        size_t tag = at_;
        while ((tag = text_.find('{', tag)) != std::string::npos) {
            const char kind = char_at(tag + 1);
            if (kind == '{' || kind == '%' || kind == '#') break;
            ++tag;
        }
        if (tag == std::string::npos) {
            add(Token::data, text_.substr(at_));
            advance_to(text_.size());
            return;
        }
        const char kind = text_[tag + 1];
        const char sign = char_at(tag + 2);
        const bool has_sign = sign == '-' || sign == '+';
        add_data(tag, sign, kind == '{');
        const size_t inside = tag + (has_sign ? 3 : 2);
        if (kind == '#') return comment(inside);
        if (kind == '%' && raw(inside)) return;
        add(kind == '{' ? Token::variable_begin : Token::block_begin, "");
        advance_to(inside);
        code(kind == '{' ? '}' : '%');
    }

    void comment(size_t inside) {
        const size_t end = text_.find("#}", inside);
        if (end == std::string::npos) fail("Missing end of comment tag");
        const char sign = end > inside ? text_[end - 1] : '\0';
        advance_to(skip_after_tag(end + 2, sign));
    }

    // "{% raw %}" whose inside begins at `inside`: takes everything up to its end.
    bool raw(size_t inside) {
        size_t i = skip_space(inside);
        if (text_.compare(i, 3, "raw") != 0) return false;
        i = skip_space(i + 3);
        const bool strip_after = char_at(i) == '-';
        i += strip_after;
        if (text_.compare(i, 2, "%}") != 0) return false;
        advance_to(strip_after ? skip_space(i + 2) : i + 2);
        for (size_t tag = at_; (tag = text_.find("{%", tag)) != std::string::npos; tag += 2) {
            const char sign = char_at(tag + 2);
            i = skip_space(tag + (sign == '-' || sign == '+' ? 3 : 2));
            if (text_.compare(i, 6, "endraw") != 0) continue;
            i = skip_space(i + 6);
            const char end_sign = char_at(i);
            if (end_sign == '-' || end_sign == '+') ++i;
            if (text_.compare(i, 2, "%}") != 0) continue;
            add_data(tag, sign, false);
            advance_to(skip_after_tag(i + 2, end_sign));
            return true;
        }
        fail("Missing end of raw directive");
    }

    // Up to "}}" or "%}", which count only outside of brackets.
    void code(char closing) {
        const std::string end_tag = {closing, '}'};
        brackets_.clear();
        while (true) {
            if (at_ == text_.size()) return add_unclosed();
            if (brackets_.empty() && code_end(end_tag)) return;
            const char c = text_[at_];
            if (const size_t next = skip_space(at_); next > at_) {
                advance_to(next);
            } else if (is_digit_ascii(c)) {
                number();
            } else if (c == '"' || c == '\'') {
                string(c);
            } else if (!name()) {
                symbol();
            }
        }
    }

    void add_unclosed() { fail("unexpected end of template inside a tag"); }

    bool code_end(const std::string& end_tag) {
        const bool is_variable = end_tag[0] == '}';
        const char sign = text_[at_];
        const bool has_sign = sign == '-' || (sign == '+' && !is_variable);
        if (text_.compare(at_ + has_sign, 2, end_tag) != 0) return false;
        add(is_variable ? Token::variable_end : Token::block_end, "");
        const size_t behind = at_ + has_sign + 2;
        const bool plain_variable = is_variable && !has_sign;
        advance_to(plain_variable ? behind : skip_after_tag(behind, has_sign ? sign : '\0'));
        return true;
    }

    bool name() {
        size_t end = at_;
        if (!is_name_start(next_char(text_, end))) return false;
        while (end < text_.size()) {
            size_t next = end;
            if (!is_name_part(next_char(text_, next))) break;
            end = next;
        }
        add(Token::name, text_.substr(at_, end - at_));
        advance_to(end);
        return true;
    }

    // Digits with single underscores between them, from i on.
    size_t digits(size_t i, int base = 10) const {
        const auto is_one = [&](char c) {
            if (base == 16) return is_digit_ascii(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
            return c >= '0' && c < '0' + base;
        };
        while (is_one(char_at(i)) || (char_at(i) == '_' && is_one(char_at(i + 1)))) ++i;
        return i;
    }

    void number() {
        static constexpr std::string_view prefixes = "xXoObB";
        const size_t prefix = text_[at_] == '0' ? prefixes.find(char_at(at_ + 1)) : std::string_view::npos;
        if (prefix != std::string_view::npos && char_at(at_ + 1) != '\0') {
            const int base = prefix < 2 ? 16 : prefix < 4 ? 8 : 2;
            const size_t end = digits(at_ + 2, base);
            if (end > at_ + 2) return integer(at_ + 2, end, base);
        }
        size_t end = digits(at_);
        // The "2" of "a.2.5" belongs to the attribute path.
        const bool after_dot = at_ > 0 && text_[at_ - 1] == '.';
        bool is_real = false;
        if (!after_dot && char_at(end) == '.' && is_digit_ascii(char_at(end + 1))) {
            end = digits(end + 1);
            is_real = true;
        }
        if (!after_dot && (char_at(end) == 'e' || char_at(end) == 'E')) {
            const size_t exponent = end + (char_at(end + 1) == '+' || char_at(end + 1) == '-' ? 2 : 1);
            if (is_digit_ascii(char_at(exponent))) {
                end = digits(exponent);
                is_real = true;
            }
        }
        if (!is_real) return integer(at_, end, 10);
        std::string plain = text_.substr(at_, end - at_);
        std::erase(plain, '_');
        Lexeme lexeme{Token::real, line_, plain};
        lexeme.real = *parse_real(plain);
        lexemes_.push_back(std::move(lexeme));
        advance_to(end);
    }

    void integer(size_t begin, size_t end, int base) {
        std::string plain = text_.substr(begin, end - begin);
        std::erase(plain, '_');
        if (base == 10 && plain.size() > 1 && plain[0] == '0' && plain.find_first_not_of('0') != plain.npos) {
            fail(fmt::format("expected token 'end of statement block', got '{}'", plain));
        }
        Lexeme lexeme{Token::integer, line_, plain};
        const auto value = parse_integer<int64_t>(plain, base);
        if (!value) fail(fmt::format("integer does not fit into 64 bits: {}", plain));
        lexeme.integer = *value;
        lexemes_.push_back(std::move(lexeme));
        advance_to(end);
    }

    void string(char quote) {
        size_t end = at_ + 1;
        while (end < text_.size() && text_[end] != quote) end += text_[end] == '\\' ? 2 : 1;
        if (end >= text_.size())
            fail(fmt::format("unexpected char {} at {}", quote == '"' ? "'\"'" : "\"'\"", at_));
        add(Token::string, StringDecoder(std::string_view(text_).substr(at_ + 1, end - at_ - 1)).decode());
        advance_to(end + 1);
    }

    void symbol() {
        static constexpr std::string_view symbols[] = {"//", "**", "==", "!=", ">=", "<=", "+", "-", "/",
                                                       "*",  "%",  "~",  "[",  "]",  "(",  ")", "{", "}",
                                                       ">",  "<",  "=",  ".",  ":",  "|",  ",", ";"};
        const auto* found =
            std::find_if(std::begin(symbols), std::end(symbols), [&](auto s) { return at(s); });
        if (found == std::end(symbols)) {
            size_t end = at_;
            next_char(text_, end);
            fail(fmt::format("unexpected char '{}' at {}", text_.substr(at_, end - at_), at_));
        }
        balance((*found)[0]);
        add(Token::symbol, std::string(*found));
        advance_to(at_ + found->size());
    }

    void balance(char c) {
        if (c == '(') brackets_ += ')';
        if (c == '[') brackets_ += ']';
        if (c == '{') brackets_ += '}';
        if (c != ')' && c != ']' && c != '}') return;
        if (brackets_.empty()) fail(fmt::format("unexpected '{}'", c));
        const char expected = brackets_.back();
        if (expected != c) fail(fmt::format("unexpected '{}', expected '{}'", c, expected));
        brackets_.pop_back();
    }

    const std::string text_;
    int& line_;
    size_t at_ = 0;
    bool line_starting_ = true;
    std::string brackets_;  // that are open, as their closing counterparts
    std::vector<Lexeme> lexemes_;
};

}  // namespace

std::vector<Lexeme> tokenize(std::string_view source, int& line) {
    return Lexer(source, line).run();
}

}  // namespace smelt::jinja
