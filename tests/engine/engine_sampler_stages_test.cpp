// DRY, XTC, typical-p, top-n-sigma and grammars' sets, against their definitions written out over all tokens.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <random>

#include "sampling/sampler.h"

namespace smelt {
namespace {

constexpr int vocab_size = 40;
constexpr int n_draws = 20'000;

std::vector<float> random_logits(uint32_t seed) {
    std::mt19937 rng(seed);
    std::normal_distribution<float> normal(0, 2);
    std::vector<float> logits(vocab_size);
    for (float& x : logits) x = normal(rng);
    return logits;
}

// How often each token is drawn.
std::vector<double> drawn(std::vector<float> logits, const SamplingParams& p, DrawOptions o = {}) {
    Sampler sampler(vocab_size);
    const std::vector<float> before = logits;
    std::vector<double> rates(vocab_size);
    for (uint64_t i = 0; i < n_draws; ++i) {
        o.random = random_bits(3, 0, i);
        const Drawn d = sampler.draw(logits, p, o);
        if (d.id < 0) {
            ADD_FAILURE() << d.problem;
            break;
        }
        rates[static_cast<size_t>(d.id)] += 1.0 / n_draws;
    }
    EXPECT_EQ(logits, before);
    return rates;
}

std::vector<double> softmax(const std::vector<float>& logits, double temperature = 1) {
    const double largest = static_cast<double>(*std::ranges::max_element(logits));
    std::vector<double> p;
    for (const float x : logits) p.push_back(std::exp((static_cast<double>(x) - largest) / temperature));
    const double sum = std::accumulate(p.begin(), p.end(), 0.0);
    for (double& x : p) x /= sum;
    return p;
}

std::vector<double> only(std::vector<double> p, const std::vector<bool>& kept) {
    double sum = 0;
    for (size_t i = 0; i < p.size(); ++i) sum += p[i] = kept[i] ? p[i] : 0;
    for (double& x : p) x /= sum;
    return p;
}

void expect_rates(const std::vector<double>& rates, const std::vector<double>& expected) {
    for (size_t i = 0; i < rates.size(); ++i) {
        if (expected[i] == 0) {
            EXPECT_EQ(rates[i], 0) << i;
        }
        EXPECT_NEAR(rates[i], expected[i], 5 * std::sqrt(expected[i] / n_draws) + 1e-9) << i;
    }
}

TEST(SamplerStages, TopNSigma) {
    for (const uint32_t seed : {1u, 2u}) {
        for (const float n : {0.5f, 1.0f, 2.5f}) {
            const auto logits = random_logits(seed);
            double mean = 0, square = 0;
            for (const float x : logits) mean += static_cast<double>(x) / vocab_size;
            for (const float x : logits) square += std::pow(static_cast<double>(x) - mean, 2) / vocab_size;
            const double bar = static_cast<double>(*std::ranges::max_element(logits)) -
                               static_cast<double>(n) * std::sqrt(square);
            std::vector<bool> kept;
            for (const float x : logits) kept.push_back(static_cast<double>(x) >= bar);
            expect_rates(drawn(logits, {.temperature = 1.5f, .top_n_sigma = n}),
                         only(softmax(logits, 1.5), kept));
        }
    }
}

TEST(SamplerStages, Typical) {
    for (const uint32_t seed : {1u, 2u, 3u}) {
        for (const float mass : {0.2f, 0.6f, 0.95f}) {
            const auto logits = random_logits(seed);
            const auto p = softmax(logits);
            double entropy = 0;
            for (const double x : p) entropy -= x * std::log(x);
            std::vector<size_t> order(vocab_size);
            std::iota(order.begin(), order.end(), size_t{0});
            std::ranges::sort(order, {}, [&](size_t i) { return std::fabs(-std::log(p[i]) - entropy); });
            std::vector<bool> kept(vocab_size);
            double sum = 0;
            for (size_t i = 0; sum < static_cast<double>(mass); ++i) {
                kept[order[i]] = true;
                sum += p[order[i]];
            }
            expect_rates(drawn(logits, {.typical_p = mass}), only(p, kept));
        }
    }
}

TEST(SamplerStages, Xtc) {
    const auto logits = random_logits(5);
    const auto p = softmax(logits);
    const double threshold = 0.05;
    size_t last = vocab_size;
    std::vector<bool> kept(vocab_size, true), all(vocab_size, true);
    for (size_t i = 0; i < p.size(); ++i) {
        if (p[i] >= threshold && (last == vocab_size || p[i] < p[last])) last = i;
    }
    ASSERT_LT(last, p.size());
    for (size_t i = 0; i < p.size(); ++i) kept[i] = p[i] <= p[last];
    ASSERT_LT(std::ranges::count(kept, true), vocab_size - 1);
    expect_rates(drawn(logits, {.xtc_probability = 1, .xtc_threshold = 0.05f}), only(p, kept));
    // One token at most has more than half.
    expect_rates(drawn(logits, {.xtc_probability = 1, .xtc_threshold = 0.51f}), p);
    auto mixed = only(p, kept);
    for (size_t i = 0; i < p.size(); ++i) mixed[i] = 0.3 * mixed[i] + 0.7 * p[i];
    expect_rates(drawn(logits, {.xtc_probability = 0.3f, .xtc_threshold = 0.05f}), mixed);
}

TEST(SamplerStages, StagesSeeWhatIsLeft) {
    const auto logits = random_logits(7);
    // Typical-p over the ten likeliest, min-p of the likeliest that it left, then XTC.
    std::vector<size_t> order(vocab_size);
    std::iota(order.begin(), order.end(), size_t{0});
    std::ranges::sort(order, std::greater(), [&](size_t i) { return logits[i]; });
    std::vector<bool> kept(vocab_size);
    for (size_t i = 0; i < 10; ++i) kept[order[i]] = true;
    auto p = only(softmax(logits), kept);
    double entropy = 0;
    for (const double x : p) entropy -= x > 0 ? x * std::log(x) : 0;
    std::vector<size_t> ten(order.begin(), order.begin() + 10);
    std::ranges::sort(ten, {}, [&](size_t i) { return std::fabs(-std::log(p[i]) - entropy); });
    std::vector<bool> typical(vocab_size);
    double sum = 0, largest = 0;
    for (size_t i = 0; sum < 0.8; ++i) {
        typical[ten[i]] = true;
        sum += p[ten[i]];
        largest = std::max(largest, p[ten[i]]);
    }
    for (size_t i = 0; i < p.size(); ++i) typical[i] = typical[i] && p[i] >= 0.3 * largest;
    p = only(p, typical);
    expect_rates(drawn(logits, {.top_k = 10, .min_p = 0.3f, .typical_p = 0.8f}), p);
}

// The definition: every earlier place that the text's end repeats, token by token.
std::map<int32_t, int> repetitions(const std::vector<int32_t>& ids, int last_n,
                                   const std::vector<int32_t>& breakers) {
    const size_t first = last_n < 0 ? 0 : ids.size() - std::min(ids.size(), static_cast<size_t>(last_n));
    std::map<int32_t, int> longest;
    for (size_t end = first; end + 1 < ids.size(); ++end) {
        int n = 0;
        while (end >= first + static_cast<size_t>(n) &&
               ids[end - static_cast<size_t>(n)] == ids[ids.size() - 1 - static_cast<size_t>(n)] &&
               std::ranges::find(breakers, ids[ids.size() - 1 - static_cast<size_t>(n)]) == breakers.end()) {
            ++n;
        }
        int& known = longest[ids[end + 1]];
        known = std::max(known, n);
    }
    return longest;
}

TEST(SamplerStages, Dry) {
    std::mt19937 rng(9);
    Sampler sampler(vocab_size);
    int n_penalties = 0;
    for (int round = 0; round < 300; ++round) {
        std::vector<int32_t> ids(1 + rng() % 60);
        for (int32_t& id : ids) id = static_cast<int32_t>(rng() % 4);
        if (round % 3 == 0)
            std::copy(ids.begin(), ids.begin() + static_cast<ptrdiff_t>(ids.size() / 2),
                      ids.end() - static_cast<ptrdiff_t>(ids.size() / 2));
        SamplingParams p{.temperature = 0, .dry_multiplier = 0.8f, .dry_base = 1.5f};
        p.dry_allowed_length = 1 + round % 4;
        p.dry_last_n = round % 5 == 0 ? 20 : -1;
        if (round % 2 == 0) p.dry_breakers = {3};
        auto logits = random_logits(static_cast<uint32_t>(round));
        auto expected = logits;
        for (const auto& [id, n] : repetitions(ids, p.dry_last_n, p.dry_breakers)) {
            if (n < p.dry_allowed_length) continue;
            expected[static_cast<size_t>(id)] -=
                p.dry_multiplier * std::pow(p.dry_base, static_cast<float>(n - p.dry_allowed_length));
            ++n_penalties;
        }
        // The order of all tokens, by taking the best away one by one.
        std::vector<int32_t> order(vocab_size), banned;
        std::iota(order.begin(), order.end(), 0);
        std::ranges::stable_sort(order, std::greater(),
                                 [&](int32_t i) { return expected[static_cast<size_t>(i)]; });
        for (int i = 0; i < 12; ++i) {
            const Drawn d = sampler.draw(logits, p, {.banned = banned, .ids = ids});
            ASSERT_EQ(d.id, order[static_cast<size_t>(i)]) << "round " << round;
            banned.push_back(d.id);
        }
    }
    EXPECT_GT(n_penalties, 100);
}

TEST(SamplerStages, AllowedTokens) {
    auto logits = random_logits(11);
    const std::vector<uint64_t> allowed = {0x8000000421};
    std::vector<bool> kept(vocab_size);
    for (const size_t id : {0u, 5u, 10u, 39u}) kept[id] = true;
    expect_rates(drawn(logits, {}, {.allowed = allowed}), only(softmax(logits), kept));
    expect_rates(drawn(logits, {.top_k = 39}, {.allowed = allowed}), only(softmax(logits), kept));
    // Log-probabilities are the model's.
    Sampler sampler(vocab_size);
    const Drawn d = sampler.draw(logits, {.temperature = 0}, {.allowed = allowed, .n_logprobs = 0});
    EXPECT_TRUE(kept[static_cast<size_t>(d.id)]);
    EXPECT_NEAR(static_cast<double>(d.logprob), std::log(softmax(logits)[static_cast<size_t>(d.id)]), 1e-5);
    // Ids beyond the set are not allowed; nor is anything where nothing is.
    const std::vector<uint64_t> none = {0};
    EXPECT_STREQ(sampler.draw(logits, {}, {.allowed = none}).problem, "every token is banned");
}

}  // namespace
}  // namespace smelt
