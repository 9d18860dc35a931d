// Hugging Face folders: what is read, and what is said about folders that are broken.
#include <algorithm>
#include <bit>

#include "base/json.h"
#include "files/families.h"
#include "files/files_support.h"
#include "files/model_file.h"

namespace smelt {
namespace {

class Golden : public testing::TestWithParam<const char*> {};

TEST_P(Golden, OpensWhole) {
    const auto model = open_model(golden(GetParam()));
    const Metadata& m = model->metadata;
    const std::string arch = *m.get_string("general.architecture");
    EXPECT_EQ(m.get_int(arch + ".block_count"), 3);
    EXPECT_EQ(m.get_int(arch + ".vocab_size"), 512);
    EXPECT_TRUE(m.get_int(arch + ".attention.key_length"));
    EXPECT_EQ(m.get_double(arch + ".rope.freq_base").has_value(), arch != "gpt2");
    EXPECT_EQ(*m.get_string("smelt.rope.pairing"), "half");
    EXPECT_EQ(missing_tensors(*model), std::vector<std::string>{});
    EXPECT_EQ(model->require("token_embd.weight").format, Format::BF16);
    EXPECT_EQ(model->require("blk.2.attn_norm.weight").shape.size(), 1u);
    for (const TensorView& t : model->tensors) {
        EXPECT_TRUE(t.name.starts_with("blk.") || !t.name.starts_with("model.")) << t.name;
    }
    EXPECT_TRUE(model->unsupported.empty());
}
INSTANTIATE_TEST_SUITE_P(Files, Golden,
                         testing::Values("qwen3", "qwen3-untied", "qwen3-yarn", "qwen2", "llama3", "gpt2"),
                         [](const auto& test) {
                             std::string name = test.param;
                             std::erase(name, '-');
                             return name;
                         });

TEST(Files, RopeScalingIsKept) {
    const auto yarn = open_model(golden("qwen3-yarn"));
    EXPECT_EQ(*yarn->metadata.get_string("qwen3.rope.scaling.type"), "yarn");
    EXPECT_EQ(yarn->metadata.get_double("qwen3.rope.scaling.factor"), 4.0);
    EXPECT_EQ(yarn->metadata.get_int("qwen3.rope.scaling.original_context_length"), 256);
    const auto llama = open_model(golden("llama3"));
    EXPECT_EQ(*llama->metadata.get_string("llama.rope.scaling.type"), "llama3");
    EXPECT_EQ(llama->metadata.get_double("llama.rope.scaling.high_freq_factor"), 4.0);
    EXPECT_EQ(llama->metadata.get_double("llama.rope.freq_base"), 500000.0);
}

// A folder with one tensor of an architecture without a table.
struct Folder {
    TemporaryFolder folder;
    std::string config = R"({"model_type": "novel", "hidden_size": 4})";
    std::string header = R"({"x": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}})";
    std::string data = std::string(16, '\0');

    std::string error() {
        write_file(folder.path() / "config.json", config);
        write_file(folder.path() / "model.safetensors", safetensors(header, data));
        return open_error(folder.path());
    }
    std::shared_ptr<const ModelFile> open() {
        EXPECT_EQ(error(), "");
        return open_model(folder.path());
    }
};

// Original GPT-2 checkpoints: no prefix, masks and a tied head among the weights, numbers left to
// transformers' defaults.
TEST(Files, Gpt2OfTheHubIsTheSame) {
    const TemporaryFolder t;
    const fs::path from = golden("gpt2");
    const auto expected = open_model(from);
    std::string bytes = read_file(from / "model.safetensors");
    uint64_t n = 0;
    std::memcpy(&n, bytes.data(), sizeof n);
    Json header = parse_json(bytes.substr(8, n), "header");
    const std::string data = bytes.substr(8 + n);
    Json bare = Json::object();
    for (const auto& [name, entry] : header.items()) {
        bare[name.starts_with("transformer.") ? name.substr(12) : name] = entry;
    }
    bare["h.0.attn.bias"] = {
        {"dtype", "F32"}, {"shape", {1, 1, 1, 1}}, {"data_offsets", {data.size(), data.size() + 4}}};
    bare["h.0.attn.masked_bias"] = {
        {"dtype", "F32"}, {"shape", Json::array()}, {"data_offsets", {data.size() + 4, data.size() + 8}}};
    bare["lm_head.weight"] = {
        {"dtype", "F32"}, {"shape", {1}}, {"data_offsets", {data.size() + 8, data.size() + 12}}};
    write_file(t.path() / "model.safetensors", safetensors(bare.dump(), data + std::string(12, '\0')));
    write_file(t.path() / "config.json", R"({"model_type": "gpt2", "n_embd": 128, "n_layer": 3, "n_head": 4,
        "n_positions": 512, "n_ctx": 512, "activation_function": "gelu_new"})");
    const auto model = open_model(t.path());
    ASSERT_EQ(model->tensors.size(), expected->tensors.size());
    for (const TensorView& w : expected->tensors) {
        const TensorView& got = model->require(w.name);
        EXPECT_EQ(got.shape, w.shape) << w.name;
        EXPECT_TRUE(std::ranges::equal(got.data, w.data)) << w.name;
    }
    EXPECT_EQ(model->require("blk.0.attn_qkv.weight").shape, (std::vector<int64_t>{384, 128}));
    EXPECT_EQ(model->metadata.get_int("gpt2.feed_forward_length"), 512);

    write_file(t.path() / "config.json",
               R"({"model_type": "gpt2", "n_embd": 128, "activation_function": "relu"})");
    const auto other = open_model(t.path());  // can be looked at, not loaded
    ASSERT_FALSE(other->refused.empty());
    EXPECT_NE(other->refused[0].find("activation_function: expected \"gelu_new\", found \"relu\""),
              std::string::npos);
}

TEST(Files, UnknownArchitectureOpens) {
    Folder f;
    f.header =
        R"({"__metadata__": {"format": "pt"}, "x": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]},
            "y": {"dtype": "F8_E4M3", "shape": [3], "data_offsets": [16, 19]}})";
    f.data += "abc";
    const auto model = f.open();
    EXPECT_EQ(*model->metadata.get_string("general.architecture"), "novel");
    EXPECT_EQ(model->metadata.get_int("novel.embedding_length"), 4);
    EXPECT_EQ(model->require("x").shape, (std::vector<int64_t>{2, 2}));
    ASSERT_EQ(model->unsupported.size(), 1u);
    EXPECT_EQ(model->unsupported[0].type, "F8_E4M3");
    EXPECT_EQ(model->n_bytes(), 19u);
    EXPECT_THROW(model->require("y"), Error);
    EXPECT_THROW(model->require("z"), Error);
}

// gpt-oss: two tensors of bytes are one weight, the low nibble first.
TEST(Files, BlocksAndScalesAreOneTensor) {
    Folder f;
    f.config = R"({"model_type": "gpt_oss", "num_local_experts": 2, "hidden_size": 32})";
    const std::string name = "model.layers.7.mlp.experts.gate_up_proj";
    const auto header = [&](const std::string& scales_shape) {
        return R"({")" + name + R"(_scales": {"dtype": "U8", "shape": )" + scales_shape +
               R"(, "data_offsets": [0, 6]}, ")" + name +
               R"(_blocks": {"dtype": "U8", "shape": [2, 3, 1, 16], "data_offsets": [6, 102]}})";
    };
    f.header = header("[2, 3, 1]");
    f.data = std::string(6, char(127)) + std::string(96, '\0');
    f.data[3] = char(128);            // row 3, that is row 0 of expert 1: times 2
    f.data[6 + 3 * 16 + 1] = '\x72';  // its weights 2 and 3: codes 2 and 7
    const auto model = f.open();
    ASSERT_EQ(model->tensors.size(), 1u);
    EXPECT_TRUE(model->unsupported.empty());
    const TensorView& t = model->require("blk.7.ffn_gate_up_exps.weight");
    EXPECT_EQ(t.format, Format::MXFP4_HF);
    EXPECT_EQ(t.shape, (std::vector<int64_t>{2, 3, 32}));
    EXPECT_EQ(t.n_bytes(), 6u * 17);
    std::vector<float> row(32), expected(32, 0.0f);
    expected[2] = 2;
    expected[3] = 12;
    decode_row(t.row(3), row);
    EXPECT_EQ(row, expected);

    f.header = header("[3, 2, 1]");
    EXPECT_NE(f.error().find("gate_up_proj_scales: expected shape (2, 3, 1)"), std::string::npos)
        << f.error();
    // Alone they are bytes without a meaning.
    f.header = R"({"x_blocks": {"dtype": "U8", "shape": [2, 3, 1, 16], "data_offsets": [0, 96]}})";
    f.data.resize(96);
    ASSERT_EQ(f.open()->unsupported.size(), 1u);
}

TEST(Files, UnalignedTensorIsCopied) {
    Folder f;
    f.header = R"({"x": {"dtype": "F32", "shape": [4], "data_offsets": [1, 17]}})";
    f.data = std::string(17, '\1');
    const auto model = f.open();
    EXPECT_EQ(model->owned.size(), 1u);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(model->tensors[0].data.data()) % 4, 0u);
}

TEST(Files, OldAndNewConfigsMeanTheSame) {
    Folder f;
    f.config = R"({"model_type": "novel", "rope_theta": 5e5, "max_position_embeddings": 64, "rope_scaling":
                   {"type": "yarn", "factor": 4, "attention_factor": 1.1386294361119891, "truncate": false}})";
    const auto old_style = f.open();
    f.config =
        R"({"model_type": "novel", "max_position_embeddings": 64, "rope_parameters": {"rope_type": "yarn",
                   "rope_theta": 500000, "factor": 4.0, "attention_factor": 1.1386294361119891, "truncate": false}})";
    const auto new_style = f.open();
    EXPECT_EQ(old_style->metadata.values(), new_style->metadata.values());
    // All of Hugging Face's factor is YaRN's own here, so that nothing is left for GGUF's.
    EXPECT_NEAR(*old_style->metadata.get_double("novel.rope.scaling.attn_factor"), 1, 1e-15);
    EXPECT_EQ(old_style->metadata.get_int("novel.rope.scaling.original_context_length"), 64);
    EXPECT_EQ(old_style->metadata.get_bool("novel.rope.scaling.truncate"), false);
}

TEST(Files, GenerationConfigWinsOverConfig) {
    Folder f;
    f.config = R"({"model_type": "novel", "eos_token_id": 7})";
    EXPECT_EQ(*f.open()->metadata.get_ints("generation.eos_token_ids"), std::vector<int64_t>{7});
    write_file(f.folder.path() / "generation_config.json",
               R"({"eos_token_id": [5, 6], "temperature": 1, "top_k": 20})");
    const auto model = f.open();
    EXPECT_EQ(*model->metadata.get_ints("generation.eos_token_ids"), (std::vector<int64_t>{5, 6}));
    EXPECT_EQ(model->metadata.get_double("generation.temperature"), 1.0);
    EXPECT_EQ(model->metadata.get_int("generation.top_k"), 20);
}

TEST(Files, ChatTemplates) {
    Folder f;
    write_file(
        f.folder.path() / "tokenizer_config.json",
        R"({"chat_template": [{"name": "default", "template": "a"}, {"name": "tool_use", "template": "b"}]})");
    const auto model = f.open();
    EXPECT_EQ(*model->metadata.get_string("tokenizer.chat_template"), "a");
    EXPECT_EQ(*model->metadata.get_string("tokenizer.chat_template.tool_use"), "b");
    write_file(f.folder.path() / "chat_template.jinja", "c");
    EXPECT_EQ(*f.open()->metadata.get_string("tokenizer.chat_template"), "c");
    write_file(f.folder.path() / "tokenizer_config.json", R"({"chat_template": [3]})");
    EXPECT_NE(f.error().find("chat_template"), std::string::npos);
}

struct Broken {
    const char* header;
    const char* says;
};

TEST(Files, BrokenHeadersAreNamed) {
    const Broken cases[] = {
        {R"({"x": {"dtype": "F31", "shape": [4], "data_offsets": [0, 16]}})", "unknown dtype 'F31'"},
        {R"({"x": {"dtype": "F32", "shape": [5], "data_offsets": [0, 16]}})", "expected 20 bytes, found 16"},
        {R"({"x": {"dtype": "F32", "shape": [4], "data_offsets": [4, 20]}})", "not inside the data section"},
        {R"({"x": {"dtype": "F32", "shape": [4], "data_offsets": [16, 0]}})", "not inside the data section"},
        {R"({"x": {"dtype": "F32", "shape": [4], "data_offsets": [0]}})", "expected 2 numbers"},
        {R"({"x": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}, "x": {}})", "occurs twice"},
        {R"({"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
             "y": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]}})",
         "overlap those of x"},
        {R"({"x": {"dtype": "F32", "shape": [281474976710656, 281474976710656], "data_offsets": [0, 16]}})",
         "too many elements"},
        {R"({"x": {"dtype": "F32", "shape": [-4], "data_offsets": [0, 16]}})", "a negative number in shape"},
        {R"({"x": 3})", "expected {dtype, shape, data_offsets}"},
        {R"([])", "expected {dtype, shape, data_offsets}"},
        {R"({"x": )", "not valid JSON"},
    };
    for (const Broken& c : cases) {
        Folder f;
        f.header = c.header;
        EXPECT_NE(f.error().find(c.says), std::string::npos) << c.header << "\n" << f.error();
    }
}

TEST(Files, BrokenConfigsAreNamed) {
    const Broken cases[] = {
        {R"({"model_type": "qwen3", "hidden_size": "big"})",
         "hidden_size: expected an integer, found \"big\""},
        {R"({"model_type": "qwen3", "hidden_size": 18446744073709551615})",
         "hidden_size: expected an integer"},
        {R"({"model_type": 3})", "model_type: expected a string"},
        {R"({})", "model_type is missing"},
        {R"([])", "expected a JSON object"},
        {R"({"model_type": "qwen3", "rope_scaling": 4})", "rope_scaling: expected an object"},
        {R"({"model_type": "qwen3", "eos_token_id": [1, "x"]})", "expected an integer or a list"},
        {R"({"model_type": "qwen3", "tie_word_embeddings": false})", "lm_head.weight is missing"},
    };
    for (const Broken& c : cases) {
        Folder f;
        f.config = c.header;
        EXPECT_NE(f.error().find(c.says), std::string::npos) << c.header << "\n" << f.error();
    }
}

TEST(Files, TwoNamesForOneTensor) {
    Folder f;
    f.config = R"({"model_type": "qwen3"})";
    f.header = R"({"model.norm.weight": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
                   "output_norm.weight": {"dtype": "F32", "shape": [2], "data_offsets": [8, 16]}})";
    EXPECT_NE(f.error().find("two tensors with the name output_norm.weight"), std::string::npos) << f.error();
}

TEST(Files, Shards) {
    TemporaryFolder t;
    const auto entry = [](const char* name) {
        return std::string(R"({")") + name + R"(": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}})";
    };
    const auto index = [&](const std::string& map) {
        write_file(t.path() / "model.safetensors.index.json",
                   R"({"metadata": {}, "weight_map": )" + map + "}");
        return open_error(t.path());
    };
    const std::string data(16, '\0');
    write_file(t.path() / "config.json", R"({"model_type": "novel"})");
    EXPECT_NE(open_error(t.path()).find("expected model.safetensors or pytorch_model.bin"),
              std::string::npos);
    write_file(t.path() / "a.safetensors", safetensors(entry("x"), data));
    write_file(t.path() / "b.safetensors", safetensors(entry("y"), data));
    ASSERT_EQ(index(R"({"x": "a.safetensors", "y": "b.safetensors"})"), "");
    const auto model = open_model(t.path());
    EXPECT_EQ(model->container_version, "safetensors, 2 shards");
    EXPECT_NE(model->find("y"), nullptr);

    EXPECT_NE(index(R"({"x": "a.safetensors", "z": "b.safetensors"})").find("tensor z: expected in b"),
              std::string::npos);
    EXPECT_NE(index(R"({"x": "../a.safetensors"})").find("expected a .safetensors file of this folder"),
              std::string::npos);
    EXPECT_NE(index(R"({"x": "a.safetensors", "x": "b.safetensors"})").find("x occurs twice"),
              std::string::npos);
    EXPECT_NE(index(R"({"x": ["a.safetensors"]})").find("expected a file name"), std::string::npos);
    EXPECT_NE(index(R"({"x": {"y": "a.safetensors"}})").find("expected a file name"), std::string::npos);
    EXPECT_NE(index("[]").find("expected an object weight_map"), std::string::npos);
    EXPECT_NE(index("\"a.safetensors\"").find("expected an object weight_map"), std::string::npos);
    EXPECT_NE(index("{").find("not valid JSON"), std::string::npos);
    EXPECT_NE(index(R"({"x": 1})").find("expected a file name"), std::string::npos);
    EXPECT_NE(index("3").find("expected an object weight_map"), std::string::npos);
    EXPECT_NE(index(R"({"x": "c.safetensors"})").find("cannot open"), std::string::npos);
    write_file(t.path() / "b.safetensors", safetensors(entry("x"), data));
    EXPECT_NE(index(R"({"x": "a.safetensors", "y": "b.safetensors"})").find("in two shards"),
              std::string::npos);
}

}  // namespace
}  // namespace smelt
