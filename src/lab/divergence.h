// How far a model's rows of logits are from a reference's: one line of numbers for each scored token. Knows
// neither models nor text.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/thread_pool.h"

namespace smelt {

// Natural logarithms.
struct TokenScore {
    float nll = 0;            // -log p(the token that came) of the model
    float reference_nll = 0;  // of the reference; 0 where there is none, as all below
    float kl = 0;             // sum over tokens of p log(p / q), p the reference's
    bool same_top1 = false;   // both like the same token best
    uint8_t same_top5 = 0;    // of the reference's five best, those among the model's five
};

// For each row of logits, (targets.size(), n columns): how it scores the target. `reference` is empty, or has
// as many rows. Sums are made in double and in one order, whatever the number of threads.
std::vector<TokenScore> score_rows(std::span<const float> logits, std::span<const float> reference,
                                   std::span<const int32_t> targets, ThreadPool& pool);

struct ScoreSummary {
    int64_t n = 0;
    double perplexity = 0, reference_perplexity = 0;
    double kl_mean = 0, kl_error = 0;  // kl_error: standard error of the mean, as if tokens were independent
    double kl_median = 0, kl_p99 = 0, kl_max = 0;
    double top1 = 0, top5 = 0;  // shares
};
ScoreSummary summarize(std::span<const TokenScore> scores);

}  // namespace smelt
