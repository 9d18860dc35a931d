// The position sets of one automaton: made when a grammar is bound to a vocabulary, as far as that is little
// work, the others when they are first asked for.
#pragma once

#include <atomic>
#include <compare>
#include <map>
#include <memory>
#include <mutex>

#include "grammar/machine.h"
#include "grammar/token_trie.h"

namespace smelt::grammar {

class TokenSets {
 public:
    TokenSets(const Automaton& a, const TokenTrie& trie) : a_(a), trie_(trie), machine_(a) {}

    void prepare();
    // That it holds now, and may share with the sets of other grammars. Never waits for a set that is made.
    size_t bytes() const { return n_held_; }

    struct Found {
        std::shared_ptr<const PositionSet> set;
        // Where it is by turns: at most and at least so many may come. Otherwise all is allowed.
        uint32_t min_turns = 0, max_turns = UINT32_MAX;
        size_t work = 0;  // that it took to make the set now, as a machine counts
    };
    // For any number of threads.
    Found at(const Item& item);
    // The same where the caller is known, up to its rule's end. No set: there is none that fits all counts.
    Found at(const Item& item, const Item& caller);

 private:
    using SetPtr = std::shared_ptr<const PositionSet>;
    struct Position {
        int32_t state;
        uint32_t count;
        int32_t caller = -1;  // the same of any number of turns, where they are counted; -1: not known
        auto operator<=>(const Position&) const = default;
    };

    Found find(const Item& item);
    Found find(const Item& item, const Item& caller);
    const SetPtr& get(const Position& p);
    SetPtr make(const Position& p);
    int32_t begin(const Position& p);
    std::string fingerprint(const Position& p) const;
    std::vector<std::vector<int32_t>> callers_by_rule() const;
    bool prepared_enough() const;

    const Automaton& a_;
    const TokenTrie& trie_;
    std::mutex mutex_;
    Machine machine_;  // that walks
    size_t n_walked_ = 0, n_bytes_ = 0;
    std::atomic<size_t> n_held_ = 0;  // n_bytes_ and the machine's
    std::map<Position, SetPtr> sets_;
};

}  // namespace smelt::grammar
