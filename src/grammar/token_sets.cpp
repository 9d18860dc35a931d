// Walks the trie from one position whose callers are not known.
#include "grammar/token_sets.h"

#include <algorithm>
#include <map>

namespace smelt::grammar {

namespace {

constexpr size_t few_ids = 512;            // a set of fewer is kept as a list
constexpr size_t max_shared_states = 400;  // around a position whose set other grammars may have too
constexpr size_t short_walk = 2000;  // nodes of the trie; to look whether another has the set costs as much
constexpr size_t max_prepared = 10'000'000;  // nodes of the trie: some 80 ms
constexpr size_t nodes_per_walk = 100;       // what a walk costs that finds nothing
constexpr size_t nodes_per_work = 8;         // so that a step may walk a tenth of a second
constexpr size_t max_bytes = 64 << 20;       // of sets that a grammar keeps
constexpr size_t set_overhead = 96;          // of a set's place in the map
constexpr size_t many_exits_part = 64;       // of the trie's nodes, behind exits: some 50 us
constexpr uint32_t max_prepared_counts = 64;
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

}  // namespace

TokenSets::Found TokenSets::at(const Item& item) {
    const std::lock_guard lock(mutex_);
    const size_t before = n_walked_;
    Found found = find(item);
    found.work = (n_walked_ - before) / nodes_per_work;
    return found;
}

TokenSets::Found TokenSets::at(const Item& item, const Item& caller) {
    const std::lock_guard lock(mutex_);
    const size_t before = n_walked_;
    Found found = find(item, caller);
    found.work = (n_walked_ - before) / nodes_per_work;
    return found;
}

TokenSets::Found TokenSets::find(const Item& item) {
    const auto& rule = a_.rule_of(item.state);
    const bool counter = a_.is_counter(item.state);
    if (!counter && !rule.counts) return {get({item.state, 0})};
    const SetPtr& by_turns = get({counter ? rule.start + 1 : item.state, 0});
    const bool enough = rule.max == UINT32_MAX && item.count >= rule.min;
    if (by_turns->ambiguous) return {get({item.state, enough ? rule.min : item.count})};
    return {by_turns, rule.min > item.count ? rule.min - item.count : 0,
            rule.max == UINT32_MAX ? UINT32_MAX : rule.max - item.count};
}

TokenSets::Found TokenSets::find(const Item& item, const Item& caller) {
    const auto& rule = a_.rule_of(caller.state);
    const bool counter = a_.is_counter(caller.state);
    const SetPtr& set = get({item.state, item.count, counter ? rule.start + 1 : caller.state});
    if (set->ambiguous) return {};
    if (!counter && !rule.counts) return {set};
    // The walk begins with the first turn, not with none.
    return {set, rule.min >= caller.count ? rule.min - caller.count + 1 : 0,
            rule.max == UINT32_MAX ? UINT32_MAX : rule.max - caller.count + 1};
}

bool TokenSets::prepared_enough() const {
    return n_walked_ >= max_prepared || n_bytes_ >= max_bytes / 2;
}

// The positions in which an answer can be between two tokens, in the order in which they were met from the
// beginning; then those with callers that are better known.
void TokenSets::prepare() {
    const std::lock_guard lock(mutex_);
    std::vector<bool> is_position(a_.states.size());
    is_position[static_cast<size_t>(a_.rules[static_cast<size_t>(a_.root)].start)] = true;
    for (const ByteEdge& e : a_.byte_edges) is_position[static_cast<size_t>(e.to)] = true;
    for (const CallEdge& e : a_.call_edges) is_position[static_cast<size_t>(e.to)] = true;
    std::vector<int32_t> many_exits;
    for (int32_t q = 0; q + 1 < static_cast<int32_t>(a_.states.size()) && !prepared_enough(); ++q) {
        const bool counter = a_.is_counter(q) && !a_.is_open_counter(q);
        if (!counter && !is_position[static_cast<size_t>(q)]) continue;
        if (find({q, 0, Machine::open}).set->many_exits) many_exits.push_back(q);
    }
    if (many_exits.empty()) return;
    const auto callers = callers_by_rule();
    for (const int32_t q : many_exits) {
        const auto& rule = a_.rule_of(q);
        const uint32_t most = a_.is_counter(q) ? std::min(rule.max, max_prepared_counts) : 1;
        for (const int32_t caller : callers[static_cast<size_t>(a_.state_at(q).rule)]) {
            for (uint32_t count = 0; count < most && !prepared_enough(); ++count)
                find({q, count, Machine::open}, {caller, 1, Machine::open});
        }
    }
}

std::vector<std::vector<int32_t>> TokenSets::callers_by_rule() const {
    std::vector<std::vector<int32_t>> callers(a_.rules.size());
    for (const CallEdge& e : a_.call_edges) {
        // Where nothing comes behind a call, the callers' callers stand in the context.
        const bool goes_on = !a_.bytes_of(e.to).empty() || !a_.calls_of(e.to).empty();
        if (goes_on) callers[static_cast<size_t>(e.rule)].push_back(e.to);
    }
    for (const Automaton::Rule& rule : a_.rules) {
        if (rule.body >= 0) callers[static_cast<size_t>(rule.body)].push_back(rule.start);
    }
    for (auto& of : callers) {
        std::ranges::sort(of);
        of.erase(std::unique(of.begin(), of.end()), of.end());
    }
    return callers;
}

const TokenSets::SetPtr& TokenSets::get(const Position& p) {
    if (const auto it = sets_.find(p); it != sets_.end()) return it->second;
    if (n_bytes_ > max_bytes) {
        sets_.clear();
        n_bytes_ = 0;
    }
    SetPtr set = make(p);
    n_bytes_ += set_overhead + set->bytes();
    n_held_ = n_bytes_ + machine_.bytes();
    return sets_[p] = std::move(set);
}

int32_t TokenSets::begin(const Position& p) {
    if (p.caller < 0) return machine_.begin({p.state, p.count, Machine::open});
    const bool counts = a_.is_counter(p.caller) || a_.rule_of(p.caller).counts;
    return machine_.begin({p.state, p.count, Machine::open}, {p.caller, counts ? 1u : 0u, Machine::open});
}

TokenSets::SetPtr TokenSets::make(const Position& p) {
    if (machine_.n_states() > max_machine_states) machine_ = Machine(a_);
    machine_.begin_step();
    PositionSet set;
    const int32_t outer = p.caller < 0 ? p.state : p.caller;
    TurnCounter turns(machine_, outer);
    const ByteSet& follow = a_.rule_of(outer).follow;
    std::map<uint8_t, std::vector<Exit>> exits;
    std::vector<int32_t> path(static_cast<size_t>(trie_.max_depth()) + 1);
    path[0] = begin(p);
    std::string shared_key;

    const auto& nodes = trie_.nodes();
    const ByteSet readable = machine_.readable(path[0]);
    n_walked_ += nodes_per_walk;
    const size_t before = n_walked_;
    for (size_t i = 1; i < nodes.size();) {
        const TokenTrie::Node& node = nodes[i];
        if (node.depth == 1 && !readable[node.byte]) {
            i = static_cast<size_t>(node.end);
            continue;
        }
        if (++n_walked_ == before + short_walk) {
            shared_key = fingerprint(p);
            if (!shared_key.empty()) {
                if (SetPtr found = trie_.find_set(shared_key)) return found;
            }
        }
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
        std::vector<uint64_t> bits(trie_.n_words());
        for (size_t i = 0; i < set.by_turns.size(); ++i) {
            const auto id = static_cast<size_t>(set.by_turns[i].id);
            bits[id / 64] |= uint64_t{1} << (id % 64);
            if ((i + 1) % PositionSet::stride == 0) set.bits_of_first.push_back(bits);
        }
    } else {
        set.by_turns.clear();
    }
    set.by_turns.shrink_to_fit();
    set.ids.shrink_to_fit();
    size_t n_behind = 0;
    for (auto& [byte, of] : exits) {
        for (const Exit& e : of)
            n_behind += static_cast<size_t>(nodes[static_cast<size_t>(e.node)].end - e.node);
        of.shrink_to_fit();
        set.exits.push_back({byte, std::move(of)});
    }
    set.many_exits = n_behind > nodes.size() / many_exits_part;
    auto shared = std::make_shared<const PositionSet>(std::move(set));
    if (!shared_key.empty()) trie_.keep_set(shared_key, shared);
    return shared;
}

// All that make() can meet, written down; empty where that is much.
std::string TokenSets::fingerprint(const Position& p) const {
    std::map<int32_t, int32_t> numbers = {{p.state, 0}};
    std::vector<int32_t> order = {p.state};
    std::string text;
    const auto put = [&](uint32_t n) { text.append(reinterpret_cast<const char*>(&n), sizeof n); };
    const auto put_state = [&](int32_t q) {
        const auto [it, fresh] = numbers.try_emplace(q, static_cast<int32_t>(order.size()));
        if (fresh) order.push_back(q);
        put(static_cast<uint32_t>(it->second));
    };
    put(p.count);
    put(p.caller >= 0);
    if (p.caller >= 0) put_state(p.caller);
    text += a_.rule_of(p.caller < 0 ? p.state : p.caller).follow.to_string();
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
