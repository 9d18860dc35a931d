// Builder, second half: which rules can be empty, what leads to an end, states without empty moves.
#include "grammar/builder.h"

#include <algorithm>

#include "grammar/refused.h"

namespace smelt::grammar {

// Makes empty calls empty moves.
void Builder::find_nullable() {
    std::vector<bool> reached(states_.size());  // from the beginning of its rule, without a byte
    std::vector<std::vector<int32_t>> waiting(rules_.size()), counters(rules_.size());
    std::vector<int32_t> todo;
    const auto reach = [&](int32_t q) {
        if (reached[static_cast<size_t>(q)]) return;
        reached[static_cast<size_t>(q)] = true;
        todo.push_back(q);
    };
    const auto set_nullable = [&](int32_t r, auto& self) -> void {
        if (std::exchange(rule(r).nullable, true)) return;
        for (const int32_t q : waiting[static_cast<size_t>(r)]) reach(q);
        for (const int32_t counter : counters[static_cast<size_t>(r)]) {
            rule(counter).min = 0;
            self(counter, self);
        }
    };
    for (int32_t r = 0; r < static_cast<int32_t>(rules_.size()); ++r) {
        if (rule(r).body >= 0) counters[static_cast<size_t>(rule(r).body)].push_back(r);
    }
    for (int32_t r = 0; r < static_cast<int32_t>(rules_.size()); ++r) {
        if (rule(r).body >= 0 && rule(r).min == 0) set_nullable(r, set_nullable);
        if (rule(r).body < 0) reach(rule(r).start);
    }
    while (!todo.empty()) {
        const int32_t q = todo.back();
        todo.pop_back();
        const Edges& e = edges(q);
        budget_.spend(1 + e.skips.size() + e.calls.size());
        const bool too_few = rule(e.rule).counts && rule(e.rule).min > 0;
        if (q == rule(e.rule).end && !too_few) set_nullable(e.rule, set_nullable);
        for (const int32_t to : e.skips) reach(to);
        for (const auto& [callee, to] : e.calls) {
            if (rule(callee).nullable) {
                reach(to);
            } else {
                waiting[static_cast<size_t>(callee)].push_back(to);
            }
        }
    }
    for (int32_t q = 0; q < static_cast<int32_t>(states_.size()); ++q) {
        for (const auto& [callee, to] : edges(q).calls) {
            if (rule(callee).nullable) skip(q, to);
        }
    }
}

// From which states and rules some text leads to the end.
void Builder::find_productive() {
    struct Back {
        int32_t from, rule;  // -1: no call
    };
    std::vector<std::vector<Back>> back(states_.size());
    for (int32_t q = 0; q < static_cast<int32_t>(states_.size()); ++q) {
        for (const ByteEdge& e : edges(q).bytes) back[static_cast<size_t>(e.to)].push_back({q, -1});
        for (const int32_t to : edges(q).skips) back[static_cast<size_t>(to)].push_back({q, -1});
        for (const auto& [callee, to] : edges(q).calls) back[static_cast<size_t>(to)].push_back({q, callee});
    }
    productive_.assign(states_.size(), false);
    std::vector<std::vector<int32_t>> waiting(rules_.size()), counters(rules_.size()), starts(states_.size());
    std::vector<int32_t> todo;
    const auto mark = [&](int32_t q) {
        if (productive_[static_cast<size_t>(q)]) return;
        productive_[static_cast<size_t>(q)] = true;
        todo.push_back(q);
    };
    const auto set_productive = [&](int32_t r, auto& self) -> void {
        if (std::exchange(rule(r).productive, true)) return;
        for (const int32_t q : waiting[static_cast<size_t>(r)]) mark(q);
        for (const int32_t counter : counters[static_cast<size_t>(r)]) self(counter, self);
    };
    for (int32_t r = 0; r < static_cast<int32_t>(rules_.size()); ++r) {
        const Rule& x = rule(r);
        if (x.body >= 0) counters[static_cast<size_t>(x.body)].push_back(r);
    }
    for (int32_t r = 0; r < static_cast<int32_t>(rules_.size()); ++r) {
        const Rule& x = rule(r);
        if (x.body >= 0) {
            if (x.min == 0) set_productive(r, set_productive);
            continue;
        }
        starts[static_cast<size_t>(x.start)].push_back(r);
        mark(x.end);
    }
    while (!todo.empty()) {
        const int32_t q = todo.back();
        todo.pop_back();
        budget_.spend(1 + back[static_cast<size_t>(q)].size());
        for (const int32_t r : starts[static_cast<size_t>(q)]) set_productive(r, set_productive);
        for (const auto& [from, callee] : back[static_cast<size_t>(q)]) {
            if (callee < 0 || rule(callee).productive) {
                mark(from);
            } else {
                waiting[static_cast<size_t>(callee)].push_back(from);
            }
        }
    }
}

void Builder::drop_unproductive() {
    const auto dead = [&](int32_t q) { return !productive_[static_cast<size_t>(q)]; };
    for (Edges& e : states_) {
        budget_.spend(1 + e.bytes.size() + e.skips.size() + e.calls.size());
        std::erase_if(e.bytes, [&](const ByteEdge& b) { return dead(b.to); });
        std::erase_if(e.skips, dead);
        std::erase_if(e.calls, [&](const CallEdge& c) {
            const Rule& callee = rule(c.rule);
            const bool empty_only = callee.body >= 0 && (callee.max == 0 || !rule(callee.body).productive);
            return dead(c.to) || !callee.productive || empty_only;
        });
    }
}

// The edges of all states that empty moves lead to; `final`: one of them ends the rule.
Builder::Edges Builder::closed(int32_t state, bool& final) {
    Edges all{.rule = edges(state).rule};
    std::vector<int32_t> todo = {state};
    stamp_[static_cast<size_t>(state)] = state;
    final = false;
    while (!todo.empty()) {
        const int32_t q = todo.back();
        todo.pop_back();
        const Edges& e = edges(q);
        final = final || q == rule(all.rule).end;
        all.bytes.insert(all.bytes.end(), e.bytes.begin(), e.bytes.end());
        all.calls.insert(all.calls.end(), e.calls.begin(), e.calls.end());
        budget_.spend(1 + e.bytes.size() + e.calls.size() + e.skips.size());
        for (const int32_t to : e.skips) {
            if (std::exchange(stamp_[static_cast<size_t>(to)], state) != state) todo.push_back(to);
        }
    }
    const auto key = [](const ByteEdge& b) { return std::tuple(b.to, b.lo, b.hi); };
    std::ranges::sort(all.bytes, {}, key);
    std::vector<ByteEdge> merged;
    for (const ByteEdge& b : all.bytes) {
        if (!merged.empty() && merged.back().to == b.to && b.lo <= merged.back().hi + 1) {
            merged.back().hi = std::max(merged.back().hi, b.hi);
        } else {
            merged.push_back(b);
        }
    }
    all.bytes = std::move(merged);
    std::ranges::sort(all.calls, {}, [](const CallEdge& c) { return std::pair(c.rule, c.to); });
    const auto same = [](const CallEdge& x, const CallEdge& y) { return x.rule == y.rule && x.to == y.to; };
    all.calls.erase(std::unique(all.calls.begin(), all.calls.end(), same), all.calls.end());
    return all;
}

Automaton Builder::finish(int32_t root) {
    find_nullable();
    find_productive();
    if (!rule(root).productive) refuse("", "", "no text matches it");
    drop_unproductive();

    Automaton a;
    a.rules.resize(rules_.size());
    a.root = root;
    a.accepts_nothing = rule(root).nullable;
    a.control_tokens = control_tokens_;
    stamp_.assign(states_.size(), -1);
    std::vector<int32_t> new_id(states_.size(), -1), old_id;
    const auto id_of = [&](int32_t q) {
        int32_t& id = new_id[static_cast<size_t>(q)];
        if (id < 0) {
            id = static_cast<int32_t>(old_id.size());
            old_id.push_back(q);
        }
        return id;
    };
    std::vector<bool> used(rules_.size());
    std::vector<int32_t> counters;  // their two states have no old ones: -2 - rule
    const auto start_of = [&](int32_t r, auto& self) -> void {
        if (used[static_cast<size_t>(r)]) return;
        used[static_cast<size_t>(r)] = true;
        Automaton::Rule& to = a.rules[static_cast<size_t>(r)];
        if (rule(r).body < 0) {
            to = {.start = id_of(rule(r).start),
                  .min = rule(r).min,
                  .max = rule(r).max,
                  .counts = rule(r).counts};
            return;
        }
        to = {.start = static_cast<int32_t>(old_id.size()),
              .body = rule(r).body,
              .min = rule(r).min,
              .max = rule(r).max};
        old_id.insert(old_id.end(), 2, -2 - r);
        self(rule(r).body, self);
    };
    start_of(root, start_of);
    for (size_t i = 0; i < old_id.size(); ++i) {
        Automaton::State s{.first_byte = static_cast<uint32_t>(a.byte_edges.size()),
                           .first_call = static_cast<uint32_t>(a.call_edges.size())};
        if (old_id[i] < -1) {
            s.rule = -2 - old_id[i];
        } else {
            const Edges e = closed(old_id[i], s.final);
            s.rule = e.rule;
            for (const ByteEdge& b : e.bytes) a.byte_edges.push_back({b.lo, b.hi, id_of(b.to)});
            for (const CallEdge& c : e.calls) {
                start_of(c.rule, start_of);
                a.call_edges.push_back({c.rule, id_of(c.to)});
            }
        }
        if (a.byte_edges.size() + a.call_edges.size() > limits_.max_edges) {
            refuse("", "", "the grammar needs too many edges");
        }
        a.states.push_back(s);
    }
    a.states.push_back({.first_byte = static_cast<uint32_t>(a.byte_edges.size()),
                        .first_call = static_cast<uint32_t>(a.call_edges.size())});
    rank_rules(a);
    find_follow(a);
    find_turns(a);
    a.shortest = shortest_text(a, budget_);

    std::bitset<257> cut;
    cut[0] = true;
    for (const ByteEdge& e : a.byte_edges) {
        cut[e.lo] = cut[e.hi + 1u] = true;
        for (size_t b = e.lo; b <= e.hi; ++b) a.used[b] = true;
    }
    for (size_t b = 0; b < 256; ++b) {
        if (cut[b]) a.byte_of_class.push_back(static_cast<uint8_t>(b));
        a.class_of[b] = static_cast<uint8_t>(a.byte_of_class.size() - 1);
    }
    return a;
}

void Builder::rank_rules(Automaton& a) {
    const auto n = a.rules.size();
    std::vector<std::vector<int32_t>> begins_with(n);
    std::vector<int> n_callers(n);
    std::vector<bool> used(n);
    for (size_t q = 0; q + 1 < a.states.size(); ++q) used[static_cast<size_t>(a.states[q].rule)] = true;
    for (size_t r = 0; r < n; ++r) {
        if (!used[r]) continue;
        if (a.rules[r].body >= 0) begins_with[r].push_back(a.rules[r].body);
        if (a.rules[r].body < 0) {
            for (const CallEdge& c : a.calls_of(a.rules[r].start)) begins_with[r].push_back(c.rule);
        }
        for (const int32_t callee : begins_with[r]) ++n_callers[static_cast<size_t>(callee)];
    }
    std::vector<size_t> order;
    for (size_t r = 0; r < n; ++r) {
        if (used[r] && n_callers[r] == 0) order.push_back(r);
    }
    for (size_t i = 0; i < order.size(); ++i) {
        a.rules[order[i]].rank = static_cast<uint32_t>(i);
        for (const int32_t callee : begins_with[order[i]]) {
            if (--n_callers[static_cast<size_t>(callee)] == 0) order.push_back(static_cast<size_t>(callee));
        }
    }
    if (order.size() != static_cast<size_t>(std::ranges::count(used, true))) {
        refuse("", "", "a rule begins with itself (left recursion)");
    }
}

void Builder::find_follow(Automaton& a) {
    const auto n = a.rules.size();
    std::vector<ByteSet> first(n);
    std::vector<size_t> by_rank(n);
    for (size_t r = 0; r < n; ++r) by_rank[r] = r;
    std::ranges::sort(by_rank, std::greater(), [&](size_t r) { return a.rules[r].rank; });
    const auto first_of = [&](int32_t state) {
        ByteSet set;
        budget_.spend(1 + 8 * a.bytes_of(state).size() + a.calls_of(state).size());
        for (const ByteEdge& e : a.bytes_of(state)) {
            for (size_t b = e.lo; b <= e.hi; ++b) set[b] = true;
        }
        for (const CallEdge& c : a.calls_of(state)) set |= first[static_cast<size_t>(c.rule)];
        return set;
    };
    for (const size_t r : by_rank) {
        const auto& x = a.rules[r];
        if (x.body >= 0) first[r] = first[static_cast<size_t>(x.body)];
        if (x.body < 0 && x.start < static_cast<int32_t>(a.states.size()) - 1 &&
            a.state_at(x.start).rule == static_cast<int32_t>(r)) {
            first[r] = first_of(x.start);
        }
    }
    std::vector<ByteSet> first_of_state;
    for (int32_t q = 0; q + 1 < static_cast<int32_t>(a.states.size()); ++q)
        first_of_state.push_back(first_of(q));
    std::vector<std::vector<int32_t>> inherits(n);  // rules that end where this one does
    std::vector<size_t> todo;
    for (size_t r = 0; r < n; ++r) {
        if (a.rules[r].body < 0) continue;
        const auto body = static_cast<size_t>(a.rules[r].body);
        a.rules[body].follow |= first[body];
        inherits[r].push_back(a.rules[r].body);
    }
    for (int32_t q = 0; q + 1 < static_cast<int32_t>(a.states.size()); ++q) {
        for (const CallEdge& c : a.calls_of(q)) {
            a.rules[static_cast<size_t>(c.rule)].follow |= first_of_state[static_cast<size_t>(c.to)];
            if (a.state_at(c.to).final) inherits[static_cast<size_t>(a.state_at(q).rule)].push_back(c.rule);
        }
    }
    for (size_t r = 0; r < n; ++r) {
        std::ranges::sort(inherits[r]);
        inherits[r].erase(std::unique(inherits[r].begin(), inherits[r].end()), inherits[r].end());
        todo.push_back(r);
    }
    while (!todo.empty()) {
        const size_t r = todo.back();
        todo.pop_back();
        budget_.spend(1 + inherits[r].size());
        for (const int32_t callee : inherits[r]) {
            ByteSet& follow = a.rules[static_cast<size_t>(callee)].follow;
            const ByteSet before = follow;
            follow |= a.rules[r].follow;
            if (follow != before) todo.push_back(static_cast<size_t>(callee));
        }
    }
}

// From the ends of rules that count backwards, one turn at a time.
void Builder::find_turns(Automaton& a) {
    std::vector<std::vector<int32_t>> back(a.states.size());
    std::vector<int32_t> todo;
    for (int32_t q = 0; q + 1 < static_cast<int32_t>(a.states.size()); ++q) {
        if (!a.rule_of(q).counts) continue;
        for (const ByteEdge& e : a.bytes_of(q)) back[static_cast<size_t>(e.to)].push_back(q);
        for (const CallEdge& e : a.calls_of(q)) back[static_cast<size_t>(e.to)].push_back(q);
        if (a.state_at(q).final) todo.push_back(q);
    }
    for (size_t i = 0; i < todo.size(); ++i) {
        budget_.spend(1 + back[static_cast<size_t>(todo[i])].size());
        const uint32_t turns = a.turns_left(todo[i]) + 1;
        for (const int32_t q : back[static_cast<size_t>(todo[i])]) {
            auto& from = a.states[static_cast<size_t>(q)];
            if (from.turns_on != UINT32_MAX) continue;
            from.turns_on = turns;
            if (!from.final) todo.push_back(q);
        }
    }
}

}  // namespace smelt::grammar
