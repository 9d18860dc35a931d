// Steps that are launched before the tokens of the step before are known: every kind of answer, alone and in
// the company of the others, has the tokens that it has on a device with one step at a time.
#include <gtest/gtest.h>

#include <random>

#include "engine/request_kinds.h"
#include "engine/step_rig.h"

namespace smelt {
namespace {

RunnerShape shape(int steps, int n_blocks = 60) {
    return {.n_blocks = n_blocks, .block_len = 4, .vocab_size = n_letters, .n_ctx = 40, .max_steps = steps};
}

Answer alone(const Request& r, int index) {
    Rig rig(shape(1, 400), {});
    rig.add(r, 1);
    rig.run();
    return rig.answer(1, index);
}

void expect_equal(Rig& rig, RequestId id, const Request& r) {
    for (int index = 0; index < r.n; ++index) {
        const Answer &a = rig.answer(id, index), b = alone(r, index);
        ASSERT_EQ(a.finish.size(), 1u);
        if (a.finish[0].reason == FinishReason::cancelled) continue;
        EXPECT_EQ(a.ids, b.ids);
        EXPECT_EQ(a.logprobs, b.logprobs);
        EXPECT_EQ(a.prompt_logprobs, b.prompt_logprobs);
        EXPECT_EQ(a.finish[0].reason, b.finish.at(0).reason);
        EXPECT_EQ(a.finish[0].n_generated, b.finish.at(0).n_generated);
    }
}

TEST(LaunchAhead, KindsThatNeedNoHostGoAheadAndTheOthersWait) {
    const auto grammar = letters("(ab|c)*");
    for (int kind = 0; kind < n_kinds; ++kind) {
        SCOPED_TRACE(kind);
        std::mt19937 rng(static_cast<uint32_t>(kind));
        int n_ahead = 0;
        for (int i = 0; i < 20; ++i) {
            Rig rig(shape(2), {.max_batch_tokens = 33, .prefill_chunk = 32});
            Request r = request_of(static_cast<Kind>(kind), rng, grammar);
            r.max_tokens = 8;
            const RequestId id = rig.add(r);
            rig.run();
            expect_equal(rig, id, r);
            n_ahead += rig.runner.n_ahead;
        }
        const bool waits_for_host = kind == penalties || kind == late_penalties || kind == beams ||
                                    kind == constrained || kind == thinking || kind == on_host;
        EXPECT_EQ(n_ahead > 0, !waits_for_host) << n_ahead;
    }
}

TEST(LaunchAhead, RandomCompanyChangesNoToken) {
    const auto grammar = letters("(ab|c)*");
    int n_ahead = 0, n_runs = 0;
    int64_t n_preemptions = 0;
    for (uint32_t seed = 1; seed <= 40; ++seed) {
        SCOPED_TRACE(seed);
        std::mt19937 rng(seed);
        Rig rig(shape(2, seed % 2 == 0 ? 60 : 30),
                {.max_seqs = 6, .max_batch_tokens = 14, .prefill_chunk = 5});
        std::map<RequestId, Request> requests;
        while (requests.size() < 40 || !rig.loop.idle()) {
            if (requests.size() < 40 && rng() % 3 == 0) {
                const auto kind = static_cast<Kind>(rng() % 4 == 0 ? rng() % n_kinds : rng() % 2);
                Request r = request_of(kind, rng, grammar);
                if (kind == beams) r.max_tokens = std::min(r.max_tokens, 4);
                r.sink = [](const Event&) {};
                if (!check_request(r, rig.loop.limits()).empty()) continue;
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
            expect_equal(rig, id, r);
        }
        n_ahead += rig.runner.n_ahead;
        n_runs += rig.runner.n_runs;
        n_preemptions += rig.loop.stats().n_preemptions;
    }
    EXPECT_GT(n_ahead, n_runs / 5) << n_runs;
    EXPECT_GT(n_preemptions, 20);
}

// The row of an answer that has ended is computed in vain, and nobody hears of it.
TEST(LaunchAhead, ATokenBeyondTheEndIsThrownAway) {
    Request r{.tokens = {1, 2, 3}, .sampling = {.seed = 5}, .max_tokens = 30};
    for (int32_t id = 0; id < n_letters; id += 3) r.stop_ids.push_back(id);
    Rig rig(shape(2), {});
    const RequestId id = rig.add(r);
    rig.run();
    expect_equal(rig, id, r);
    ASSERT_EQ(rig.answer(id).finish.at(0).reason, FinishReason::stop_id);
    EXPECT_EQ(rig.runner.n_runs, rig.answer(id).finish.at(0).n_generated + 1);
    EXPECT_EQ(rig.loop.stats().n_steps, rig.runner.n_runs);
    EXPECT_EQ(rig.loop.stats().n_generated, rig.answer(id).finish.at(0).n_generated);
    EXPECT_EQ(rig.loop.stats().n_used_blocks, 0);
    EXPECT_FALSE(rig.loop.can_step());
}

// An answer whose length is known is not computed beyond it.
TEST(LaunchAhead, NoStepIsWastedWhereTheLengthEnds) {
    Rig rig(shape(2), {});
    rig.add({.tokens = {1, 2, 3}, .max_tokens = 6});
    rig.run();
    EXPECT_EQ(rig.runner.n_runs, 6);
    EXPECT_EQ(rig.runner.n_ahead, 5);
}

}  // namespace
}  // namespace smelt
