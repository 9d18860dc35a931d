// A recursive-descent parser of grammar texts.
#include "grammar/gbnf.h"

#include <map>

#include "grammar/refused.h"
#include "grammar/text_cursor.h"

namespace smelt::grammar {

namespace {

bool is_name_char(char32_t c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

class GbnfParser final : private TextCursor {
 public:
    GbnfParser(std::string_view text, Builder& builder) : TextCursor(text), builder_(builder) {}

    ExprPtr parse() {
        for (skip_space(true); more(); skip_space(true)) rule();
        for (const auto& [name, r] : rules_) {
            if (!r.defined)
                refuse(fmt::format("line {}", r.line), "", fmt::format("the rule {} is not defined", name));
        }
        const auto root = rules_.find("root");
        if (root == rules_.end()) refuse("", "", "the rule root is missing, where the text begins");
        return call(root->second.id);
    }

 private:
    struct Rule {
        int32_t id;
        int line;  // where it was met first
        bool defined = false;
    };

    [[noreturn]] void fail(const std::string& what) const override {
        refuse(fmt::format("line {}", line()), "", what);
    }

    void skip_space(bool lines) {
        while (more()) {
            const char32_t c = peek();
            if (c == '#') {
                while (more() && peek() != '\n') take_any();
            } else if (c == ' ' || c == '\t' || (lines && (c == '\n' || c == '\r'))) {
                take_any();
            } else {
                return;
            }
        }
    }

    std::string name() {
        std::string n;
        while (is_name_char(peek())) n += static_cast<char>(take_any());
        if (n.empty()) fail("expected the name of a rule");
        return n;
    }

    Rule& rule_named(const std::string& n) {
        const auto it = rules_.find(n);
        if (it != rules_.end()) return it->second;
        return rules_.emplace(n, Rule{builder_.new_rule(), line()}).first->second;
    }

    void rule() {
        const std::string n = name();
        skip_space(false);
        if (!(take(':') && take(':') && take('='))) fail(fmt::format("expected ::= behind {}", n));
        skip_space(true);
        Rule& r = rule_named(n);
        if (r.defined) fail(fmt::format("the rule {} is defined twice", n));
        r.defined = true;
        const int32_t id = r.id;
        builder_.define(id, *alternatives(false));
        if (more() && peek() != '\n' && peek() != '\r') fail("expected the end of the line");
    }

    // `nested`: within parentheses, where lines may end anywhere.
    ExprPtr alternatives(bool nested) {
        if (++depth_ > builder_.limits().max_depth) fail("groups are nested too deeply");
        std::vector<ExprPtr> parts;
        do {
            skip_space(true);
            parts.push_back(one_sequence(nested));
        } while (next_alternative(nested));
        --depth_;
        return choice(std::move(parts));
    }

    bool next_alternative(bool nested) {
        const size_t before = at();
        skip_space(true);
        if (take('|')) return true;
        if (!nested) go_to(before);
        return false;
    }

    ExprPtr one_sequence(bool nested) {
        std::vector<ExprPtr> parts;
        while (true) {
            ExprPtr part;
            builder_.budget().spend(20);
            if (take('"')) {
                part = quoted();
            } else if (take('[')) {
                part = chars(char_class());
            } else if (take('(')) {
                part = alternatives(true);
                if (!take(')')) fail("a group is not closed");
            } else if (take('.')) {
                part = chars(CharSet::all());
            } else if (is_name_char(peek())) {
                part = call(rule_named(name()).id);
            } else {
                return sequence(std::move(parts));
            }
            skip_space(nested);
            parts.push_back(quantified(std::move(part), nested));
        }
    }

    ExprPtr quantified(ExprPtr part, bool nested) {
        for (int n = 0;; ++n) {
            if (n > builder_.limits().max_depth) fail("too many quantifiers");
            uint32_t min = 0, max = unlimited;
            if (take('*')) {
            } else if (take('+')) {
                min = 1;
            } else if (take('?')) {
                max = 1;
            } else if (take('{')) {
                skip_space(nested);
                min = max = number();
                skip_space(nested);
                if (take(',')) {
                    skip_space(nested);
                    max = peek() == '}' ? unlimited : number();
                    skip_space(nested);
                }
                if (!take('}')) fail("expected } behind the bounds");
                if (max < min) fail("the bounds are in the wrong order");
            } else {
                return part;
            }
            part = repeat(std::move(part), min, max);
            skip_space(nested);
        }
    }

    ExprPtr quoted() {
        std::u32string value;
        while (!take('"')) {
            if (peek() == '\n') fail("a literal is not closed");
            value += one_char();
        }
        return literal(value);
    }

    char32_t one_char() {
        const char32_t c = take_any();
        if (c != '\\') return c;
        const char32_t e = take_any();
        switch (e) {
            case 'n':
                return '\n';
            case 'r':
                return '\r';
            case 't':
                return '\t';
            case 'x':
                return hex(2);
            case 'u':
                return hex(4);
            case 'U':
                return hex(8);
            case '"':
            case '\\':
            case '[':
            case ']':
            case '-':
            case '^':
                return e;
            default:
                fail("unknown escape");
        }
    }

    CharSet char_class() {
        const bool negated = take('^');
        CharSet set;
        while (!take(']')) {
            if (peek() == '\n') fail("a class is not closed");
            const char32_t lo = one_char();
            char32_t hi = lo;
            if (peek() == '-' && peek(1) != ']') {
                take_any();
                hi = one_char();
            }
            if (hi < lo) fail("a range in the wrong order");
            builder_.budget().spend(4 + set.ranges().size());
            set.add(lo, hi);
        }
        return negated ? set.complement() : set.intersection(CharSet::all());
    }

    Builder& builder_;
    std::map<std::string, Rule> rules_;
    int depth_ = 0;
};

}  // namespace

ExprPtr parse_gbnf(std::string_view text, Builder& builder) {
    return GbnfParser(text, builder).parse();
}

}  // namespace smelt::grammar
