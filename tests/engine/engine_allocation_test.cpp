// Warm steps allocate nothing: counts every operator new of this program.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "engine/step_loop.h"

namespace {
std::atomic<int64_t> n_allocations = 0;
}

// Not inlined: compilers warn where they see one half of the pair alone.
[[gnu::noinline]] void* operator new(size_t n) {
    ++n_allocations;
    if (void* p = std::malloc(n)) return p;
    throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* p) noexcept {
    std::free(p);
}
[[gnu::noinline]] void operator delete(void* p, size_t) noexcept {
    std::free(p);
}

namespace smelt {
namespace {

// Logits that depend on the position only.
class QuietRunner : public ModelRunner {
 public:
    explicit QuietRunner(int max_steps) { shape_.max_steps = max_steps; }
    const RunnerShape& shape() const override { return shape_; }
    void launch(const Batch& batch) override {
        logits_.resize(batch.logits_rows.size() * static_cast<size_t>(shape_.vocab_size));
        for (size_t i = 0; i < logits_.size(); ++i) {
            logits_[i] = static_cast<float>((i * 7919 + static_cast<size_t>(batch.positions[0])) % 101) / 20;
        }
        std::swap(tokens_, before_);
        tokens_.resize(batch.draws.size());
        ++n_under_way_;
        for (size_t r = 0; r < tokens_.size(); ++r) {
            float logprob = 0, log_sum[2];
            const auto n = static_cast<size_t>(shape_.vocab_size);
            tokens_[r] =
                sampler_.draw(std::span(logits_).subspan(r * n, n), batch.draws[r], {}, {}, logprob, log_sum);
        }
    }
    StepResult collect() override { return {.tokens = --n_under_way_ > 0 ? before_ : tokens_}; }
    void copy_blocks(std::span<const BlockCopy>) override {}

 private:
    RunnerShape shape_{.n_blocks = 400, .block_len = 8, .vocab_size = 1000, .n_ctx = 300};
    Sampler sampler_{1000};
    std::vector<float> logits_;
    std::vector<int32_t> tokens_, before_;  // of this launch, of the one before
    int n_under_way_ = 0;
};

class Allocation : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(, Allocation, testing::Values(1, 2));

TEST_P(Allocation, WarmStepsAllocateNothing) {
    QuietRunner runner(GetParam());
    StepLoop loop(runner, {});
    int n_tokens = 0;
    const SamplingParams samplings[] = {{.temperature = 0},
                                        {},
                                        {.temperature = 0.6f, .top_k = 20, .top_p = 0.95f},
                                        {.top_p = 0.9f, .min_p = 0.01f}};
    for (RequestId id = 1; id <= 8; ++id) {
        Request r{.tokens = {static_cast<int32_t>(id), 2, 3}, .sampling = samplings[id % 4]};
        r.sink = [&](const Event& event) { n_tokens += std::holds_alternative<TokenEvent>(event); };
        loop.add(id, std::make_shared<const Request>(std::move(r)), id, {});
    }
    for (int i = 0; i < 50; ++i) loop.step();
    const int64_t before = n_allocations;
    for (int i = 0; i < 200; ++i) loop.step();
    EXPECT_EQ(n_allocations - before, 0);
    loop.flush();
    EXPECT_EQ(n_tokens, 8 * 250);
}

}  // namespace
}  // namespace smelt
