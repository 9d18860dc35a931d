// Tiny random models of every architecture against the reference implementation, on every backend: all
// logits, for the whole prompt at once, in ragged chunks and token by token; and the greedy continuation.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "engine/forward.h"
#include "files/writers.h"
#include "golden/golden_file.h"

namespace smelt {
namespace {

// Of the row's largest absolute value; weights are BF16, the reference computed in float32.
constexpr float tolerance = 2e-3f;

struct Case {
    std::string model, backend;
};

std::vector<Case> list_cases() {
    std::vector<Case> cases;
    for (const auto& entry : std::filesystem::directory_iterator(SMELT_TEST_DATA "/goldens")) {
        if (!entry.is_directory()) continue;
        for (const BackendInfo& b : list_backends()) {
            if (b.missing.empty()) cases.push_back({entry.path().filename(), b.name});
        }
    }
    return cases;
}

class Golden : public testing::TestWithParam<Case> {
 protected:
    Golden()
        : folder_(std::filesystem::path(SMELT_TEST_DATA "/goldens") / GetParam().model),
          golden_(folder_ / "golden.safetensors"),
          backend_(make_backend(GetParam().backend)),
          model_(load_model(open_model(folder_), *backend_)) {}

    // The last rows of got against all rows of expected.
    void expect_close(std::span<const float> got, const std::vector<float>& expected) const {
        const auto vocab = static_cast<size_t>(model_->config().vocab_size);
        ASSERT_GE(got.size(), expected.size());
        got = got.last(expected.size());
        for (size_t row = 0; row < expected.size(); row += vocab) {
            float largest = 0, worst = 0;
            for (size_t i = row; i < row + vocab; ++i) {
                largest = std::max(largest, std::fabs(expected[i]));
                worst = std::max(worst, std::fabs(got[i] - expected[i]));
            }
            ASSERT_LE(worst, tolerance * largest) << "row " << row / vocab;
        }
    }

    std::filesystem::path folder_;
    GoldenFile golden_;
    std::unique_ptr<Backend> backend_;
    std::unique_ptr<Model> model_;
};

TEST_P(Golden, LogitsAgreeHoweverThePromptIsFed) {
    for (const std::string k : {"0", "1", "2"}) {
        const std::vector<int32_t> ids = golden_.ints("ids_" + k);
        for (const int chunk : {0, 1, 7, 64}) {
            SCOPED_TRACE("prompt " + k + ", chunks of " + std::to_string(chunk));
            expect_close(forward_logits(*model_, *backend_, ids, chunk), golden_.floats("logits_" + k));
        }
    }
}

TEST_P(Golden, GreedyContinuationIsTheSame) {
    for (const std::string k : {"0", "1", "2"}) {
        const std::vector<int32_t> ids = golden_.ints("ids_" + k), greedy = golden_.ints("greedy_" + k);
        SequenceRunner sequence(*model_, *backend_, static_cast<int>(ids.size() + greedy.size()), DType::F32);
        auto logits = sequence.feed(ids, SequenceRunner::Logits::last);
        for (const int32_t expected : greedy) {
            ASSERT_EQ(std::max_element(logits.begin(), logits.end()) - logits.begin(), expected)
                << "prompt " << k;
            logits = sequence.feed({&expected, 1}, SequenceRunner::Logits::last);
        }
    }
}

// To GGUF and from there to a Hugging Face folder, both run.
TEST_P(Golden, LogitsAgreeAfterConversion) {
    const std::filesystem::path folder = std::filesystem::path(testing::TempDir()) /
                                         ("smelt-golden-" + GetParam().model + "-" + GetParam().backend);
    std::filesystem::remove_all(folder);
    std::filesystem::create_directories(folder);
    write_gguf(*open_model(folder_), folder / "m.gguf", {}, {.n_threads = 2});
    write_hugging_face(*open_model(folder / "m.gguf"), folder / "hf", {}, {.n_threads = 2});
    for (const char* name : {"m.gguf", "hf"}) {
        SCOPED_TRACE(name);
        const auto model = load_model(open_model(folder / name), *backend_);
        for (const std::string k : {"0", "1", "2"}) {
            expect_close(forward_logits(*model, *backend_, golden_.ints("ids_" + k)),
                         golden_.floats("logits_" + k));
        }
    }
    std::filesystem::remove_all(folder);
}

INSTANTIATE_TEST_SUITE_P(All, Golden, testing::ValuesIn(list_cases()), [](const auto& test) {
    std::string name = test.param.model + "_" + test.param.backend;
    std::replace(name.begin(), name.end(), '-', '_');
    return name;
});

}  // namespace
}  // namespace smelt
