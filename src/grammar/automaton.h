// A compiled grammar: rules that call each other, each a nondeterministic automaton over bytes without empty
// moves. Every state of it lies on a way to the end; no rule can call itself before a byte was read.
#pragma once

#include <array>
#include <bitset>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace smelt::grammar {

using ByteSet = std::bitset<256>;

// Stands before and behind the name of a control token; no UTF-8 text has this byte.
constexpr char control_mark = '\xff';

// That a vector holds, in use or not.
template <class T>
size_t bytes_held(const std::vector<T>& v) {
    return v.capacity() * sizeof(T);
}

struct ByteEdge {
    uint8_t lo, hi;
    int32_t to;
};
struct CallEdge {
    int32_t rule;
    int32_t to;  // where it goes on when the rule has ended
};

struct Automaton {
    struct State {
        uint32_t first_byte = 0, first_call = 0;  // up to those of the next state
        int32_t rule = 0;                         // that it belongs to
        bool final = false;                       // the rule may end here
        // In rules that count: how many turns every way on from here to an end of the rule has at least.
        uint32_t turns_on = UINT32_MAX;
    };
    struct Rule {
        int32_t start = 0;
        uint32_t rank = 0;  // a rule called before any byte of another was read has a higher one
        // Repeats have a counter in place of edges. `start` stands for it, with the count; start + 1 for the
        // same without bounds, which only the analysis of token sets uses.
        int32_t body = -1;
        uint32_t min = 0, max = 0;
        // Each edge of its states is a turn, and as many as `min` to `max` may be made: a pattern whose
        // characters are counted.
        bool counts = false;
        ByteSet follow = {};  // bytes that may come behind it
    };

    std::vector<State> states = {};  // one more than there are
    std::vector<ByteEdge> byte_edges = {};
    std::vector<CallEdge> call_edges = {};
    std::vector<Rule> rules = {};
    int32_t root = 0;
    bool accepts_nothing = false;            // the empty text is one of the language
    uint64_t shortest = 0;                   // bytes of the shortest text
    std::vector<std::string> warnings = {};  // what a lenient schema asked for and is not kept
    ByteSet used = {};                       // bytes that occur
    std::vector<std::string> control_tokens = {};
    std::array<uint8_t, 256> class_of = {};  // bytes that no edge tells apart share a class
    std::vector<uint8_t> byte_of_class = {};

    const Rule& rule_of(int32_t state) const { return rules[static_cast<size_t>(state_at(state).rule)]; }
    const State& state_at(int32_t state) const { return states[static_cast<size_t>(state)]; }
    // The fewest turns from a state of a rule that counts to the end of the rule.
    uint32_t turns_left(int32_t state) const { return state_at(state).final ? 0 : state_at(state).turns_on; }
    bool is_counter(int32_t state) const { return rule_of(state).body >= 0; }
    bool is_open_counter(int32_t state) const { return is_counter(state) && rule_of(state).start != state; }
    std::span<const ByteEdge> bytes_of(int32_t state) const {
        const auto* s = &states[static_cast<size_t>(state)];
        return std::span(byte_edges).subspan(s->first_byte, s[1].first_byte - s->first_byte);
    }
    std::span<const CallEdge> calls_of(int32_t state) const {
        const auto* s = &states[static_cast<size_t>(state)];
        return std::span(call_edges).subspan(s->first_call, s[1].first_call - s->first_call);
    }
    size_t bytes() const {
        return sizeof *this + bytes_held(states) + bytes_held(byte_edges) + bytes_held(call_edges) +
               bytes_held(rules) + bytes_held(control_tokens);
    }
};

}  // namespace smelt::grammar
