// A real model through the engine, on every backend: what one batch computes for several sequences,
// over scattered blocks and in chunks, is bit for bit what each gets alone.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>

#include "engine/forward.h"
#include "engine/step_loop.h"

namespace smelt {
namespace {

struct Where {
    std::string backend, model;
};

class EngineModel : public testing::TestWithParam<Where> {
 protected:
    EngineModel()
        : backend_(make_backend(GetParam().backend)),
          model_(load_model(open_model(SMELT_TEST_DATA "/goldens/" + GetParam().model), *backend_)) {}

    size_t vocab_size() const { return static_cast<size_t>(model_->config().vocab_size); }
    std::vector<int32_t> random_ids(size_t n, uint32_t seed) const {
        std::mt19937 rng(seed);
        std::vector<int32_t> ids(n);
        for (int32_t& id : ids) id = static_cast<int32_t>(rng() % vocab_size());
        return ids;
    }

    std::unique_ptr<Backend> backend_;
    std::unique_ptr<Model> model_;
};

TEST_P(EngineModel, ABatchOfSeveralIsBitwiseEachAlone) {
    for (const char* text : {"f16", "f32", "bf16", "q8_0", "k=fp8,v=q4_0"}) {
        const KvFormats kv = parse_kv_formats(text);
        constexpr int block_len = 4, n_blocks = 30;
        DeviceRunner runner(*model_, *backend_,
                            {.n_ctx = 64, .n_blocks = n_blocks, .block_len = block_len, .kv = kv});
        EXPECT_EQ(runner.kv_bytes(), n_blocks * kv_block_bytes(model_->config(), block_len, kv).all());
        const std::vector<std::vector<int32_t>> sequences = {random_ids(13, 1), random_ids(1, 2),
                                                             random_ids(22, 3), random_ids(8, 4)};
        // Sequence s has the blocks s, s + 4, s + 8, ...; it is fed s + 2 tokens a step, until all are
        // through.
        std::vector<std::vector<float>> got(sequences.size());
        std::vector<size_t> fed(sequences.size());
        for (;;) {
            Batch batch;
            batch.all_logits = true;
            std::vector<size_t> owner;  // of each token
            for (size_t s = 0; s < sequences.size(); ++s) {
                const size_t end = std::min(fed[s] + s + 2, sequences[s].size());
                if (fed[s] == end) continue;
                std::vector<int32_t> blocks;
                for (int i = 0; i < 7; ++i) blocks.push_back(static_cast<int32_t>(s) + 4 * i);
                batch.add_sequence(std::span(sequences[s]).subspan(fed[s], end - fed[s]),
                                   static_cast<int>(fed[s]), blocks, block_len);
                for (; fed[s] < end; ++fed[s]) {
                    batch.logits_rows.push_back(static_cast<int32_t>(owner.size()));
                    owner.push_back(s);
                }
            }
            if (owner.empty()) break;
            runner.launch(batch);
            const std::span<const float> logits = runner.collect().logits;
            ASSERT_EQ(logits.size(), owner.size() * vocab_size());
            for (size_t t = 0; t < owner.size(); ++t) {
                const auto row = logits.begin() + static_cast<ptrdiff_t>(t * vocab_size());
                got[owner[t]].insert(got[owner[t]].end(), row, row + static_cast<ptrdiff_t>(vocab_size()));
            }
        }
        for (size_t s = 0; s < sequences.size(); ++s) {
            EXPECT_EQ(got[s], forward_logits(*model_, *backend_, sequences[s], 0, kv)) << s << ", " << text;
        }
    }
}

TEST_P(EngineModel, CopiedBlocksAreInOrderAndWhole) {
    for (const Format f : kv_formats) {
        DeviceRunner runner(*model_, *backend_, {.n_ctx = 16, .n_blocks = 3, .block_len = 8, .kv = {f, f}});
        const std::vector<int32_t> ids = random_ids(9, 5);
        const auto run = [&](std::span<const int32_t> tokens, int first, const std::vector<int32_t>& blocks) {
            Batch batch;
            batch.all_logits = true;
            batch.add_sequence(tokens, first, blocks, 8);
            batch.logits_rows = {batch.n_tokens() - 1};
            runner.launch(batch);
            const std::span<const float> logits = runner.collect().logits;
            return std::vector<float>(logits.begin(), logits.end());
        };
        const std::vector<float> expected = run(ids, 0, {0, 1});
        const std::vector<BlockCopy> copies = {{0, 2}, {2, 1}};
        runner.copy_blocks(copies);
        const std::vector<float> logits = run(std::span(ids).subspan(8), 8, {1, 0});
        EXPECT_EQ(logits, expected) << to_string(f);
    }
}

TEST_P(EngineModel, AnswersUnderPreemptionAreBitwiseThoseAlone) {
    struct Answer {
        std::vector<int32_t> ids;
        std::vector<float> logprobs;
        bool operator==(const Answer&) const = default;
    };
    const auto run = [&](int n_blocks, const std::vector<Request>& requests, int64_t& n_preemptions) {
        // The crowded cache is smaller than what windowed layers would have of their own.
        const SchedulerOptions scheduling{.max_seqs = 5, .max_batch_tokens = 14, .prefill_chunk = 6};
        const int window = model_->config().window;
        const int n_parts = window == 0 ? 0 : window_parts_for(window, 4, 5, 2 * 14);
        DeviceRunner runner(*model_, *backend_,
                            {.n_ctx = 60, .n_blocks = n_blocks, .block_len = 4, .n_window_parts = n_parts});
        EXPECT_EQ(runner.shape().windows.n_parts, n_blocks > n_parts ? n_parts : 0);
        StepLoop loop(runner, scheduling);
        std::map<std::pair<RequestId, int>, Answer> answers;
        for (size_t i = 0; i < requests.size(); ++i) {
            Request r = requests[i];
            r.sink = [&](Event event) {
                if (const auto* token = std::get_if<TokenEvent>(&event)) {
                    Answer& a = answers[{token->request, token->index}];
                    a.ids.push_back(token->id);
                    a.logprobs.push_back(token->logprob);
                }
            };
            EXPECT_EQ(check_request(r, loop.limits()), "");
            loop.add(i, std::make_shared<const Request>(std::move(r)), i, {});
        }
        while (!loop.idle()) {
            loop.step();
            loop.check();
        }
        n_preemptions += loop.stats().n_preemptions;
        return answers;
    };
    std::vector<Request> requests;
    for (uint32_t i = 0; i < 8; ++i) {
        std::vector<int32_t> tokens = random_ids(9, i % 2);  // two beginnings
        tokens.push_back(static_cast<int32_t>(i));
        requests.push_back({.tokens = tokens,
                            .sampling = {.temperature = i % 3 == 0 ? 0.0f : 1.0f},
                            .max_tokens = 12,
                            .n_logprobs = 0,
                            .n = i % 4 == 0 ? 2 : 1});
    }
    int64_t n_preemptions = 0, n_none = 0;
    const auto crowded = run(13, requests, n_preemptions);
    EXPECT_GT(n_preemptions, 0);
    const auto roomy = run(200, requests, n_none);
    EXPECT_EQ(n_none, 0);
    EXPECT_EQ(crowded.size(), 10u);
    for (const auto& [key, answer] : crowded) {
        EXPECT_EQ(answer.ids.size(), 12u);
        EXPECT_EQ(answer, roomy.at(key)) << key.first;
    }
    // And the first token of each is what the plain forward pass says.
    for (size_t i = 0; i < requests.size(); i += 3) {
        const std::vector<float> logits =
            forward_logits(*model_, *backend_, requests[i].tokens, 0, KvFormats{});
        const auto last = logits.end() - static_cast<ptrdiff_t>(vocab_size());
        EXPECT_EQ(crowded.at({i, 0}).ids[0], std::max_element(last, logits.end()) - last);
    }
}

TEST_P(EngineModel, AStepThatThrewLeavesTheNextOneAlone) {
    const std::vector<int32_t> ids = random_ids(9, 6);
    SequenceRunner sequence(*model_, *backend_, 16, {});
    const auto fed = sequence.feed(ids, SequenceRunner::Logits::all);
    const std::vector<float> expected(fed.begin(), fed.end());
    // A program that is compiled and never launched, and moves the workspace: what is left when a step fails
    // before it begins.
    (void)backend_->compile(sequence.device().record({.n_tokens = 256, .n_seqs = 1, .max_blocks = 8}));
    sequence.rewind(0);
    const auto again = sequence.feed(ids, SequenceRunner::Logits::all);
    EXPECT_TRUE(std::ranges::equal(again, expected));
}

TEST_P(EngineModel, OptionsThatMakeNoSenseAreRefused) {
    EXPECT_THROW(DeviceRunner(*model_, *backend_, {.n_ctx = -1}), Error);
    EXPECT_THROW(DeviceRunner(*model_, *backend_, {.n_blocks = -1}), Error);
    EXPECT_THROW(DeviceRunner(*model_, *backend_, {.block_len = 0}), Error);
    EXPECT_THROW(DeviceRunner(*model_, *backend_, {.n_blocks = 1 << 30}), Error);
    EXPECT_THROW(DeviceRunner(*model_, *backend_, {.kv = {Format::Q4_K, Format::Q4_K}}), Error);
    EXPECT_THROW(forward_logits(*model_, *backend_, {}), Error);
    const std::vector<int32_t> ids = {0, -1};
    EXPECT_THROW(forward_logits(*model_, *backend_, ids), Error);
}

TEST_P(EngineModel, LearnedPositionsBoundTheContext) {
    const auto gpt2 = load_model(open_model(SMELT_TEST_DATA "/goldens/gpt2"), *backend_);
    ASSERT_EQ(gpt2->config().n_positions, 512);
    EXPECT_EQ(DeviceRunner(*gpt2, *backend_, {}).shape().n_ctx, 512);
    EXPECT_THROW(DeviceRunner(*gpt2, *backend_, {.n_ctx = 513}), Error);
    const std::vector<int32_t> ids(513, 7);
    EXPECT_EQ(forward_logits(*gpt2, *backend_, std::span(ids).first(512), 0).size(), 512 * vocab_size());
    EXPECT_THROW(forward_logits(*gpt2, *backend_, ids, 0), Error);
}

std::vector<Where> list_places() {
    std::vector<Where> places;
    for (const BackendInfo& b : list_backends()) {
        if (!b.missing.empty()) continue;
        for (const char* model : {"qwen3", "gpt-oss", "qwen3.5"}) places.push_back({b.name, model});
    }
    return places;
}

INSTANTIATE_TEST_SUITE_P(All, EngineModel, testing::ValuesIn(list_places()), [](const auto& test) {
    std::string name = test.param.model + "_" + test.param.backend;
    std::ranges::replace_if(
        name, [](char c) { return c == '-' || c == '.'; }, '_');
    return name;
});

}  // namespace
}  // namespace smelt
