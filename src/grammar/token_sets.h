// The position sets of one automaton: made when a grammar is bound to a vocabulary, as far as that is little
// work, the others when they are first asked for.
#pragma once

#include <memory>
#include <mutex>
#include <unordered_map>

#include "grammar/machine.h"
#include "grammar/token_trie.h"

namespace smelt::grammar {

class TokenSets {
 public:
    TokenSets(const Automaton& a, const TokenTrie& trie) : a_(a), trie_(trie), machine_(a) {}

    void prepare();

    struct Found {
        std::shared_ptr<const PositionSet> set;
        // Where it is by turns: at most and at least so many may come. Otherwise all is allowed.
        uint32_t min_turns = 0, max_turns = UINT32_MAX;
    };
    // For any number of threads.
    Found at(int32_t state, uint32_t count);

 private:
    using SetPtr = std::shared_ptr<const PositionSet>;

    Found find(int32_t state, uint32_t count);
    const SetPtr& get(int32_t state, uint32_t count);
    SetPtr make(int32_t state, uint32_t count);
    std::string fingerprint(int32_t state, uint32_t count) const;

    const Automaton& a_;
    const TokenTrie& trie_;
    std::mutex mutex_;
    Machine machine_;  // that walks
    size_t n_walked_ = 0, n_bytes_ = 0;
    std::unordered_map<uint64_t, SetPtr> sets_;
};

}  // namespace smelt::grammar
