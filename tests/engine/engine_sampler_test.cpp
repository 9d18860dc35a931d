// Sampler: every stage against a naive implementation over the whole vocabulary, distributions, odd logits.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <numeric>
#include <random>

#include "sampling/sampler.h"

namespace smelt {
namespace {

constexpr float inf = std::numeric_limits<float>::infinity();

std::vector<float> random_logits(int n, uint32_t seed, float scale = 3) {
    std::mt19937 rng(seed);
    std::normal_distribution<float> normal(0, scale);
    std::vector<float> logits(static_cast<size_t>(n));
    for (float& x : logits) x = normal(rng);
    return logits;
}

// The stages as the header lists them, in double, over a full sort: probability of each id.
std::vector<double> naive_distribution(std::vector<float> logits, const SamplingParams& p,
                                       const std::vector<int32_t>& prompt, const std::vector<int32_t>& answer,
                                       const std::vector<int32_t>& banned) {
    std::vector<double> x(logits.begin(), logits.end());
    for (const auto& [id, bias] : p.logit_bias) x[static_cast<size_t>(id)] += static_cast<double>(bias);
    std::vector<int32_t> all = prompt;
    all.insert(all.end(), answer.begin(), answer.end());
    const size_t window =
        p.penalty_last_n < 0 ? all.size() : std::min(all.size(), static_cast<size_t>(p.penalty_last_n));
    std::map<int32_t, int> seen, generated;
    for (size_t i = all.size() - window; i < all.size(); ++i) {
        ++seen[all[i]];
        if (i >= prompt.size()) ++generated[all[i]];
    }
    for (const auto& [id, n] : seen) {
        double& v = x[static_cast<size_t>(id)];
        v = v > 0 ? v / static_cast<double>(p.repetition_penalty)
                  : v * static_cast<double>(p.repetition_penalty);
    }
    for (const auto& [id, n] : generated) {
        x[static_cast<size_t>(id)] -=
            n * static_cast<double>(p.frequency_penalty) + static_cast<double>(p.presence_penalty);
    }
    for (const int32_t id : banned) x[static_cast<size_t>(id)] = -std::numeric_limits<double>::infinity();

    std::vector<size_t> order(x.size());
    std::iota(order.begin(), order.end(), size_t{0});
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return x[a] > x[b]; });
    size_t kept = p.top_k > 0 ? std::min(order.size(), static_cast<size_t>(p.top_k)) : order.size();
    std::vector<double> probability(x.size());
    if (p.temperature == 0) {
        probability[order[0]] = 1;
        return probability;
    }
    const auto weight = [&](size_t i) {
        return std::exp((x[order[i]] - x[order[0]]) / static_cast<double>(p.temperature));
    };
    double sum = 0;
    for (size_t i = 0; i < kept; ++i) sum += weight(i);
    double mass = 0;
    for (size_t i = 0; p.top_p < 1 && i < kept; ++i) {
        mass += weight(i);
        if (mass >= static_cast<double>(p.top_p) * sum) kept = i + 1;
    }
    while (kept > 1 && weight(kept - 1) < static_cast<double>(p.min_p)) --kept;
    sum = 0;
    for (size_t i = 0; i < kept; ++i) sum += weight(i);
    for (size_t i = 0; i < kept; ++i) probability[order[i]] = weight(i) / sum;
    return probability;
}

// Draws many tokens and compares their frequencies with the expected ones: chi-square below its 1 - 1e-4
// quantile (Wilson-Hilferty), rare ids pooled; an id of probability 0 must never come.
void expect_distribution(const std::vector<float>& logits, const SamplingParams& p,
                         const std::vector<int32_t>& prompt = {}, const std::vector<int32_t>& answer = {},
                         const std::vector<int32_t>& banned = {}) {
    constexpr int n_draws = 8000;
    const std::vector<double> expected = naive_distribution(logits, p, prompt, answer, banned);
    std::vector<int32_t> ids = prompt;
    ids.insert(ids.end(), answer.begin(), answer.end());
    TokenCounts counts;
    counts.update(ids, static_cast<int>(prompt.size()), p.penalty_last_n);
    Sampler sampler(static_cast<int>(logits.size()));
    std::vector<float> row = logits;
    std::vector<int> n_drawn(logits.size());
    for (int i = 0; i < n_draws; ++i) {
        const Drawn d = sampler.draw(
            row, p,
            {.counts = &counts, .banned = banned, .random = random_bits(42, 0, static_cast<uint64_t>(i))});
        ASSERT_GE(d.id, 0);
        ++n_drawn[static_cast<size_t>(d.id)];
    }
    EXPECT_EQ(row, logits);
    double chi2 = 0, pooled_expected = 0, pooled = 0;
    int n_bins = 0;
    for (size_t id = 0; id < expected.size(); ++id) {
        const double e = expected[id] * n_draws;
        if (e == 0) {
            EXPECT_EQ(n_drawn[id], 0) << "id " << id;
        } else if (e < 5) {
            pooled_expected += e;
            pooled += n_drawn[id];
        } else {
            chi2 += (n_drawn[id] - e) * (n_drawn[id] - e) / e;
            ++n_bins;
        }
    }
    if (pooled_expected >= 5) {
        chi2 += (pooled - pooled_expected) * (pooled - pooled_expected) / pooled_expected;
        ++n_bins;
    }
    const double k = std::max(1, n_bins - 1);
    const double quantile = k * std::pow(1 - 2 / (9 * k) + 3.719 * std::sqrt(2 / (9 * k)), 3);
    EXPECT_LT(chi2, quantile) << n_bins << " bins";
}

TEST(Sampler, DistributionIsThatOfTheDefinition) {
    const std::vector<float> logits = random_logits(300, 7);
    const SamplingParams cases[] = {
        {},
        {.temperature = 0.6f},
        {.temperature = 2.5f},
        {.top_k = 20},
        {.top_k = 2},
        {.top_p = 0.9f},
        {.top_p = 0.3f},
        {.top_p = 0},
        {.min_p = 0.05f},
        {.temperature = 0.6f, .top_k = 20, .top_p = 0.95f},
        {.temperature = 1.5f, .top_k = 50, .top_p = 0.8f, .min_p = 0.1f},
        {.temperature = 3, .top_p = 0.99f, .min_p = 0.01f},
    };
    for (size_t i = 0; i < std::size(cases); ++i) {
        SCOPED_TRACE(i);
        expect_distribution(logits, cases[i]);
    }
}

TEST(Sampler, PenaltiesBiasAndBansAreThoseOfTheDefinition) {
    const std::vector<float> logits = random_logits(70, 8, 1.5f);
    const std::vector<int32_t> prompt = {1, 2, 3, 3, 64, 69}, answer = {3, 5, 5, 5, 69, 0};
    const SamplingParams cases[] = {
        {.repetition_penalty = 1.3f},
        {.presence_penalty = 0.8f},
        {.frequency_penalty = 0.7f},
        {.repetition_penalty = 1.2f, .presence_penalty = -0.5f, .frequency_penalty = 0.3f},
        {.repetition_penalty = 2, .frequency_penalty = 1, .penalty_last_n = 4},
        {.repetition_penalty = 2, .penalty_last_n = 8},
        {.repetition_penalty = 5, .presence_penalty = 5, .penalty_last_n = 0},
        {.top_k = 5,
         .repetition_penalty = 1.3f,
         .logit_bias = {{5, 4.0f}, {7, -100.0f}, {69, 2.0f}, {5, 1.0f}}},
    };
    for (size_t i = 0; i < std::size(cases); ++i) {
        SCOPED_TRACE(i);
        expect_distribution(logits, cases[i], prompt, answer);
        expect_distribution(logits, cases[i], prompt, answer, {0, 11, 69});
    }
}

TEST(Sampler, GreedyAndTopK1TakeTheFirstLargest) {
    for (const int n : {1, 2, 63, 64, 65, 1000}) {
        Sampler sampler(n);
        for (uint32_t seed = 0; seed < 50; ++seed) {
            std::vector<float> logits = random_logits(n, seed);
            for (float& x : logits) x = std::round(x);  // ties
            const auto best = static_cast<int32_t>(std::ranges::max_element(logits) - logits.begin());
            EXPECT_EQ(sampler.draw(logits, {.temperature = 0}, {.random = seed}).id, best);
            EXPECT_EQ(sampler.draw(logits, {.temperature = 1e-30f}, {.random = seed}).id, best);
            EXPECT_EQ(sampler.draw(logits, {.top_k = 1}, {.random = ~uint64_t{0}}).id, best);
        }
    }
}

TEST(Sampler, TopKIsASortsBeginning) {
    for (const int n : {1, 65, 5000}) {
        VocabScan scan(n);
        std::vector<float> logits = random_logits(n, 3);
        for (float& x : logits) x = std::round(x * 20);
        std::vector<Candidate> sorted, taken;
        for (int i = 0; i < n; ++i) sorted.push_back({i, logits[static_cast<size_t>(i)]});
        std::ranges::sort(sorted, ranks_before);
        scan.scan(logits);
        for (const int k : {1, 2, 20, 79, 200, 4999, 6000}) {
            scan.take_top_k(k, taken);
            ASSERT_EQ(taken.size(), static_cast<size_t>(std::min(k, n)));
            for (size_t i = 0; i < taken.size(); ++i) ASSERT_EQ(taken[i].id, sorted[i].id) << k;
        }
    }
}

TEST(Sampler, WeightsAreExponentials) {
    std::vector<float> logits;
    for (int i = 0; i < 95000; ++i) logits.push_back(static_cast<float>(i) * -1e-3f);
    VocabScan scan(static_cast<int>(logits.size()));
    scan.scan(logits);
    std::vector<Candidate> all;
    double sum = scan.weigh(1);
    scan.take_heavier(0, all);
    EXPECT_NEAR(all.back().logit, -87.0f, 2e-3f);
    for (const Candidate& c : all) {
        const double expected = std::exp(static_cast<double>(c.logit));
        ASSERT_NEAR(static_cast<double>(c.weight) / expected, 1, 1e-6) << c.logit;
        sum -= expected;
    }
    EXPECT_NEAR(sum, 0, 1e-3);
}

TEST(Sampler, LogprobsAreOfTheRawLogits) {
    std::vector<float> logits = random_logits(1000, 5);
    double sum = 0;
    for (const float x : logits) sum += std::exp(static_cast<double>(x));
    const auto logprob = [&](int32_t id) {
        return static_cast<double>(logits[static_cast<size_t>(id)]) - std::log(sum);
    };
    std::vector<int32_t> order(1000);
    std::iota(order.begin(), order.end(), 0);
    std::ranges::sort(order, std::greater<>(), [&](int32_t id) { return logits[static_cast<size_t>(id)]; });
    Sampler sampler(1000);
    const int32_t banned[] = {order[0]};
    const SamplingParams p{.temperature = 0, .logit_bias = {{order[500], 50.0f}}};
    const Drawn d = sampler.draw(logits, p, {.banned = banned, .n_logprobs = 5});
    EXPECT_EQ(d.id, order[500]);
    EXPECT_NEAR(static_cast<double>(d.logprob), logprob(order[500]), 1e-5);
    ASSERT_EQ(d.top.size(), 5u);
    for (size_t i = 0; i < 5; ++i) {
        EXPECT_EQ(d.top[i].id, order[i]);
        EXPECT_NEAR(static_cast<double>(d.top[i].logprob), logprob(order[i]), 1e-5);
    }
    EXPECT_TRUE(sampler.draw(logits, p, {.n_logprobs = 0}).top.empty());
}

TEST(Sampler, AnyBitsGiveATokenOrAProblem) {
    std::mt19937 rng(11);
    const float nan = std::numeric_limits<float>::quiet_NaN(), big = std::numeric_limits<float>::max();
    const float odd[] = {nan, inf, -inf, -inf, 0.0f, -0.0f, big, -big, 1e-40f, 1.0f};
    const SamplingParams cases[] = {{},
                                    {.top_k = 3},
                                    {.top_p = 0.5f},
                                    {.min_p = 0.5f},
                                    {.temperature = 1e-4f, .top_p = 0.9f},
                                    {.temperature = 100, .min_p = 1},
                                    {.repetition_penalty = 0.01f, .presence_penalty = -100},
                                    {.logit_bias = {{0, 1e6f}}}};
    const int n = 130;
    Sampler sampler(n);
    TokenCounts counts;
    const std::vector<int32_t> ids = {0, 1, 2, 129};
    counts.update(ids, 2, -1);
    int n_tokens = 0, n_problems = 0;
    for (int round = 0; round < 20000; ++round) {
        std::vector<float> logits(n, (round % 3) == 0 ? -inf : 0.5f);
        for (int i = 0; i < round % 7; ++i)
            logits[rng() % n] = odd[rng() % (round % 2 ? 10 : 8) + (round % 2 ? 0 : 2)];
        const std::vector<float> before = logits;
        const bool bad = std::ranges::any_of(logits, [](float x) { return !(x < inf); }) ||
                         std::ranges::all_of(logits, [](float x) { return x == -inf; });
        const Drawn d = sampler.draw(logits, cases[static_cast<size_t>(round) % std::size(cases)],
                                     {.counts = &counts, .n_logprobs = 3, .random = rng()});
        if (d.id < 0) {
            ++n_problems;
            ASSERT_NE(d.problem, nullptr);
        } else {
            ++n_tokens;
            ASSERT_FALSE(bad);
            ASSERT_LT(d.id, n);
            ASSERT_NE(before[static_cast<size_t>(d.id)], -inf);
            ASSERT_TRUE(std::isfinite(d.logprob));
        }
    }
    EXPECT_GT(n_tokens, 5000);
    EXPECT_GT(n_problems, 1000);

    std::vector<float> logits(n, 0.0f);
    std::vector<int32_t> all(n);
    std::iota(all.begin(), all.end(), 0);
    EXPECT_STREQ(sampler.draw(logits, {}, {.banned = all}).problem, "every token is banned");
    logits[77] = nan;
    EXPECT_STREQ(sampler.draw(logits, {}, {}).problem, "logits contain NaN");
}

TEST(Sampler, RandomBitsAreUniformAndDifferPerSeedStreamAndCounter) {
    std::map<uint64_t, int> seen;
    double sum = 0;
    for (uint64_t seed = 0; seed < 20; ++seed) {
        for (uint64_t stream = 0; stream < 20; ++stream) {
            for (uint64_t counter = 0; counter < 100; ++counter) {
                const uint64_t bits = random_bits(seed, stream, counter);
                ++seen[bits];
                sum += static_cast<double>(bits >> 11) * 0x1p-53;
            }
        }
    }
    EXPECT_EQ(seen.size(), 40000u);
    EXPECT_NEAR(sum / 40000, 0.5, 4 * 0.2887 / 200);
}

TEST(Sampler, BadParametersAreNamed) {
    const float nan = std::numeric_limits<float>::quiet_NaN();
    EXPECT_EQ(check_sampling({}, 10), "");
    EXPECT_EQ(check_sampling({.temperature = -1}, 10), "temperature: expected 0 to 100, found -1");
    EXPECT_EQ(check_sampling({.temperature = nan}, 10), "temperature: expected 0 to 100, found nan");
    EXPECT_EQ(check_sampling({.top_k = -2}, 10), "top_k: expected 0 to 2147483647, found -2");
    EXPECT_EQ(check_sampling({.top_p = 1.5f}, 10), "top_p: expected 0 to 1, found 1.5");
    EXPECT_EQ(check_sampling({.min_p = inf}, 10), "min_p: expected 0 to 1, found inf");
    EXPECT_EQ(check_sampling({.repetition_penalty = 0}, 10),
              "repetition_penalty: expected 0.01 to 100, found 0");
    EXPECT_EQ(check_sampling({.logit_bias = {{10, 1.0f}}}, 10), "logit_bias: expected ids 0 to 9, found 10");
    EXPECT_EQ(check_sampling({.logit_bias = {{9, nan}}}, 10),
              "logit_bias of 9: expected -1e6 to 1e6, found nan");
    EXPECT_EQ(check_sampling({.penalty_last_n = -2}, 10),
              "repeat_last_n: expected -1 to 2147483647, found -2");
}

// What a device draws by a DrawRow is what the host draws by the parameters.
TEST(Sampler, RowsForDevicesDrawTheSameTokens) {
    constexpr int n = 500;
    const std::vector<SamplingParams> cases = {{.temperature = 0},
                                               {},
                                               {.top_k = 7},
                                               {.temperature = 2, .top_k = 64, .top_p = 0.7f},
                                               {.top_p = 0.9f},
                                               {.top_k = 20, .min_p = 0.2f},
                                               {.temperature = 0.7f, .repetition_penalty = 1.3f},
                                               {.presence_penalty = 0.4f, .frequency_penalty = 0.3f},
                                               {.temperature = 1, .logit_bias = {{3, 4.0f}, {9, -50.0f}}}};
    Sampler sampler(n);
    const std::vector<int32_t> ids = {1, 2, 3, 3, 9, 9, 9, 40}, banned = {7, 11};
    for (const SamplingParams& p : cases) {
        ASSERT_TRUE(fits_draw_row(p));
        TokenCounts counts;
        counts.update(ids, 3, -1);
        for (uint32_t seed = 0; seed < 100; ++seed) {
            std::vector<float> logits = random_logits(n, seed);
            const std::vector<float> before = logits;
            std::vector<uint64_t> mask((n + 63) / 64, ~uint64_t{0});
            mask[seed % mask.size()] = 0;
            const bool masked = seed % 3 == 0;
            const uint64_t random = random_bits(seed, 0, 0);
            const Drawn expected = sampler.draw(logits, p,
                                                {.counts = has_penalties(p) ? &counts : nullptr,
                                                 .banned = banned,
                                                 .allowed = masked ? mask : std::vector<uint64_t>(),
                                                 .n_logprobs = 0,
                                                 .random = random});
            std::vector<LogitEdit> edits;
            for (const auto& [id, bias] : p.logit_bias) edits.push_back({.id = id, .bias = bias});
            if (has_penalties(p)) {
                for (const auto& [id, count] : counts.counts())
                    edits.push_back({.id = id, .n_generated = count.generated, .seen = 1});
            }
            for (const int32_t id : banned) edits.push_back({.id = id, .banned = 1});
            const DrawRow row{.temperature = p.temperature,
                              .top_k = p.top_k,
                              .top_p = p.top_p,
                              .min_p = p.min_p,
                              .repetition_penalty = p.repetition_penalty,
                              .presence_penalty = p.presence_penalty,
                              .frequency_penalty = p.frequency_penalty,
                              .masked = masked,
                              .draws = 1,
                              .logprob = 1,
                              .random = {static_cast<uint32_t>(random), static_cast<uint32_t>(random >> 32)}};
            float logprob = 0, log_sum[2];
            EXPECT_EQ(sampler.draw(logits, row, edits, mask, logprob, log_sum), expected.id);
            EXPECT_EQ(logprob, expected.logprob);
            EXPECT_EQ(logits, before);
        }
    }
    for (const SamplingParams& p : std::vector<SamplingParams>{
             {.dry_multiplier = 1}, {.top_n_sigma = 1}, {.typical_p = 0.9f}, {.xtc_probability = 0.5f}}) {
        EXPECT_FALSE(fits_draw_row(p));
    }
}

}  // namespace
}  // namespace smelt
