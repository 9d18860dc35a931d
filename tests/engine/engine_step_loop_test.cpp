// Scheduler and step loop over a fake model: random load on a tiny KV cache, invariants after each step, and
// every text equal to the same request running alone.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <random>

#include "engine/step_rig.h"

namespace smelt {
namespace {

constexpr RunnerShape roomy{.n_blocks = 1000, .block_len = 4, .vocab_size = 50, .n_ctx = 40};

// The smallest pool that serves such load.
RunnerShape with_window(int window, const SchedulerOptions& o, RunnerShape shape = roomy) {
    if (window > 0) {
        shape.windows = {
            window, window_parts_for(window, shape.block_len, o.max_seqs, max_steps * o.max_batch_tokens)};
    }
    return shape;
}

// What the request gives with nothing else around.
std::map<std::pair<RequestId, int>, Answer> run_alone(const Request& r, RequestId id, int n_ctx,
                                                      int window = 0) {
    RunnerShape shape = roomy;
    shape.n_ctx = n_ctx;
    const int before = std::exchange(max_steps, 1);
    shape.windows = with_window(window, {}).windows;
    Rig rig(shape, {});
    max_steps = before;
    rig.add(r, id);
    rig.run();
    return rig.answers;
}

// Each test runs on a device that has one step at a time, and on one where the next step is launched before
// the tokens of this one are known. What an answer is compared with ran alone on the first.
class StepLoops : public testing::TestWithParam<int> {
 protected:
    void SetUp() override { max_steps = GetParam(); }
    void TearDown() override { max_steps = 1; }
};
INSTANTIATE_TEST_SUITE_P(, StepLoops, testing::Values(1, 2),
                         [](const auto& test) { return fmt::format("{}_under_way", test.param); });

Request random_request(std::mt19937& rng) {
    const auto below = [&](int n) { return static_cast<int>(rng() % static_cast<uint32_t>(n)); };
    Request r;
    // Few beginnings, so that prefixes meet.
    const int family = below(3);
    const int n_same = below(25);
    for (int i = 0; i < n_same; ++i) r.tokens.push_back((family * 7 + i) % 50);
    for (int i = 1 + below(8); i > 0; --i) r.tokens.push_back(below(50));
    r.max_tokens = below(12) - 1;
    r.sampling.temperature = below(3) == 0 ? 0.0f : 1.0f;
    r.sampling.top_k = below(2) == 0 ? 0 : 10;
    r.sampling.top_p = below(2) == 0 ? 1.0f : 0.8f;
    r.sampling.repetition_penalty = below(2) == 0 ? 1.0f : 1.5f;
    r.sampling.frequency_penalty = below(2) == 0 ? 0.0f : 0.5f;
    r.sampling.penalty_last_n = below(2) == 0 ? -1 : 5;
    r.sampling.seed = rng();
    for (int i = below(6); i > 0; --i) r.stop_ids.push_back(below(50));
    r.ignore_eos = below(5) == 0;
    r.min_tokens = r.max_tokens > 0 ? below(r.max_tokens) : 0;
    r.priority = below(4) - 1;
    r.n_logprobs = below(3) - 1;
    r.n_prompt_logprobs = std::max(-1, below(4) - 2);
    r.cache_salt = static_cast<uint64_t>(below(2));
    r.n = below(4) == 0 ? 1 + below(3) : 1;
    r.client = static_cast<uint64_t>(below(3));
    r.batch = below(4) == 0;
    return r;
}

TEST_P(StepLoops, RandomLoadGivesEachTextAsAlone) {
    int64_t n_preemptions = 0, n_cached = 0;
    int n_copies = 0, n_ahead = 0, n_runs = 0, n_compared = 0, n_cancelled = 0, n_scored = 0;
    std::map<FinishReason, int> reasons;
    for (uint32_t seed = 1; seed <= 18; ++seed) {
        SCOPED_TRACE(seed);
        constexpr int windows[] = {0, 7, 1};
        const int window = windows[seed % 3];
        std::mt19937 rng(seed);
        const SchedulerOptions options{.max_seqs = 5,
                                       .max_batch_tokens = 12,
                                       .prefill_chunk = 1 + static_cast<int>(seed % 12),
                                       .priority_tokens = 64};
        // 44 tokens for up to 5 sequences of up to 40.
        Rig rig(with_window(window, options, {.n_blocks = 11, .block_len = 4, .vocab_size = 50, .n_ctx = 40}),
                options);
        std::map<RequestId, Request> requests;
        while (requests.size() < 80 || !rig.loop.idle()) {
            if (requests.size() < 80 && rng() % 3 == 0) {
                Request r = random_request(rng);
                // Penalties make every step wait for the tokens before it.
                if (seed % 2 == 0) r.sampling.repetition_penalty = 1, r.sampling.frequency_penalty = 0;
                requests[rig.add(r)] = r;
            }
            if (rng() % 4 == 0 && !requests.empty()) {
                const RequestId id = 1 + rng() % requests.size();
                rng() % 3 == 0 ? rig.loop.pause(id) : rig.loop.resume(id);
                rig.loop.check();
            }
            // Whoever was paused in the end goes on.
            if (!rig.loop.can_step()) {
                for (const auto& [id, r] : requests) rig.loop.resume(id);
            }
            if (rng() % 40 == 0 && !requests.empty()) {
                rig.loop.cancel(1 + rng() % requests.size());
                rig.loop.check();
            }
            rig.step();
            ASSERT_LT(rig.n_steps, 20000) << "starvation";
            if (HasFatalFailure()) return;
        }
        EXPECT_EQ(rig.loop.stats().n_used_blocks, 0);
        for (const auto& [id, request] : requests) {
            SCOPED_TRACE(id);
            auto alone = run_alone(request, id, 40, window);
            for (int index = 0; index < request.n; ++index) {
                const Answer& a = rig.answers[{id, index}];
                Answer& b = alone[{id, index}];
                ASSERT_EQ(a.finish.size(), 1u);
                ASSERT_EQ(b.finish.size(), 1u);
                ++reasons[a.finish[0].reason];
                if (a.finish[0].reason == FinishReason::cancelled) {
                    ++n_cancelled;
                    ASSERT_LE(a.ids.size(), b.ids.size());
                    b.ids.resize(a.ids.size());
                    b.logprobs.resize(a.ids.size());
                    ASSERT_LE(a.prompt_logprobs.size(), b.prompt_logprobs.size());
                    b.prompt_logprobs.resize(a.prompt_logprobs.size());
                } else {
                    ++n_compared;
                    ASSERT_EQ(a.finish[0].reason, b.finish[0].reason);
                    ASSERT_EQ(a.finish[0].stop_id, b.finish[0].stop_id);
                    ASSERT_EQ(a.finish[0].n_generated, b.finish[0].n_generated);
                    ASSERT_EQ(a.finish[0].n_prompt, static_cast<int>(request.tokens.size()));
                }
                ASSERT_EQ(a.ids, b.ids);
                ASSERT_EQ(a.logprobs, b.logprobs);
                ASSERT_EQ(a.prompt_logprobs, b.prompt_logprobs);
                n_scored += static_cast<int>(a.prompt_logprobs.size());
            }
        }
        n_preemptions += rig.loop.stats().n_preemptions;
        n_cached += rig.loop.stats().n_cached_prompt;
        n_copies += rig.runner.n_copies;
        n_ahead += rig.runner.n_ahead;
        n_runs += rig.runner.n_runs;
    }
    EXPECT_EQ(n_ahead > n_runs / 4, max_steps == 2) << n_ahead << " of " << n_runs;
    EXPECT_GT(n_preemptions, 100);
    EXPECT_GT(n_cached, 100);
    EXPECT_GT(n_copies, 50);
    EXPECT_GT(n_compared, 500);
    EXPECT_GT(n_cancelled, 20);
    EXPECT_GT(n_scored, 1000);
    for (const FinishReason reason : {FinishReason::stop_id, FinishReason::length, FinishReason::context}) {
        EXPECT_GT(reasons[reason], 20) << to_string(reason);
    }
    EXPECT_EQ(reasons[FinishReason::error], 0);
}

std::vector<int32_t> iota_ids(int n, int32_t first = 0) {
    std::vector<int32_t> ids(static_cast<size_t>(n));
    std::iota(ids.begin(), ids.end(), first);
    return ids;
}

TEST_P(StepLoops, SecondRequestPrefillsOnlyWhatTheFirstDidNot) {
    Rig rig(roomy, {});
    rig.add({.tokens = iota_ids(30), .max_tokens = 3});
    rig.run();
    const int n_first = rig.runner.n_tokens;
    EXPECT_EQ(n_first, 32);  // the last token drawn is never computed
    const RequestId second = rig.add({.tokens = iota_ids(35), .max_tokens = 1});
    rig.run();
    EXPECT_EQ(rig.runner.n_tokens - n_first, 35 - 28);
    EXPECT_EQ(rig.answer(second).finish.at(0).n_cached_prompt, 28);
    EXPECT_EQ(rig.loop.stats().n_cached_prompt, 28);
}

// Blocks that a window has passed are given back, kept while there is room, and a prefix is used as far as
// windowed layers have its end.
TEST_P(StepLoops, WindowedLayersHoldTheWindowAlone) {
    const SchedulerOptions options{.max_seqs = 2, .max_batch_tokens = 8};
    RunnerShape shape{.n_blocks = 500, .block_len = 4, .vocab_size = 50, .n_ctx = 400};
    shape = with_window(6, options, shape);
    EXPECT_EQ(shape.windows.n_parts, 2 * 4 + 2 * max_steps);
    Rig rig(shape, options);
    rig.add({.tokens = iota_ids(30), .max_tokens = 200, .ignore_eos = true});
    rig.run();  // 57 blocks through 10 parts, which check() and the fake model watch
    EXPECT_EQ(rig.answer(1).ids.size(), 200u);

    // The end of the first answer is there, its middle is not, nor is the prompt.
    std::vector<int32_t> all = iota_ids(30);
    all.insert(all.end(), rig.answer(1).ids.begin(), rig.answer(1).ids.end());
    const auto cached = [&](size_t n) {
        const RequestId id =
            rig.add({.tokens = {all.begin(), all.begin() + static_cast<ptrdiff_t>(n)}, .max_tokens = 1});
        rig.run();
        return rig.answer(id).finish.at(0).n_cached_prompt;
    };
    EXPECT_EQ(cached(229), 228);
    EXPECT_EQ(cached(100), 0);
    EXPECT_EQ(cached(100), 96);
}

TEST_P(StepLoops, AnswersOfOneRequestShareThePrompt) {
    const Request request{.tokens = iota_ids(30), .sampling = {.seed = 7}, .max_tokens = 8, .n = 4};
    Rig rig(roomy, {});
    const RequestId id = rig.add(request);
    rig.run();
    EXPECT_EQ(rig.runner.n_tokens, 30 + 4 * 7);
    EXPECT_EQ(rig.runner.n_copies, 3);  // of the block that the prompt leaves half full
    for (int index = 0; index < 4; ++index) {
        EXPECT_EQ(rig.answer(id, index).ids.size(), 8u);
        for (int other = 0; other < index; ++other) {
            EXPECT_NE(rig.answer(id, index).ids, rig.answer(id, other).ids);
        }
    }
}

TEST_P(StepLoops, EqualRequestsAreServedInOrder) {
    Rig rig({.n_blocks = 16, .block_len = 4, .vocab_size = 50, .n_ctx = 40}, {.max_seqs = 2});
    for (int i = 0; i < 12; ++i) rig.add({.tokens = iota_ids(10, i), .max_tokens = 6});
    rig.run();
    EXPECT_TRUE(std::ranges::is_sorted(rig.finished));
}

TEST_P(StepLoops, HigherPriorityGoesFirstAndCostsTheOtherOnlyTime) {
    Rig rig(roomy, {.max_seqs = 1, .max_batch_tokens = 16});
    const Request request{.tokens = iota_ids(10), .max_tokens = 20};
    const RequestId low = rig.add(request);
    for (int i = 0; i < 5; ++i) rig.step();
    EXPECT_EQ(rig.answer(low).ids.size(), 5u);
    const RequestId high = rig.add({.tokens = iota_ids(10, 20), .max_tokens = 5, .priority = 1});
    for (int i = 0; i < max_steps; ++i) rig.step();
    EXPECT_EQ(rig.answer(high).ids.size(), 1u);
    EXPECT_EQ(rig.answer(low).ids.size(), max_steps == 1 ? 5u : 6u);
    rig.run();
    EXPECT_EQ(rig.finished, (std::vector<RequestId>{high, low}));
    EXPECT_EQ(rig.answer(low).ids, (run_alone(request, low, 40)[{low, 0}].ids));
    EXPECT_EQ(rig.answer(low).finish.at(0).n_preemptions, 1);
}

TEST_P(StepLoops, AStreamOfHigherPriorityDoesNotStarveTheOther) {
    Rig rig({.n_blocks = 8, .block_len = 4, .vocab_size = 50, .n_ctx = 30},
            {.max_seqs = 2, .max_batch_tokens = 8, .prefill_chunk = 4, .priority_tokens = 200});
    const RequestId low = rig.add({.tokens = iota_ids(10), .max_tokens = 10});
    int64_t n_high = 0;
    while (rig.answer(low).finish.empty()) {
        while (rig.loop.stats().n_queued < 3) {
            rig.add({.tokens = iota_ids(12, 20), .max_tokens = 4, .priority = 1});
            ++n_high;
        }
        rig.step();
        // 200 tokens of others' work at 2 to 8 a step, its own, and what was already running.
        ASSERT_LT(rig.n_steps, 200);
    }
    EXPECT_GT(n_high, 5);
}

TEST_P(StepLoops, LongPromptDoesNotStopDecoding) {
    Rig rig({.n_blocks = 300, .block_len = 4, .vocab_size = 50, .n_ctx = 1000},
            {.max_seqs = 4, .max_batch_tokens = 16, .prefill_chunk = 8});
    const RequestId a = rig.add({.tokens = {1}, .max_tokens = 60});
    rig.step();
    std::vector<int32_t> prompt(400);
    for (size_t i = 0; i < prompt.size(); ++i) prompt[i] = static_cast<int32_t>(i % 50);
    rig.add({.tokens = prompt, .max_tokens = 1});
    const RequestId c = rig.add({.tokens = iota_ids(20), .max_tokens = 1});
    rig.run();
    EXPECT_EQ(rig.answer(a).last_step - rig.answer(a).first_step, 59);  // a token in every step
    EXPECT_LT(rig.answer(c).first_step, 8);  // the rest of the budget is the next prompt's
}

TEST_P(StepLoops, CancelledRequestsFreeTheirBlocks) {
    Rig rig(roomy, {});
    const RequestId one = rig.add({.tokens = iota_ids(30), .n = 2});
    const RequestId two = rig.add({.tokens = iota_ids(30), .n = 3});
    rig.loop.cancel(two);
    rig.step();
    rig.step();
    rig.loop.cancel(one);
    rig.loop.flush();
    EXPECT_TRUE(rig.loop.idle());
    EXPECT_EQ(rig.loop.stats().n_used_blocks, 0);
    EXPECT_EQ(rig.answer(one, 0).finish.at(0).reason, FinishReason::cancelled);
    EXPECT_EQ(rig.answer(one, 1).finish.at(0).reason, FinishReason::cancelled);
    for (int index = 0; index < 3; ++index) {
        EXPECT_EQ(rig.answer(two, index).finish.at(0).reason, FinishReason::cancelled);
        EXPECT_EQ(rig.answer(two, index).finish.at(0).n_generated, 0);
    }
    rig.loop.cancel(one);
    rig.loop.cancel(99);
}

TEST_P(StepLoops, OneAnswerOfSeveralIsCancelled) {
    Rig rig(roomy, {});
    const RequestId id = rig.add({.tokens = iota_ids(5), .max_tokens = 9, .n = 3});
    rig.step();
    rig.loop.cancel(id, 1);
    rig.run();
    EXPECT_EQ(rig.answer(id, 1).finish.at(0).reason, FinishReason::cancelled);
    EXPECT_EQ(rig.answer(id, 1).ids.size(), 1u);
    EXPECT_EQ(rig.answer(id, 0).ids.size(), 9u);
    EXPECT_EQ(rig.answer(id, 2).ids.size(), 9u);
}

// Readers that stall: others take their seats, then their blocks, and no text changes.
TEST_P(StepLoops, PausedSequencesHinderNobodyAndGoOnWhereTheyWere) {
    const Request request{.tokens = iota_ids(9), .max_tokens = 20};
    for (const bool blocks_are_needed : {false, true}) {
        SCOPED_TRACE(blocks_are_needed);
        RunnerShape shape = roomy;
        shape.n_blocks = blocks_are_needed ? 10 : 100;  // 40 tokens
        Rig rig(shape, {.max_seqs = 1, .max_batch_tokens = 16});
        const RequestId stalled = rig.add(request);
        for (int i = 0; i < 5; ++i) rig.step();
        std::vector<int32_t> before = rig.answer(stalled).ids;
        ASSERT_FALSE(before.empty());
        rig.loop.pause(stalled);
        rig.loop.pause(stalled);
        // A step under way may bring one more token.
        if (rig.loop.can_step()) {
            EXPECT_EQ(max_steps, 2);
            rig.step();
            ASSERT_EQ(rig.answer(stalled).ids.size(), before.size() + 1);
            before = rig.answer(stalled).ids;
        }
        EXPECT_FALSE(rig.loop.can_step());
        EXPECT_FALSE(rig.loop.idle());
        EXPECT_EQ(rig.loop.stats().n_paused, 1);
        EXPECT_GT(rig.loop.stats().n_used_blocks, 0);
        const RequestId other = rig.add({.tokens = iota_ids(20, 20), .max_tokens = 15});
        while (rig.answer(other).finish.empty()) rig.step();
        EXPECT_EQ(rig.answer(stalled).ids, before);
        const int n_computed = rig.runner.n_tokens;
        rig.loop.resume(stalled);
        rig.run();
        EXPECT_EQ(rig.answer(stalled).ids, (run_alone(request, stalled, 40)[{stalled, 0}].ids));
        const int n_preemptions = rig.answer(stalled).finish.at(0).n_preemptions;
        EXPECT_EQ(n_preemptions > 0, blocks_are_needed);
        if (!blocks_are_needed) {
            EXPECT_EQ(rig.runner.n_tokens - n_computed, static_cast<int>(20 - before.size()));
        }
    }
}

TEST_P(StepLoops, PausedSequencesCanBeCancelled) {
    Rig rig(roomy, {});
    const RequestId running = rig.add({.tokens = iota_ids(9)}), waiting = rig.add({.tokens = iota_ids(9)});
    rig.loop.pause(waiting);
    rig.step();
    rig.loop.pause(running);
    rig.loop.cancel(running);
    rig.loop.cancel(waiting);
    EXPECT_TRUE(rig.loop.idle());
    EXPECT_EQ(rig.loop.stats().n_used_blocks, 0);
}

// Against the definition: the prompt's beginning as a prompt of its own, and how likely each token is there.
TEST_P(StepLoops, PromptLogprobsAreThoseOfTheNextTokens) {
    const std::vector<int32_t> ids = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5};
    Rig rig(roomy, {.max_batch_tokens = 33, .prefill_chunk = 4, .max_scored = 3});
    rig.add({.tokens = ids, .max_tokens = 0});  // is in the cache then, which must not shorten the list
    rig.run();
    const RequestId id = rig.add({.tokens = ids, .max_tokens = 2, .n_prompt_logprobs = 0, .n = 2});
    rig.run();
    EXPECT_EQ(rig.answer(id, 1).prompt_logprobs.size(), 0u);
    EXPECT_EQ(rig.answer(id, 1).ids.size(), 2u);
    const std::vector<float> scored = rig.answer(id).prompt_logprobs;
    ASSERT_EQ(scored.size(), ids.size() - 1);
    for (size_t n = 1; n < ids.size(); ++n) {
        Request r{.tokens = {ids.begin(), ids.begin() + static_cast<ptrdiff_t>(n)},
                  .max_tokens = 1,
                  .n_logprobs = 50};
        float expected = 1;
        r.sink = [&](Event event) {
            const auto* token = std::get_if<TokenEvent>(&event);
            if (token == nullptr) return;
            for (const TokenLogprob& t : token->top) {
                if (t.id == ids[n]) expected = t.logprob;
            }
        };
        rig.loop.add(1000 + n, std::make_shared<const Request>(std::move(r)), 0, {});
        rig.run();
        EXPECT_EQ(scored[n - 1], expected) << n;
    }
}

TEST_P(StepLoops, PrefixesAreSharedWithinASaltAlone) {
    Rig rig(roomy, {});
    const auto n_cached = [&](uint64_t salt) {
        const RequestId id = rig.add({.tokens = iota_ids(30), .max_tokens = 1, .cache_salt = salt});
        rig.run();
        return rig.answer(id).finish.at(0).n_cached_prompt;
    };
    for (const uint64_t salt : {uint64_t{0}, uint64_t{7}, uint64_t{1} << 62}) {
        EXPECT_EQ(n_cached(salt), 0);
        EXPECT_EQ(n_cached(salt), 28);
    }
    EXPECT_EQ(n_cached(0), 28);
}

TEST_P(StepLoops, FailedStepEndsItsSequencesAlone) {
    for (const bool late : {false, true}) {
        SCOPED_TRACE(late);
        Rig rig(roomy, {.max_seqs = 1, .max_batch_tokens = 64});
        const Request request{.tokens = iota_ids(20), .max_tokens = 5};
        const RequestId failing = rig.add(request), waiting = rig.add(request);
        rig.runner.fail_at_run = 3;
        rig.runner.fails_late = late;
        rig.run();
        EXPECT_EQ(rig.answer(failing).finish.at(0).reason, FinishReason::error);
        EXPECT_EQ(rig.answer(failing).finish.at(0).error, "device lost");
        EXPECT_EQ(rig.answer(failing).finish.at(0).failure, Failure::device);
        EXPECT_EQ(rig.answer(failing).finish.at(0).n_generated,
                  static_cast<int>(rig.answer(failing).ids.size()));
        EXPECT_EQ(rig.answer(waiting).ids, (run_alone(request, waiting, 40)[{waiting, 0}].ids));
        EXPECT_EQ(rig.loop.stats().n_failed_steps, 1);
    }
}

TEST_P(StepLoops, LogitsThatAreNotNumbersEndOneAnswer) {
    Rig rig(roomy, {});
    rig.runner.nan_id = 49;
    const RequestId bad = rig.add({.tokens = {1, 2, 49}, .max_tokens = 5});
    const RequestId good =
        rig.add({.tokens = {1, 2, 3}, .sampling = {.logit_bias = {{49, -100.0f}}}, .max_tokens = 5});
    rig.run();
    EXPECT_EQ(rig.answer(bad).finish.at(0).reason, FinishReason::error);
    EXPECT_EQ(rig.answer(bad).finish.at(0).error, "logits contain NaN");
    EXPECT_EQ(rig.answer(good).finish.at(0).reason, FinishReason::length);
}

TEST_P(StepLoops, MinTokensAndIgnoreEosHoldStopIdsBack) {
    Request r{.tokens = {1, 2, 3}, .sampling = {.seed = 1}, .max_tokens = 30};
    for (int32_t id = 0; id < 40; ++id) r.stop_ids.push_back(id);
    Rig rig(roomy, {});
    const RequestId plain = rig.add(r);
    r.min_tokens = 6;
    const RequestId late = rig.add(r);
    r.ignore_eos = true;
    const RequestId never = rig.add(r);
    rig.run();
    EXPECT_LT(rig.answer(plain).ids.size(), 6u);
    EXPECT_EQ(rig.answer(plain).finish.at(0).reason, FinishReason::stop_id);
    EXPECT_LT(rig.answer(plain).finish.at(0).stop_id, 40);
    EXPECT_GE(rig.answer(late).ids.size(), 6u);
    EXPECT_EQ(rig.answer(never).ids.size(), 30u);
    for (const int32_t id : rig.answer(never).ids) EXPECT_GE(id, 40);
}

// Also where the device would bring the likeliest token alone.
TEST_P(StepLoops, AForcedTokenIsDrawnWhateverIsLikeliest) {
    Rig rig(roomy, {});
    const RequestId greedy = rig.add({.tokens = {1, 2, 3},
                                      .sampling = {.temperature = 0},
                                      .max_tokens = 3,
                                      .thinking = {.n_tokens = 0, .is_open = true, .close = 9}});
    rig.run();
    ASSERT_EQ(rig.answer(greedy).ids.size(), 3u);
    EXPECT_EQ(rig.answer(greedy).ids[0], 9);
}

// Every thought ends in time, whoever opened it, and what comes behind is drawn as ever.
TEST_P(StepLoops, ThinkingEndsAtItsLimit) {
    const std::vector<int32_t> open = {7, 8};
    constexpr int32_t close = 9;
    Request r{.tokens = {1, 2, 3}, .sampling = {.seed = 1}, .max_tokens = 40};
    r.thinking = {.n_tokens = 5, .is_open = true, .close = close};
    // The opening mark is likely.
    for (const int32_t id : {7, 8}) r.sampling.logit_bias.emplace_back(id, 5.0f);
    Rig rig(roomy, {});
    const RequestId opened = rig.add(r);
    r.thinking.n_tokens = 0;
    const RequestId none = rig.add(r);
    r.thinking = {.n_tokens = 3, .open = open, .close = close};
    r.n = 8;
    const RequestId by_itself = rig.add(r);
    rig.run();
    const auto first_close = [&](const std::vector<int32_t>& ids) {
        return std::ranges::find(ids, close) - ids.begin();
    };
    EXPECT_LE(first_close(rig.answer(opened).ids), 5);
    EXPECT_EQ(first_close(rig.answer(none).ids), 0);
    int n_thoughts = 0, n_forced = 0;
    for (int index = 0; index < r.n; ++index) {
        const std::vector<int32_t>& ids = rig.answers[{by_itself, index}].ids;
        ASSERT_GT(ids.size(), 30u);
        int n_tokens = 0;  // over all thoughts
        bool thinks = false;
        for (size_t i = 0; i < ids.size(); ++i) {
            if (thinks && ids[i] == close) {
                thinks = false;
                n_forced += n_tokens == 3;
            } else if (thinks) {
                ++n_tokens;
            } else if (i > 0 && ids[i - 1] == open[0] && ids[i] == open[1]) {
                thinks = true;
                ++n_thoughts;
            }
        }
        EXPECT_LE(n_tokens, 3);
    }
    EXPECT_GT(n_thoughts, 2);
    EXPECT_GT(n_forced, 0);
}

TEST_P(StepLoops, PenaltiesKnowPromptFromAnswer) {
    Request r{.tokens = iota_ids(30), .sampling = {.temperature = 0}, .max_tokens = 10};
    const auto n_of_prompt = [](const Answer& a) {
        return std::ranges::count_if(a.ids, [](int32_t id) { return id < 30; });
    };
    Rig rig(roomy, {});
    r.sampling.presence_penalty = 100;
    const RequestId presence = rig.add(r);
    r.sampling = {.temperature = 0, .frequency_penalty = 100};
    const RequestId frequency = rig.add(r);
    r.sampling = {.temperature = 0, .repetition_penalty = 100};
    const RequestId repetition = rig.add(r);
    rig.run();
    for (const RequestId id : {presence, frequency}) {
        std::vector<int32_t> ids = rig.answer(id).ids;
        EXPECT_GT(n_of_prompt(rig.answer(id)), 2);
        std::ranges::sort(ids);
        EXPECT_EQ(std::ranges::adjacent_find(ids), ids.end());
    }
    EXPECT_EQ(n_of_prompt(rig.answer(repetition)), 0);
}

TEST_P(StepLoops, NoAnswerJustFillsTheCache) {
    Rig rig(roomy, {});
    const RequestId id = rig.add({.tokens = iota_ids(20), .max_tokens = 0});
    rig.run();
    EXPECT_TRUE(rig.answer(id).ids.empty());
    EXPECT_EQ(rig.answer(id).finish.at(0).reason, FinishReason::length);
    EXPECT_EQ(rig.loop.stats().n_cached_blocks, 5);
}

TEST_P(StepLoops, TheContextEndsWithItsLastToken) {
    for (const RunnerShape& shape :
         {RunnerShape{.n_blocks = 100, .block_len = 4, .vocab_size = 50, .n_ctx = 30},
          RunnerShape{.n_blocks = 6, .block_len = 5, .vocab_size = 50, .n_ctx = 1000}}) {
        Rig rig(shape, {});
        const RequestId id = rig.add({.tokens = iota_ids(29)});
        const RequestId other = rig.add({.tokens = iota_ids(3)});
        rig.run();
        EXPECT_EQ(rig.answer(id).ids.size(), 1u);
        EXPECT_EQ(rig.answer(id).finish.at(0).reason, FinishReason::context);
        EXPECT_EQ(rig.answer(other).ids.size(), 27u);
    }
}

TEST(Scheduler, ContradictingOptionsAreRefused) {
    KvCache kv(4, 4);
    EXPECT_THROW(Scheduler({.max_seqs = 0}, kv), Error);
    EXPECT_THROW(Scheduler({.max_seqs = 5000, .max_batch_tokens = 6000}, kv), Error);
    EXPECT_THROW(Scheduler({.max_batch_tokens = 1 << 30}, kv), Error);
    EXPECT_THROW(Scheduler({.max_seqs = 8, .max_batch_tokens = 8}, kv), Error);
    EXPECT_THROW(Scheduler({.prefill_chunk = 0}, kv), Error);
    EXPECT_THROW(Scheduler({.priority_tokens = 0}, kv), Error);
}

}  // namespace
}  // namespace smelt
