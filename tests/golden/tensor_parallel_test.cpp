// Every tiny model shared by partners on the CPU: near the reference implementation, and the same bits in
// every run, however the prompt is fed and whoever else is in the batch.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "engine/forward.h"
#include "golden/golden_file.h"

namespace smelt {
namespace {

struct Case {
    std::string model;
    int partners;
};

std::vector<Case> list_cases() {
    std::vector<Case> cases;
    for (const auto& entry : std::filesystem::directory_iterator(SMELT_TEST_DATA "/goldens")) {
        if (!entry.is_directory()) continue;
        const std::string model = entry.path().filename();
        // Three KV heads are shared by two or three partners, or by six.
        for (const int n : {2, 4}) {
            if (n == 2 || model != "qwen3-untied") cases.push_back({model, n});
        }
    }
    return cases;
}

class TensorParallel : public testing::TestWithParam<Case> {
 protected:
    TensorParallel()
        : folder_(std::filesystem::path(SMELT_TEST_DATA "/goldens") / GetParam().model),
          golden_(folder_ / "golden.safetensors"),
          logits_(folder_),
          backend_(open(2)),
          model_(load_model(open_model(folder_), *backend_)) {}

    static std::unique_ptr<Backend> open(int n_threads) {
        return std::make_unique<FloatWeights>(
            make_backend("cpu", {.n_threads = n_threads, .tensor_parallel = GetParam().partners}));
    }
    std::vector<int32_t> prompt(size_t k) { return golden_.ints("ids_" + std::to_string(k)); }

    std::filesystem::path folder_;
    GoldenFile golden_;
    GoldenLogits logits_;
    std::unique_ptr<Backend> backend_;
    std::unique_ptr<Model> model_;
};

TEST_P(TensorParallel, LogitsAgreeHoweverThePromptIsFed) {
    for (const size_t k : {0, 1, 2}) {
        const std::vector<int32_t> ids = prompt(k);
        const std::vector<float> all = forward_logits(*model_, *backend_, ids);
        ASSERT_TRUE(logits_.near(all, k));
        for (const int chunk : {0, 1, 7}) {
            EXPECT_EQ(forward_logits(*model_, *backend_, ids, chunk), all) << "chunks of " << chunk;
        }
    }
}

TEST_P(TensorParallel, BitsDoNotDependOnThreads) {
    const auto other = open(3 * GetParam().partners);
    const auto model = load_model(open_model(folder_), *other);
    EXPECT_EQ(forward_logits(*model, *other, prompt(0)), forward_logits(*model_, *backend_, prompt(0)));
}

TEST_P(TensorParallel, BitsDoNotDependOnCompany) {
    constexpr int block_len = 16;
    const std::vector<std::vector<int32_t>> ids = {prompt(0), prompt(1), prompt(2)};
    size_t longest = 0, n_tokens = 0;
    for (const auto& p : ids) longest = std::max(longest, p.size());
    const int each = static_cast<int>(longest) / block_len + 1;
    DeviceRunner runner(*model_, *backend_,
                        {.n_ctx = static_cast<int>(longest),
                         .n_blocks = 3 * each,
                         .block_len = block_len,
                         .kv = {Format::F32, Format::F32}});
    Batch batch;
    batch.all_logits = true;
    for (int s = 0; s < 3; ++s) {
        std::vector<int32_t> blocks;
        for (int i = 0; i < each; ++i) blocks.push_back(s + 3 * i);
        const auto& own = ids[static_cast<size_t>(s)];
        batch.add_sequence(own, 0, blocks, block_len);
        for (size_t i = 0; i < own.size(); ++i) batch.logits_rows.push_back(static_cast<int32_t>(n_tokens++));
    }
    runner.launch(batch);
    const std::span<const float> together = runner.collect().logits;
    std::vector<float> got(together.begin(), together.end()), expected;
    for (const auto& own : ids) {
        const std::vector<float> alone = forward_logits(*model_, *backend_, own);
        expected.insert(expected.end(), alone.begin(), alone.end());
    }
    EXPECT_EQ(got, expected);
}

INSTANTIATE_TEST_SUITE_P(All, TensorParallel, testing::ValuesIn(list_cases()), [](const auto& test) {
    std::string name = test.param.model + "_" + std::to_string(test.param.partners);
    std::ranges::replace_if(
        name, [](char c) { return c == '-' || c == '.'; }, '_');
    return name;
});

// The heads of the model are named where they cannot be shared.
TEST(TensorParallelErrors, HeadsThatCannotBeShared) {
    const auto backend = make_backend("cpu", {.n_threads = 1, .tensor_parallel = 3});
    const auto model = load_model(open_model(SMELT_TEST_DATA "/goldens/qwen3"), *backend);
    const std::vector<int32_t> ids = {1};
    try {
        (void)forward_logits(*model, *backend, ids);
        FAIL() << "3 partners have " << model->config().n_kv_heads << " KV heads";
    } catch (const Error& e) {
        EXPECT_NE(std::string(e.what()).find("KV heads: expected at most as many partners"),
                  std::string::npos)
            << e.what();
    }
}

}  // namespace
}  // namespace smelt
