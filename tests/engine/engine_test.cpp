// The engine's thread: many submitters, cancels, a full queue, failures, drain and stop.
#include <gtest/gtest.h>

#include <algorithm>
#include <future>
#include <map>
#include <numeric>
#include <random>

#include "engine/engine.h"
#include "engine/fake_runner.h"

namespace smelt {
namespace {

using namespace std::chrono_literals;

constexpr RunnerShape small{.n_blocks = 24, .block_len = 4, .vocab_size = 50, .n_ctx = 40};

// Where an answer goes; wait() returns its end.
struct Outbox {
    std::vector<int32_t> ids;
    std::promise<FinishEvent> end;
    std::future<FinishEvent> end_future = end.get_future();

    std::function<void(Event)> sink() {
        return [this](Event event) {
            if (auto* token = std::get_if<TokenEvent>(&event)) {
                ids.push_back(token->id);
            } else {
                end.set_value(std::get<FinishEvent>(std::move(event)));
            }
        };
    }
    FinishEvent wait() {
        if (end_future.wait_for(60s) != std::future_status::ready) throw std::runtime_error("no end");
        return end_future.get();
    }
};

// Holds the engine's thread inside a step until it is opened.
class GateRunner : public FakeRunner {
 public:
    GateRunner() : FakeRunner(small) {}
    void launch(const Batch& batch) override {
        entered.store(true);
        open.wait(false);
        FakeRunner::launch(batch);
    }
    void let_go() {
        open.store(true);
        open.notify_all();
    }
    std::atomic<bool> open = false, entered = false;
};

std::vector<int32_t> iota_ids(int n, int32_t first = 0) {
    std::vector<int32_t> ids(static_cast<size_t>(n));
    std::iota(ids.begin(), ids.end(), first);
    return ids;
}

Request request_for(Outbox& outbox, std::vector<int32_t> tokens, int max_tokens = 8) {
    return {.tokens = std::move(tokens),
            .sampling = {.seed = 5},
            .max_tokens = max_tokens,
            .sink = outbox.sink()};
}

RequestId id_of(const std::variant<RequestId, Refusal>& submitted) {
    return std::get<RequestId>(submitted);
}

std::vector<int32_t> run_alone(std::vector<int32_t> tokens, int max_tokens) {
    Engine engine(std::make_unique<FakeRunner>(small));
    Outbox outbox;
    engine.submit(request_for(outbox, std::move(tokens), max_tokens));
    outbox.wait();
    return outbox.ids;
}

TEST(Engine, ManyThreadsGetTheirOwnTexts) {
    constexpr int n_threads = 4, n_requests = 25;
    std::map<int, std::vector<int32_t>> alone;
    for (int len = 1; len <= 10; ++len) alone[len] = run_alone(iota_ids(len), 8);

    Engine engine(std::make_unique<FakeRunner>(small),
                  {.scheduler = {.max_seqs = 6, .max_batch_tokens = 16}});
    std::vector<std::thread> threads;
    std::atomic<int> n_right = 0, n_cancelled = 0;
    for (int t = 0; t < n_threads; ++t) {
        threads.emplace_back([&, t] {
            std::mt19937 rng(static_cast<uint32_t>(t));
            for (int i = 0; i < n_requests; ++i) {
                const int len = 1 + static_cast<int>(rng() % 10);
                Outbox outbox;
                const RequestId id = id_of(engine.submit(request_for(outbox, iota_ids(len))));
                if (rng() % 4 == 0) engine.cancel(id);
                engine.stats();
                const FinishEvent end = outbox.wait();
                auto expected = alone[len];
                if (end.reason == FinishReason::cancelled) {
                    ++n_cancelled;
                    expected.resize(outbox.ids.size());
                }
                n_right += outbox.ids == expected && end.request == id;
            }
        });
    }
    for (std::thread& t : threads) t.join();
    EXPECT_EQ(n_right, n_threads * n_requests);
    EXPECT_GT(n_cancelled, 0);
    engine.drain();
    const EngineStats stats = engine.stats();
    EXPECT_EQ(stats.n_queued + stats.n_running + stats.n_used_blocks, 0);
    EXPECT_EQ(stats.n_blocks, 24);
    EXPECT_GT(stats.n_cached_prompt, 0);
    EXPECT_GT(stats.n_generated, 0);
    EXPECT_TRUE(stats.draining);
}

TEST(Engine, SameSeedSameTextWhateverElseRuns) {
    const auto alone = run_alone({1, 2, 3}, 30);
    Engine engine(std::make_unique<FakeRunner>(small),
                  {.scheduler = {.max_seqs = 8, .max_batch_tokens = 20}});
    std::vector<Outbox> others(10);
    for (size_t i = 0; i < 5; ++i)
        engine.submit(request_for(others[i], iota_ids(20, static_cast<int>(i)), 15));
    Outbox outbox;
    engine.submit(request_for(outbox, {1, 2, 3}, 30));
    for (size_t i = 5; i < 10; ++i)
        engine.submit(request_for(others[i], iota_ids(20, static_cast<int>(i)), 15));
    outbox.wait();
    EXPECT_EQ(outbox.ids, alone);
    for (Outbox& o : others) o.wait();
}

TEST(Engine, WithoutASeedTextsDiffer) {
    Engine engine(std::make_unique<FakeRunner>(small));
    std::vector<Outbox> outboxes(2);
    for (Outbox& o : outboxes) {
        Request r = request_for(o, {1, 2, 3}, 30);
        r.sampling.seed.reset();
        engine.submit(std::move(r));
        o.wait();
    }
    EXPECT_NE(outboxes[0].ids, outboxes[1].ids);
}

TEST(Engine, FullQueueIsAValue) {
    auto runner = std::make_unique<GateRunner>();
    GateRunner& gate = *runner;
    std::vector<Outbox> outboxes(4);
    Engine engine(std::move(runner), {.scheduler = {.max_seqs = 1}, .max_queue = 2});
    id_of(engine.submit(request_for(outboxes[0], {1})));
    while (!gate.entered) std::this_thread::sleep_for(1ms);
    // The first counts as waiting until its step is over.
    id_of(engine.submit(request_for(outboxes[1], {2})));
    const auto refused = engine.submit(request_for(outboxes[2], {3}));
    ASSERT_TRUE(std::holds_alternative<Refusal>(refused));
    EXPECT_EQ(std::get<Refusal>(refused).kind, Refusal::Kind::queue_full);
    EXPECT_EQ(std::get<Refusal>(refused).text, "queue: expected fewer than 2 waiting requests, found 2");
    gate.let_go();
    outboxes[0].wait();
    outboxes[1].wait();
    id_of(engine.submit(request_for(outboxes[3], {4})));
    outboxes[3].wait();
}

TEST(Engine, BackgroundFillsHalfOfTheQueue) {
    auto runner = std::make_unique<GateRunner>();
    GateRunner& gate = *runner;
    std::vector<Outbox> outboxes(6);
    Engine engine(std::move(runner), {.scheduler = {.max_seqs = 1}, .max_queue = 4});
    const auto submit = [&](size_t i, int priority) {
        Request r = request_for(outboxes[i], {static_cast<int32_t>(i)});
        r.priority = priority;
        return std::holds_alternative<RequestId>(engine.submit(std::move(r)));
    };
    EXPECT_TRUE(submit(0, -1));
    while (!gate.entered) std::this_thread::sleep_for(1ms);
    EXPECT_TRUE(submit(1, -1));
    EXPECT_FALSE(submit(2, -1));
    EXPECT_TRUE(submit(3, 0));
    EXPECT_TRUE(submit(4, 0));
    EXPECT_FALSE(submit(5, 0));
    EXPECT_GT(engine.stats().step_seconds, 0);
    gate.let_go();
    for (const size_t i : {0, 1, 3, 4}) outboxes[i].wait();
}

TEST(Engine, PausedRequestsCostNothingAndGoOn) {
    Engine engine(std::make_unique<FakeRunner>(small));
    Outbox outbox;
    std::atomic<int> n_tokens = 0;
    Request r = request_for(outbox, {1, 2, 3}, 30);
    r.sink = [&, sink = outbox.sink()](Event event) {
        // From the engine's own thread, so that the pause comes before the next step.
        if (++n_tokens == 5) engine.pause(std::get<TokenEvent>(event).request);
        sink(std::move(event));
    };
    const RequestId id = id_of(engine.submit(std::move(r)));
    while (engine.stats().n_paused == 0) std::this_thread::sleep_for(1ms);
    const int64_t n_steps = engine.stats().n_steps;
    std::this_thread::sleep_for(20ms);
    EXPECT_EQ(engine.stats().n_steps, n_steps);
    EXPECT_EQ(n_tokens, 6);  // the step that was under way brought one more
    engine.resume(id);
    outbox.wait();
    EXPECT_EQ(outbox.ids, run_alone({1, 2, 3}, 30));
}

TEST(Engine, BadRequestsAreValuesThatNameTheField) {
    Engine engine(std::make_unique<FakeRunner>(small), {.scheduler = {.max_seqs = 4}});
    Outbox outbox;
    const auto refusal = [&](auto change) {
        Request r = request_for(outbox, {1, 2});
        change(r);
        const auto result = engine.submit(std::move(r));
        if (std::holds_alternative<RequestId>(result)) return std::string("accepted");
        EXPECT_EQ(std::get<Refusal>(result).kind, Refusal::Kind::bad_request);
        return std::get<Refusal>(result).text;
    };
    EXPECT_EQ(refusal([](Request& r) { r.sink = nullptr; }), "sink: expected a function, found none");
    EXPECT_EQ(refusal([](Request& r) { r.tokens.clear(); }), "tokens: expected 1 or more, found none");
    EXPECT_EQ(refusal([](Request& r) { r.tokens[1] = 50; }), "tokens[1]: expected ids 0 to 49, found 50");
    EXPECT_EQ(refusal([](Request& r) { r.tokens[0] = -1; }), "tokens[0]: expected ids 0 to 49, found -1");
    EXPECT_EQ(refusal([](Request& r) { r.tokens = iota_ids(40); }),
              "tokens: expected at most 39 so that one more fits (context 40, KV cache 96 tokens), found 40");
    EXPECT_EQ(refusal([](Request& r) { r.max_tokens = -2; }), "max_tokens: expected -1 or more, found -2");
    EXPECT_EQ(refusal([](Request& r) { r.min_tokens = -1; }), "min_tokens: expected 0 or more, found -1");
    EXPECT_EQ(refusal([](Request& r) { r.min_tokens = 9; }),
              "min_tokens: expected at most max_tokens, 8, found 9");
    EXPECT_EQ(refusal([](Request& r) {
                  r.stop_ids = {3, 77};
              }),
              "stop_ids[1]: expected ids 0 to 49, found 77");
    EXPECT_EQ(refusal([](Request& r) { r.priority = 101; }), "priority: expected -100 to 100, found 101");
    EXPECT_EQ(refusal([](Request& r) { r.n_logprobs = 1001; }),
              "n_logprobs: expected -1 to 1000, found 1001");
    EXPECT_EQ(refusal([](Request& r) { r.n = 5; }), "n: expected 1 to 4, found 5");
    EXPECT_EQ(refusal([](Request& r) { r.n = 0; }), "n: expected 1 to 4, found 0");
    EXPECT_EQ(refusal([](Request& r) { r.sampling.top_p = 2; }), "top_p: expected 0 to 1, found 2");
    EXPECT_EQ(refusal([](Request&) {}), "accepted");
    outbox.wait();
}

TEST(Engine, SurvivesTheDevice) {
    auto runner = std::make_unique<FakeRunner>(small);
    runner->fail_at_run = 2;
    Engine engine(std::move(runner));
    Outbox failing, fine;
    engine.submit(request_for(failing, {1, 2, 3}));
    const FinishEvent end = failing.wait();
    EXPECT_EQ(end.reason, FinishReason::error);
    EXPECT_EQ(end.error, "device lost");
    engine.submit(request_for(fine, {1, 2, 3}));
    EXPECT_EQ(fine.wait().reason, FinishReason::length);
    EXPECT_EQ(fine.ids, run_alone({1, 2, 3}, 8));
    EXPECT_EQ(engine.stats().n_failed_steps, 1);
}

TEST(Engine, SurvivesASinkThatThrows) {
    Engine engine(std::make_unique<FakeRunner>(small));
    Request r{.tokens = {1}, .max_tokens = 20};
    std::atomic<int> n_calls = 0;
    r.sink = [&](const Event&) {
        ++n_calls;
        throw std::runtime_error("client is gone");
    };
    engine.submit(std::move(r));
    Outbox fine;
    engine.submit(request_for(fine, {1, 2, 3}));
    EXPECT_EQ(fine.wait().reason, FinishReason::length);
    engine.drain();
    EXPECT_EQ(n_calls, 1);
    EXPECT_EQ(engine.stats().n_used_blocks, 0);
}

TEST(Engine, ASinkMayCancelAndSubmit) {
    Engine engine(std::make_unique<FakeRunner>(small));
    Outbox outbox, second;
    std::atomic<int> n_tokens = 0;
    Request r{.tokens = {1}};
    const auto end = outbox.sink();
    r.sink = [&](Event event) {
        if (auto* token = std::get_if<TokenEvent>(&event)) {
            if (++n_tokens == 3) {
                engine.cancel(token->request);
                engine.submit(request_for(second, {7}));
            }
        } else {
            end(std::move(event));
        }
    };
    engine.submit(std::move(r));
    EXPECT_EQ(outbox.wait().reason, FinishReason::cancelled);
    EXPECT_EQ(n_tokens, 4);  // honoured after the step that was under way
    EXPECT_EQ(second.wait().reason, FinishReason::length);
}

TEST(Engine, StopCancelsAndDrainFinishes) {
    {
        Engine engine(std::make_unique<FakeRunner>(small));
        std::vector<Outbox> outboxes(10);
        for (Outbox& o : outboxes) engine.submit(request_for(o, {1, 2}));
        engine.drain();
        for (Outbox& o : outboxes) {
            ASSERT_EQ(o.end_future.wait_for(0s), std::future_status::ready);
            EXPECT_EQ(o.wait().reason, FinishReason::length);
        }
        Outbox late;
        const auto refused = engine.submit(request_for(late, {1}));
        EXPECT_EQ(std::get<Refusal>(refused).kind, Refusal::Kind::stopped);
    }
    auto runner = std::make_unique<GateRunner>();
    GateRunner& gate = *runner;
    Engine engine(std::move(runner));
    std::vector<Outbox> outboxes(10);
    for (Outbox& o : outboxes) engine.submit(request_for(o, {1, 2}));
    while (!gate.entered) std::this_thread::sleep_for(1ms);
    std::thread stopping([&] { engine.stop(); });
    gate.let_go();
    stopping.join();
    for (Outbox& o : outboxes) {
        ASSERT_EQ(o.end_future.wait_for(0s), std::future_status::ready);
        o.wait();
    }
    engine.cancel(1);
    engine.drain();
    engine.stop();
}

TEST(Engine, TimesAndCountsAreOfThisRequest) {
    Engine engine(std::make_unique<FakeRunner>(small));
    Outbox outbox;
    const RequestId id = id_of(engine.submit(request_for(outbox, iota_ids(9))));
    const FinishEvent end = outbox.wait();
    EXPECT_EQ(end.request, id);
    EXPECT_EQ(end.n_prompt, 9);
    EXPECT_EQ(end.n_generated, 8);
    EXPECT_EQ(outbox.ids.size(), 8u);
    for (const double t : {end.queued, end.prefill, end.decode}) {
        EXPECT_GE(t, 0);
        EXPECT_LT(t, 60);
    }
}

}  // namespace
}  // namespace smelt
