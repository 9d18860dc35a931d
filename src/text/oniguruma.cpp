// One pass over the pattern; what both read alike goes through as it is. A class becomes a choice of simpler
// ones where it holds others or an intersection: it is one character in either case.
#include "text/oniguruma.h"

#include <array>
#include <vector>

#include "base/error.h"

namespace smelt {

namespace {

struct Property {
    std::string_view name, value;
};
// Oniguruma's names of properties that PCRE2 has under others, or means otherwise. PCRE2's bare script names
// ask for Script_Extensions.
constexpr Property properties[] = {{"alpha", "\\p{Alphabetic}"},
                                   {"alnum", "\\p{Alphabetic}\\p{Nd}"},
                                   {"blank", "\\p{Zs}\\t"},
                                   {"cntrl", "\\p{Cc}"},
                                   {"digit", "\\p{Nd}"},
                                   {"graph", ""},
                                   {"print", ""},
                                   {"lower", "\\p{Lowercase}"},
                                   {"upper", "\\p{Uppercase}"},
                                   {"punct", "\\p{P}$+<=>^`|~"},
                                   {"posixpunct", "\\p{P}$+<=>^`|~"},
                                   {"space", "\\p{White_Space}"},
                                   {"whitespace", "\\p{White_Space}"},
                                   {"xdigit", "0-9A-Fa-f"},
                                   {"word", "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}"},
                                   {"ascii", "\\x00-\\x7f"},
                                   {"any", "\\x{0}-\\x{10ffff}"},
                                   {"letter", "\\p{L}"},
                                   {"casedletter", "\\p{L&}"},
                                   {"lc", "\\p{L&}"},
                                   {"uppercaseletter", "\\p{Lu}"},
                                   {"lowercaseletter", "\\p{Ll}"},
                                   {"titlecaseletter", "\\p{Lt}"},
                                   {"modifierletter", "\\p{Lm}"},
                                   {"otherletter", "\\p{Lo}"},
                                   {"mark", "\\p{M}"},
                                   {"combiningmark", "\\p{M}"},
                                   {"nonspacingmark", "\\p{Mn}"},
                                   {"spacingmark", "\\p{Mc}"},
                                   {"enclosingmark", "\\p{Me}"},
                                   {"number", "\\p{N}"},
                                   {"decimalnumber", "\\p{Nd}"},
                                   {"letternumber", "\\p{Nl}"},
                                   {"othernumber", "\\p{No}"},
                                   {"punctuation", "\\p{P}"},
                                   {"connectorpunctuation", "\\p{Pc}"},
                                   {"dashpunctuation", "\\p{Pd}"},
                                   {"openpunctuation", "\\p{Ps}"},
                                   {"closepunctuation", "\\p{Pe}"},
                                   {"initialpunctuation", "\\p{Pi}"},
                                   {"finalpunctuation", "\\p{Pf}"},
                                   {"otherpunctuation", "\\p{Po}"},
                                   {"symbol", "\\p{S}"},
                                   {"mathsymbol", "\\p{Sm}"},
                                   {"currencysymbol", "\\p{Sc}"},
                                   {"modifiersymbol", "\\p{Sk}"},
                                   {"othersymbol", "\\p{So}"},
                                   {"separator", "\\p{Z}"},
                                   {"spaceseparator", "\\p{Zs}"},
                                   {"lineseparator", "\\p{Zl}"},
                                   {"paragraphseparator", "\\p{Zp}"},
                                   {"other", "\\p{C}"},
                                   {"control", "\\p{Cc}"},
                                   {"format", "\\p{Cf}"},
                                   {"privateuse", "\\p{Co}"},
                                   {"surrogate", "\\p{Cs}"},
                                   {"unassigned", "\\p{Cn}"},
                                   {"alphabetic", "\\p{Alphabetic}"},
                                   {"lowercase", "\\p{Lowercase}"},
                                   {"uppercase", "\\p{Uppercase}"},
                                   {"emoji", "\\p{Emoji}"},
                                   {"extendedpictographic", "\\p{Extended_Pictographic}"},
                                   {"ideographic", "\\p{Ideographic}"}};

constexpr std::string_view general_categories[] = {"c",  "cc", "cf", "cn", "co", "cs", "l",  "ll", "lm", "lo",
                                                   "lt", "lu", "m",  "mc", "me", "mn", "n",  "nd", "nl", "no",
                                                   "p",  "pc", "pd", "pe", "pf", "pi", "po", "ps", "s",  "sc",
                                                   "sk", "sm", "so", "z",  "zl", "zp", "zs"};

constexpr std::string_view word = "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}";
constexpr std::string_view any = "(?s:.)";
constexpr int max_depth = 100;

std::string plain(std::string_view name) {
    std::string out;
    for (const char c : name) {
        if (c == ' ' || c == '-' || c == '_') continue;
        out += c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
    }
    return out;
}

class Translator {
 public:
    explicit Translator(std::string_view pattern) : in_(pattern) {}

    std::string whole() {
        std::string out = alternatives();
        if (more()) fail("a group that is closed and was not opened");
        return out;
    }

 private:
    [[noreturn]] void fail(const std::string& what) const {
        throw Error("pre-tokenizer pattern {}: {} (at byte {}) is not supported", in_, what, at_);
    }

    bool more() const { return at_ < in_.size(); }
    char peek(size_t ahead = 0) const { return at_ + ahead < in_.size() ? in_[at_ + ahead] : '\0'; }
    bool take(std::string_view text) {
        if (!in_.substr(at_).starts_with(text)) return false;
        at_ += text.size();
        return true;
    }
    char next() {
        if (!more()) fail("an end in the middle");
        return in_[at_++];
    }
    // Up to `end`, which is taken too.
    std::string_view take_until(char end) {
        const size_t found = in_.find(end, at_);
        if (found == std::string_view::npos) fail(fmt::format("a missing {}", end));
        const std::string_view text = in_.substr(at_, found - at_);
        at_ = found + 1;
        return text;
    }

    // Up to the end of the pattern or of the group. (?i) on its own holds for all alternatives behind it,
    // which PCRE2 would take for several of the group around.
    std::string alternatives() {
        if (++depth_ > max_depth) fail("groups that are nested so deeply");
        std::string out, closes;
        while (more() && peek() != ')') {
            if (take("|")) {
                out += '|';
            } else if (peek() == '(' && peek(1) == '?' && is_lone_option()) {
                at_ += 2;
                out += "(?" + options(take_until(')')) + ":";
                closes += ')';
            } else {
                out += quantified(atom());
            }
        }
        --depth_;
        return out + closes;
    }

    bool is_lone_option() const {
        const size_t end = in_.find_first_not_of("imxasudn-", at_ + 2);
        return end != std::string_view::npos && end > at_ + 2 && in_[end] == ')';
    }

    // Ruby's m lets . match line ends.
    std::string options(std::string_view of) {
        std::string out;
        for (const char c : of) {
            if (c != 'i' && c != 'm' && c != '-') fail(fmt::format("the option {}", c));
            out += c == 'm' ? 's' : c;
        }
        return out;
    }

    std::string atom() {
        switch (peek()) {
            case '(':
                return group();
            case '[':
                ++at_;
                return char_class();
            case '\\':
                ++at_;
                return escape();
            case '^':
                ++at_;
                return "(?:\\A|(?<=\\n)(?!\\z))";
            case '$':
                ++at_;
                return "(?:(?=\\n)|(?<!\\n)\\z|\\A\\z)";
            case '.':
                ++at_;
                return ".";
            default:
                return character();
        }
    }

    // A character as it is.
    std::string character() {
        std::string c(1, next());
        while (more() && (static_cast<unsigned char>(peek()) & 0xc0) == 0x80) c += next();
        return c;
    }

    std::string group() {
        ++at_;
        std::string open = "(";
        if (peek() == '*') fail("(*");
        if (take("?")) {
            if (take("#")) {
                take_until(')');
                return "(?:)";
            }
            open += '?';
            if (peek() == '<' && peek(1) != '=' && peek(1) != '!') {
                open += std::string(take_until('>')) + '>';
            } else if (peek() == '(' || peek() == '~' || peek() == 'P') {
                fail(fmt::format("(?{}", peek()));
            } else if (const size_t end = in_.find_first_not_of("imxasudn-", at_); end > at_) {
                open += options(in_.substr(at_, end - at_));
                at_ = end;
                if (!take(":")) fail("this kind of group");
                open += ':';
            } else {
                for (const std::string_view kind : {":", "=", "!", ">", "<=", "<!"}) {
                    if (!take(kind)) continue;
                    open += kind;
                    return open + closed_group();
                }
                fail("this kind of group");
            }
        }
        return open + closed_group();
    }

    std::string closed_group() {
        std::string inner = alternatives();
        if (!take(")")) fail("a group that is not closed");
        return inner + ')';
    }

    // {n,m}+ repeats again, {n}? may be left out, {,n} begins at none: in Ruby alone.
    std::string quantified(std::string what) {
        while (more()) {
            const char c = peek();
            if (c == '*' || c == '+' || c == '?') {
                ++at_;
                what += c;
                if (peek() == '?' || peek() == '+') what += next();
            } else if (const auto counts = braces(); !counts.empty()) {
                what += counts;
                const bool exact = counts.find(',') == std::string::npos;
                if (peek() == '+' || (peek() == '?' && exact)) {
                    what = "(?:" + what + ")" + next();
                } else if (peek() == '?') {
                    what += next();
                }
            } else {
                return what;
            }
            // A quantifier of what has one already.
            if (peek() == '*' || peek() == '+' || peek() == '?' || peek() == '{') what = "(?:" + what + ")";
        }
        return what;
    }

    // "{2,3}" and the like; empty: the brace is a character.
    std::string braces() {
        if (peek() != '{') return "";
        const size_t end = in_.find('}', at_);
        if (end == std::string_view::npos) return "";
        const std::string_view inner = in_.substr(at_ + 1, end - at_ - 1);
        if (inner.empty() || inner == "," ||
            inner.find_first_not_of("0123456789,") != std::string_view::npos ||
            inner.find(',') != inner.rfind(',')) {
            return "";
        }
        at_ = end + 1;
        return inner[0] == ',' ? fmt::format("{{0{}}}", inner) : fmt::format("{{{}}}", inner);
    }

    // Behind the backslash, outside of a class.
    std::string escape() {
        const char c = peek();
        switch (c) {
            case 'b':
                ++at_;
                return fmt::format("(?:(?<=[{0}])(?![{0}])|(?<![{0}])(?=[{0}]))", word);
            case 'B':
                ++at_;
                return fmt::format("(?:(?<=[{0}])(?=[{0}])|(?<![{0}])(?![{0}]))", word);
            case 'O':
                ++at_;
                return std::string(any);
            case 'A':
            case 'z':
            case 'Z':
            case 'G':
            case 'R':
            case 'X':
            case 'N':
                ++at_;
                return {'\\', c};
            case 'k':
            case 'g': {
                if (peek(1) != '<') fail(fmt::format("\\{}", c));
                ++at_;
                return fmt::format("\\{}{}>", c, take_until('>'));
            }
            default:
                break;
        }
        if (c >= '1' && c <= '9') {
            std::string digits;
            while (peek() >= '0' && peek() <= '9') digits += next();
            return "\\g{" + digits + "}";
        }
        const Part part = class_escape();
        return part.negated ? "[^" + part.text + "]" : part.is_set ? "[" + part.text + "]" : part.text;
    }

    // What an escape stands for within a class.
    struct Part {
        std::string text;
        bool is_set = true;
        bool negated = false;
    };
    Part class_escape() {
        const char c = next();
        switch (c) {
            case 'd':
            case 'D':
                return {"\\p{Nd}", true, c == 'D'};
            case 's':
            case 'S':
                return {"\\p{White_Space}", true, c == 'S'};
            case 'w':
            case 'W':
                return {std::string(word), true, c == 'W'};
            case 'h':
            case 'H':
                return {"0-9A-Fa-f", true, c == 'H'};
            case 'p':
            case 'P':
                return property(c == 'P');
            case 't':
            case 'n':
            case 'r':
            case 'f':
            case 'a':
            case 'e':
                return {{'\\', c}, false};
            case 'v':
                return {"\\x{b}", false};
            case 'b':
                return {"\\x{8}", false};
            case 'x':
                return {code_point(take("{") ? take_until('}') : hex_digits(2)), false};
            case 'u':
                return {code_point(take("{") ? take_until('}') : hex_digits(4)), false};
            case '0':
                return {"\\x{0}", false};
            default:
                break;
        }
        const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (letter) fail(fmt::format("\\{}", c));
        if (static_cast<unsigned char>(c) >= 0x80) {
            --at_;
            return {character(), false};
        }
        return {{'\\', c}, false};
    }

    std::string_view hex_digits(size_t most) {
        size_t n = 0;
        while (n < most &&
               std::string_view("0123456789abcdefABCDEF").find(peek(n)) != std::string_view::npos &&
               at_ + n < in_.size()) {
            ++n;
        }
        const std::string_view digits = in_.substr(at_, n);
        at_ += n;
        return digits;
    }

    std::string code_point(std::string_view digits) const {
        const bool hex = !digits.empty() && digits.size() <= 8 &&
                         digits.find_first_not_of("0123456789abcdefABCDEF") == std::string_view::npos;
        if (!hex) fail("a character's number that is none");
        return fmt::format("\\x{{{}}}", digits);
    }

    Part property(bool negated) {
        if (!take("{")) fail("\\p without a name in braces");
        if (take("^")) negated = !negated;
        const std::string_view name = take_until('}');
        const std::string key = plain(name);
        for (const Property& p : properties) {
            if (p.name == key && !p.value.empty()) return {std::string(p.value), true, negated};
        }
        for (const std::string_view category : general_categories) {
            if (category == key) {
                std::string value(name);
                return {"\\p{" + std::string(1, static_cast<char>(key[0] - 32)) + key.substr(1) + "}", true,
                        negated};
            }
        }
        // A script, unless PCRE2 says that there is none of this name.
        const bool letters =
            !key.empty() && key.find_first_not_of("abcdefghijklmnopqrstuvwxyz") == std::string::npos;
        if (!letters || key.starts_with("in") || key == "graph" || key == "print")
            fail(fmt::format("the property {}", name));
        return {"\\p{sc:" + key + "}", true, negated};
    }

    // [:alpha:] within a class.
    Part posix_class() {
        const bool negated = take("^");
        const std::string_view name = take_until(':');
        if (!take("]")) fail("a class [: that :] does not end");
        for (const Property& p : properties) {
            if (p.name == name && !p.value.empty()) return {std::string(p.value), true, negated};
        }
        fail(fmt::format("[:{}:]", name));
    }

    // Behind the bracket. What is in it, as one-character patterns that any may match.
    std::string char_class() {
        if (++depth_ > max_depth) fail("classes that are nested so deeply");
        const bool negated = take("^");
        std::vector<std::string> terms;  // of the intersection
        std::string simple;              // what a plain class can hold
        std::vector<std::string> others;
        bool first = true;
        const auto end_term = [&] {
            std::vector<std::string> choices = std::move(others);
            if (!simple.empty()) choices.push_back("[" + simple + "]");
            others.clear();
            simple.clear();
            std::string term = choices.empty() ? "(?!)" : choices[0];
            for (size_t i = 1; i < choices.size(); ++i) term += "|" + choices[i];
            terms.push_back(choices.size() > 1 ? "(?:" + term + ")" : term);
        };
        const auto add = [&](Part part) {
            if (part.negated) {
                others.push_back("[^" + part.text + "]");
            } else {
                simple += part.text;
            }
        };
        while (first || peek() != ']') {
            if (!more()) fail("a class that is not closed");
            if (take("&&")) {
                end_term();
            } else if (take("[:")) {
                add(posix_class());
            } else if (take("[")) {
                others.push_back(char_class());
            } else if (take("\\")) {
                add(class_escape());
            } else {
                const std::string c = character();
                simple += c == "[" || c == "^" || c == "]" ? "\\" + c : c;
            }
            first = false;
        }
        ++at_;
        end_term();
        --depth_;
        std::string all = terms.back();
        const bool is_plain =
            terms.size() == 1 && all[0] == '[' && all[1] != '^' && all.find(']') == all.size() - 1;
        for (size_t i = terms.size() - 1; i-- > 0;) all = "(?=" + terms[i] + ")" + all;
        if (terms.size() > 1) all = "(?:" + all + ")";
        if (!negated) return all;
        return is_plain ? "[^" + all.substr(1) : "(?:(?!" + all + ")" + std::string(any) + ")";
    }

    std::string_view in_;
    size_t at_ = 0;
    int depth_ = 0;
};

}  // namespace

std::string pcre_pattern(std::string_view oniguruma) {
    return Translator(oniguruma).whole();
}

}  // namespace smelt
