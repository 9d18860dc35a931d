// Embeddings of the engine: the output head is linear, so that head * embedding must be what the logits of
// the same positions are, or their mean. Logits come from the reference and know nothing of embeddings.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "engine/forward.h"
#include "engine/step_loop.h"

namespace smelt {
namespace {

class Embedding : public testing::TestWithParam<const char*> {
 protected:
    Embedding()
        : file_(open_model(std::string(SMELT_TEST_DATA "/goldens/") + GetParam())),
          backend_(make_backend("cpu")),
          model_(load_model(file_, *backend_)) {}

    std::vector<int32_t> random_ids(size_t n, uint32_t seed) const {
        std::mt19937 rng(seed);
        std::vector<int32_t> ids(n);
        for (int32_t& id : ids)
            id = static_cast<int32_t>(rng() % static_cast<uint32_t>(model_->config().vocab_size));
        return ids;
    }

    struct Ended {
        std::vector<FinishEvent> events;
        int n_tokens = 0;
    };
    // All at once, in steps of 14 tokens and chunks of 6, in a cache that may be too small for all.
    Ended run(const std::vector<Request>& requests, int n_blocks) {
        const int window = model_->config().window;
        DeviceRunner runner(*model_, *backend_,
                            {.n_ctx = 60,
                             .n_blocks = n_blocks,
                             .block_len = 4,
                             .kv = {Format::F32, Format::F32},
                             .n_window_parts = window == 0 ? 0 : window_parts_for(window, 4, 5, 2 * 14)});
        StepLoop loop(runner, {.max_seqs = 5, .max_batch_tokens = 14, .prefill_chunk = 6});
        Ended ended{.events = std::vector<FinishEvent>(requests.size())};
        for (size_t i = 0; i < requests.size(); ++i) {
            Request r = requests[i];
            r.sink = [&ended, i](Event e) {
                if (auto* f = std::get_if<FinishEvent>(&e)) {
                    ended.events[i] = std::move(*f);
                } else {
                    ++ended.n_tokens;
                }
            };
            EXPECT_EQ(check_request(r, loop.limits()), "");
            loop.add(i + 1, std::make_shared<const Request>(std::move(r)), i, Sequence::Clock::now());
        }
        while (!loop.idle()) loop.step();
        return ended;
    }

    // Row by row in double.
    std::vector<double> head_times(const std::vector<float>& hidden) const {
        const TensorView* head = file_->find("output.weight");
        const TensorView& w = head != nullptr ? *head : file_->require("token_embd.weight");
        std::vector<float> row(static_cast<size_t>(w.row_len()));
        std::vector<double> logits;
        for (int64_t r = 0; r < w.n_rows(); ++r) {
            decode_row(w.row(r), row);
            double sum = 0;
            for (size_t i = 0; i < row.size(); ++i)
                sum += static_cast<double>(row[i]) * static_cast<double>(hidden[i]);
            logits.push_back(sum);
        }
        return logits;
    }

    std::shared_ptr<const ModelFile> file_;
    std::unique_ptr<Backend> backend_;
    std::unique_ptr<Model> model_;
};

Request embed(std::vector<int32_t> ids, Pooling pooling) {
    return {.tokens = std::move(ids), .max_tokens = 0, .pooling = pooling};
}

TEST_P(Embedding, TheHeadMakesTheLogitsOfIt) {
    const auto reference = make_backend("reference");
    const auto model = load_model(file_, *reference);
    const std::vector<int32_t> ids = random_ids(23, 1);
    const std::vector<float> all = forward_logits(*model, *reference, ids);
    const size_t vocab = all.size() / ids.size();
    for (const Pooling pooling : {Pooling::last, Pooling::mean}) {
        const Ended ended = run({embed(ids, pooling)}, 20);
        EXPECT_EQ(ended.n_tokens, 0);
        EXPECT_EQ(ended.events[0].reason, FinishReason::length);
        const std::vector<float>& embedding = ended.events[0].embedding;
        ASSERT_EQ(embedding.size(), static_cast<size_t>(model_->config().dim));
        const std::vector<double> got = head_times(embedding);
        ASSERT_EQ(got.size(), vocab);
        double error = 0, scale = 0;
        for (size_t v = 0; v < vocab; ++v) {
            double expected = 0;
            const size_t first = pooling == Pooling::mean ? 0 : ids.size() - 1;
            for (size_t t = first; t < ids.size(); ++t) expected += static_cast<double>(all[t * vocab + v]);
            expected /= static_cast<double>(ids.size() - first);
            error += (got[v] - expected) * (got[v] - expected);
            scale += expected * expected;
        }
        // Rounding of weights that kernels take as 8 bits is within a hundredth.
        EXPECT_LT(std::sqrt(error / scale), 0.01) << static_cast<int>(pooling);
    }
}

// In any company, chunks or memory, to the bit as alone; and others get the bits they get without it.
TEST_P(Embedding, IsBitwiseTheSameInABatch) {
    const std::vector<Request> requests = {
        embed(random_ids(23, 1), Pooling::mean), embed(random_ids(17, 2), Pooling::last),
        Request{.tokens = random_ids(9, 3), .sampling = {.temperature = 0}, .max_tokens = 6, .n_logprobs = 0},
        embed(random_ids(23, 1), Pooling::mean)};
    const Ended together = run(requests, 60), crowded = run(requests, 14);
    EXPECT_EQ(together.n_tokens, 6);
    for (size_t i = 0; i < requests.size(); ++i) {
        const Ended alone = run({requests[i]}, 60);
        EXPECT_EQ(together.events[i].embedding, alone.events[0].embedding) << i;
        EXPECT_EQ(crowded.events[i].embedding, alone.events[0].embedding) << i;
        EXPECT_EQ(alone.events[0].embedding.empty(), requests[i].pooling == Pooling::none);
    }
}

TEST_P(Embedding, GoesWithNoAnswer) {
    const RequestLimits limits{.vocab_size = 100, .n_ctx = 50, .kv_tokens = 50, .max_seqs = 4};
    Request r = embed({1, 2}, Pooling::mean);
    r.sink = [](Event) {};
    EXPECT_EQ(check_request(r, limits), "");
    r.max_tokens = 1;
    EXPECT_TRUE(check_request(r, limits).starts_with("pooling"));
}

INSTANTIATE_TEST_SUITE_P(Families, Embedding,
                         testing::Values("qwen3", "qwen3-untied", "qwen3-moe", "llama3", "gpt2", "gpt-oss",
                                         "glm4-moe-lite"),
                         [](const auto& family) {
                             std::string name = family.param;
                             std::replace_if(
                                 name.begin(), name.end(), [](char c) { return c == '-' || c == '.'; }, '_');
                             return name;
                         });

}  // namespace
}  // namespace smelt
