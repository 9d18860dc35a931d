// What a text may be, as a tree over characters: what every front end makes of its input.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace smelt::grammar {

// Unicode scalar values, as ascending ranges that neither touch nor overlap. Both ends belong to a range.
class CharSet {
 public:
    struct Range {
        char32_t lo, hi;
        bool operator==(const Range&) const = default;
        auto operator<=>(const Range&) const = default;
    };

    CharSet() = default;
    CharSet(std::initializer_list<Range> ranges);
    static CharSet all();
    static CharSet one(char32_t c) { return {{c, c}}; }

    void add(char32_t lo, char32_t hi);
    void add(const CharSet& other);
    CharSet complement() const;
    CharSet intersection(const CharSet& other) const;

    bool contains(char32_t c) const;
    bool empty() const { return ranges_.empty(); }
    const std::vector<Range>& ranges() const& { return ranges_; }
    std::vector<Range> ranges() && { return std::move(ranges_); }
    bool operator==(const CharSet&) const = default;
    // Not <=>, which vectors of libc++ 16 do not have.
    bool operator<(const CharSet& other) const { return ranges_ < other.ranges_; }

 private:
    std::vector<Range> ranges_;
};

// What a JSON string cannot hold as it is.
inline const CharSet json_escaped = {{0, 0x1f}, {'"', '"'}, {'\\', '\\'}};

inline constexpr uint32_t unlimited = UINT32_MAX;

// The fewest and the most characters of a text; `unlimited` where there is no end.
struct LengthRange {
    uint32_t min, max;
};

struct CharDfa;
struct Expr;
using ExprPtr = std::shared_ptr<const Expr>;

struct Expr {
    enum class Kind {
        bytes,     // exactly these, as they are
        chars,     // one character of a set
        sequence,  // no parts: the empty text
        choice,    // no parts: nothing matches
        repeat,
        call,  // of a rule
        dfa,
        counted_dfa,  // its texts of min to max characters
        json_text,    // its part, each character spelled as between the quotes of a JSON string
        assertion,    // no text; holds at some places. Only patterns have them, until make_dfa()
    };
    enum class Assertion {
        begin,
        end,
        line_begin,
        line_end,
        word_edge,
        no_word_edge,
        ahead,
        not_ahead,
        behind,
        not_behind
    };
    Kind kind;
    std::string bytes = {};
    CharSet chars = {};
    std::vector<ExprPtr> parts = {};
    uint32_t min = 0, max = 0;  // of repeat and counted_dfa
    int32_t rule = -1;          // of call
    std::shared_ptr<const CharDfa> dfa = {};
    Assertion assertion = Assertion::begin;  // its part is what stands ahead or behind
    bool has_assertions = false;             // it or one of its parts
};

ExprPtr bytes(std::string text);
ExprPtr chars(CharSet set);
ExprPtr literal(std::u32string_view text);  // a chars node for each character
ExprPtr sequence(std::vector<ExprPtr> parts);
ExprPtr choice(std::vector<ExprPtr> parts);
ExprPtr repeat(ExprPtr part, uint32_t min, uint32_t max = unlimited);
ExprPtr optional(ExprPtr part);
ExprPtr call(int32_t rule);
ExprPtr dfa(CharDfa d);
ExprPtr counted_dfa(CharDfa d, LengthRange lengths);
ExprPtr json_text(ExprPtr part);
ExprPtr assertion(Expr::Assertion kind, ExprPtr part = nullptr);

// Of trees without calls.
LengthRange length_range(const Expr& e);

// JSON's white space aside, U+FFFD for each broken sequence.
std::u32string decode_text(std::string_view utf8);

}  // namespace smelt::grammar
