// Walks the trie from one position whose callers are not known.
#include "grammar/token_sets.h"

#include <algorithm>
#include <map>

namespace smelt::grammar {

namespace {

constexpr size_t few_ids = 512;            // a set of fewer is kept as a list
constexpr size_t max_shared_states = 400;  // around a position whose set other grammars may have too
constexpr size_t short_walk = 2000;  // nodes of the trie; to look whether another has the set costs as much
constexpr size_t max_prepared = 6'000'000;  // nodes of the trie: some 50 ms
constexpr size_t max_bytes = 64 << 20;      // of sets that a grammar keeps
constexpr size_t max_machine_states = 10'000;

// How many turns lie between a position and a machine's states: 0 as long as none is known. Of the open
// counter that it began in, or of the rule that counts; there with those that the rule still needs.
class TurnCounter {
 public:
    static constexpr uint32_t ambiguous = UINT32_MAX;

    TurnCounter(const Machine& m, int32_t position) : machine_(m), position_(position) {
        const Automaton& a = m.automaton();
        counts_ = a.rule_of(position).counts;
        active_ = counts_ || a.is_open_counter(position);
    }

    bool active() const { return active_; }
    uint32_t of_state(int32_t state) { return active_ ? known(states_, state, machine_.items(state)) : 0; }

 private:
    uint32_t known(std::vector<uint32_t>& memo, int32_t key, std::span<const Item> items) {
        const auto at = static_cast<size_t>(key);
        if (memo.size() <= at) memo.resize(at + 1, unknown);
        if (memo[at] != unknown) return memo[at];
        uint32_t all = 0;
        for (const Item& i : items) {
            const uint32_t one = of(i);
            if (one == 0) continue;
            if (all != 0 && all != one) all = counts_ ? std::min(all, one) : ambiguous;
            if (all == 0) all = one;
        }
        return memo[at] = all;
    }

    uint32_t of(const Item& i) {
        const Automaton& a = machine_.automaton();
        if (counts_ && i.context == Machine::open && a.rule_of(i.state).counts)
            return i.count + a.turns_left(i.state);
        if (i.state == position_ && !counts_) return i.count;
        return known(contexts_, i.context, machine_.callers(i.context));
    }

    static constexpr uint32_t unknown = UINT32_MAX - 1;

    const Machine& machine_;
    int32_t position_;
    bool counts_ = false, active_ = false;
    std::vector<uint32_t> states_, contexts_;
};

size_t bytes_of(const PositionSet& s) {
    size_t n = sizeof s + s.bits.size() * sizeof s.bits[0] + s.ids.size() * sizeof s.ids[0] +
               s.by_turns.size() * sizeof s.by_turns[0];
    for (const auto& e : s.exits) n += sizeof e + e.of.size() * sizeof e.of[0];
    return n;
}

}  // namespace

TokenSets::Found TokenSets::at(int32_t state, uint32_t count) {
    const std::lock_guard lock(mutex_);
    return find(state, count);
}

TokenSets::Found TokenSets::find(int32_t state, uint32_t count) {
    const auto& rule = a_.rule_of(state);
    const bool counter = a_.is_counter(state);
    if (!counter && !rule.counts) return {get(state, 0)};
    const SetPtr& by_turns = get(counter ? rule.start + 1 : state, 0);
    const bool enough = rule.max == UINT32_MAX && count >= rule.min;
    if (by_turns->ambiguous) return {get(state, enough ? rule.min : count)};
    return {by_turns, rule.min > count ? rule.min - count : 0,
            rule.max == UINT32_MAX ? UINT32_MAX : rule.max - count};
}

// The positions in which an answer can be between two tokens, in the order in which they were met from the
// beginning.
void TokenSets::prepare() {
    const std::lock_guard lock(mutex_);
    std::vector<bool> is_position(a_.states.size());
    is_position[static_cast<size_t>(a_.rules[static_cast<size_t>(a_.root)].start)] = true;
    for (const ByteEdge& e : a_.byte_edges) is_position[static_cast<size_t>(e.to)] = true;
    for (const CallEdge& e : a_.call_edges) is_position[static_cast<size_t>(e.to)] = true;
    const auto n_states = static_cast<int32_t>(a_.states.size()) - 1;
    for (int32_t q = 0; q < n_states && n_walked_ < max_prepared && n_bytes_ < max_bytes / 2; ++q) {
        const bool counter = a_.is_counter(q) && !a_.is_open_counter(q);
        if (counter || is_position[static_cast<size_t>(q)]) find(q, 0);
    }
}

const TokenSets::SetPtr& TokenSets::get(int32_t state, uint32_t count) {
    const uint64_t key = uint64_t{static_cast<uint32_t>(state)} << 32 | count;
    if (const auto it = sets_.find(key); it != sets_.end()) return it->second;
    if (n_bytes_ > max_bytes) {
        sets_.clear();
        n_bytes_ = 0;
    }
    SetPtr set = make(state, count);
    n_bytes_ += bytes_of(*set);
    return sets_[key] = std::move(set);
}

TokenSets::SetPtr TokenSets::make(int32_t state, uint32_t count) {
    if (machine_.n_states() > max_machine_states) machine_ = Machine(a_);
    machine_.begin_step();
    PositionSet set;
    TurnCounter turns(machine_, state);
    const ByteSet& follow = a_.rule_of(state).follow;
    std::map<uint8_t, std::vector<Exit>> exits;
    std::vector<int32_t> path(static_cast<size_t>(trie_.max_depth()) + 1);
    path[0] = machine_.begin({state, count, Machine::open});
    std::string shared_key;

    const auto& nodes = trie_.nodes();
    const size_t begin = n_walked_;
    for (size_t i = 1; i < nodes.size(); ++n_walked_) {
        if (n_walked_ == begin + short_walk) {
            shared_key = fingerprint(state, count);
            if (!shared_key.empty()) {
                if (SetPtr found = trie_.find_set(shared_key)) return found;
            }
        }
        const TokenTrie::Node& node = nodes[i];
        const int32_t s = machine_.next(path[node.depth - 1u], node.byte);
        if (s == Machine::dead) {
            i = static_cast<size_t>(node.end);
            continue;
        }
        path[node.depth] = s;
        const uint32_t needed = turns.of_state(s);
        if (needed == TurnCounter::ambiguous)
            return std::make_shared<PositionSet>(PositionSet{.ambiguous = true});
        for (int32_t id = node.token; id >= 0; id = trie_.next_same(id)) set.by_turns.push_back({needed, id});
        if (machine_.escapes(s)) {
            for (size_t c = i + 1; c < static_cast<size_t>(node.end); c = static_cast<size_t>(nodes[c].end)) {
                if (follow[nodes[c].byte]) exits[nodes[c].byte].push_back({static_cast<int32_t>(c), needed});
            }
        }
        ++i;
    }
    n_walked_ += machine_.worked();
    if (machine_.exhausted()) {
        n_walked_ += max_prepared;
        machine_ = Machine(a_);
        return std::make_shared<PositionSet>(PositionSet{.exhausted = true});
    }
    if (set.by_turns.size() > few_ids) {
        set.bits.resize(trie_.n_words());
        for (const auto& [needed, id] : set.by_turns)
            set.bits[static_cast<size_t>(id) / 64] |= uint64_t{1} << (id % 64);
    } else {
        for (const auto& [needed, id] : set.by_turns) set.ids.push_back(id);
    }
    if (turns.active()) {
        std::ranges::stable_sort(set.by_turns, {}, &PositionSet::Turns::needed);
    } else {
        set.by_turns = {};
    }
    for (auto& [byte, of] : exits) set.exits.push_back({byte, std::move(of)});
    auto shared = std::make_shared<const PositionSet>(std::move(set));
    if (!shared_key.empty()) trie_.keep_set(shared_key, shared);
    return shared;
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
        const auto& rule = a_.rule_of(q);
        put(rule.counts);
        if (rule.counts) {
            put(rule.min);
            put(rule.max);
        }
        if (a_.is_counter(q)) {
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
