// ONNX models that are not what they should be, made of a real export by changes that keep lengths: each is
// refused by the name of what is wrong.
#include <algorithm>

#include "files/files_support.h"
#include "files/onnx/onnx.h"
#include "files/onnx/onnx_graph.h"
#include "files/onnx/protobuf_reader.h"

namespace smelt {
namespace {

class OnnxModel {
 public:
    explicit OnnxModel(const std::string& name) {
        for (const auto& entry : fs::directory_iterator(fs::path(SMELT_TEST_DATA) / "onnx" / name))
            fs::copy(entry.path(), folder() / entry.path().filename());
    }
    const fs::path& folder() const { return t_.path(); }

    // In every place.
    void replace(const std::string& file, const std::string& from, const std::string& to) {
        std::string bytes = read_file(folder() / file);
        size_t n = 0;
        for (size_t at = bytes.find(from); at != std::string::npos;
             at = bytes.find(from, at + to.size()), ++n)
            bytes.replace(at, from.size(), to);
        ASSERT_GT(n, 0u) << from;
        write_file(folder() / file, bytes);
    }
    std::string error() const { return open_error(folder()); }

 private:
    TemporaryFolder t_;
};

testing::AssertionResult says(const std::string& error, const std::string& part) {
    if (error.find(part) != std::string::npos && error.find('\n') == std::string::npos)
        return testing::AssertionSuccess();
    return testing::AssertionFailure() << "expected " << part << " in: " << error;
}

struct Change {
    const char *model, *from, *to, *error;
};

TEST(Onnx, UnknownPartsOfTheGraphAreRefusedByName) {
    const Change changes[] = {
        {"llama-fp32", "Sigmoid", "Softmax", "act_fn/Mul (Mul)"},
        {"llama-fp32", "SkipSimplifiedLayerNormalization", "SkipSimplifiedLayerNormalizatioX",
         "final_norm_layernorm/SkipLayerNorm (com.microsoft.SkipSimplifiedLayerNormalizatioX)"},
        {"llama-fp32", "GroupQueryAttention", "GroupQueryAttentioX",
         "/model/layers.1/attn/GroupQueryAttentioX (com.microsoft.GroupQueryAttentioX)"},
        {"llama-fp32", "com.microsoft", "com.microsofT", "com.microsofT"},
        {"llama-fp32", "local_window_size", "local_window_sizX", "attribute local_window_sizX: not known"},
        {"llama-fp32", "softcap", "softcaX", "attribute softcaX: not known"},
        {"llama-fp32", "attention_mask", "attention_masX", "attention_masX"},
        {"llama-fp32", "ReduceSum", "ReduceMax", "lengths, made of attention_mask, found node"},
        {"qwen2-fp16", "Add", "Sub", "(Sub)"},
        {"qwen3-int4", "block_size", "block_sizX", "attribute block_sizX: not known"},
        {"qwen3-int4", "interleaved", "interleaveX", "interleaveX: not known"},
        {"qwen3-int4", "logits", "logitX", "logits"},
    };
    for (const Change& c : changes) {
        OnnxModel model(c.model);
        const std::string from(c.from), to(c.to);
        ASSERT_NO_FATAL_FAILURE(model.replace("model.onnx", from, to));
        EXPECT_TRUE(says(model.error(), c.error)) << c.from;
        EXPECT_FALSE(model.error().empty()) << c.from;
    }
}

// The names mean nothing: it is the same model when they are others.
TEST(Onnx, NamesOfNodesAndTensorsDoNotMatter) {
    OnnxModel model("llama-fp32");
    const auto before = open_model(model.folder());
    for (const auto& [from, to] : {std::pair("gate_proj", "up___proj"),
                                   {"attn/", "mlp__"},
                                   {"layernorm", "gate_proj"},
                                   {"embed_tokens", "lm_head_____"},
                                   {"qkv_proj", "out_proj"}}) {
        ASSERT_NO_FATAL_FAILURE(model.replace("model.onnx", from, to));
    }
    const auto after = open_model(model.folder());
    ASSERT_EQ(after->tensors.size(), before->tensors.size());
    for (const TensorView& t : before->tensors) {
        EXPECT_TRUE(std::ranges::equal(t.data, after->require(t.name).data)) << t.name;
    }
}

TEST(Onnx, ConfigAndGraphMustAgree) {
    const std::pair<const char*, const char*> changes[] = {
        {R"("hidden_size": 32)", R"("hidden_size": 48)"},
        {R"("num_hidden_layers": 2)", R"("num_hidden_layers": 3)"},
        {R"("num_attention_heads": 2)", R"("num_attention_heads": 4)"},
        {R"("vocab_size": 72)", R"("vocab_size": 73)"},
        {R"("rms_norm_eps": 1e-06)", R"("rms_norm_eps": 1e-05)"},
        {R"("hidden_act": "silu")", R"("hidden_act": "gelu")"}};
    for (const auto& [from, to] : changes) {
        OnnxModel model("llama-fp32");
        ASSERT_NO_FATAL_FAILURE(model.replace("config.json", from, to));
        const std::string key = std::string(from).substr(1, std::string(from).find(':') - 2);
        if (key == "hidden_act") {
            EXPECT_EQ(open_model(model.folder())->refused.size(), 1u);
        } else {
            EXPECT_TRUE(says(model.error(), key));
        }
    }
    OnnxModel other("llama-fp32");
    ASSERT_NO_FATAL_FAILURE(
        other.replace("config.json", R"("model_type": "llama")", R"("model_type": "gemma")"));
    EXPECT_TRUE(says(other.error(), "gemma"));
    OnnxModel head("llama-fp32");
    ASSERT_NO_FATAL_FAILURE(head.replace("genai_config.json", R"("head_size": 16)", R"("head_size": 17)"));
    EXPECT_TRUE(says(head.error(), "head_size"));
    OnnxModel none("llama-fp32");
    fs::remove(none.folder() / "config.json");
    fs::remove(none.folder() / "genai_config.json");
    EXPECT_TRUE(says(open_error(none.folder() / "model.onnx"), "expected config.json or genai_config.json"));
}

// This builder takes Llama 3's original context from the wrong place: what the graph computes is what counts.
TEST(Onnx, TheGraphsRotationCounts) {
    const auto model = open_model(fs::path(SMELT_TEST_DATA) / "onnx/llama-fp32");
    ASSERT_NE(model->find("rope_freqs.weight"), nullptr);
    EXPECT_EQ(model->metadata.find("llama.rope.scaling.type"), nullptr);
    EXPECT_TRUE(std::ranges::any_of(model->notes, [](const std::string& note) {
        return note.find("cos_cache has other RoPE frequencies") != std::string::npos;
    }));
    const auto bare = open_model(fs::path(SMELT_TEST_DATA) / "onnx/llama-int4");
    EXPECT_EQ(bare->find("rope_freqs.weight"), nullptr);
    EXPECT_EQ(bare->metadata.get_double("llama.rope.freq_base"), 10000);
    EXPECT_EQ(bare->metadata.get_double("llama.attention.layer_norm_rms_epsilon"), 1e-6);
    EXPECT_EQ(*bare->metadata.get_ints("generation.eos_token_ids"), (std::vector<int64_t>{2, 3}));
    OnnxModel qwen("qwen3-fp32");
    ASSERT_NO_FATAL_FAILURE(qwen.replace("config.json", "1000000.0", "1000100.0"));
    EXPECT_TRUE(says(qwen.error(), "cos_cache"));
}

TEST(Onnx, ExternalDataStaysInItsFolder) {
    const std::pair<const char*, const char*> places[] = {{"../l.onnx.data", "a file in the model's folder"},
                                                          {"x/../../../../x", "a file in the model's folder"},
                                                          {"/etc/hostname..", "a file in the model's folder"},
                                                          {"model.onnx.datX", "a file that is there"}};
    for (const auto& [place, error] : places) {
        OnnxModel model("llama-fp32");
        std::string to(place);
        to.resize(std::string("model.onnx.data").size(), 'x');
        ASSERT_NO_FATAL_FAILURE(model.replace("model.onnx", "model.onnx.data", to));
        EXPECT_TRUE(says(model.error(), error));
        EXPECT_TRUE(says(model.error(), "tensor "));
    }
    OnnxModel cut("llama-fp32");
    fs::resize_file(cut.folder() / "model.onnx.data", 1000);
    EXPECT_TRUE(says(cut.error(), "has 1000"));
    fs::remove(cut.folder() / "model.onnx.data");
    EXPECT_TRUE(says(cut.error(), "a file that is there"));
}

// Messages of protobuf, written by hand.
std::string field(int number, const std::string& bytes) {
    std::string out(1, static_cast<char>(number << 3 | 2));
    size_t n = bytes.size();
    for (; n >= 128; n >>= 7) out += static_cast<char>(n | 128);
    return out + static_cast<char>(n) + bytes;
}
std::string number(int field_number, uint64_t value) {
    std::string out(1, static_cast<char>(field_number << 3));
    for (; value >= 128; value >>= 7) out += static_cast<char>(value | 128);
    return out + static_cast<char>(value);
}
std::string node(const std::string& name, const std::string& in, const std::string& out) {
    return field(1, field(1, in) + field(2, out) + field(3, name) + field(4, "Cast"));
}
std::string model_of(const std::string& graph) {
    return number(1, 8) + field(2, "test") + field(7, graph) + field(8, number(2, 17));
}
std::string graph_error(const std::string& bytes) {
    const TemporaryFolder t;
    write_file(t.path() / "model.onnx", bytes);
    return open_error(t.path() / "model.onnx");
}

TEST(Onnx, DamagedGraphs) {
    const std::string logits = field(12, field(1, "logits"));
    EXPECT_TRUE(says(graph_error(model_of(node("a", "y", "x") + node("b", "x", "y") + logits)),
                     "node a (Cast) reads y, which nothing before it makes"));
    EXPECT_TRUE(says(graph_error(model_of(node("a", "x", "x") + logits)), "node a (Cast) reads x"));
    EXPECT_TRUE(says(graph_error(number(1, 8) + field(2, "test")), "no graph"));
    EXPECT_TRUE(says(graph_error(model_of(field(11, field(1, "x")) + node("a", "x", "logits") + logits)),
                     "the output head, a product with a constant matrix, found"));
    const auto tensor = [&](const std::string& dims, const std::string& more) {
        return graph_error(model_of(field(5, dims + number(2, 1) + field(8, "w") + more) + logits));
    };
    const std::string floats = field(9, std::string(8, '\1'));
    EXPECT_TRUE(says(tensor(number(1, 3), floats), "tensor w: expected 12 bytes"));
    EXPECT_TRUE(
        says(tensor(number(1, uint64_t{1} << 40) + number(1, uint64_t{1} << 40), floats), "too large"));
    EXPECT_TRUE(says(tensor(number(1, ~uint64_t{0}), floats), "too large"));
    std::string many;
    for (int i = 0; i < 9; ++i) many += number(1, 1);
    EXPECT_TRUE(says(tensor(many, floats), "at most 8 numbers"));
    EXPECT_TRUE(says(tensor(number(1, 2), number(2, 99) + floats), "ONNX's type 99"));
    EXPECT_TRUE(
        says(tensor(number(1, 2), field(13, field(1, "location") + field(2, "w.data")) + number(14, 1)),
             "a file that is there"));
    EXPECT_TRUE(says(tensor(number(1, 2), field(13, field(1, "offset") + field(2, "-8")) + number(14, 1)),
                     "expected a number of bytes"));
    // A length beyond the file, one of more than 64 bits, a group, nesting without end.
    EXPECT_TRUE(says(graph_error(number(1, 8) + "\x12\x04test\x3a\xff\xff\xff\x7f"), "the file has"));
    EXPECT_TRUE(
        says(graph_error(number(1, 8) + "\x12\x04test\x3a" + std::string(11, '\xff')), "at most ten bytes"));
    EXPECT_TRUE(says(graph_error(number(1, 8) + "\x12\x04test\x3b"), "type 3"));
    std::string deep;
    for (int i = 0; i < 2000; ++i) deep = field(7, deep);
    EXPECT_FALSE(graph_error(number(1, 8) + field(2, "test") + deep).empty());
}

}  // namespace
}  // namespace smelt
