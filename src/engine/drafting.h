// What one answer has of speculative decoding: guesses of its next tokens, which a step verifies all at once.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "engine/draft_policy.h"
#include "engine/kv_cache.h"
#include "engine/ngram_lookup.h"
#include "engine/thinking.h"

namespace smelt {

struct Sequence;

struct Drafting {
    std::vector<Draft> drafts = {};  // that the step verifies
    std::vector<Draft> proposed =
        {};                // that nobody verifies; the next token tells whether it would have paid
    bool expects = false;  // the next step waits for the token, because it may have drafts
    Acceptances acceptances = {};
    std::optional<NgramLookup> lookup = {};
    int n_drafted = 0, n_accepted = 0;

    // Of the draft model: what its cache holds, and the guesses that it was fed behind what is known.
    KvSequence model_kv = {};
    std::vector<int32_t> model_fed = {};
};

// A sequence as if its drafts had come: tokens, grammar, thinking and counts go on by them, and are as before
// when this ends.
class Ahead {
 public:
    explicit Ahead(Sequence& s);
    ~Ahead();
    Ahead(const Ahead&) = delete;
    Ahead& operator=(const Ahead&) = delete;

    // False, and nothing changed: the answer could not go on behind this token, or the token cannot come.
    bool push(int32_t id);

 private:
    Sequence& s_;
    const size_t n_ids_;
    std::optional<int32_t> place_;
    std::optional<ThinkingCount> thinking_;
};

}  // namespace smelt
