// What a trace makes of the timings that devices hand it: events, sums, bounds.
#include "backend/trace.h"

#include <gtest/gtest.h>

#include "backend/backend.h"

namespace smelt {
namespace {

Record two_ops() {
    Record r(StepShape{.n_tokens = 4});
    const Tensor x = r.take(DType::F32, RowsOf::tokens, {4, 8}),
                 y = r.take(DType::F32, RowsOf::tokens, {4, 8});
    r.add(op::Add{x, y});
    r.add(op::Gelu{x, x});
    return r;
}

TEST(Trace, StagesOfAnOpAreOneEvent) {
    Trace trace;
    const int stream = trace.add_stream("here");
    const std::vector<Trace::Timing> timings = {{0, 1, 2}, {0, 2, 4}, {1, 4, 5}};
    trace.add_step(stream, two_ops(), {.n_tokens = 3}, timings);
    trace.add_step(stream, two_ops(), {.n_tokens = 3}, timings);
    const Trace::Contents c = trace.take();
    ASSERT_EQ(c.events.size(), 4u);
    EXPECT_EQ(c.streams, std::vector<std::string>{"here"});
    ASSERT_EQ(c.texts.size(), 2u);
    EXPECT_EQ(c.texts[0].name, "Add");
    EXPECT_EQ(c.texts[0].shape, print_op(two_ops().ops()[0]));
    EXPECT_EQ(c.events[0].begin, 1);
    EXPECT_EQ(c.events[0].end, 4);
    EXPECT_EQ(c.events[1].step, 0);
    EXPECT_EQ(c.events[2].step, 1);
    EXPECT_EQ(c.events[0].n_tokens, 3);
    EXPECT_EQ(c.events[0].bytes, 3 * 8 * 4 * 3);  // x is read and written, y read
    EXPECT_EQ(c.sums[0].n, 2);
    EXPECT_EQ(c.sums[0].seconds, 6);
    EXPECT_EQ(c.sums[1].seconds, 2);
}

TEST(Trace, SumsHaveWhatEventsHaveNoRoomFor) {
    Trace trace(3);
    const int stream = trace.add_stream("here");
    const std::vector<Trace::Timing> timings = {{0, 1, 2}, {1, 2, 3}};
    for (int i = 0; i < 5; ++i) trace.add_step(stream, two_ops(), {.n_tokens = 1}, timings);
    const Trace::Contents c = trace.take();
    EXPECT_EQ(c.events.size(), 3u);
    EXPECT_EQ(c.n_dropped, 7u);
    EXPECT_EQ(c.sums[0].n, 5);
    EXPECT_EQ(c.sums[1].seconds, 5);
    // What is taken is gone, and there is room again.
    trace.add_step(stream, two_ops(), {.n_tokens = 1}, timings);
    const Trace::Contents next = trace.take();
    EXPECT_EQ(next.events.size(), 2u);
    EXPECT_EQ(next.n_dropped, 0u);
    EXPECT_EQ(next.streams.size(), 1u);
}

TEST(Trace, EveryDeviceHasItsOwnStreamAndEveryOp) {
    Trace trace;
    for (const char* device : {"cpu", "reference"}) {
        const auto backend = make_backend(device, {.n_threads = 2, .trace = &trace});
        const Record r = two_ops();
        const auto program = backend->compile(r);
        StepInput input;
        input.reset(r.shape());
        input.counts() = {.n_tokens = 2};
        for (int i = 0; i < 2; ++i) {
            backend->launch(*program, input);
            backend->collect();
        }
    }
    const Trace::Contents c = trace.take();
    EXPECT_EQ(c.streams.size(), 2u);
    ASSERT_EQ(c.events.size(), 8u);
    for (size_t i = 0; i < c.events.size(); ++i) {
        const Trace::Event& e = c.events[i];
        EXPECT_EQ(e.stream, i < 4 ? 0 : 1);
        EXPECT_EQ(e.step, i / 2 % 2);
        EXPECT_EQ(c.texts[static_cast<size_t>(e.text)].name, i % 2 == 0 ? "Add" : "Gelu");
        EXPECT_LE(e.begin, e.end);
        if (i % 2 == 1) {
            EXPECT_LE(c.events[i - 1].end, e.begin);
        }
    }
}

}  // namespace
}  // namespace smelt
