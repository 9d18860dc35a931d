// Models as onnxruntime-genai's builder exports them, made by tests/data/onnx, against the logits that
// onnxruntime computes of the same files; before and after a conversion to GGUF and to a Hugging Face folder.
#include <gtest/gtest.h>

#include "engine/forward.h"
#include "files/files_support.h"
#include "files/writers.h"
#include "golden/golden_file.h"

namespace smelt {
namespace {

struct Case {
    const char* name;
    Format matrices;
    // Of a row's largest logit. onnxruntime computes in the model's type: halves are coarse. Scales of 4-bit
    // weights are floats in the file and halves here.
    float tolerance;
};

void PrintTo(const Case& c, std::ostream* out) {
    *out << c.name;
}

class OnnxGolden : public testing::TestWithParam<Case> {
 protected:
    OnnxGolden() : folder_(fs::path(SMELT_TEST_DATA) / "onnx" / GetParam().name) {
        const Json golden = parse_json(read_file(folder_ / "logits.json"), "logits.json");
        ids_ = golden["ids"].get<std::vector<int32_t>>();
        for (const Json& row : golden["logits"]) {
            for (const Json& v : row) logits_.push_back(v.get<float>());
        }
    }

    float difference(const fs::path& path) {
        const auto model = load_model(open_model(path), backend_);
        return worst_difference(forward_logits(*model, backend_, ids_), logits_,
                                logits_.size() / ids_.size());
    }

    fs::path folder_;
    std::vector<int32_t> ids_;
    std::vector<float> logits_;
    FloatWeights backend_{make_backend("cpu")};
};

TEST_P(OnnxGolden, LogitsAreThoseOfOnnxruntime) {
    EXPECT_LT(difference(folder_ / "model.onnx"), GetParam().tolerance);
    EXPECT_LT(difference(folder_), GetParam().tolerance) << "opened by its folder";
}

TEST_P(OnnxGolden, MatricesHaveTheFilesFormat) {
    const auto model = open_model(folder_);
    EXPECT_EQ(model->container, Container::onnx);
    EXPECT_EQ(model->require("blk.1.ffn_down.weight").format, GetParam().matrices);
    EXPECT_TRUE(model->refused.empty());
    const auto listed = open_model(folder_, Weights::listed);
    ASSERT_EQ(listed->tensors.size(), model->tensors.size());
    for (size_t i = 0; i < model->tensors.size(); ++i) {
        EXPECT_EQ(listed->tensors[i].name, model->tensors[i].name);
        EXPECT_EQ(listed->tensors[i].format, model->tensors[i].format);
        EXPECT_EQ(listed->tensors[i].shape, model->tensors[i].shape);
    }
}

TEST_P(OnnxGolden, LogitsAgreeAfterConversion) {
    const TemporaryFolder t;
    const auto model = open_model(folder_);
    write_gguf(*model, t.path() / "m.gguf", {}, {.n_threads = 1});
    // GGUF has no 4-bit weights with zero points of their own: those become Q8_0. Folders get halves.
    const bool rounded = GetParam().matrices == Format::Q4_Z;
    EXPECT_LT(difference(t.path() / "m.gguf"), rounded ? 3e-2f : std::max(GetParam().tolerance, 2e-3f));
    if (model->find("rope_freqs.weight") != nullptr) {
        EXPECT_THROW(write_hugging_face(*model, t.path() / "hf", {}, {}), Error)
            << "no config.json says these";
        return;
    }
    write_hugging_face(*model, t.path() / "hf", {}, {.n_threads = 1});
    EXPECT_LT(difference(t.path() / "hf"), std::max(GetParam().tolerance, 2e-3f));
}

INSTANTIATE_TEST_SUITE_P(
    All, OnnxGolden,
    testing::Values(Case{"llama-fp32", Format::F32, 2e-5f}, Case{"qwen3-fp32", Format::F32, 2e-5f},
                    Case{"qwen2-fp16", Format::F16, 2e-2f}, Case{"qwen3-int4", Format::Q4_0, 2e-3f},
                    Case{"qwen3-int4-shared", Format::Q4_0, 2e-3f}, Case{"llama-int4", Format::Q4_Z, 2e-3f}),
    [](const auto& test) {
        std::string name = test.param.name;
        std::ranges::replace(name, '-', '_');
        return name;
    });

}  // namespace
}  // namespace smelt
