// The GPT-2 golden with its weights as torch.save writes them, made by tests/data/torch_bin: not a bit of the
// logits differs from those of the safetensors file.
#include <gtest/gtest.h>

#include <cstdlib>

#include "engine/forward.h"
#include "files/files_support.h"
#include "files/readers.h"
#include "files/tensors_support.h"
#include "golden/golden_file.h"

namespace smelt {
namespace {

class TorchBin : public testing::TestWithParam<const char*> {
 protected:
    void SetUp() override {
        if (std::system("python3 --version >/dev/null 2>&1") != 0) GTEST_SKIP() << "python3 is not here";
        fs::copy_file(golden("gpt2") / "config.json", t_.path() / "config.json");
    }

    void make(const std::string& file, const std::string& part) {
        const std::string command =
            "python3 " SMELT_TEST_DATA "/torch_bin/make_torch_bin.py " + std::string(GetParam()) + " " +
            (golden("gpt2") / "model.safetensors").string() + " " + (t_.path() / file).string() + " " + part;
        ASSERT_EQ(std::system(command.c_str()), 0) << command;
    }

    void expect_golden(const std::string& container) {
        const auto expected = open_model(golden("gpt2")), got = open_model(t_.path());
        EXPECT_EQ(got->container_version, container);
        expect_same_tensors(*expected, *got);
        EXPECT_TRUE(got->unsupported.empty()) << "the masks are no weights";
        const auto backend = make_backend("cpu");
        const auto a = load_model(expected, *backend), b = load_model(got, *backend);
        const GoldenFile golden_file(golden("gpt2") / "golden.safetensors");
        for (const char* ids : {"ids_0", "ids_1", "ids_2"}) {
            EXPECT_EQ(forward_logits(*a, *backend, golden_file.ints(ids)),
                      forward_logits(*b, *backend, golden_file.ints(ids)));
        }
    }

    TemporaryFolder t_;
};

TEST_P(TorchBin, OneFile) {
    make("pytorch_model.bin", "");
    expect_golden("pytorch_model.bin");
}

TEST_P(TorchBin, Shards) {
    std::string map;
    for (const std::string k : {"1", "2"}) {
        const std::string file = "pytorch_model-0000" + k + "-of-00002.bin";
        make(file, k + "/2");
        const MappedFile shard(t_.path() / file);
        for (const SafetensorsEntry& e : read_torch_bin(shard.bytes(), file)) {
            map += (map.empty() ? "\"" : ", \"") + e.name + "\": \"" + file + "\"";
        }
    }
    write_file(t_.path() / "pytorch_model.bin.index.json", R"({"weight_map": {)" + map + "}}");
    expect_golden("pytorch_model.bin, 2 shards");
}

INSTANTIATE_TEST_SUITE_P(Layouts, TorchBin, testing::Values("zip", "legacy"),
                         [](const auto& test) { return std::string(test.param); });

}  // namespace
}  // namespace smelt
