// One answer in the making: its tokens, its blocks, its place in the order. Owned by the StepLoop.
#pragma once

#include <algorithm>
#include <chrono>
#include <memory>
#include <optional>
#include <tuple>
#include <vector>

#include "engine/beam_group.h"
#include "engine/drafting.h"
#include "engine/kv_cache.h"
#include "engine/request.h"

namespace smelt {

struct Flow;

struct Sequence {
    using Clock = std::chrono::steady_clock;

    RequestId id = 0;
    int index = 0;
    std::shared_ptr<const Request> request;  // shared with the request's other answers
    uint64_t seed = 0;

    // Prompt and answer. The last one may be negative: the token that a step under way draws, as the input of
    // the next step names it (InputTensors::ids).
    std::vector<int32_t> ids;
    KvSequence kv;
    // Of the request's pictures, from the step that first needs them to the last.
    std::vector<std::shared_ptr<const Features>> features = {};
    RopePositions rope_positions = {};
    int n_under_way = 0;  // steps that compute tokens of it
    Drafting drafting = {};
    TokenCounts counts;
    std::optional<GrammarMatcher> grammar;
    std::optional<ThinkingCount> thinking;
    bool mask_failed = false;  // the grammar could not say which tokens may come next
    int64_t mask_since = -1;   // the step since which it waits to be asked; -1: it does not
    double grammar_seconds = 0;
    double cumulative_logprob = 0;
    std::shared_ptr<BeamGroup> beams;     // of all sequences of the request; null: no beam search
    std::vector<TokenLogprob> likeliest;  // that may come next: what beam search waits for

    // Set by the Scheduler: whose it is, the place of these in a step, and its own among them; smaller runs
    // first.
    Flow* flow = nullptr;
    int64_t turn = 0, rank = 0;
    int64_t planned = 0;  // the last plan that it is in
    bool forked = false;
    int n_scored = 0;  // leading positions whose following token of the prompt got its log-probability
    std::vector<double> pooled = {};  // sum of the hidden states of the leading n_pooled positions
    int n_pooled = 0;
    int n_cached_prompt = 0;
    int n_preemptions = 0;
    Clock::time_point submitted, admitted, first_token;  // the epoch: not yet

    int n_prompt() const { return static_cast<int>(request->tokens.size()); }
    int n_generated() const { return static_cast<int>(ids.size()) - n_prompt(); }
    int n_pending() const { return static_cast<int>(ids.size()) - kv.n_tokens; }  // tokens without K and V
    // Positions whose logits say how likely the next token of the prompt was.
    bool scores(int pos) const {
        return request->n_prompt_logprobs >= 0 && index == 0 && pos >= n_scored && pos + 1 < n_prompt();
    }
    // Positions whose hidden state is part of the embedding.
    bool pools(int pos) const {
        if (request->pooling == Pooling::none || pos >= n_prompt()) return false;
        return request->pooling == Pooling::mean ? pos >= n_pooled : pos + 1 == n_prompt();
    }
    bool wants_logits(int pos) const {
        if (request->pooling != Pooling::none) return false;
        return pos + 1 == static_cast<int>(ids.size()) || scores(pos);
    }
    // What the cache holds of the prompt is of no use.
    bool needs_whole_prompt() const { return scores(n_scored) || request->pooling == Pooling::mean; }
    // Whether some of the tokens [first, end) are places of pictures.
    bool shows(int first, int end) const {
        return std::ranges::any_of(request->pictures,
                                   [&](const Picture& p) { return p.first < end && p.end() > first; });
    }
    bool was_admitted() const { return admitted != Clock::time_point(); }
    // Sequences that it is or will be.
    int n_seats() const { return forked ? 1 : std::max(request->n, request->beams.width); }
};

inline bool runs_before(const Sequence* a, const Sequence* b) {
    return std::tie(a->turn, a->rank, a->id, a->index) < std::tie(b->turn, b->rank, b->id, b->index);
}

inline double seconds(Sequence::Clock::duration d) {
    return std::chrono::duration<double>(d).count();
}

}  // namespace smelt
