// A recursive-descent parser of patterns.
#include "grammar/regex.h"

#include <map>
#include <optional>

#include "grammar/char_nfa.h"
#include "grammar/refused.h"
#include "grammar/text_cursor.h"

namespace smelt::grammar {

namespace {

const CharSet ascii_digits = {{'0', '9'}};
const CharSet word = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
const CharSet space = {{9, 13},          {' ', ' '},       {0xa0, 0xa0},     {0x1680, 0x1680},
                       {0x2000, 0x200a}, {0x2028, 0x2029}, {0x202f, 0x202f}, {0x205f, 0x205f},
                       {0x3000, 0x3000}, {0xfeff, 0xfeff}};
const CharSet line_ends = {{'\n', '\n'}, {'\r', '\r'}, {0x2028, 0x2029}};

using Kind = Expr::Assertion;

bool is_assertion(const ExprPtr& e, Kind kind) {
    return e->kind == Expr::Kind::assertion && e->assertion == kind;
}

// What stands around a match is any text, unless ^ or $ forbid it. Anchors at the ends, as most patterns have
// them, go away; those elsewhere stay.
ExprPtr tied(const ExprPtr& e, RegexMatch match) {
    if (e->kind == Expr::Kind::choice) {
        std::vector<ExprPtr> parts;
        for (const ExprPtr& p : e->parts) parts.push_back(tied(p, match));
        return choice(std::move(parts));
    }
    std::vector<ExprPtr> parts = e->kind == Expr::Kind::sequence ? e->parts : std::vector<ExprPtr>{e};
    bool from_begin = match == RegexMatch::whole, to_end = from_begin;
    while (!parts.empty() && is_assertion(parts.front(), Kind::begin)) {
        parts.erase(parts.begin());
        from_begin = true;
    }
    while (!parts.empty() && is_assertion(parts.back(), Kind::end)) {
        parts.pop_back();
        to_end = true;
    }
    const ExprPtr anything = repeat(chars(CharSet::all()), 0);
    if (!from_begin) parts.insert(parts.begin(), anything);
    if (!to_end) parts.push_back(anything);
    return sequence(std::move(parts));
}

class RegexParser final : private TextCursor {
 public:
    RegexParser(std::string_view pattern, Budget& budget) : TextCursor(pattern), budget_(budget) {}

    ExprPtr parse() {
        ExprPtr all = alternatives();
        if (more()) fail("a group is closed that was not opened");
        return all;
    }

 private:
    struct Flags {
        bool any_case = false, dot_all = false, lines = false;
    };

    [[noreturn]] void fail(const std::string& what) const override {
        refuse("", "pattern", fmt::format("{} (at character {} of the pattern)", what, at()));
    }

    // Flags that are set within hold to the end of the group.
    ExprPtr alternatives() {
        if (++depth_ > budget_.limits().max_depth) fail("groups are nested too deeply");
        const Flags outer = flags_;
        std::vector<ExprPtr> all;
        do {
            all.push_back(one_sequence());
        } while (take('|'));
        flags_ = outer;
        --depth_;
        return choice(std::move(all));
    }

    ExprPtr one_sequence() {
        std::vector<ExprPtr> parts;
        while (more() && peek() != '|' && peek() != ')') parts.push_back(quantified(atom()));
        return sequence(std::move(parts));
    }

    ExprPtr quantified(ExprPtr part) {
        uint32_t min = 0, max = unlimited;
        if (!quantifier(min, max)) return part;
        if (!take('?') && peek() == '+') fail("possessive quantifiers are not supported");
        uint32_t again_min = 0, again_max = 0;
        if (quantifier(again_min, again_max)) fail("nothing to repeat");
        return repeat(std::move(part), min, max);
    }

    bool quantifier(uint32_t& min, uint32_t& max) {
        if (take('*')) return true;
        if (take('+')) return min = 1, true;
        if (take('?')) return max = 1, true;
        const size_t before = at();
        if (take('{') && braces(min, max)) return true;
        go_to(before);
        return false;
    }

    // False: the brace is a character.
    bool braces(uint32_t& min, uint32_t& max) {
        if (!at_digit()) return false;
        const uint32_t lo = number();
        uint32_t hi = lo;
        if (take(',')) hi = at_digit() ? number() : unlimited;
        if (!take('}')) return false;
        if (hi < lo) fail("the bounds of a quantifier are in the wrong order");
        min = lo;
        max = hi;
        return true;
    }

    ExprPtr atom() {
        budget_.spend(20);
        const char32_t c = take_any();
        switch (c) {
            case '(':
                return group();
            case '[':
                return chars(char_class());
            case '.':
                return chars(flags_.dot_all ? CharSet::all() : line_ends.complement());
            case '^':
                return assertion(flags_.lines ? Kind::line_begin : Kind::begin);
            case '$':
                return assertion(flags_.lines ? Kind::line_end : Kind::end);
            case '\\':
                return escaped();
            case '*':
            case '+':
            case '?':
                fail("nothing to repeat");
            default:
                return set(CharSet::one(c));
        }
    }

    ExprPtr set(const CharSet& of) { return chars(flags_.any_case ? any_case(of, budget_) : of); }

    ExprPtr escaped() {
        const char32_t c = peek();
        if (c != 'b' && c != 'B' && c != 'A' && c != 'Z' && c != 'z') return set(escape(false));
        take_any();
        if (c == 'b') return assertion(Kind::word_edge);
        if (c == 'B') return assertion(Kind::no_word_edge);
        return assertion(c == 'A' ? Kind::begin : Kind::end);
    }

    // Behind the opening parenthesis.
    ExprPtr group() {
        std::optional<Kind> kind;
        const Flags outer = flags_;
        if (take('?')) {
            if (take('=')) {
                kind = Kind::ahead;
            } else if (take('!')) {
                kind = Kind::not_ahead;
            } else if (peek() == '<' && (peek(1) == '=' || peek(1) == '!')) {
                take_any();
                kind = take_any() == '=' ? Kind::behind : Kind::not_behind;
            } else if (take('#')) {
                while (take_any() != ')') {
                }
                return sequence({});
            } else if (peek() == '<' || peek() == 'P') {
                name();
            } else if (!take(':') && read_flags()) {
                return sequence({});  // (?i): up to the end of the group around
            }
        }
        ExprPtr inner = alternatives();
        if (!take(')')) fail("a group is not closed");
        flags_ = outer;
        return kind ? assertion(*kind, std::move(inner)) : inner;
    }

    void name() {
        take('P');
        if (!take('<')) fail("back references are not supported");
        while (take_any() != '>') {
        }
    }

    // True: they hold from here on, and the group is closed.
    bool read_flags() {
        bool on = true;
        while (true) {
            const char32_t c = take_any();
            if (c == ')') return true;
            if (c == ':') return false;
            if (c == '-') {
                on = false;
            } else if (c == 'i') {
                flags_.any_case = on;
            } else if (c == 's') {
                flags_.dot_all = on;
            } else if (c == 'm') {
                flags_.lines = on;
            } else if (c != 'u') {
                fail("this kind of group is not supported");
            }
        }
    }

    CharSet char_class() {
        const bool negated = take('^');
        CharSet set;
        while (!take(']')) {
            budget_.spend(10 + set.ranges().size());
            const CharSet first = class_atom();
            if (peek() != '-' || peek(1) == ']' || !take('-')) {
                set.add(first);
                continue;
            }
            const CharSet last = class_atom();
            if (!is_one(first) || !is_one(last)) fail("a range of more than characters");
            const char32_t lo = first.ranges()[0].lo, hi = last.ranges()[0].lo;
            if (hi < lo) fail("a range in the wrong order");
            set.add(lo, hi);
        }
        if (!negated && set.empty()) fail("a class without characters");
        if (flags_.any_case) set = any_case(set, budget_);
        return negated ? set.complement() : set.intersection(CharSet::all());
    }

    static bool is_one(const CharSet& s) {
        return s.ranges().size() == 1 && s.ranges()[0].lo == s.ranges()[0].hi;
    }

    CharSet class_atom() {
        const char32_t c = take_any();
        return c == '\\' ? escape(true) : CharSet::one(c);
    }

    CharSet escape(bool in_class) {
        const char32_t c = take_any();
        switch (c) {
            case 'd':
                return ascii_digits;
            case 'D':
                return ascii_digits.complement();
            case 'w':
                return word;
            case 'W':
                return word.complement();
            case 's':
                return space;
            case 'S':
                return space.complement();
            case 't':
                return CharSet::one('\t');
            case 'n':
                return CharSet::one('\n');
            case 'v':
                return CharSet::one('\v');
            case 'f':
                return CharSet::one('\f');
            case 'r':
                return CharSet::one('\r');
            case 'p':
            case 'P':
                return property(c == 'P');
            case 'x':
                return CharSet::one(hex(2));
            case 'u':
                return CharSet::one(take('{') ? hex_in_braces() : hex(4));
            case 'b':
                if (in_class) return CharSet::one('\b');
                break;
            case '0':
                if (!at_digit()) return CharSet::one(0);
                break;
            default:
                break;
        }
        const bool letter =
            (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c >= 0x80;
        if (letter) fail("this escape is not supported");
        return CharSet::one(c);
    }

    CharSet property(bool negated) {
        std::string name;
        if (take('{')) {
            negated = take('^') != negated;
            while (!take('}')) {
                const char32_t c = take_any();
                if (c >= 0x80) fail("no such property");
                name += static_cast<char>(c);
            }
        } else {
            name = static_cast<char>(take_any() & 0x7f);
        }
        auto& known = properties_[name];
        if (!known) {
            CharSet found;
            if (!property_chars(name, found, budget_))
                fail(fmt::format("the property {} is not known", name));
            known = std::move(found);
        }
        return negated ? known->complement() : *known;
    }

    Budget& budget_;
    Flags flags_ = {};
    int depth_ = 0;
    std::map<std::string, std::optional<CharSet>> properties_;
};

}  // namespace

const CharSet& regex_word_chars() {
    return word;
}

const CharSet& regex_line_ends() {
    return line_ends;
}

ExprPtr parse_regex(std::string_view pattern, RegexMatch match, Budget& budget) {
    budget.spend(2 * pattern.size());
    const ExprPtr whole = tied(RegexParser(pattern, budget).parse(), match);
    return whole->has_assertions ? dfa(make_asserted_dfa(*whole, budget)) : whole;
}

}  // namespace smelt::grammar
