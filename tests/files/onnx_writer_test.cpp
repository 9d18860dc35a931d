// Models written as ONNX and read again: the same weights, bit by bit where the graph's types hold them.
#include <algorithm>

#include "files/files_support.h"
#include "files/writers.h"

namespace smelt {
namespace {

std::shared_ptr<const ModelFile> rewritten(const ModelFile& model, const fs::path& folder,
                                           const WriteOptions& options = {}) {
    write_onnx(model, folder / "model.onnx", {}, options);
    return open_model(folder / "model.onnx");
}

// Values, whatever the format.
void expect_same_values(const ModelFile& a, const ModelFile& b) {
    for (const TensorView& t : a.tensors) {
        if (t.name == "rope_freqs.weight") continue;  // a formula there, divisors here
        const TensorView& other = b.require(t.name);
        EXPECT_EQ(other.shape, t.shape) << t.name;
        EXPECT_EQ(other.decoded(), t.decoded()) << t.name;
    }
}

TEST(OnnxWriter, FloatsComeBackAsTheyWere) {
    for (const char* name : {"qwen3", "qwen3-untied", "qwen2", "llama3"}) {
        SCOPED_TRACE(name);
        const TemporaryFolder t;
        const auto model = open_model(golden(name));
        const auto back = rewritten(*model, t.path(), {.format = Format::F32});
        expect_same_values(*model, *back);
        const std::string prefix = *model->metadata.get_string("general.architecture") + ".";
        for (const char* key :
             {"embedding_length", "block_count", "feed_forward_length", "attention.head_count",
              "attention.head_count_kv", "attention.key_length", "vocab_size", "context_length"}) {
            EXPECT_EQ(back->metadata.get_int(prefix + key), model->metadata.get_int(prefix + key)) << key;
        }
        EXPECT_EQ(back->find("output.weight") == nullptr, model->find("output.weight") == nullptr);
    }
}

TEST(OnnxWriter, IntegersStay) {
    const TemporaryFolder t;
    const auto model = open_model(fs::path(SMELT_TEST_DATA) / "onnx/qwen3-int4");
    const auto back = rewritten(*model, t.path());
    EXPECT_EQ(back->require("blk.0.ffn_up.weight").format, Format::Q4_0);
    expect_same_values(*model, *back);
    const TemporaryFolder other;
    const auto zeros = open_model(fs::path(SMELT_TEST_DATA) / "onnx/llama-int4");
    const auto zeros_back = rewritten(*zeros, other.path());
    EXPECT_EQ(zeros_back->require("blk.0.ffn_up.weight").format, Format::Q4_Z);
    expect_same_values(*zeros, *zeros_back);
}

TEST(OnnxWriter, QuantizedAsAskedFor) {
    const auto model = open_model(golden("qwen3"));
    for (const Format f : {Format::Q4_0, Format::Q8_0}) {
        const TemporaryFolder t, gguf;
        const auto back = rewritten(*model, t.path(), {.format = f});
        write_gguf(*model, gguf.path() / "m.gguf", {}, {.format = f});
        const auto expected = open_model(gguf.path() / "m.gguf");
        for (const char* name : {"blk.0.attn_q.weight", "blk.2.ffn_down.weight"})
            EXPECT_EQ(back->require(name).decoded(), expected->require(name).decoded()) << name;
        EXPECT_EQ(back->require("token_embd.weight").format, Format::F32);
        EXPECT_NE(back->find("output.weight"), nullptr) << "the head is of integers, the embedding of floats";
    }
}

// GGUF has Llama's rotated rows as neighbours.
TEST(OnnxWriter, RotatedRowsAreInTheGraphsOrder) {
    const TemporaryFolder t, gguf;
    const auto model = open_model(golden("llama3"));
    write_gguf(*model, gguf.path() / "m.gguf", {}, {});
    const auto back = rewritten(*open_model(gguf.path() / "m.gguf"), t.path());
    expect_same_values(*model, *back);
}

std::string write_error(const ModelFile& model, const WriteOptions& options = {}) {
    const TemporaryFolder t;
    try {
        write_onnx(model, t.path() / "model.onnx", {}, options);
        return {};
    } catch (const Error& e) {
        EXPECT_TRUE(fs::is_empty(t.path())) << "a part was left";
        return e.what();
    }
}

TEST(OnnxWriter, WhatTheGraphCannotSayIsRefused) {
    EXPECT_NE(write_error(*open_model(golden("gpt2"))).find("the model is gpt2"), std::string::npos);
    EXPECT_NE(write_error(*open_model(golden("qwen3-yarn"))).find("RoPE scaling yarn"), std::string::npos);
    const auto qwen = open_model(golden("qwen3"));
    EXPECT_NE(write_error(*qwen, {.format = Format::BF16}).find("not in bf16"), std::string::npos);
    EXPECT_NE(write_error(*qwen, {.formats = {{"token_embd.weight", Format::F16}}}).find("one format"),
              std::string::npos);
}

}  // namespace
}  // namespace smelt
