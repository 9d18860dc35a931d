// A recursive-descent parser of patterns.
#include "grammar/regex.h"

#include "grammar/refused.h"
#include "grammar/text_cursor.h"

namespace smelt::grammar {

namespace {

const CharSet digits = {{'0', '9'}};
const CharSet word = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
const CharSet space = {{9, 13},          {' ', ' '},       {0xa0, 0xa0},     {0x1680, 0x1680},
                       {0x2000, 0x200a}, {0x2028, 0x2029}, {0x202f, 0x202f}, {0x205f, 0x205f},
                       {0x3000, 0x3000}, {0xfeff, 0xfeff}};
const CharSet line_ends = {{'\n', '\n'}, {'\r', '\r'}, {0x2028, 0x2029}};

class Parser final : private TextCursor {
 public:
    Parser(std::string_view pattern, RegexMatch match, int max_depth)
        : TextCursor(pattern), match_(match), max_depth_(max_depth) {}

    ExprPtr parse() {
        const Alternatives all = alternatives();
        if (more()) fail("a group is closed that was not opened");
        return tied(all);
    }

 private:
    struct Alternatives;
    struct Sequence {
        std::vector<ExprPtr> parts = {};
        bool from_begin = false, to_end = false;
        std::shared_ptr<Alternatives> group = {};  // of the first part, where it has ^ or $ inside
    };
    struct Alternatives {
        std::vector<Sequence> of = {};
        bool tied() const {
            for (const Sequence& s : of) {
                if (s.from_begin || s.to_end || s.group) return true;
            }
            return false;
        }
    };

    [[noreturn]] void fail(const std::string& what) const override {
        refuse("", "pattern", fmt::format("{} (at character {} of the pattern)", what, at()));
    }

    // What stands around a match is any text, unless ^ or $ forbid it.
    ExprPtr tied(const Alternatives& all) const {
        const ExprPtr anything = repeat(chars(CharSet::all()), 0);
        std::vector<ExprPtr> parts;
        for (const Sequence& s : all.of) {
            if (s.group) {
                if (s.parts.size() != 1 || s.from_begin || s.to_end) fail("^ or $ within a group");
                parts.push_back(tied(*s.group));
                continue;
            }
            std::vector<ExprPtr> whole;
            if (match_ == RegexMatch::anywhere && !s.from_begin) whole.push_back(anything);
            whole.push_back(sequence(s.parts));
            if (match_ == RegexMatch::anywhere && !s.to_end) whole.push_back(anything);
            parts.push_back(sequence(std::move(whole)));
        }
        return choice(std::move(parts));
    }

    Alternatives alternatives() {
        if (++depth_ > max_depth_) fail("groups are nested too deeply");
        Alternatives all;
        do {
            all.of.push_back(one_sequence());
        } while (take('|'));
        --depth_;
        return all;
    }

    Sequence one_sequence() {
        Sequence s;
        while (more() && peek() != '|' && peek() != ')') {
            if (s.to_end) fail("something follows $");
            if (take('^')) {
                if (!s.parts.empty()) fail("something precedes ^");
                s.from_begin = true;
                continue;
            }
            if (take('$')) {
                s.to_end = true;
                continue;
            }
            std::shared_ptr<Alternatives> group;
            ExprPtr part = atom(group);
            const size_t end = at();
            part = quantified(std::move(part));
            // A group with ^ or $ inside has to be the only part.
            if (s.group || (group && (at() != end || !s.parts.empty()))) fail("^ or $ within a group");
            s.group = group;
            s.parts.push_back(std::move(part));
        }
        return s;
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

    ExprPtr atom(std::shared_ptr<Alternatives>& group) {
        const char32_t c = take_any();
        switch (c) {
            case '(': {
                if (take('?')) {
                    if (take('<')) {
                        if (peek() == '=' || peek() == '!') fail("lookbehind is not supported");
                        while (take_any() != '>') {
                        }
                    } else if (!take(':')) {
                        fail("lookahead and flags are not supported");
                    }
                }
                auto inner = std::make_shared<Alternatives>(alternatives());
                if (!take(')')) fail("a group is not closed");
                if (inner->tied()) {
                    group = inner;
                    return sequence({});
                }
                std::vector<ExprPtr> parts;
                for (Sequence& s : inner->of) parts.push_back(sequence(std::move(s.parts)));
                return choice(std::move(parts));
            }
            case '[':
                return chars(char_class());
            case '.':
                return chars(line_ends.complement());
            case '\\':
                return chars(escape(false));
            case '*':
            case '+':
            case '?':
                fail("nothing to repeat");
            default:
                return chars(CharSet::one(c));
        }
    }

    CharSet char_class() {
        const bool negated = take('^');
        CharSet set;
        while (!take(']')) {
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
        set = negated ? set.complement() : set.intersection(CharSet::all());
        if (set.empty()) fail("a class without characters");
        return set;
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
                return digits;
            case 'D':
                return digits.complement();
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

    RegexMatch match_;
    int max_depth_;
    int depth_ = 0;
};

}  // namespace

ExprPtr parse_regex(std::string_view pattern, RegexMatch match, int max_depth) {
    return Parser(pattern, match, max_depth).parse();
}

}  // namespace smelt::grammar
