// Draws the next token from a row of logits. The stages, in Hugging Face's and vLLM's order (llama.cpp's
// stages are the same, but it applies the temperature last):
//   logit bias -> repetition, frequency and presence penalty -> banned ids -> temperature -> top-k -> top-p
//   (over what top-k left) -> min-p -> draw.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "engine/vocab_scan.h"

namespace smelt {

struct SamplingParams {
    float temperature = 1;  // 0 (or less than 1e-5): greedy, the largest logit after bias, penalties and bans
    int top_k = 0;          // 0: off
    float top_p = 1;        // smallest set of tokens with at least this probability; 1: off
    float min_p = 0;        // of the largest probability; 0: off

    // Hugging Face's: logits of tokens seen in prompt or answer are divided by it when positive, else
    // multiplied.
    float repetition_penalty = 1;
    // OpenAI's, over the answer alone: logit -= count * frequency + (count > 0) * presence.
    float presence_penalty = 0, frequency_penalty = 0;
    int penalty_last_n = -1;  // tokens at the end of prompt and answer that penalties look at; -1: all

    std::vector<std::pair<int32_t, float>> logit_bias = {};  // (id, added to its logit)
    std::optional<uint64_t> seed = {};                       // none: a different text each time
};

// What is wrong with the parameters: field, expected, found. Empty when nothing is.
std::string check_sampling(const SamplingParams& params, int vocab_size);

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
    // As if `id` had been drawn.
    Drawn score(std::span<const float> logits, int32_t id, int n_logprobs);

 private:
    Drawn begin(std::span<const float> logits, int n_logprobs);
    void change(std::span<float> logits, int32_t id, float value);
    void apply_bias_penalties_bans(std::span<float> logits, const SamplingParams& p, const DrawOptions& o);
    int32_t choose(const SamplingParams& p, double uniform);
    void keep_top_p(double mass);
    int32_t draw_candidate(double uniform) const;

    VocabScan scan_;
    std::vector<Candidate> candidates_, ranked_;
    double log_sum_ = 0;            // of the exponentials of the raw logits, where logprobs are wanted
    std::vector<int32_t> changed_;  // ids, in order; one may be there twice
    std::vector<float> before_;     // their logits
};

}  // namespace smelt
