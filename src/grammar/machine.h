// Runs an automaton over bytes. A state is a set of positions, each with the places where its rule's callers
// go on (its context): equal sets are one state, so that states can be compared, kept and asked again. States
// and moves are made when they are first needed.
#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "grammar/automaton.h"

namespace smelt::grammar {

// A machine that would have to do more in one step than this, in positions looked at, stops for good.
constexpr size_t max_step_work = 2'000'000;

struct Item {
    int32_t state;   // of the automaton
    uint32_t count;  // turns, in states of counters and of rules that count
    int32_t context;
    bool operator==(const Item&) const = default;
    auto operator<=>(const Item&) const = default;
};

class Machine {
 public:
    // Contexts that are there from the beginning: nothing stands around, so that the end of the rule is the
    // end of the text; or what stands around is not known. A rule that counts has no bounds there.
    static constexpr int32_t at_end = 0, open = 1;
    static constexpr int32_t dead = 0;  // the state without items

    explicit Machine(const Automaton& a);

    int32_t begin();  // of the root
    int32_t begin(Item item);
    int32_t begin(Item item, Item caller);
    int32_t next(int32_t state, uint8_t byte) {
        const int32_t to = moves_[static_cast<size_t>(state) * n_classes_ + a_->class_of[byte]];
        return to >= 0 ? to : move(state, a_->class_of[byte]);
    }
    // Where the callers of a context go on.
    int32_t returned(int32_t context);

    bool accepts(int32_t state) const { return at(state).accepts; }      // a context ended that was at_end
    bool escapes(int32_t state) const { return at(state).escapes; }      // the same of `open`
    bool stuck(int32_t state) const { return at(state).n_active == 0; }  // no byte can follow
    ByteSet readable(int32_t state) const;                               // bytes of which one may follow
    // Positions after the last byte, each one's calls not yet made.
    std::span<const Item> items(int32_t state) const {
        return std::span(items_).subspan(at(state).first, at(state).n_items);
    }
    std::span<const Item> callers(int32_t context) const;

    // Starts counting the work of a step.
    void begin_step() { work_ = 0; }
    bool exhausted() const { return work_ > max_step_work; }  // what it says is not to be relied on
    void work(size_t n) { work_ += n; }
    size_t worked() const { return work_; }

    size_t n_states() const { return states_.size(); }
    size_t bytes() const;  // that it holds, but for its scratch
    // Keeps what belongs to one state alone, whose new number is returned.
    int32_t compact(int32_t state);

    const Automaton& automaton() const { return *a_; }

 private:
    struct State {
        uint32_t first = 0, n_items = 0;
        uint32_t first_active = 0, n_active = 0;
        bool accepts = false, escapes = false;
    };
    struct Context {
        uint32_t first = 0, n = 0;
    };

    const State& at(int32_t state) const { return states_[static_cast<size_t>(state)]; }
    int32_t move(int32_t state, uint8_t byte_class);
    int32_t add_returns_and_keep(bool accepts, bool escapes);
    void add_position(const Item& item);
    void add_calls(std::span<const Item> items);
    void call(int32_t rule, const Item& caller);
    void add_active(const Item& item);
    Item after(const Item& item, int32_t to) const;
    bool fits(const Item& item) const;
    int32_t keep_context(std::vector<Item>& callers);
    int32_t unite(int32_t a, int32_t b, int depth);
    void unite_equal_positions(std::vector<Item>& items, int depth);
    bool is_final(const Item& item) const;
    bool has_edges(const Item& item) const;

    const Automaton* a_;
    size_t n_classes_;
    std::vector<State> states_;
    std::vector<Item> items_;     // of states
    std::vector<Item> active_;    // of states: positions with bytes to read, all calls made
    std::vector<int32_t> moves_;  // (states, classes); -1: not yet known
    std::vector<Context> contexts_;
    std::vector<Item> callers_;  // of contexts
    std::unordered_multimap<size_t, int32_t> state_ids_, context_ids_;
    size_t work_ = 0;

    // Scratch.
    std::vector<Item> positions_;
    std::vector<std::vector<Item>> pending_;            // callers, by rule
    std::vector<std::pair<uint32_t, int32_t>> called_;  // heap of (rank, rule)
};

}  // namespace smelt::grammar
