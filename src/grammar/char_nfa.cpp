// A way from one state to another for every text of the tree.
#include "grammar/char_nfa.h"

namespace smelt::grammar {

CharNfa::CharNfa(const Expr& e, Budget& budget) : budget_(budget) {
    add_state();
    add_state();
    add(e, start, final);
}

int32_t CharNfa::add_state() {
    budget_.spend(4);
    if (states_.size() >= budget_.limits().max_states) refuse("", "", "the pattern needs too many states");
    states_.emplace_back();
    return static_cast<int32_t>(states_.size()) - 1;
}

void CharNfa::edge(int32_t from, CharDfa::Edge e) {
    budget_.spend();
    states_[static_cast<size_t>(from)].edges.push_back(e);
}

void CharNfa::skip(int32_t from, int32_t to) {
    budget_.spend();
    states_[static_cast<size_t>(from)].skips.push_back(to);
}

void CharNfa::add(const Expr& e, int32_t from, int32_t to) {
    budget_.spend();
    switch (e.kind) {
        case Expr::Kind::chars:
            for (const auto& [lo, hi] : e.chars.ranges()) edge(from, {lo, hi, to});
            return;
        case Expr::Kind::sequence:
            for (const ExprPtr& p : e.parts) {
                const int32_t next = add_state();
                add(*p, from, next);
                from = next;
            }
            return skip(from, to);
        case Expr::Kind::choice:
            for (const ExprPtr& p : e.parts) add(*p, from, to);
            return;
        case Expr::Kind::repeat:
            return add_repeat(e, from, to);
        case Expr::Kind::dfa:
            return add_dfa(*e.dfa, from, to);
        case Expr::Kind::counted_dfa: {
            const CharDfa lengths = make_dfa(*repeat(chars(CharSet::all()), e.min, e.max), budget_);
            return add_dfa(intersection(*e.dfa, lengths, budget_), from, to);
        }
        case Expr::Kind::assertion:
            return states_[static_cast<size_t>(from)].guarded.push_back({&e, to});
        case Expr::Kind::bytes:
        case Expr::Kind::call:
        case Expr::Kind::json_text:
            break;
    }
    refuse("", "", "this part cannot be combined with others");
}

void CharNfa::add_dfa(const CharDfa& d, int32_t from, int32_t to) {
    const auto first = static_cast<int32_t>(states_.size());
    for (size_t i = 0; i < d.states.size(); ++i) add_state();
    skip(from, first);
    for (size_t i = 0; i < d.states.size(); ++i) {
        const int32_t state = first + static_cast<int32_t>(i);
        for (const CharDfa::Edge& x : d.states[i].edges) edge(state, {x.lo, x.hi, first + x.to});
        if (d.states[i].final) skip(state, to);
    }
}

void CharNfa::add_repeat(const Expr& e, int32_t from, int32_t to) {
    const Expr& part = *e.parts[0];
    for (uint32_t i = 0; i < e.min; ++i) from = after(part, from);
    if (e.max == unlimited) {
        const int32_t hub = add_state();
        skip(from, hub);
        add(part, hub, hub);
        return skip(hub, to);
    }
    for (uint32_t i = e.min; i < e.max; ++i) {
        skip(from, to);
        from = after(part, from);
    }
    skip(from, to);
}

int32_t CharNfa::after(const Expr& part, int32_t from) {
    const int32_t next = add_state();
    add(part, from, next);
    return next;
}

}  // namespace smelt::grammar
