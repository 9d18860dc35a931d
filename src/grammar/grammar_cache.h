// The grammars that the answers of a model were held to last, ready for the next one: most clients send the
// same form with every request. Knows specs and their grammars; what a request is, it does not know.
#pragma once

#include <functional>
#include <mutex>

#include "grammar/token_grammar.h"

namespace smelt {

// The latest grammars that together stay within both are kept.
struct GrammarCacheLimits {
    size_t max_grammars = 64;
    size_t max_bytes = size_t{128} << 20;  // of all of them, with what they grew by in use
};

struct GrammarCacheStats {
    uint64_t n_hits = 0, n_misses = 0;
    size_t n_grammars = 0, n_bytes = 0;  // kept
};

// For any number of threads. Nobody waits for a grammar that another one compiles: two who ask for the same
// new one at once both compile it, and share the first that is ready.
class GrammarCache {
 public:
    using MakeTrie = std::function<std::shared_ptr<const TokenTrie>()>;

    // The vocabulary is asked for with the first grammar.
    explicit GrammarCache(MakeTrie make_trie, const GrammarCacheLimits& limits = {});

    // What compile_grammar() and TokenGrammar::make() say. Refusals are not kept: they would push out what is
    // in use, nobody sends what is refused with every request, and most are found before anything is built.
    std::variant<std::shared_ptr<TokenGrammar>, GrammarError> get(const GrammarSpec& spec,
                                                                  const GrammarOptions& options = {});
    // The one that is kept; null: there is none, which is no miss yet.
    std::shared_ptr<TokenGrammar> find(const GrammarSpec& spec, const GrammarOptions& options = {});
    GrammarCacheStats stats() const;

 private:
    class Kept;
    std::shared_ptr<TokenGrammar> lend(std::shared_ptr<TokenGrammar> grammar) const;

    MakeTrie make_trie_;
    std::once_flag trie_made_;
    std::shared_ptr<const TokenTrie> trie_;
    std::shared_ptr<Kept> kept_;  // grammars in use look at it when they are done with, if it is still there
};

}  // namespace smelt
