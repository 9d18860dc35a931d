// How much is drafted, on devices and texts that are numbers here: never slower than without, near to the
// best.
#include "engine/draft_policy.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace smelt {
namespace {

struct World {
    double right;         // the chance of a draft whose forerunners were right
    double row;           // what a further row adds to a step, in steps
    double model_step;    // what a token of the draft model takes; 0: it looks up
    double noise = 0.15;  // of times
};

// Tokens per plain step's time.
double best_rate(const World& w, int max) {
    double best = 1, tokens = 1, reached = 1;
    for (int k = 1; k <= max; ++k) {
        tokens += reached *= w.right;
        best = std::max(best, tokens / (1 + k * (w.row + w.model_step)));
    }
    return best;
}

class Simulation {
 public:
    Simulation(const World& world, uint32_t seed) : w_(world), rng_(seed), policy_({.lookup = true}) {}

    void run(int n_tokens) {
        for (int n = 0; n < n_tokens;) n += step();
    }
    double rate() const { return tokens_ / time_; }

 private:
    double noisy(double t) {
        return t * (1 + w_.noise * (2 * std::uniform_real_distribution<double>()(rng_) - 1));
    }
    bool is_right() { return std::uniform_real_distribution<double>()(rng_) < w_.right; }

    int step() {
        const bool by_model = w_.model_step > 0;
        const DraftKind kind = by_model ? DraftKind::sure : DraftKind::match;
        int n_proposed = 0, k = 0;
        if (policy_.may_draft(1) && (by_model ? policy_.may_use_model() : policy_.may_look_up())) {
            const double chance = policy_.chance_of_model(own_);
            n_proposed = by_model ? policy_.length_of_model_drafts(1, {&chance, 1}) : 16;
            const std::vector<double> chances(static_cast<size_t>(n_proposed), policy_.chance(kind, own_));
            const std::span<const double> all = chances;
            std::vector<int> n_chosen;
            policy_.choose(1, {&all, 1}, n_chosen);
            k = n_chosen[0];
        }
        int n = 1;
        for (int i = 0; i < k; ++i, ++n) {
            const bool right = is_right();
            policy_.see(kind, right, own_);
            if (!right) break;
        }
        // What was not verified is compared with the next token.
        if (k == 0 && (n_proposed > 0 || !by_model)) policy_.see(kind, is_right(), own_);
        const double seconds = 1e-3 * noisy(1 + k * w_.row),
                     drafting = 1e-3 * noisy(n_proposed * w_.model_step);
        policy_.saw_step(1, 1 + k, n, seconds, by_model ? drafting : 0, by_model ? n_proposed : 0);
        tokens_ += n;
        time_ += 1e3 * (seconds + (by_model ? drafting : 0));
        return n;
    }

    World w_;
    std::mt19937 rng_;
    DraftPolicy policy_;
    Acceptances own_ = {};
    double tokens_ = 0, time_ = 0;
};

TEST(DraftPolicy, IsNeverSlowerAndNearTheBest) {
    for (const double model_step : {0.0, 0.05, 0.3}) {
        for (const double right : {0.0, 0.2, 0.4, 0.6, 0.8, 0.9, 0.97}) {
            for (const double row : {0.01, 0.05, 0.2, 0.5, 1.0}) {
                const World w{.right = right, .row = row, .model_step = model_step};
                double worst = 1e9, sum = 0;
                constexpr int n_runs = 5;
                for (uint32_t seed = 1; seed <= n_runs; ++seed) {
                    Simulation s(w, seed);
                    s.run(2000);
                    worst = std::min(worst, s.rate());
                    sum += s.rate();
                }
                EXPECT_GT(worst, 0.97) << right << " right, row " << row << ", model " << model_step;
                EXPECT_GT(sum / n_runs, 0.9 * best_rate(w, 16))
                    << right << " right, row " << row << ", model " << model_step;
            }
        }
    }
}

// Also where the text is short: what may be lost at first is some steps.
TEST(DraftPolicy, AShortTextLosesLittle) {
    for (const double right : {0.0, 0.3}) {
        for (const double row : {0.1, 1.0}) {
            Simulation s({.right = right, .row = row, .model_step = 0.2}, 3);
            s.run(200);
            EXPECT_GT(s.rate(), 0.95) << right << " right, row " << row;
        }
    }
}

// A draft model that never pays takes nothing from looking up.
TEST(DraftPolicy, ABadModelLeavesLookingUpAlone) {
    DraftPolicy policy({.lookup = true});
    for (int i = 0; i < 5; ++i) policy.saw_step(1, 1, 1, 1e-3, 0, 0);
    for (int i = 0; i < 3; ++i) policy.saw_step(1, 3, 1, 1.2e-3, 4e-3, 2);
    EXPECT_FALSE(policy.may_use_model());
    EXPECT_TRUE(policy.may_look_up());
    EXPECT_TRUE(policy.may_draft(1));
}

// The likeliest drafts of all answers are chosen, and where rows are dear none.
TEST(DraftPolicy, AnswersShareAStep) {
    DraftPolicy policy({.lookup = true});
    for (int i = 0; i < 8; ++i) {
        for (const int rows : {2, 3, 4, 6, 8, 12, 16})
            policy.saw_step(2, rows, rows, 1e-3 * (1 + 0.2 * rows), 0, 0);
    }
    const std::vector<double> sure(6, 0.95), vague(6, 0.1);
    const std::span<const double> both[] = {sure, vague};
    std::vector<int> n;
    policy.choose(2, both, n);
    EXPECT_GE(n[0], 3);
    EXPECT_EQ(n[1], 0);
}

TEST(DraftPolicy, FewerThanTheLeastAreNone) {
    DraftPolicy policy({.lookup = true, .min = 4, .adaptive = false});
    const std::vector<double> three(3, 0.9), five(5, 0.9);
    const std::span<const double> both[] = {three, five};
    std::vector<int> n;
    policy.choose(2, both, n);
    EXPECT_EQ(n, (std::vector<int>{0, 5}));
}

}  // namespace
}  // namespace smelt
