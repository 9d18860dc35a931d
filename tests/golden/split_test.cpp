// One model on two devices: layers here and there, experts elsewhere. Against the reference implementation,
// and bit for bit against itself however the prompt is fed.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "backend/device_map.h"
#include "engine/forward.h"
#include "golden/golden_file.h"

namespace smelt {
namespace {

struct Case {
    std::string model, map;
};

std::vector<Case> list_cases() {
    std::vector<Case> cases;
    bool metal = false;
    for (const BackendInfo& b : list_backends()) metal = metal || (b.name == "metal" && b.missing.empty());
    for (const auto& entry : std::filesystem::directory_iterator(SMELT_TEST_DATA "/goldens")) {
        if (!entry.is_directory()) continue;
        const std::string model = entry.path().filename();
        cases.push_back({model, "reference,1=cpu"});
        cases.push_back({model, "0-1=cpu,2-=reference"});
        if (metal) cases.push_back({model, "metal,1=cpu"});
        const auto file = open_model(entry.path());
        const std::string key = *file->metadata.get_string("general.architecture") + ".expert_count";
        if (file->metadata.find(key) != nullptr) cases.push_back({model, "reference,experts=cpu"});
    }
    return cases;
}

class Split : public testing::TestWithParam<Case> {
 protected:
    Split()
        : folder_(std::filesystem::path(SMELT_TEST_DATA "/goldens") / GetParam().model),
          backend_(std::make_unique<FloatWeights>(make_backend(GetParam().map, {.n_threads = 2}))),
          model_(load_model(open_model(folder_), *backend_)) {}

    std::filesystem::path folder_;
    std::unique_ptr<Backend> backend_;
    std::unique_ptr<Model> model_;
};

TEST_P(Split, LogitsAgreeHoweverThePromptIsFed) {
    const GoldenFile golden(folder_ / "golden.safetensors");
    const GoldenLogits logits(folder_);
    for (const size_t k : {0, 1}) {
        const std::vector<int32_t> ids = golden.ints("ids_" + std::to_string(k));
        const std::vector<float> got = forward_logits(*model_, *backend_, ids);
        ASSERT_TRUE(logits.near(got, k));
        for (const int chunk : {1, 7}) {
            EXPECT_EQ(forward_logits(*model_, *backend_, ids, chunk), got) << "chunks of " << chunk;
        }
    }
}

INSTANTIATE_TEST_SUITE_P(All, Split, testing::ValuesIn(list_cases()), [](const auto& test) {
    std::string name = test.param.model + "_" + test.param.map;
    std::ranges::replace_if(
        name, [](char c) { return !std::isalnum(c); }, '_');
    return name;
});

// Where both sides are the same device, the borders must leave no trace.
TEST(SplitBackend, CopiesAreExact) {
    const std::vector<int32_t> ids = {5, 17, 3, 200, 41, 99, 7};
    for (const char* name : {"qwen3", "qwen3-moe", "gpt-oss"}) {
        const auto file = open_model(std::filesystem::path(SMELT_TEST_DATA "/goldens") / name);
        const auto whole = make_backend("cpu", {.n_threads = 2});
        const auto expected = forward_logits(*load_model(file, *whole), *whole, ids);
        // "auto" is the CPU too, but a device of its own.
        for (const char* map : {"cpu,1=auto", "auto,0=cpu,2-=cpu"}) {
            const auto split = make_backend(map, {.n_threads = 2});
            EXPECT_EQ(forward_logits(*load_model(file, *split), *split, ids), expected) << name << " " << map;
        }
    }
}

// The KV blocks of each layer are copied where they lie.
TEST(SplitBackend, KvBlocksAreCopied) {
    const auto backend = make_backend("cpu,1=reference", {.n_threads = 1});
    const auto model = load_model(open_model(SMELT_TEST_DATA "/goldens/qwen3"), *backend);
    DeviceRunner runner(*model, *backend, {.n_ctx = 8, .n_blocks = 4, .block_len = 4});
    const auto step = [&](int32_t token, int position, int32_t block) {
        Batch batch;
        const int32_t blocks[] = {block, block};
        batch.add_sequence({&token, 1}, position, blocks, 4);
        batch.logits_rows = {0};
        batch.all_logits = true;
        runner.launch(batch);
        const std::span<const float> logits = runner.collect().logits;
        return std::vector<float>(logits.begin(), logits.end());
    };
    (void)step(5, 0, 1);
    const BlockCopy copy{.from = 1, .to = 3};
    runner.copy_blocks({&copy, 1});
    EXPECT_EQ(step(9, 1, 1), step(9, 1, 3));
    EXPECT_NE(step(9, 1, 1), step(9, 1, 2));
    // Out of the devices and back, as prefix files have them.
    std::vector<std::byte> bytes(runner.block_bytes().full);
    ASSERT_GT(bytes.size(), 0u);
    const std::vector<float> expected = step(9, 1, 1);
    runner.read_block(1, 0, bytes);
    runner.write_block(2, 0, bytes);
    EXPECT_EQ(step(9, 1, 2), expected);
}

TEST(DeviceMap, Entries) {
    const DeviceMap map = parse_device_map("cpu,0-11=reference,15=reference,20-=auto,experts=cpu");
    EXPECT_EQ(map.rest, "cpu");
    ASSERT_EQ(map.entries.size(), 4u);
    EXPECT_EQ(map.entries[0].last_layer, 11);
    EXPECT_EQ(map.entries[1].first_layer, 15);
    EXPECT_EQ(map.entries[1].last_layer, 15);
    EXPECT_GT(map.entries[2].last_layer, 1'000'000);
    EXPECT_TRUE(map.entries[3].experts);
    EXPECT_EQ(parse_device_map("3=cpu").rest, "auto");
}

TEST(DeviceMap, WrongEntriesAreNamed) {
    const auto error = [](const std::string& map, const std::string& model) -> std::string {
        try {
            const auto backend = make_backend(map);
            const auto loaded =
                load_model(open_model(std::filesystem::path(SMELT_TEST_DATA "/goldens") / model), *backend);
            const std::vector<int32_t> ids = {1};
            (void)forward_logits(*loaded, *backend, ids);
            return {};
        } catch (const Error& e) {
            return e.what();
        }
    };
    for (const auto& [map, text] :
         {std::pair("cpu,x=cpu", "x=cpu: expected a layer, FIRST-LAST, FIRST- or experts before the ="),
          std::pair("cpu,5-3=cpu", "5-3=cpu: expected a layer"),
          std::pair("cpu,-3=cpu", "-3=cpu: expected a layer"),
          std::pair("cpu,1=", "expected DEVICE, LAYERS=DEVICE"), std::pair("cpu,,1=cpu", "expected DEVICE"),
          std::pair("cpu,reference", "reference: the rest has the device cpu already"),
          std::pair("cpu,0-4=cpu,2=reference",
                    "0-4=cpu and 2=reference give the same weights to two devices"),
          std::pair("cpu,1=tpu", "device tpu: expected one of"),
          std::pair("cpu,40-50=reference", "40-50=reference: the model has no such layers"),
          std::pair("cpu,experts=reference", "experts=reference: the model has no such weights")}) {
        EXPECT_NE(error(map, "qwen3").find(text), std::string::npos) << map << ": " << error(map, "qwen3");
    }
}

}  // namespace
}  // namespace smelt
