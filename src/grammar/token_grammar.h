// A grammar over the tokens of one vocabulary: which tokens may come next. The sets are computed while
// walking a trie of all tokens' bytes; most of a set depends on the place in the grammar alone and is kept
// there.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "grammar/grammar.h"

namespace smelt {

namespace grammar {
class Machine;
class TokenSets;
}  // namespace grammar

class TokenTrie;

// The text of a token as the vocabulary has it.
struct TokenText {
    std::string_view bytes;
    bool control = false;  // comes by its name alone, never as a part of text
};

// By id. Tokens that end an answer and those without text (padding) have no bytes. Made once per model.
std::shared_ptr<const TokenTrie> make_token_trie(std::span<const TokenText> tokens);

// A grammar bound to a vocabulary; what sequences with this grammar share. For any number of threads.
class TokenGrammar {
 public:
    // Refused: a grammar that needs bytes or control tokens that no token of the vocabulary has.
    static std::variant<std::shared_ptr<TokenGrammar>, GrammarError> make(
        Grammar grammar, std::shared_ptr<const TokenTrie> trie);
    ~TokenGrammar();

    int n_tokens() const;  // ids
    // That it holds now: it grows while it is used, by sets that are shared with other grammars too.
    size_t bytes() const;
    // An answer has at least so many: the shortest text, if all its tokens were as long as the longest one.
    size_t min_tokens() const;
    const std::vector<std::string>& warnings() const;  // grammar_warnings()

 private:
    friend class GrammarMatcher;
    TokenGrammar(Grammar grammar, std::shared_ptr<const TokenTrie> trie);

    Grammar grammar_;
    std::shared_ptr<const TokenTrie> trie_;
    std::unique_ptr<grammar::TokenSets> sets_;
};

// Where one answer stands. Copies go on apart. Every state that it can be in leads to an end.
class GrammarMatcher {
 public:
    explicit GrammarMatcher(std::shared_ptr<TokenGrammar> grammar);
    GrammarMatcher(const GrammarMatcher& other);
    GrammarMatcher& operator=(const GrammarMatcher&) = delete;
    ~GrammarMatcher();

    // A bit per id, 64 to a word: the tokens that may come next. Valid until the next call. Empty where the
    // grammar turned out to cost more than a step may: the answer has to end with an error.
    std::span<const uint64_t> allowed();
    // False, and nothing changed: the token may not come. Tokens without text are not accepted.
    bool accept(int32_t id);
    // The same for a token that may not come after all: go_back() returns to where it was.
    bool look_ahead(int32_t id);
    int32_t place() const { return state_; }
    void go_back(int32_t place) { state_ = place; }  // before the next accept()
    bool may_end() const;                            // the text so far is complete
    bool must_end() const;                           // and nothing can follow

 private:
    std::span<const uint64_t> compute();

    struct Kept {
        int32_t state = -1;
        std::vector<uint64_t> bits = {};
    };

    std::shared_ptr<TokenGrammar> grammar_;
    std::unique_ptr<grammar::Machine> machine_;
    int32_t state_ = 0;
    std::vector<Kept> kept_;  // the last sets
    size_t next_kept_ = 0;
};

}  // namespace smelt
