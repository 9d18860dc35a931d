// Walks the trie from one position whose callers are not known.
#include "grammar/token_sets.h"

#include <algorithm>
#include <map>

namespace smelt::grammar {

namespace {

constexpr size_t few_ids = 512;            // a set of fewer is kept as a list
constexpr size_t max_shared_states = 400;  // around a position whose set other grammars may have too

// How many turns of the open counter `counter` a machine's states are in: 0 as long as none is known.
class TurnCounter {
 public:
    static constexpr uint32_t ambiguous = UINT32_MAX;

    TurnCounter(const Machine& m, int32_t counter) : machine_(m), counter_(counter) {}

    uint32_t of_state(int32_t state) { return known(states_, state, machine_.items(state)); }

 private:
    uint32_t known(std::unordered_map<int32_t, uint32_t>& memo, int32_t key, std::span<const Item> items) {
        if (const auto it = memo.find(key); it != memo.end()) return it->second;
        uint32_t all = 0;
        for (const Item& i : items) {
            const uint32_t one =
                i.state == counter_ ? i.count : known(contexts_, i.context, machine_.callers(i.context));
            if (one == 0) continue;
            if (all != 0 && all != one) all = ambiguous;
            if (all == 0) all = one;
        }
        return memo[key] = all;
    }

    const Machine& machine_;
    int32_t counter_;
    std::unordered_map<int32_t, uint32_t> states_, contexts_;
};

}  // namespace

TokenSets::Found TokenSets::at(int32_t state, uint32_t count) {
    const std::lock_guard lock(mutex_);
    if (!a_.is_counter(state)) return {&get(state, 0)};
    const auto& rule = a_.rule_of(state);
    if (rule.max == UINT32_MAX && count >= rule.min) return {&get(state, rule.min)};
    const PositionSet& by_turns = get(rule.start + 1, 0);
    if (by_turns.ambiguous) return {&get(state, count)};
    return {&by_turns, rule.min > count ? rule.min - count : 0,
            rule.max == UINT32_MAX ? UINT32_MAX : rule.max - count};
}

const PositionSet& TokenSets::get(int32_t state, uint32_t count) {
    const uint64_t key = uint64_t{static_cast<uint32_t>(state)} << 32 | count;
    std::shared_ptr<const PositionSet>& set = sets_[key];
    if (set != nullptr) return *set;
    const std::string shared_key = fingerprint(state, count);
    if (!shared_key.empty()) set = trie_.find_set(shared_key);
    if (set != nullptr) return *set;
    set = std::make_shared<const PositionSet>(make(state, count));
    if (!shared_key.empty() && !set->bits.empty()) trie_.keep_set(shared_key, set);
    return *set;
}

PositionSet TokenSets::make(int32_t state, uint32_t count) const {
    PositionSet set;
    Machine machine(a_);
    const bool by_turns = a_.is_open_counter(state);
    TurnCounter turns(machine, state);
    const ByteSet& follow = a_.rule_of(state).follow;
    std::map<uint8_t, std::vector<Exit>> exits;
    std::vector<int32_t> path(static_cast<size_t>(trie_.max_depth()) + 1);
    path[0] = machine.begin({state, count, Machine::open});

    const auto& nodes = trie_.nodes();
    for (size_t i = 1; i < nodes.size();) {
        const TokenTrie::Node& node = nodes[i];
        const int32_t s = machine.next(path[node.depth - 1u], node.byte);
        if (s == Machine::dead) {
            i = static_cast<size_t>(node.end);
            continue;
        }
        path[node.depth] = s;
        const uint32_t n = by_turns ? turns.of_state(s) : 0;
        if (n == TurnCounter::ambiguous) return {.ambiguous = true};
        for (int32_t id = node.token; id >= 0; id = trie_.next_same(id)) set.by_turns.push_back({n, id});
        if (machine.escapes(s)) {
            for (size_t c = i + 1; c < static_cast<size_t>(node.end); c = static_cast<size_t>(nodes[c].end)) {
                if (follow[nodes[c].byte]) exits[nodes[c].byte].push_back({static_cast<int32_t>(c), n});
            }
        }
        ++i;
    }
    if (machine.exhausted()) return {.exhausted = true};
    if (set.by_turns.size() > few_ids) {
        set.bits.resize(trie_.n_words());
        for (const auto& [needed, id] : set.by_turns)
            set.bits[static_cast<size_t>(id) / 64] |= uint64_t{1} << (id % 64);
    } else {
        for (const auto& [needed, id] : set.by_turns) set.ids.push_back(id);
    }
    if (by_turns) {
        std::ranges::stable_sort(set.by_turns, {}, &PositionSet::Turns::needed);
    } else {
        set.by_turns = {};
    }
    for (auto& [byte, of] : exits) set.exits.push_back({byte, std::move(of)});
    return set;
}

// All that make() can meet, written down; empty where that is much.
std::string TokenSets::fingerprint(int32_t state, uint32_t count) const {
    std::map<int32_t, int32_t> numbers = {{state, 0}};
    std::vector<int32_t> order = {state};
    std::string text;
    const auto put = [&](uint32_t n) { text.append(reinterpret_cast<const char*>(&n), sizeof n); };
    const auto put_state = [&](int32_t q) {
        const auto [it, fresh] = numbers.try_emplace(q, static_cast<int32_t>(order.size()));
        if (fresh) order.push_back(q);
        put(static_cast<uint32_t>(it->second));
    };
    put(count);
    text += a_.rule_of(state).follow.to_string();
    for (size_t i = 0; i < order.size(); ++i) {
        if (order.size() > max_shared_states) return "";
        const int32_t q = order[i];
        put(a_.state_at(q).final);
        put(a_.is_open_counter(q));
        if (a_.is_counter(q)) {
            const auto& rule = a_.rule_of(q);
            put(rule.min);
            put(rule.max);
            put_state(a_.rules[static_cast<size_t>(rule.body)].start);
        }
        put(static_cast<uint32_t>(a_.bytes_of(q).size()));
        for (const ByteEdge& e : a_.bytes_of(q)) {
            put(uint32_t{e.lo} << 8 | e.hi);
            put_state(e.to);
        }
        put(static_cast<uint32_t>(a_.calls_of(q).size()));
        for (const CallEdge& c : a_.calls_of(q)) {
            put_state(a_.rules[static_cast<size_t>(c.rule)].start);
            put_state(c.to);
        }
    }
    return text;
}

}  // namespace smelt::grammar
