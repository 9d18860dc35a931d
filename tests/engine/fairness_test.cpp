// Clients share steps, seats, blocks and the queue, whatever one of them asks for.
#include <gtest/gtest.h>

#include <array>
#include <climits>
#include <thread>

#include "engine/engine.h"
#include "engine/step_rig.h"

namespace smelt {
namespace {

std::vector<int32_t> ids_from(size_t n, int first = 0) {
    std::vector<int32_t> ids(n);
    for (size_t i = 0; i < n; ++i) ids[i] = (first + static_cast<int32_t>(i)) % 50;
    return ids;
}

constexpr RunnerShape shape{.n_blocks = 1000, .block_len = 4, .vocab_size = 50, .n_ctx = 200};

TEST(Fairness, AFloodOfOneClientDoesNotDelayAnother) {
    Rig rig(shape, {.max_seqs = 4, .max_batch_tokens = 16, .prefill_chunk = 8});
    for (int i = 0; i < 60; ++i)
        rig.add({.tokens = ids_from(40, i), .max_tokens = 30, .client = 1, .cache_salt = 1});
    for (int i = 0; i < 20; ++i) rig.step();
    const int before = rig.n_steps;
    const RequestId other = rig.add({.tokens = ids_from(12, 7), .max_tokens = 10, .client = 2});
    rig.run();
    EXPECT_LE(rig.answer(other).first_step, before + 4);
    EXPECT_LE(rig.answer(other).last_step, before + 14);
    EXPECT_EQ(rig.finished.size(), 61u);
}

// One request of many answers holds every seat.
TEST(Fairness, SeatsAreGivenUpToAClientThatHasFewer) {
    Rig rig(shape, {.max_seqs = 8, .max_batch_tokens = 32});
    const RequestId many = rig.add({.tokens = ids_from(10), .max_tokens = 150, .client = 1, .n = 8});
    rig.add({.tokens = ids_from(10, 3), .max_tokens = 150, .client = 1, .n = 8});
    for (int i = 0; i < 10; ++i) rig.step();
    const int before = rig.n_steps;
    const RequestId one = rig.add({.tokens = ids_from(10, 20), .max_tokens = 5, .client = 2});
    const RequestId four = rig.add({.tokens = ids_from(10, 30), .max_tokens = 5, .client = 3, .n = 3});
    rig.run();
    EXPECT_LE(rig.answer(one).last_step, before + 8);
    for (int i = 0; i < 3; ++i) EXPECT_LE(rig.answer(four, i).last_step, before + 16);
    for (int i = 0; i < 8; ++i) EXPECT_EQ(rig.answer(many, i).ids.size(), 150u);
}

// Two long contexts hold nearly all blocks.
TEST(Fairness, BlocksAreGivenUpToAClientThatHasFewer) {
    RunnerShape small = shape;
    small.n_blocks = 60;
    Rig rig(small, {.max_seqs = 4, .max_batch_tokens = 64, .prefill_chunk = 32});
    for (int i = 0; i < 2; ++i) rig.add({.tokens = ids_from(110, i), .max_tokens = 80, .client = 1});
    for (int i = 0; i < 10; ++i) rig.step();
    const int before = rig.n_steps;
    const RequestId other = rig.add({.tokens = ids_from(40, 20), .max_tokens = 5, .client = 2});
    rig.run();
    EXPECT_LE(rig.answer(other).last_step, before + 10);
    EXPECT_EQ(rig.finished.size(), 3u);
}

// Who asks again and again, one request at a time, does not keep a long one from ever ending.
TEST(Fairness, AStreamOfSmallRequestsDoesNotStarveALargeOne) {
    RunnerShape small = shape;
    small.n_blocks = 60;
    Rig rig(small, {.max_seqs = 4, .max_batch_tokens = 64, .prefill_chunk = 32});
    const RequestId large = rig.add({.tokens = ids_from(150), .max_tokens = 40, .client = 1});
    int n_small = 0;
    while (rig.answer(large).finish.empty()) {
        if (rig.loop.stats().n_queued == 0 && rig.loop.stats().n_running < 2) {
            rig.add({.tokens = ids_from(90, ++n_small), .max_tokens = 20, .client = 2});
        }
        rig.step();
        ASSERT_LT(rig.n_steps, 400);
    }
    EXPECT_GT(n_small, 2);
}

TEST(Fairness, AClientsQuestionGoesBeforeItsBatch) {
    Rig rig(shape, {.max_seqs = 16, .max_batch_tokens = 32, .prefill_chunk = 16});
    for (int i = 0; i < 16; ++i) {
        rig.add({.tokens = ids_from(150, i), .max_tokens = 1, .client = 1, .batch = true, .cache_salt = 1});
    }
    for (int i = 0; i < 3; ++i) rig.step();
    const int before = rig.n_steps;
    const RequestId question = rig.add({.tokens = ids_from(20, 5), .max_tokens = 4, .client = 1});
    rig.run();
    EXPECT_LE(rig.answer(question).first_step, before + 3);
    EXPECT_EQ(rig.finished.size(), 17u);
}

TEST(Fairness, EqualClientsGetEqualShares) {
    Rig rig(shape, {.max_seqs = 6, .max_batch_tokens = 24, .prefill_chunk = 12});
    std::array<int, 3> n_done{};
    for (int i = 0; i < 90; ++i) {
        // The first asks for all it wants before the others come.
        rig.add({.tokens = ids_from(20, i),
                 .max_tokens = 10,
                 .client = static_cast<uint64_t>(1 + i / 30),
                 .cache_salt = static_cast<uint64_t>(i)});
    }
    while (rig.finished.size() < 45) rig.step();
    for (const RequestId id : rig.finished) ++n_done[(id - 1) / 30];
    for (const int n : n_done) EXPECT_NEAR(n, 15, 4);
    rig.run();
}

TEST(Fairness, AClientGetsThreeQuartersOfTheQueue) {
    auto runner = std::make_unique<FakeRunner>(shape);
    Engine engine(std::move(runner), {.scheduler = {.max_seqs = 1}, .max_queue = 16});
    const auto submit = [&](uint64_t client) {
        Request r{.tokens = ids_from(20), .max_tokens = 150, .client = client, .n = 1};
        r.sink = [](const Event&) { std::this_thread::sleep_for(std::chrono::milliseconds(2)); };
        return std::holds_alternative<RequestId>(engine.submit(std::move(r)));
    };
    int n_first = 0;
    for (int i = 0; i < 40; ++i) n_first += submit(1) ? 1 : 0;
    EXPECT_GE(n_first, 12);
    EXPECT_LE(n_first, 14);  // one or two have begun meanwhile
    EXPECT_TRUE(submit(2));
    EXPECT_TRUE(submit(3));
    engine.stop();
}

std::shared_ptr<TokenGrammar> letters_grammar() {
    static const std::vector<std::string> texts = [] {
        std::vector<std::string> t;
        for (int i = 0; i < 50; ++i) t.push_back(std::string(1, static_cast<char>('A' + i)));
        return t;
    }();
    std::vector<TokenText> tokens;
    for (const std::string& t : texts) tokens.push_back({.bytes = t});
    auto grammar = compile_grammar(GrammarSpec::regex("[A-Z]{30}"));
    auto made = TokenGrammar::make(std::get<Grammar>(std::move(grammar)), make_token_trie(tokens));
    return std::get<std::shared_ptr<TokenGrammar>>(std::move(made));
}

// With no time for grammars at all, each step asks one, in turns; answers without one get a token a step.
TEST(Fairness, SlowGrammarsWaitForEachOther) {
    Rig rig(shape, {.max_seqs = 8, .max_batch_tokens = 64, .max_grammar = 0});
    const auto grammar = letters_grammar();
    std::vector<RequestId> held;
    for (int i = 0; i < 5; ++i) {
        held.push_back(rig.add({.tokens = ids_from(5, i), .max_tokens = 30, .grammar = grammar}));
    }
    const RequestId free = rig.add({.tokens = ids_from(5, 9), .max_tokens = 60});
    rig.run();
    EXPECT_EQ(rig.answer(free).last_step - rig.answer(free).first_step, 59);
    int first = INT_MAX, last = 0;
    for (const RequestId id : held) {
        ASSERT_EQ(rig.answer(id).ids.size(), 30u);
        for (const int32_t t : rig.answer(id).ids) EXPECT_LT(t, 26);
        first = std::min(first, rig.answer(id).last_step);
        last = std::max(last, rig.answer(id).last_step);
    }
    EXPECT_LE(last - first, 10);  // none waited for all of another
}

}  // namespace
}  // namespace smelt
