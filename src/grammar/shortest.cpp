// The bytes of the shortest text of a grammar: Knuth's form of Dijkstra's search, for what calls each other.
#include <queue>

#include "grammar/builder.h"

namespace smelt::grammar {

namespace {

class Search {
 public:
    Search(const Automaton& a, Budget& budget)
        : a_(a),
          budget_(budget),
          n_states_(a.states.size() - 1),
          known_(n_states_ + a.rules.size(), unknown),
          back_(n_states_),
          calls_of_(a.rules.size()),
          counters_(a.rules.size()),
          starts_(n_states_) {
        for (size_t q = 0; q < n_states_; ++q) {
            const auto state = static_cast<int32_t>(q);
            budget_.spend(4 + 4 * (a.bytes_of(state).size() + a.calls_of(state).size()));
            for (const ByteEdge& e : a.bytes_of(state))
                back_[static_cast<size_t>(e.to)].push_back({state, -1});
            for (const CallEdge& e : a.calls_of(state)) {
                back_[static_cast<size_t>(e.to)].push_back({state, e.rule});
                calls_of_[static_cast<size_t>(e.rule)].push_back({state, e.to});
            }
            if (a.state_at(state).final) reach(q, 0);
            if (a.is_counter(state) && !a.is_open_counter(state)) {
                const auto& rule = a.rule_of(state);
                counters_[static_cast<size_t>(rule.body)].push_back(a.state_at(state).rule);
                if (rule.min == 0) reach(n_states_ + static_cast<size_t>(a.state_at(state).rule), 0);
            } else if (!a.is_counter(state) && a.rule_of(state).start == state) {
                starts_[q].push_back(a.state_at(state).rule);
            }
        }
    }

    uint64_t run() {
        while (!heap_.empty()) {
            const auto [length, node] = heap_.top();
            heap_.pop();
            if (known_[node] != unknown) continue;
            known_[node] = length;
            node < n_states_ ? after_state(node, length) : after_rule(node - n_states_, length);
        }
        const uint64_t found = known_[n_states_ + static_cast<size_t>(a_.root)];
        return a_.accepts_nothing ? 0 : found;
    }

 private:
    static constexpr uint64_t unknown = UINT64_MAX, most = uint64_t{1} << 60;

    void reach(size_t node, uint64_t length) {
        budget_.spend(20);
        if (known_[node] == unknown) heap_.emplace(std::min(length, most), node);
    }

    void after_state(size_t q, uint64_t length) {
        for (const auto& [from, rule] : back_[q]) {
            const uint64_t more = rule < 0 ? 1 : known_[n_states_ + static_cast<size_t>(rule)];
            if (more != unknown) reach(static_cast<size_t>(from), length + more);
        }
        for (const int32_t r : starts_[q]) {
            const auto& rule = a_.rules[static_cast<size_t>(r)];
            // A turn is a byte at least.
            reach(n_states_ + static_cast<size_t>(r), std::max<uint64_t>(length, rule.counts ? rule.min : 0));
        }
    }

    void after_rule(size_t r, uint64_t length) {
        for (const auto& [from, to] : calls_of_[r]) {
            const uint64_t rest = known_[static_cast<size_t>(to)];
            if (rest != unknown) reach(static_cast<size_t>(from), rest + length);
        }
        for (const int32_t counter : counters_[r]) {
            const uint64_t turns = a_.rules[static_cast<size_t>(counter)].min;
            const bool large = turns > 0 && length > most / turns;
            reach(n_states_ + static_cast<size_t>(counter), large ? most : turns * length);
        }
    }

    struct Back {
        int32_t from, rule;  // -1: a byte
    };
    struct Call {
        int32_t from, to;
    };
    using Item = std::pair<uint64_t, size_t>;

    const Automaton& a_;
    Budget& budget_;
    size_t n_states_;
    std::vector<uint64_t> known_;  // of states to the ends of their rules, then of rules
    std::vector<std::vector<Back>> back_;
    std::vector<std::vector<Call>> calls_of_;
    std::vector<std::vector<int32_t>> counters_, starts_;
    std::priority_queue<Item, std::vector<Item>, std::greater<>> heap_;
};

}  // namespace

uint64_t shortest_text(const Automaton& a, Budget& budget) {
    return Search(a, budget).run();
}

}  // namespace smelt::grammar
