// Experts: one by one in Hugging Face folders, stacked in GGUF.
#include <functional>

#include "base/error.h"
#include "files/files_support.h"
#include "files/tensors_support.h"
#include "files/writers.h"

namespace smelt {
namespace {

// As llama.cpp reads them: one tensor a layer and kind, experts slowest.
TEST(Writers, ExpertsAreStackedInGguf) {
    const TemporaryFolder t;
    for (const auto& [name, n_experts, rows] :
         {std::tuple("qwen3-moe", 8, 96), std::tuple("mixtral", 4, 192)}) {
        const auto original = open_model(golden(name));
        write_gguf(*original, t.path() / "m.gguf", {}, {.n_threads = 2});
        const auto gguf = open_model(t.path() / "m.gguf");
        EXPECT_EQ(gguf->find("blk.0.ffn_up.0.weight"), nullptr);
        EXPECT_EQ(gguf->require("blk.2.ffn_gate_exps.weight").shape,
                  (std::vector<int64_t>{n_experts, rows, 128}));
        EXPECT_EQ(gguf->require("blk.2.ffn_down_exps.weight").shape,
                  (std::vector<int64_t>{n_experts, 128, rows}));
        const ModelFile unstacked = one_by_one(*gguf);
        for (const auto& [tensor, view] : by_name(*original)) {
            if (!tensor.starts_with("blk.1.ffn_") || view->shape.size() < 2) continue;
            EXPECT_TRUE(std::ranges::equal(view->data, unstacked.require(tensor).data)) << tensor;
        }
        // A GGUF of the old kind, an expert a tensor, is stacked when it is written again.
        write_gguf(unstacked, t.path() / "again.gguf", {}, {});
        expect_same_tensors(*gguf, *open_model(t.path() / "again.gguf"));
    }
}

// gpt-oss has gate and up rows by turns in Hugging Face files and apart in GGUF; blocks and scales stay
// MXFP4, nibble for nibble.
TEST(Writers, GateAndUpAreParted) {
    const TemporaryFolder t;
    const auto original = open_model(golden("gpt-oss"));
    write_gguf(*original, t.path() / "m.gguf", {}, {.n_threads = 2});
    const auto gguf = open_model(t.path() / "m.gguf");
    const TensorView& both = original->require("blk.1.ffn_gate_up_exps.weight");
    const int64_t n_experts = both.shape[0], rows = both.shape[1] / 2, cols = both.shape[2];
    EXPECT_EQ(gguf->find(both.name), nullptr);
    std::vector<float> a(static_cast<size_t>(cols)), b(a.size());
    for (const auto& [name, first] : {std::pair("gate", 0), std::pair("up", 1)}) {
        const TensorView& part = gguf->require(std::string("blk.1.ffn_") + name + "_exps.weight");
        EXPECT_EQ(part.format, Format::MXFP4);
        ASSERT_EQ(part.shape, (std::vector<int64_t>{n_experts, rows, cols}));
        for (int64_t r = 0; r < part.n_rows(); ++r) {
            decode_row(part.row(r), a);
            decode_row(both.row(2 * r + first), b);
            ASSERT_EQ(a, b) << name << " row " << r;
        }
        const TensorView& bias = gguf->require(std::string("blk.1.ffn_") + name + "_exps.bias");
        EXPECT_EQ(bias.format, Format::F32) << "as llama.cpp asks";
        EXPECT_EQ(bias.shape, (std::vector<int64_t>{n_experts, rows}));
    }
    EXPECT_EQ(gguf->require("blk.0.attn_sinks.weight").format, Format::F32);

    write_hugging_face(*gguf, t.path() / "hf", {}, {.n_threads = 2});
    const auto back = open_model(t.path() / "hf");
    expect_same_tensors(*original, *back);
    EXPECT_TRUE(std::ranges::equal(both.scales, back->require(both.name).scales));
    EXPECT_NE(read_file(t.path() / "hf" / "config.json").find("\"quant_method\": \"mxfp4\""),
              std::string::npos);
    // From Hugging Face to Hugging Face, as it is; in another format there is no name for it.
    write_hugging_face(*original, t.path() / "again", {}, {});
    expect_same_tensors(*original, *open_model(t.path() / "again"));
    EXPECT_THROW(write_hugging_face(*gguf, t.path() / "f16", {}, {.format = Format::F16}), Error);
}

TEST(Writers, ExpertsThatCannotBeStackedAreNamed) {
    const TemporaryFolder t;
    const auto expect_error = [&](const std::string& text, const std::function<void(ModelFile&)>& damage) {
        ModelFile model = *open_model(golden("qwen3-moe"));
        damage(model);
        try {
            write_gguf(model, t.path() / "m.gguf", {}, {});
            ADD_FAILURE() << "expected: " << text;
        } catch (const Error& e) {
            EXPECT_NE(std::string(e.what()).find(text), std::string::npos) << e.what();
        }
    };
    expect_error("blk.1.ffn_up.3.weight is missing", [](ModelFile& m) {
        std::erase_if(m.tensors, [](const auto& v) { return v.name == "blk.1.ffn_up.3.weight"; });
    });
    expect_error("blk.1.ffn_up.8.weight: expected expert 0 to 7, found 8", [](ModelFile& m) {
        m.tensors.push_back(*m.find("blk.1.ffn_up.3.weight"));
        m.tensors.back().name = "blk.1.ffn_up.8.weight";
    });
    expect_error(
        "blk.1.ffn_up.3.weight: expected bf16 (96, 128) as blk.1.ffn_up.0.weight, found bf16 (128, 96)",
        [](ModelFile& m) {
            std::ranges::find(m.tensors, "blk.1.ffn_up.3.weight", &TensorView::name)->shape = {128, 96};
        });
    write_gguf(*open_model(golden("qwen3-moe")), t.path() / "m.gguf", {}, {});
    ModelFile flat = *open_model(t.path() / "m.gguf");
    std::ranges::find(flat.tensors, "blk.0.ffn_up_exps.weight", &TensorView::name)->shape = {8 * 96, 128};
    try {
        write_hugging_face(flat, t.path() / "hf", {}, {});
        ADD_FAILURE();
    } catch (const Error& e) {
        EXPECT_NE(std::string(e.what()).find("expected shape (8, rows, columns), file has (768, 128)"),
                  std::string::npos)
            << e.what();
    }
}

}  // namespace
}  // namespace smelt
