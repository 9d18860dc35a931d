// Draws the next token from a row of logits. The stages, in Hugging Face's and vLLM's order (llama.cpp's
// stages are the same, but it applies the temperature last):
//   logit bias -> repetition, frequency and presence penalty -> DRY -> banned ids -> temperature ->
//   top-n-sigma -> top-k -> typical-p -> top-p -> min-p -> XTC -> draw. Each stage sees what the one before
//   left.
// What a grammar does not allow is out before all of it.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "sampling/draw_row.h"
#include "sampling/sampling_params.h"
#include "sampling/vocab_scan.h"

namespace smelt {

bool has_penalties(const SamplingParams& params);

// Whether DrawRow has all that these parameters ask for: penalties and bias become edits. DRY, typical-p,
// top-n-sigma and XTC need whole rows and the host.
bool fits_draw_row(const SamplingParams& params);

// Uniform bits for draw number `counter` of a sequence: no state, so that nothing else that runs can disturb
// it. `stream` tells the sequences of one request apart.
uint64_t random_bits(uint64_t seed, uint64_t stream, uint64_t counter);

// Which tokens the penalties are about, kept up to date as a sequence grows.
class TokenCounts {
 public:
    struct Count {
        int seen = 0;       // in prompt and answer
        int generated = 0;  // in the answer
    };

    // `ids` are the whole sequence, of which the first n_prompt were given.
    void update(std::span<const int32_t> ids, int n_prompt, int last_n);
    // As it was when the sequence had n tokens, of those that it has now.
    void rewind(std::span<const int32_t> ids, size_t n, int n_prompt, int last_n);
    const std::unordered_map<int32_t, Count>& counts() const { return counts_; }

 private:
    void add(std::span<const int32_t> ids, size_t at, int n_prompt, int amount);

    std::unordered_map<int32_t, Count> counts_;
    size_t first_ = 0, end_ = 0;  // ids[first_, end_) are counted
};

struct TokenLogprob {
    int32_t id = -1;
    float logprob = 0;
};

struct DrawOptions {
    const TokenCounts* counts = nullptr;  // null: no penalties
    std::span<const int32_t> banned = {};
    // A bit per id, 64 to a word, of the tokens that may be drawn; ids beyond it may not. Empty: all.
    std::span<const uint64_t> allowed = {};
    std::span<const int32_t> ids = {};  // prompt and answer, for DRY
    int n_logprobs = -1;  // that many best tokens with their logprobs; 0: of the drawn token alone; -1: none
    uint64_t random = 0;  // uniform bits
};

struct Drawn {
    int32_t id = -1;                // -1: none, `problem` says why
    const char* problem = nullptr;  // "logits contain NaN"
    // Log-softmax of the model's own logits, before bias, penalties, temperature and all that follows.
    float logprob = 0;
    std::vector<TokenLogprob> top = {};
};

// Scratch memory for one thread; sequences share it. Any bits as logits give a token or a problem.
class Sampler {
 public:
    explicit Sampler(int vocab_size) : scan_(vocab_size) {}

    // The logits are as before when it returns.
    Drawn draw(std::span<float> logits, const SamplingParams& params, const DrawOptions& options);
    // What Sample computes of one row: the token, or a DrawProblem. logprob and log_sum are set where the row
    // wants its log-probability. The logits are as before when it returns.
    int32_t draw(std::span<float> logits, const DrawRow& row, std::span<const LogitEdit> edits,
                 std::span<const uint64_t> mask, float& logprob, float* log_sum);
    // As if `id` had been drawn.
    Drawn score(std::span<const float> logits, int32_t id, int n_logprobs);

 private:
    DrawProblem begin(std::span<const float> logits, bool wants_log_sum);
    Drawn begin_top(std::span<const float> logits, int n_logprobs);
    std::span<float> keep_allowed(std::span<const float> logits, std::span<const uint64_t> allowed);
    void change(std::span<float> logits, int32_t id, float value);
    void rescan(std::span<const float> logits);
    DrawProblem choose_checked(std::span<const float> logits, const SamplingParams& p, uint64_t random,
                               int32_t& id);
    void restore(std::span<float> logits);
    void apply_dry(std::span<float> logits, const SamplingParams& p, std::span<const int32_t> ids);
    void apply_bias_penalties_bans(std::span<float> logits, const SamplingParams& p, const DrawOptions& o);
    int32_t choose(std::span<const float> logits, const SamplingParams& p, uint64_t random);
    void collect(std::span<const float> logits, const SamplingParams& p);
    double weigh_candidates(float inverse_temperature);
    void keep_top_p(double mass);
    void keep_typical(double mass, double sum);
    void exclude_top(float threshold, double sum);
    int32_t draw_candidate(double uniform) const;

    VocabScan scan_;
    std::vector<Candidate> candidates_, ranked_;
    double log_sum_ = 0;            // of the exponentials of the raw logits, where logprobs are wanted
    std::vector<int32_t> changed_;  // ids, in order; one may be there twice
    std::vector<float> before_;     // their logits
    std::vector<float> masked_;     // logits where a grammar allows few
    std::vector<int> matches_;      // of DRY
    struct Typical {
        double distance;  // of information from the entropy
        int32_t id;
        float weight;
    };
    std::vector<Typical> typical_;
};

}  // namespace smelt
