// Milliseconds to draw a token from a vocabulary of 151,936, one thread. The logits are normal with a few
// tokens that stand out, as a model's do; "flat" makes nearly all of them likely, the worst case. usage:
// sampler_bench
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <random>
#include <vector>

#include "sampling/sampler.h"

namespace smelt {

namespace {

using Clock = std::chrono::steady_clock;

struct Case {
    const char* name;
    SamplingParams params;
    int n_logprobs = -1;
};

void measure(Sampler& sampler, std::vector<float>& logits, const TokenCounts& counts, const Case& c) {
    constexpr int n_rounds = 25, n_draws = 20;
    std::vector<double> times;
    int64_t sum = 0;  // of the ids: a change that draws differently cannot hide
    for (int round = 0; round < n_rounds; ++round) {
        const auto start = Clock::now();
        for (int i = 0; i < n_draws; ++i) {
            const auto n = static_cast<uint64_t>(round * n_draws + i);
            const bool penalties = c.params.repetition_penalty != 1;
            sum += sampler
                       .draw(logits, c.params,
                             {.counts = penalties ? &counts : nullptr,
                              .n_logprobs = c.n_logprobs,
                              .random = random_bits(1, 0, n)})
                       .id;
        }
        times.push_back(std::chrono::duration<double, std::milli>(Clock::now() - start).count() / n_draws);
    }
    std::ranges::sort(times);
    fmt::print("{:<52} {:.3f} ms  ({:.3f} to {:.3f})  sum of ids {}\n", c.name, times[times.size() / 2],
               times.front(), times.back(), sum);
}

void run() {
    constexpr int vocab_size = 151936, n_prompt = 500, n_answer = 500;
    std::mt19937 rng(1);
    std::normal_distribution<float> normal(0, 2.5f);
    std::vector<float> logits(vocab_size);
    for (float& x : logits) x = normal(rng);
    for (int i = 0; i < 30; ++i) logits[rng() % vocab_size] = 12 + static_cast<float>(i) * 0.3f;
    std::vector<int32_t> ids(n_prompt + n_answer);
    for (int32_t& id : ids) id = static_cast<int32_t>(rng() % vocab_size);
    TokenCounts counts;
    counts.update(ids, n_prompt, -1);

    Sampler sampler(vocab_size);
    for (const Case& c : {
             Case{"greedy", {.temperature = 0}},
             Case{"temperature 0.6, top-k 20, top-p 0.95",
                  {.temperature = 0.6f, .top_k = 20, .top_p = 0.95f}},
             Case{"the same, repetition penalty over 1000 tokens",
                  {.temperature = 0.6f, .top_k = 20, .top_p = 0.95f, .repetition_penalty = 1.1f}},
             Case{
                 "the same as the second, 5 logprobs", {.temperature = 0.6f, .top_k = 20, .top_p = 0.95f}, 5},
             Case{"temperature 1, min-p 0.05", {.min_p = 0.05f}},
             Case{"temperature 0.7, top-p 0.9", {.temperature = 0.7f, .top_p = 0.9f}},
             Case{"temperature 1", {}},
             Case{"flat: temperature 3, top-p 0.95", {.temperature = 3, .top_p = 0.95f}},
         }) {
        measure(sampler, logits, counts, c);
    }
}

}  // namespace

}  // namespace smelt

int main() {
    smelt::run();
}
