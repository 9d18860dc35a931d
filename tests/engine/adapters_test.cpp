// LoRA adapters at run time, on every backend: logits are those of the merged model, and what one batch
// computes with several adapters is bit for bit what each row gets alone.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <future>
#include <random>

#include "engine/device_runner.h"
#include "engine/engine.h"
#include "engine/forward.h"
#include "model/adapter_table.h"

namespace smelt {
namespace {

// The same model in F32, so that a merge rounds nothing.
std::shared_ptr<const ModelFile> in_floats(const std::string& name) {
    auto model = std::make_shared<ModelFile>(*open_model(SMELT_TEST_DATA "/goldens/" + name));
    for (TensorView& t : model->tensors) {
        const std::vector<float> values = t.decoded();
        const auto bytes = std::as_bytes(std::span(values));
        model->owned.push_back(std::make_shared<const std::vector<std::byte>>(bytes.begin(), bytes.end()));
        t.data = *model->owned.back();
        t.scales = {};
        t.format = Format::F32;
    }
    return model;
}

LowRank random_update(const TensorView& w, int64_t rank, uint32_t seed) {
    std::mt19937 random(seed);
    const auto fill = [&](int64_t n, int64_t fan_in) {
        std::vector<float> v(static_cast<size_t>(n));
        for (float& x : v)
            x = (static_cast<float>(random() >> 8) / 16777216.0f - 0.5f) /
                std::sqrt(static_cast<float>(fan_in));
        return v;
    };
    return {.tensor = w.name,
            .rank = rank,
            .scale = 0.5f,
            .a = fill(rank * w.shape[1], w.shape[1]),
            .b = fill(w.shape[0] * rank, rank)};
}

// Of every matrix that can be adapted.
Adapter random_adapter(const ModelFile& file, const Model& model, int64_t rank, uint32_t seed) {
    Adapter adapter{"adapter-" + std::to_string(seed), {}};
    for (const TensorView& t : file.tensors) {
        if (t.shape.size() == 2 && model.places().contains(t.name) &&
            t.name.find("conv1d") == std::string::npos)
            adapter.updates.push_back(
                random_update(t, rank, seed + static_cast<uint32_t>(adapter.updates.size())));
    }
    return adapter;
}

using Uses = std::vector<std::pair<int, float>>;  // number, scale

struct Part {
    std::vector<int32_t> ids;
    Uses uses = {};
};

class Adapters : public testing::TestWithParam<std::string> {
 protected:
    Adapters() : backend_(make_backend(GetParam())) {}

    // Logits of all tokens of each part, in one step.
    static std::vector<std::vector<float>> run(DeviceRunner& runner, const std::vector<Part>& parts) {
        Batch batch;
        batch.all_logits = true;
        const bool has_states = runner.shape().windows.n_parts > 0;
        for (size_t s = 0; s < parts.size(); ++s) {
            const std::vector<int32_t> blocks(1, static_cast<int32_t>(s));
            const int first = batch.n_tokens();
            batch.add_sequence(parts[s].ids, 0, blocks, runner.shape().block_len,
                               has_states ? blocks : std::vector<int32_t>());
            for (size_t i = 0; i < parts[s].uses.size(); ++i)
                batch.adapters.push_back({first, batch.n_tokens(), static_cast<int32_t>(i),
                                          parts[s].uses[i].first, parts[s].uses[i].second});
            // Without the first token of each: rows of logits have numbers of their own.
            for (int t = first + 1; t < batch.n_tokens(); ++t) batch.logits_rows.push_back(t);
        }
        runner.launch(batch);
        const std::span<const float> logits = runner.collect().logits;
        std::vector<std::vector<float>> result;
        size_t at = 0;
        for (const Part& p : parts) {
            const size_t n = (p.ids.size() - 1) * static_cast<size_t>(runner.shape().vocab_size);
            result.emplace_back(logits.begin() + static_cast<ptrdiff_t>(at),
                                logits.begin() + static_cast<ptrdiff_t>(at + n));
            at += n;
        }
        return result;
    }
    DeviceRunnerOptions options(const Model& model) const {
        return {.n_ctx = 32,
                .n_blocks = 8,
                .block_len = 32,
                .kv = {Format::F32, Format::F32},
                .n_window_parts = model.config().recurrent ? 8 : 0,
                .n_adapters = 4};
    }

    std::unique_ptr<Backend> backend_;
};

double largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
    double most = 0;
    for (size_t i = 0; i < a.size(); ++i)
        most = std::max(most, std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i])));
    return most;
}

const std::vector<int32_t> some_ids = {5, 17, 3, 44, 9, 60, 23};

TEST_P(Adapters, LogitsAreThoseOfTheMergedModel) {
    for (const char* name : {"llama3", "qwen3", "qwen3-untied", "phi3", "gpt2", "gemma3", "qwen2", "mixtral",
                             "gpt-oss", "qwen3.5", "deepseek-v3", "smollm3"}) {
        SCOPED_TRACE(name);
        const auto file = in_floats(name);
        const auto model = load_model(file, *backend_);
        const Adapter one = random_adapter(*file, *model, 4, 1), two = random_adapter(*file, *model, 7, 99);
        ASSERT_GE(one.updates.size(), 4u);
        DeviceRunner runner(*model, *backend_, options(*model));
        const std::vector<float> base = run(runner, {{some_ids}})[0];
        runner.set_adapter(1, &one);
        runner.set_adapter(3, &two);
        const auto merged_logits = [&](const Adapter* first, double f, const Adapter* second, double g) {
            auto changed = std::make_shared<const ModelFile>(merged(*file, *first, f));
            if (second != nullptr) changed = std::make_shared<const ModelFile>(merged(*changed, *second, g));
            const auto other = load_model(changed, *backend_);
            DeviceRunner plain(*other, *backend_, options(*other));
            return run(plain, {{some_ids}})[0];
        };
        const auto check = [&](const Uses& uses, const std::vector<float>& want) {
            const std::vector<float> got = run(runner, {{some_ids, uses}})[0];
            ASSERT_EQ(got.size(), want.size());
            const double moved = largest_difference(base, want);
            EXPECT_GT(moved, 1e-3);
            EXPECT_LT(largest_difference(got, want), 2e-3 * moved + 2e-5);
        };
        check({{1, 1}}, merged_logits(&one, 1, nullptr, 0));
        check({{3, 0.5f}}, merged_logits(&two, 0.5, nullptr, 0));
        check({{1, -0.25f}, {3, 1}}, merged_logits(&one, -0.25, &two, 1));
        EXPECT_EQ(run(runner, {{some_ids}})[0], base);
    }
}

TEST_P(Adapters, ABatchWithSeveralIsBitwiseEachAlone) {
    for (const char* name : {"qwen3", "phi3", "gpt-oss", "qwen3.5"}) {
        SCOPED_TRACE(name);
        const auto file = open_model(std::string(SMELT_TEST_DATA "/goldens/") + name);
        const auto model = load_model(file, *backend_);
        DeviceRunner runner(*model, *backend_, options(*model));
        const std::vector<Part> parts = {{some_ids, {{1, 1}}},
                                         {{8, 1}},
                                         {{1, 2, 3, 4}, {{2, 0.5f}, {1, 2}}},
                                         {some_ids},
                                         {{9, 9}, {{2, 1}}}};
        const std::vector<float> base = run(runner, {parts[1]})[0];
        const Adapter one = random_adapter(*file, *model, 4, 1), two = random_adapter(*file, *model, 16, 99);
        runner.set_adapter(1, &one);
        std::vector<std::vector<float>> alone = {run(runner, {parts[0]})[0]};
        runner.set_adapter(2, &two);
        // Another adapter in the table changes nothing either.
        EXPECT_EQ(run(runner, {parts[0]})[0], alone[0]);
        for (size_t i = 1; i < parts.size(); ++i) alone.push_back(run(runner, {parts[i]})[0]);
        EXPECT_EQ(alone[1], base);
        EXPECT_EQ(run(runner, parts), alone);
        EXPECT_NE(alone[0], alone[3]);
        runner.set_adapter(1, nullptr);
        EXPECT_EQ(run(runner, {parts[4]})[0], alone[4]);
        runner.set_adapter(3, &one);
        EXPECT_EQ(run(runner, {{some_ids, {{3, 1}}}})[0], alone[0]);
    }
}

std::string error_of(DeviceRunner& runner, const Adapter& adapter) {
    try {
        runner.set_adapter(1, &adapter);
        return {};
    } catch (const Error& e) {
        return e.what();
    }
}

TEST_P(Adapters, WhatCannotBeAppliedIsRefusedByName) {
    const auto file = open_model(SMELT_TEST_DATA "/goldens/qwen3.5");
    const auto model = load_model(file, *backend_);
    DeviceRunner runner(*model, *backend_, options(*model));
    const std::vector<float> base = run(runner, {{some_ids}})[0];
    Adapter adapter = random_adapter(*file, *model, 17, 1);
    EXPECT_NE(error_of(runner, adapter).find("expected a rank of 1 to 16 (--max-lora-rank), found 17"),
              std::string::npos);
    // A convolution is a matrix in the file and no product in a step; norms are in no table.
    for (const TensorView& t : file->tensors) {
        if (t.name.find("conv1d") == std::string::npos && t.name != "token_embd.weight") continue;
        TensorView w = t;
        if (w.shape.size() != 2) w.shape = {t.n_rows(), t.row_len()};
        adapter.updates = {random_update(w, 2, 1)};
        EXPECT_NE(error_of(runner, adapter).find(t.name + ": cannot be adapted while the model runs"),
                  std::string::npos)
            << error_of(runner, adapter);
    }
    EXPECT_EQ(run(runner, {{some_ids}})[0], base);
}

// Through the engine: adapters come and go while others are answered, prefixes are not shared.
TEST_P(Adapters, AnEngineAnswersWithSeveralAtOnce) {
    const auto file = open_model(SMELT_TEST_DATA "/goldens/qwen3");
    const auto model = load_model(file, *backend_);
    const auto one = std::make_shared<const Adapter>(random_adapter(*file, *model, 4, 1)),
               two = std::make_shared<const Adapter>(random_adapter(*file, *model, 4, 99));
    Engine engine(std::make_unique<DeviceRunner>(
        *model, *backend_, DeviceRunnerOptions{.n_ctx = 128, .n_blocks = 64, .block_len = 16}));
    struct Answer {
        std::promise<FinishEvent> end;
        std::vector<std::pair<int32_t, float>> tokens;  // with their log-probabilities
    };
    const auto submit = [&](std::vector<AdapterUse> uses) {
        auto answer = std::make_shared<Answer>();
        Request r;
        for (int32_t i = 0; i < 40; ++i) r.tokens.push_back(i + 3);
        r.sampling.temperature = 0;
        r.max_tokens = 24;
        r.n_logprobs = 0;
        r.adapters = std::move(uses);
        r.sink = [answer](const Event& e) {
            if (const auto* token = std::get_if<TokenEvent>(&e))
                answer->tokens.emplace_back(token->id, token->logprob);
            if (const auto* end = std::get_if<FinishEvent>(&e)) answer->end.set_value(*end);
        };
        EXPECT_TRUE(std::holds_alternative<RequestId>(engine.submit(std::move(r))));
        return answer;
    };
    const auto hold = [](int number, uint64_t hash) {
        return std::make_shared<const AdapterHold>(AdapterHold{number, hash});
    };
    const auto tokens = [&](const std::shared_ptr<Answer>& answer) {
        EXPECT_EQ(answer->end.get_future().get().reason, FinishReason::length);
        return answer->tokens;
    };
    const auto base = tokens(submit({}));
    engine.set_adapter(1, one);
    const auto first = hold(1, 11), second = hold(2, 22);
    const auto with_one = tokens(submit({{first, 1}}));
    EXPECT_NE(with_one, base);
    const auto running = submit({{first, 1}});
    engine.set_adapter(2, two);
    const auto with_two = tokens(submit({{second, 1}})), weak = tokens(submit({{second, 0.01f}}));
    EXPECT_NE(with_two, with_one);
    EXPECT_NE(with_two, weak);
    EXPECT_EQ(tokens(running), with_one);

    std::vector<std::shared_ptr<Answer>> together = {submit({{first, 1}}), submit({}), submit({{second, 1}}),
                                                     submit({{second, 0.01f}})};
    engine.set_adapter(2, two);  // the same again, while they run
    EXPECT_EQ(tokens(together[0]), with_one);
    EXPECT_EQ(tokens(together[1]), base);
    EXPECT_EQ(tokens(together[2]), with_two);
    EXPECT_EQ(tokens(together[3]), weak);

    // A number that is given to another adapter: nothing of the first one's prefixes is taken.
    engine.set_adapter(1, two);
    EXPECT_EQ(tokens(submit({{hold(1, 22), 1}})), with_two);

    Request bad;
    bad.tokens = {1, 2};
    bad.sink = [](const Event&) {};
    bad.adapters = {{hold(9, 1), 1}};
    EXPECT_TRUE(std::holds_alternative<Refusal>(engine.submit(bad)));
    bad.adapters = {{first, std::numeric_limits<float>::quiet_NaN()}};
    EXPECT_TRUE(std::holds_alternative<Refusal>(engine.submit(bad)));
    engine.stop();
    EXPECT_THROW(engine.set_adapter(1, one), Error);
}

std::vector<std::string> usable_backends() {
    std::vector<std::string> names;
    for (const BackendInfo& b : list_backends()) {
        if (b.missing.empty()) names.push_back(b.name);
    }
    return names;
}

INSTANTIATE_TEST_SUITE_P(All, Adapters, testing::ValuesIn(usable_backends()),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace smelt
