// How tokens are drawn, as values. What they mean is with the stages in sampling/sampler.h; names, ranges and
// sentences for people are in sampling/sampling_table.h.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

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

    // llama.cpp's top-n-sigma: logits at least the largest less so many standard deviations of all; 0: off.
    float top_n_sigma = 0;
    // Hugging Face's locally typical sampling: of the tokens whose information is closest to the entropy the
    // smallest set with at least this probability; 1: off.
    float typical_p = 1;
    // XTC: with this probability, all tokens of at least the threshold but the least likely of them go.
    float xtc_probability = 0, xtc_threshold = 0.1f;
    // DRY: a token that would lengthen a repetition of n tokens, at least the allowed length, loses
    // multiplier * base^(n - allowed length). 0: off.
    float dry_multiplier = 0, dry_base = 1.75f;
    int dry_allowed_length = 2;
    int dry_last_n = -1;                     // tokens that are searched for repetitions; -1: all
    std::vector<int32_t> dry_breakers = {};  // ascending ids that no repetition goes across

    std::vector<std::pair<int32_t, float>> logit_bias = {};  // (id, added to its logit)
    std::optional<uint64_t> seed = {};                       // none: a different text each time
};

// What is wrong with the parameters: field, expected, found. Empty when nothing is.
std::string check_sampling(const SamplingParams& params, int vocab_size);

}  // namespace smelt
