// Real models draft and verify: every family's text is, bit for bit, what plain decoding writes.
#include <gtest/gtest.h>

#include <filesystem>
#include <random>

#include "engine/device_runner.h"
#include "engine/step_loop.h"

namespace smelt {
namespace {

struct Told {
    std::vector<int32_t> ids;
    std::vector<float> logprobs;
    int n_drafted = 0, n_accepted = 0;
    bool operator==(const Told& other) const { return ids == other.ids && logprobs == other.logprobs; }
};

// A model on its device, with a draft model on the same.
struct Bench {
    std::unique_ptr<Backend> backend;
    std::unique_ptr<Model> model, draft;

    explicit Bench(const std::string& device, const std::string& path, const std::string& draft_path = "")
        : backend(make_backend(device)), model(load_model(open_model(path), *backend)) {
        if (!draft_path.empty()) draft = load_model(open_model(draft_path), *backend);
    }

    std::vector<Told> run(std::vector<Request> requests, const DraftOptions& drafts, bool by_model) {
        constexpr int n_ctx = 96;
        const SchedulerOptions options{.max_seqs = 4, .max_batch_tokens = 64, .prefill_chunk = 32};
        const auto runner_of = [&](const Model& m) {
            const ModelConfig& config = m.config();
            const int parts =
                config.window == 0 ? 0 : window_parts_for(config.window, default_block_len, 4, 2 * 64);
            return std::make_unique<DeviceRunner>(
                m, *backend, DeviceRunnerOptions{.n_ctx = n_ctx, .n_blocks = 16, .n_window_parts = parts});
        };
        const auto runner = runner_of(*model);
        const auto small = by_model ? runner_of(*draft) : nullptr;
        StepLoop loop(*runner, options, drafts, small.get());
        std::vector<Told> told(requests.size());
        for (size_t i = 0; i < requests.size(); ++i) {
            requests[i].sink = [&t = told[i]](const Event& event) {
                if (const auto* token = std::get_if<TokenEvent>(&event)) {
                    t.ids.push_back(token->id);
                    t.logprobs.push_back(token->logprob);
                } else {
                    const auto& finish = std::get<FinishEvent>(event);
                    EXPECT_EQ(finish.error, "");
                    t.n_drafted = finish.n_drafted;
                    t.n_accepted = finish.n_draft_accepted;
                }
            };
            EXPECT_EQ(check_request(requests[i], loop.limits()), "");
            loop.add(i + 1, std::make_shared<const Request>(requests[i]),
                     requests[i].sampling.seed.value_or(0), {});
        }
        while (!loop.idle()) {
            loop.step();
            loop.check();
        }
        return told;
    }
};

std::vector<Request> some_requests(int64_t vocab_size, int n_tokens) {
    std::vector<Request> requests;
    std::mt19937 rng(5);
    for (int i = 0; i < 3; ++i) {
        Request r{.max_tokens = n_tokens, .ignore_eos = true, .n_logprobs = 0};
        for (int t = 0; t < 9 + 5 * i; ++t)
            r.tokens.push_back(static_cast<int32_t>(rng() % static_cast<uint32_t>(vocab_size)));
        r.sampling = {.temperature = i == 2 ? 0.9f : 0.0f, .seed = 7 + static_cast<uint64_t>(i)};
        if (i == 1) r.sampling.repetition_penalty = 1.05f;
        requests.push_back(std::move(r));
    }
    return requests;
}

std::vector<std::string> golden_models() {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(SMELT_TEST_DATA "/goldens")) {
        if (!std::filesystem::exists(entry.path() / "config.json")) continue;
        names.push_back(entry.path().filename().string());
    }
    std::ranges::sort(names);
    return names;
}

class Families : public testing::TestWithParam<std::tuple<std::string, std::string>> {};

// Drafted by a prediction of the answer with mistakes, so that drafts are right and wrong in any model.
TEST_P(Families, LookingUpChangesNoToken) {
    const auto& [device, name] = GetParam();
    Bench bench(device, SMELT_TEST_DATA "/goldens/" + name);
    if (bench.model->config().recurrent) GTEST_SKIP() << "its states cannot be taken back";
    std::vector<Request> requests = some_requests(bench.model->config().vocab_size, 24);
    const std::vector<Told> plain = bench.run(requests, {}, false);
    for (size_t i = 0; i < requests.size(); ++i) {
        requests[i].prediction = plain[i].ids;
        requests[i].prediction[7] ^= 1;
        requests[i].prediction[15] ^= 1;
    }
    const DraftOptions drafts{.lookup = true, .max = 5, .min_match = 2, .adaptive = false};
    const std::vector<Told> drafted = bench.run(requests, drafts, false);
    for (size_t i = 0; i < requests.size(); ++i) {
        EXPECT_EQ(drafted[i], plain[i]);
        EXPECT_GT(drafted[i].n_accepted, 5);
        EXPECT_LT(drafted[i].n_accepted, drafted[i].n_drafted);
    }
}

INSTANTIATE_TEST_SUITE_P(Goldens, Families,
                         testing::Combine(testing::Values("cpu", "reference"),
                                          testing::ValuesIn(golden_models())),
                         [](const auto& one) {
                             std::string name = std::get<0>(one.param) + "_" + std::get<1>(one.param);
                             std::ranges::replace_if(
                                 name, [](unsigned char c) { return std::isalnum(c) == 0; }, '_');
                             return name;
                         });

class DraftModels : public testing::TestWithParam<std::string> {};

TEST_P(DraftModels, TheSmallDemoDraftsForTheLargeOne) {
    Bench bench(GetParam(), SMELT_MODELS "/demo-23m", SMELT_MODELS "/demo-5m");
    const int n = GetParam() == "cpu" ? 48 : 12;
    const std::vector<Request> requests = some_requests(bench.model->config().vocab_size, n);
    const std::vector<Told> plain = bench.run(requests, {}, false);
    for (const bool lookup : {false, true}) {
        for (const bool adaptive : {false, true}) {
            const std::vector<Told> drafted =
                bench.run(requests, {.lookup = lookup, .max = 4, .adaptive = adaptive}, true);
            for (size_t i = 0; i < requests.size(); ++i) EXPECT_EQ(drafted[i], plain[i]);
            EXPECT_TRUE(adaptive || drafted[0].n_drafted > 0);
        }
    }
}

INSTANTIATE_TEST_SUITE_P(Devices, DraftModels, testing::Values("cpu", "reference"),
                         [](const auto& one) { return one.param; });

}  // namespace
}  // namespace smelt
