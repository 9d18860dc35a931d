// The position sets of one automaton, made when they are first asked for.
#pragma once

#include <memory>
#include <mutex>
#include <unordered_map>

#include "grammar/machine.h"
#include "grammar/token_trie.h"

namespace smelt::grammar {

class TokenSets {
 public:
    TokenSets(const Automaton& a, const TokenTrie& trie) : a_(a), trie_(trie) {}

    struct Found {
        const PositionSet* set;  // stays
        // Of a counter whose set is by turns: at most and at least so many may come. Otherwise all is
        // allowed.
        uint32_t min_turns = 0, max_turns = UINT32_MAX;
    };
    // For any number of threads.
    Found at(int32_t state, uint32_t count);

 private:
    const PositionSet& get(int32_t state, uint32_t count);
    PositionSet make(int32_t state, uint32_t count) const;
    std::string fingerprint(int32_t state, uint32_t count) const;

    const Automaton& a_;
    const TokenTrie& trie_;
    std::mutex mutex_;
    std::unordered_map<uint64_t, std::shared_ptr<const PositionSet>> sets_;
};

}  // namespace smelt::grammar
