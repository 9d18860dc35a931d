// Speculative decoding changes no token: whatever is guessed, by looking up, from a prediction or by a draft
// model, every kind of answer in any company is what plain decoding gives.
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <random>

#include "engine/request_kinds.h"
#include "engine/step_rig.h"

namespace smelt {
namespace {

RunnerShape shape(int steps = 1, int n_blocks = 60, int window_parts = 0) {
    return {.n_blocks = n_blocks,
            .block_len = 4,
            .vocab_size = n_letters,
            .n_ctx = 40,
            .windows = {.window = window_parts > 0 ? 6 : 0, .n_parts = window_parts},
            .max_steps = steps};
}

// With more of what a guess must not change.
Request harder_request_of(Kind kind, std::mt19937& rng, const std::shared_ptr<TokenGrammar>& grammar) {
    Request r = request_of(kind, rng, grammar);
    r.max_tokens = kind == beams ? std::min(r.max_tokens, 4) : r.max_tokens + 1 + static_cast<int>(rng() % 9);
    if (kind != beams && rng() % 3 == 0) r.min_tokens = std::min(4, r.max_tokens);
    if (kind == penalties) r.sampling.repetition_penalty = 1.3f;
    if (kind == scored) r.n_prompt_logprobs = r.n_logprobs = 2;
    return r;
}

Answer alone(const Request& r, int index, bool two_classes = false) {
    RunnerShape device = shape(1, 400);
    device.two_classes = two_classes;
    Rig rig(device, {});
    rig.add(r, 1);
    rig.run();
    return rig.answer(1, index);
}

// What the answer will be, with some tokens wrong.
std::vector<int32_t> nearly(std::vector<int32_t> ids, std::mt19937& rng) {
    for (int32_t& id : ids) {
        if (rng() % 6 == 0) id = static_cast<int32_t>(rng() % n_letters);
    }
    return ids;
}

void expect_equal(Rig& rig, RequestId id, Request r) {
    r.prediction.clear();
    for (int index = 0; index < r.n; ++index) {
        const Answer &a = rig.answer(id, index), b = alone(r, index, rig.runner.shape().two_classes);
        ASSERT_EQ(a.finish.size(), 1u);
        if (a.finish[0].reason == FinishReason::cancelled) continue;
        EXPECT_EQ(a.ids, b.ids);
        EXPECT_EQ(a.logprobs, b.logprobs);
        EXPECT_EQ(a.prompt_logprobs, b.prompt_logprobs);
        EXPECT_EQ(a.finish[0].reason, b.finish.at(0).reason);
        EXPECT_EQ(a.finish[0].n_generated, b.finish.at(0).n_generated);
        EXPECT_LE(a.finish[0].n_draft_accepted, a.finish[0].n_drafted);
    }
}

DraftOptions always(int max = 5) {
    return {.lookup = true, .max = max, .min_match = 1, .adaptive = false};
}

// Every kind has drafts that are accepted, but for beams, whose answers it leaves alone.
TEST(Speculation, EveryKindOfAnswerIsTheSame) {
    const auto grammar = letters("(ab|c)*");
    for (const bool by_model : {false, true}) {
        for (int kind = 0; kind < n_kinds; ++kind) {
            SCOPED_TRACE(testing::Message() << "kind " << kind << ", model " << by_model);
            std::mt19937 rng(static_cast<uint32_t>(kind));
            int64_t n_drafted = 0, n_accepted = 0, n_runs = 0, n_plain_runs = 0;
            for (int i = 0; i < 30; ++i) {
                Request r = harder_request_of(static_cast<Kind>(kind), rng, grammar);
                FakeRunner draft(shape());
                draft.differs_every = 4;
                Rig rig(shape(1 + i % 2), {.max_batch_tokens = 33, .prefill_chunk = 32},
                        {.lookup = !by_model, .max = 5, .adaptive = false}, by_model ? &draft : nullptr);
                if (!by_model) r.prediction = nearly(alone(r, 0).ids, rng);
                const RequestId id = rig.add(r);
                rig.run();
                expect_equal(rig, id, r);
                const StepLoopStats stats = rig.loop.stats();
                EXPECT_EQ(stats.n_used_blocks, 0);
                n_drafted += stats.n_drafted;
                n_accepted += stats.n_draft_accepted;
                n_runs += rig.runner.n_runs;
                r.prediction.clear();
                Rig other(shape(), {});
                other.add(r);
                other.run();
                n_plain_runs += other.runner.n_runs;
                EXPECT_EQ(stats.n_constrained, other.loop.stats().n_constrained);
            }
            if (kind == beams) {
                EXPECT_EQ(n_drafted, 0);
            } else {
                EXPECT_GT(n_accepted, n_drafted / 5);
                EXPECT_LT(n_runs, n_plain_runs * 9 / 10);
            }
        }
    }
}

TEST(Speculation, RandomCompanyChangesNoToken) {
    const auto grammar = letters("(ab|c)*");
    int64_t n_preemptions = 0, n_accepted = 0, n_ahead = 0;
    for (uint32_t seed = 1; seed <= 60; ++seed) {
        SCOPED_TRACE(seed);
        std::mt19937 rng(seed);
        const int n_blocks = seed % 2 == 0 ? 60 : 18, steps = 1 + static_cast<int>(seed / 2 % 2);
        FakeRunner draft(shape(1, n_blocks));
        draft.differs_every = 5;
        DraftOptions drafts = always();
        drafts.lookup = seed % 3 != 0;
        drafts.adaptive = seed % 5 == 0;
        const SchedulerOptions options{.max_seqs = 6, .max_batch_tokens = 14, .prefill_chunk = 5};
        const int parts = seed % 4 == 1 ? window_parts_for(6, 4, 6, 2 * 14) : 0;
        RunnerShape device = shape(steps, n_blocks, parts);
        device.two_classes = parts == 0 && seed % 7 < 3;
        Rig rig(device, options, drafts, seed % 3 != 1 ? &draft : nullptr);
        std::map<RequestId, Request> requests;
        while (requests.size() < 40 || !rig.loop.idle()) {
            if (requests.size() < 40 && rng() % 3 == 0) {
                const auto kind = static_cast<Kind>(rng() % 3 != 0 ? rng() % n_kinds : 0u);
                Request r = harder_request_of(kind, rng, grammar);
                r.sink = [](const Event&) {};
                if (!check_request(r, rig.loop.limits()).empty()) continue;
                if (parts == 0 && rng() % 2 == 0)
                    r.prediction = nearly(alone(r, 0, device.two_classes).ids, rng);
                if (rng() % 4 == 0) r.max_drafts = static_cast<int>(rng() % 8);
                requests[rig.add(r)] = r;
            }
            const RequestId any = 1 + rng() % (requests.size() + 1);
            if (rng() % 30 == 0) rig.loop.cancel(any, static_cast<int>(rng() % 3) - 1);
            if (rng() % 6 == 0) rng() % 3 == 0 ? rig.loop.pause(any) : rig.loop.resume(any);
            if (!rig.loop.can_step()) {
                for (const auto& [id, r] : requests) rig.loop.resume(id);
            }
            rig.step();
            ASSERT_LT(rig.n_steps, 5000) << "starvation";
        }
        EXPECT_EQ(rig.loop.stats().n_used_blocks, 0);
        for (const auto& [id, r] : requests) {
            SCOPED_TRACE(id);
            if (parts == 0) {
                expect_equal(rig, id, r);
                continue;
            }
            // The fake's windows change its text: the same machine without drafts is what it is compared
            // with.
            Request bare = r;
            bare.prediction.clear();
            Rig other(shape(1, 400, window_parts_for(6, 4, 32, 512)), {});
            other.add(bare, 1);
            other.run();
            for (int index = 0; index < r.n; ++index) {
                if (rig.answer(id, index).finish.at(0).reason == FinishReason::cancelled) continue;
                EXPECT_EQ(rig.answer(id, index).ids, other.answer(1, index).ids);
            }
        }
        n_ahead += rig.runner.n_ahead;
        n_accepted += rig.loop.stats().n_draft_accepted;
        n_preemptions += rig.loop.stats().n_preemptions;
    }
    EXPECT_GT(n_preemptions, 20);
    EXPECT_GT(n_accepted, 1000);
    EXPECT_GT(n_ahead, 50);
}

// A model that agrees always: k tokens a step and one.
TEST(Speculation, RightDraftsSaveTheirSteps) {
    FakeRunner draft(shape());
    Rig rig(shape(), {}, {.max = 4, .adaptive = false}, &draft);
    rig.add({.tokens = {1, 2, 3},
             .sampling = {.temperature = 1, .seed = 3},
             .max_tokens = 21,
             .ignore_eos = true});
    rig.run();
    const FinishEvent& f = rig.answer(1).finish.at(0);
    EXPECT_EQ(f.n_generated, 21);
    EXPECT_EQ(f.n_drafted, f.n_draft_accepted);
    EXPECT_EQ(rig.runner.n_runs, 1 + 20 / 5);
}

TEST(Speculation, ARequestMayHaveNone) {
    FakeRunner draft(shape());
    Rig rig(shape(), {}, always(4), &draft);
    rig.add({.tokens = {1, 2, 3}, .max_tokens = 9, .max_drafts = 0});
    rig.run();
    EXPECT_EQ(rig.loop.stats().n_drafted, 0);
    EXPECT_EQ(rig.runner.n_runs, 9);
    EXPECT_EQ(draft.n_runs, 0);
}

// Not only the same with the same seed: with other seeds each token is as likely as without drafts.
TEST(Speculation, TheDistributionIsTheModels) {
    constexpr int n_runs = 4000;
    const auto count = [](uint64_t first_seed, bool drafts) {
        FakeRunner draft(shape());
        draft.differs_every = 2;
        std::array<int, n_letters * n_letters> pairs{};
        for (int i = 0; i < n_runs; ++i) {
            Rig rig(shape(), {}, {.max = 3, .adaptive = false}, drafts ? &draft : nullptr);
            rig.add({.tokens = {1, 2},
                     .sampling = {.temperature = 0.8f, .seed = first_seed + static_cast<uint64_t>(i)},
                     .max_tokens = 3});
            rig.run();
            const std::vector<int32_t>& ids = rig.answer(1).ids;
            ++pairs[static_cast<size_t>(ids.at(1) * n_letters + ids.at(2))];
        }
        return pairs;
    };
    const auto with = count(1, true), without = count(1 + n_runs, false);
    double chi_squared = 0;
    int n_cells = 0;
    for (size_t i = 0; i < with.size(); ++i) {
        const double sum = with[i] + without[i], difference = with[i] - without[i];
        if (sum < 10) continue;
        chi_squared += difference * difference / sum;
        ++n_cells;
    }
    ASSERT_GT(n_cells, 40);
    EXPECT_LT(chi_squared, n_cells + 5 * std::sqrt(2.0 * n_cells));
}

// What was computed behind a wrong draft is not what others find in the cache.
TEST(Speculation, CachedPrefixesHoldNoDraft) {
    for (uint32_t seed = 0; seed < 20; ++seed) {
        std::mt19937 rng(seed);
        Request r{.tokens = {1, 2, 3}, .sampling = {.seed = seed}, .max_tokens = 20};
        const std::vector<int32_t> text = alone(r, 0).ids;
        r.prediction = nearly(text, rng);
        Rig rig(shape(), {}, always(6));
        rig.add(r);
        rig.run();
        Request next{.tokens = {1, 2, 3}, .sampling = {.seed = seed}, .max_tokens = 10};
        next.tokens.insert(next.tokens.end(), text.begin(), text.end());
        const RequestId id = rig.add(next);
        rig.run();
        EXPECT_EQ(rig.answer(id).ids, alone(next, 0).ids);
        EXPECT_GT(rig.answer(id).finish.at(0).n_cached_prompt, 15);
    }
}

// A draft model that fails costs drafts, never an answer.
TEST(Speculation, AnswersOutliveTheDraftModel) {
    for (const bool late : {false, true}) {
        FakeRunner draft(shape());
        draft.fail_at_run = 3;
        draft.fails_late = late;
        Rig rig(shape(), {}, always(3), &draft);
        Request r{.tokens = {1, 2, 3}, .sampling = {.seed = 4}, .max_tokens = 20, .ignore_eos = true};
        const RequestId id = rig.add(r), second = rig.add(r);
        rig.run();
        expect_equal(rig, id, r);
        expect_equal(rig, second, r);
    }
}

}  // namespace
}  // namespace smelt
