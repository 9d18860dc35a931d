// A tree over characters as states with empty moves, some of which only an assertion opens: what subset
// construction begins with.
#pragma once

#include <vector>

#include "grammar/budget.h"
#include "grammar/char_dfa.h"

namespace smelt::grammar {

constexpr size_t steps_per_node = 10;  // of a tree of the standard library: some 100 ns

class CharNfa {
 public:
    struct Guarded {
        const Expr* assertion;
        int32_t to;
    };
    struct State {
        std::vector<CharDfa::Edge> edges = {};
        std::vector<int32_t> skips = {};
        std::vector<Guarded> guarded = {};
    };

    // Borrows the tree. It is of chars, sequence, choice, repeat, dfa, counted_dfa and assertion.
    CharNfa(const Expr& e, Budget& budget);

    static constexpr int32_t start = 0, final = 1;
    const State& at(int32_t state) const { return states_[static_cast<size_t>(state)]; }

 private:
    int32_t add_state();
    void add(const Expr& e, int32_t from, int32_t to);
    void add_repeat(const Expr& e, int32_t from, int32_t to);
    void add_dfa(const CharDfa& d, int32_t from, int32_t to);
    int32_t after(const Expr& part, int32_t from);
    void edge(int32_t from, CharDfa::Edge e);
    void skip(int32_t from, int32_t to);

    Budget& budget_;
    std::vector<State> states_;
};

// make_dfa() for trees with assertions.
CharDfa make_asserted_dfa(const Expr& e, Budget& budget);

}  // namespace smelt::grammar
