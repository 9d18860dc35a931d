// Deterministic automata over characters: what intersections and complements of languages need. Only parts of
// strings (patterns, lengths, names of members) are ever turned into one.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "grammar/expr.h"

namespace smelt::grammar {

class Budget;

struct CharDfa {
    struct Edge {
        char32_t lo, hi;
        int32_t to;
    };
    struct State {
        std::vector<Edge> edges = {};  // ascending, disjoint; a character without an edge matches nothing
        bool final = false;
    };
    std::vector<State> states = {};  // it begins in the first

    bool accepts(std::u32string_view text) const;
    bool empty() const;         // no text is accepted
    uint32_t shortest() const;  // characters of the shortest text; `unlimited` where there is none
    // From each text that is accepted leads one more character to another: there are texts of all lengths.
    bool grows() const;
};

// All of them throw Refused beyond the limits. The tree must be of chars, sequence, choice, repeat and dfa.
CharDfa make_dfa(const Expr& e, Budget& budget);
CharDfa intersection(const CharDfa& a, const CharDfa& b, Budget& budget);
CharDfa complement(const CharDfa& a, Budget& budget);
// All texts but these.
CharDfa all_but(std::span<const std::u32string> texts, Budget& budget);
// The texts in which none of these stands, and with `closed` those that end with the first one that does.
CharDfa without(std::span<const std::u32string> texts, bool closed, Budget& budget);

}  // namespace smelt::grammar
