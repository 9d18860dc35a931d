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
          logits_(folder_),
          backend_(open()),
          model_(load_model(open_model(folder_), *backend_)) {}

    static std::unique_ptr<Backend> open() {
        auto device = make_backend(GetParam().backend);
        if (GetParam().backend != "cpu" && GetParam().backend != "cuda") return device;
        return std::make_unique<FloatWeights>(std::move(device));
    }

    std::filesystem::path folder_;
    GoldenFile golden_;
    GoldenLogits logits_;
    std::unique_ptr<Backend> backend_;
    std::unique_ptr<Model> model_;
};

TEST_P(Golden, LogitsAgreeHoweverThePromptIsFed) {
    for (const size_t k : {0, 1, 2}) {
        const std::vector<int32_t> ids = golden_.ints("ids_" + std::to_string(k));
        for (const int chunk : {0, 1, 7, 64}) {
            ASSERT_TRUE(logits_.near(forward_logits(*model_, *backend_, ids, chunk), k))
                << "chunks of " << chunk;
        }
    }
}

TEST_P(Golden, GreedyContinuationIsTheSame) {
    for (const std::string k : {"0", "1", "2"}) {
        const std::vector<int32_t> ids = golden_.ints("ids_" + k), greedy = golden_.ints("greedy_" + k);
        SequenceRunner sequence(*model_, *backend_, static_cast<int>(ids.size() + greedy.size()),
                                {Format::F32, Format::F32});
        auto logits = sequence.feed(ids, SequenceRunner::Logits::last);
        for (const int32_t expected : greedy) {
            ASSERT_EQ(std::max_element(logits.begin(), logits.end()) - logits.begin(), expected)
                << "prompt " << k;
            logits = sequence.feed({&expected, 1}, SequenceRunner::Logits::last);
        }
    }
}

// The three prompts as sequences of one cache: chunks of different lengths in the same steps, blocks by
// turns.
TEST_P(Golden, LogitsAgreeWithOtherSequencesInTheBatch) {
    constexpr size_t n_seqs = 3;
    constexpr int block_len = 16, chunks[n_seqs] = {2, 5, 23};
    std::vector<std::vector<int32_t>> ids;
    std::vector<std::vector<float>> got(n_seqs);
    size_t longest = 0;
    for (const std::string k : {"0", "1", "2"}) {
        ids.push_back(golden_.ints("ids_" + k));
        longest = std::max(longest, ids.back().size());
    }
    const int max_blocks = static_cast<int>(longest) / block_len + 1;
    DeviceRunner runner(*model_, *backend_,
                        {.n_ctx = static_cast<int>(longest),
                         .n_blocks = static_cast<int>(n_seqs) * max_blocks,
                         .block_len = block_len,
                         .kv = {Format::F32, Format::F32}});
    const auto vocab = static_cast<size_t>(model_->config().vocab_size);
    std::vector<size_t> fed(n_seqs);
    while (fed != std::vector<size_t>{ids[0].size(), ids[1].size(), ids[2].size()}) {
        Batch batch;
        batch.all_logits = true;
        std::vector<size_t> owner;  // of each token
        for (size_t s = 0; s < n_seqs; ++s) {
            const size_t end = std::min(ids[s].size(), fed[s] + static_cast<size_t>(chunks[s]));
            if (fed[s] == end) continue;
            std::vector<int32_t> blocks;
            for (int i = 0; i < max_blocks; ++i) {
                blocks.push_back(static_cast<int32_t>(s) + static_cast<int32_t>(n_seqs) * i);
            }
            batch.add_sequence(std::span(ids[s]).subspan(fed[s], end - fed[s]), static_cast<int>(fed[s]),
                               blocks, block_len);
            for (; fed[s] < end; ++fed[s]) {
                batch.logits_rows.push_back(static_cast<int32_t>(owner.size()));
                owner.push_back(s);
            }
        }
        runner.launch(batch);
        const std::span<const float> logits = runner.collect().logits;
        for (size_t t = 0; t < owner.size(); ++t) {
            const auto row = logits.begin() + static_cast<ptrdiff_t>(t * vocab);
            got[owner[t]].insert(got[owner[t]].end(), row, row + static_cast<ptrdiff_t>(vocab));
        }
    }
    for (size_t s = 0; s < n_seqs; ++s) {
        SCOPED_TRACE(s);
        EXPECT_TRUE(logits_.near(got[s], s));
        // Not only near: what the sequence gets alone, to the last bit.
        EXPECT_EQ(got[s], forward_logits(*model_, *backend_, ids[s]));
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
        const auto model = load_model(open_model(folder / name), *backend_);
        for (const size_t k : {0, 1, 2}) {
            const std::vector<int32_t> ids = golden_.ints("ids_" + std::to_string(k));
            EXPECT_TRUE(logits_.near(forward_logits(*model, *backend_, ids), k)) << name;
        }
    }
    std::filesystem::remove_all(folder);
}

INSTANTIATE_TEST_SUITE_P(All, Golden, testing::ValuesIn(list_cases()), [](const auto& test) {
    std::string name = test.param.model + "_" + test.param.backend;
    std::replace_if(
        name.begin(), name.end(), [](char c) { return c == '-' || c == '.'; }, '_');
    return name;
});

}  // namespace
}  // namespace smelt
