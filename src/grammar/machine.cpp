// A step: read a byte at each active position, return from the rules that ended, call the rules that begin.
#include "grammar/machine.h"

#include <algorithm>
#include <functional>

namespace smelt::grammar {

namespace {

// Levels of callers that are compared when two contexts of one position become one; beyond, both stay.
constexpr int max_united = 16;

size_t hash(std::span<const Item> items, size_t seed) {
    uint64_t h = seed + 0x9e3779b97f4a7c15u;
    for (const Item& i : items) {
        h = (h ^ static_cast<uint32_t>(i.state)) * 0xbf58476d1ce4e5b9u;
        h = (h ^ i.count ^ (uint64_t{static_cast<uint32_t>(i.context)} << 32)) * 0x94d049bb133111ebu;
        h ^= h >> 29;
    }
    return static_cast<size_t>(h);
}

}  // namespace

Machine::Machine(const Automaton& a) : a_(&a), n_classes_(a.byte_of_class.size()), pending_(a.rules.size()) {
    contexts_.resize(2);  // at_end, open
    states_.emplace_back();
    moves_.assign(n_classes_, dead);
}

std::span<const Item> Machine::callers(int32_t context) const {
    const Context& c = contexts_[static_cast<size_t>(context)];
    return std::span(callers_).subspan(c.first, c.n);
}

bool Machine::is_final(const Item& item) const {
    if (a_->is_counter(item.state))
        return a_->is_open_counter(item.state) || item.count >= a_->rule_of(item.state).min;
    const auto& rule = a_->rule_of(item.state);
    return a_->state_at(item.state).final && (!rule.counts || item.context == open || item.count >= rule.min);
}

bool Machine::has_edges(const Item& item) const {
    const auto& rule = a_->rule_of(item.state);
    if (a_->is_counter(item.state)) {
        return a_->is_open_counter(item.state) || rule.max == UINT32_MAX || item.count < rule.max;
    }
    if (rule.counts) {
        const uint32_t turns = a_->state_at(item.state).turns_on;
        // What is counted in `open` is asked for at the end, too.
        return item.context == open ||
               (turns != UINT32_MAX && (rule.max == UINT32_MAX || uint64_t{item.count} + turns <= rule.max));
    }
    return !a_->bytes_of(item.state).empty() || !a_->calls_of(item.state).empty();
}

// Where an edge to `to` leads.
Item Machine::after(const Item& item, int32_t to) const {
    const auto& rule = a_->rule_of(item.state);
    if (!rule.counts) return {to, 0, item.context};
    const bool enough = rule.max == UINT32_MAX && item.count >= rule.min;
    return {to, enough ? item.count : item.count + 1, item.context};
}

// The rule can end from there before it has made too many turns.
bool Machine::fits(const Item& item) const {
    const auto& rule = a_->rule_of(item.state);
    return !rule.counts || item.context == open || rule.max == UINT32_MAX ||
           uint64_t{item.count} + a_->turns_left(item.state) <= rule.max;
}

ByteSet Machine::readable(int32_t state) const {
    ByteSet set;
    for (uint32_t i = at(state).first_active; i < at(state).first_active + at(state).n_active; ++i) {
        for (const ByteEdge& e : a_->bytes_of(active_[i].state)) {
            for (size_t b = e.lo; b <= e.hi; ++b) set[b] = true;
        }
    }
    return set;
}

int32_t Machine::begin() {
    return begin({a_->rules[static_cast<size_t>(a_->root)].start, 0, at_end});
}

int32_t Machine::begin(Item item) {
    positions_.assign(1, item);
    return add_returns_and_keep(false, false);
}

int32_t Machine::begin(Item item, Item caller) {
    std::vector<Item> callers = {caller};
    item.context = keep_context(callers);
    return begin(item);
}

int32_t Machine::returned(int32_t context) {
    if (context == at_end) return add_returns_and_keep(true, false);
    if (context == open) return add_returns_and_keep(false, true);
    const auto c = callers(context);
    positions_.assign(c.begin(), c.end());
    return add_returns_and_keep(false, false);
}

int32_t Machine::move(int32_t state, uint8_t byte_class) {
    positions_.clear();
    const uint8_t byte = a_->byte_of_class[byte_class];
    const State& from = at(state);
    for (uint32_t i = from.first_active; i < from.first_active + from.n_active; ++i) {
        const Item& item = active_[i];
        for (const ByteEdge& e : a_->bytes_of(item.state)) {
            if (byte < e.lo || byte > e.hi) continue;
            const Item to = after(item, e.to);
            if (fits(to)) add_position(to);
        }
        work_ += 1 + a_->bytes_of(item.state).size();
    }
    if (exhausted()) return dead;
    const int32_t to = add_returns_and_keep(false, false);
    if (!exhausted()) moves_[static_cast<size_t>(state) * n_classes_ + byte_class] = to;
    return to;
}

void Machine::add_position(const Item& item) {
    work_ += 1 + positions_.size() / 8;
    if (std::ranges::find(positions_, item) == positions_.end()) positions_.push_back(item);
}

// From the positions that are in scratch: the state with them and all that their ends lead to.
int32_t Machine::add_returns_and_keep(bool accepts, bool escapes) {
    for (size_t i = 0; i < positions_.size() && !exhausted(); ++i) {
        const Item item = positions_[i];
        if (!is_final(item)) continue;
        accepts = accepts || item.context == at_end;
        escapes = escapes || item.context == open;
        const Context c = contexts_[static_cast<size_t>(item.context)];
        for (uint32_t k = c.first; k < c.first + c.n; ++k) add_position(callers_[k]);
    }
    std::erase_if(positions_, [&](const Item& i) { return !has_edges(i); });
    if (positions_.empty() && !accepts && !escapes) return dead;
    unite_equal_positions(positions_, 0);

    const size_t key = hash(positions_, accepts + 2u * escapes);
    for (auto [it, end] = state_ids_.equal_range(key); it != end; ++it) {
        const State& s = at(it->second);
        if (s.accepts == accepts && s.escapes == escapes &&
            std::ranges::equal(items(it->second), positions_)) {
            return it->second;
        }
    }
    State s{.first = static_cast<uint32_t>(items_.size()),
            .n_items = static_cast<uint32_t>(positions_.size()),
            .first_active = static_cast<uint32_t>(active_.size()),
            .accepts = accepts,
            .escapes = escapes};
    items_.insert(items_.end(), positions_.begin(), positions_.end());
    add_calls(positions_);
    s.n_active = static_cast<uint32_t>(active_.size()) - s.first_active;
    const auto id = static_cast<int32_t>(states_.size());
    states_.push_back(s);
    moves_.resize(moves_.size() + n_classes_, -1);
    state_ids_.emplace(key, id);
    work_ += 4 + s.n_items + s.n_active + n_classes_ / 4;
    return id;
}

void Machine::call(int32_t rule, const Item& caller) {
    auto& callers = pending_[static_cast<size_t>(rule)];
    if (callers.empty()) {
        called_.emplace_back(a_->rules[static_cast<size_t>(rule)].rank, rule);
        std::ranges::push_heap(called_, std::greater());
    }
    callers.push_back(caller);
    ++work_;
}

void Machine::add_active(const Item& item) {
    if (!a_->bytes_of(item.state).empty()) active_.push_back(item);
    work_ += 1 + a_->calls_of(item.state).size();
    for (const CallEdge& c : a_->calls_of(item.state)) {
        const Item caller = after(item, c.to);
        if (!fits(caller)) continue;
        // Where nothing comes behind the call, the callee returns to the callers at once: recursion at the
        // end of a rule needs no deeper context.
        if (item.context <= open || has_edges(caller)) {
            call(c.rule, caller);
            continue;
        }
        for (const Item& i : callers(item.context)) call(c.rule, i);
    }
}

void Machine::add_calls(std::span<const Item> items) {
    const auto count_on = [&](const Item& i) {
        const auto& rule = a_->rule_of(i.state);
        const bool enough = !a_->is_open_counter(i.state) && rule.max == UINT32_MAX && i.count >= rule.min;
        call(rule.body, {i.state, enough ? i.count : i.count + 1, i.context});
    };
    for (const Item& i : items) {
        if (a_->is_counter(i.state)) {
            count_on(i);
        } else {
            add_active(i);
        }
    }
    // By rank: when a rule is looked at, all its callers are known.
    while (!called_.empty()) {
        std::ranges::pop_heap(called_, std::greater());
        const int32_t rule = called_.back().second;
        called_.pop_back();
        auto& callers = pending_[static_cast<size_t>(rule)];
        const int32_t context = keep_context(callers);
        callers.clear();
        const auto& r = a_->rules[static_cast<size_t>(rule)];
        if (r.body >= 0) {
            count_on({r.start, 0, context});
        } else {
            add_active({r.start, 0, context});
        }
    }
}

int32_t Machine::keep_context(std::vector<Item>& c) {
    unite_equal_positions(c, 0);
    const size_t key = hash(c, 7);
    for (auto [it, end] = context_ids_.equal_range(key); it != end; ++it) {
        if (std::ranges::equal(callers(it->second), c)) return it->second;
    }
    const auto id = static_cast<int32_t>(contexts_.size());
    contexts_.push_back({static_cast<uint32_t>(callers_.size()), static_cast<uint32_t>(c.size())});
    callers_.insert(callers_.end(), c.begin(), c.end());
    context_ids_.emplace(key, id);
    work_ += 2 + c.size();
    return id;
}

// Sorts; of a position with two contexts makes one whose callers are those of both.
void Machine::unite_equal_positions(std::vector<Item>& items, int depth) {
    std::ranges::sort(items);
    items.erase(std::unique(items.begin(), items.end()), items.end());
    const auto same_position = [](const Item& a, const Item& b) {
        return a.state == b.state && a.count == b.count;
    };
    if (std::ranges::adjacent_find(items, same_position) == items.end()) return;
    std::vector<Item> united;
    for (const Item& i : items) {
        const bool again = !united.empty() && same_position(united.back(), i);
        const int32_t both = again ? unite(united.back().context, i.context, depth + 1) : -1;
        if (both >= 0) {
            united.back().context = both;
        } else {
            united.push_back(i);
        }
    }
    items = std::move(united);
    std::ranges::sort(items);
}

// -1: they stay apart.
int32_t Machine::unite(int32_t a, int32_t b, int depth) {
    if (a <= open || b <= open || depth > max_united || exhausted()) return -1;
    std::vector<Item> all(callers(a).begin(), callers(a).end());
    all.insert(all.end(), callers(b).begin(), callers(b).end());
    work_ += all.size();
    unite_equal_positions(all, depth);
    const size_t key = hash(all, 7);
    for (auto [it, end] = context_ids_.equal_range(key); it != end; ++it) {
        if (std::ranges::equal(callers(it->second), all)) return it->second;
    }
    const auto id = static_cast<int32_t>(contexts_.size());
    contexts_.push_back({static_cast<uint32_t>(callers_.size()), static_cast<uint32_t>(all.size())});
    callers_.insert(callers_.end(), all.begin(), all.end());
    context_ids_.emplace(key, id);
    return id;
}

size_t Machine::bytes() const {
    // A node is a link, the key and the number; a bucket a pointer.
    const auto of = [](const auto& ids) { return ids.size() * 32 + ids.bucket_count() * sizeof(void*); };
    return bytes_held(states_) + bytes_held(items_) + bytes_held(active_) + bytes_held(moves_) +
           bytes_held(contexts_) + bytes_held(callers_) + of(state_ids_) + of(context_ids_);
}

int32_t Machine::compact(int32_t state) {
    // Callers have smaller numbers than the contexts that name them.
    std::vector<bool> needed(contexts_.size());
    for (const Item& i : items(state)) needed[static_cast<size_t>(i.context)] = true;
    for (size_t c = contexts_.size(); c-- > 2;) {
        if (!needed[c]) continue;
        for (const Item& i : callers(static_cast<int32_t>(c))) needed[static_cast<size_t>(i.context)] = true;
    }
    Machine kept(*a_);
    std::vector<int32_t> new_id(contexts_.size());
    new_id[open] = open;
    const auto moved = [&](std::span<const Item> from) {
        std::vector<Item> to(from.begin(), from.end());
        for (Item& i : to) i.context = new_id[static_cast<size_t>(i.context)];
        return to;
    };
    for (size_t c = 2; c < contexts_.size(); ++c) {
        if (!needed[c]) continue;
        std::vector<Item> of = moved(callers(static_cast<int32_t>(c)));
        new_id[c] = kept.keep_context(of);
    }
    kept.positions_ = moved(items(state));
    const State& s = at(state);
    const int32_t id = kept.add_returns_and_keep(s.accepts, s.escapes);
    kept.work_ = work_;
    *this = std::move(kept);
    return id;
}

}  // namespace smelt::grammar
