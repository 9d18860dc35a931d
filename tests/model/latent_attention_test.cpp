// Latent attention at the door and in conversion: what the containers tell differently, what is refused, the
// layers that are left out. That the model computes right is the golden test's.
#include "files/latent_attention.h"

#include <functional>

#include "backend/backend.h"
#include "engine/device_runner.h"
#include "files/files_support.h"
#include "files/tensors_support.h"
#include "files/writers.h"
#include "model/model.h"

namespace smelt {
namespace {

using Shape = std::vector<int64_t>;

TEST(LatentAttention, GgufHasLlamaCppsNamesAndSizes) {
    const TemporaryFolder t;
    const auto original = open_model(golden("glm4-moe-lite"));
    write_gguf(*original, t.path() / "m.gguf", {}, {.n_threads = 2});
    const auto gguf = open_model(t.path() / "m.gguf");
    EXPECT_EQ(gguf->find("blk.0.attn_kv_b.weight"), nullptr);
    EXPECT_EQ(gguf->require("blk.0.attn_k_b.weight").shape, (Shape{4, 64, 24}));
    EXPECT_EQ(gguf->require("blk.2.attn_v_b.weight").shape, (Shape{4, 32, 64}));
    EXPECT_EQ(gguf->require("blk.2.attn_k_b.weight").format, Format::BF16);
    EXPECT_EQ(gguf->require("blk.1.exp_probs_b.bias").shape, Shape{8});
    EXPECT_EQ(gguf->require("blk.1.ffn_down_shexp.weight").shape, (Shape{128, 64}));
    const std::string p = "deepseek2.";
    for (const auto& [key, value] : {std::pair("attention.key_length", 64 + 16),
                                     {"attention.value_length", 64},
                                     {"attention.key_length_mla", 24 + 16},
                                     {"attention.value_length_mla", 32},
                                     {"attention.head_count_kv", 1},
                                     {"attention.q_lora_rank", 96},
                                     {"attention.kv_lora_rank", 64},
                                     {"rope.dimension_count", 16},
                                     {"leading_dense_block_count", 1},
                                     {"expert_shared_count", 1},
                                     {"expert_gating_func", 2}}) {
        EXPECT_EQ(gguf->metadata.get_int(p + key), value) << key;
    }
    EXPECT_NEAR(*gguf->metadata.get_double(p + "expert_weights_scale"), 1.8, 1e-6);

    // Row 5 of head 2's keys in kv_b is column 5 of its k_b.
    const TensorView& kv_b = original->require("blk.1.attn_kv_b.weight");
    const TensorView& k_b = gguf->require("blk.1.attn_k_b.weight");
    std::vector<float> row(64), column(24);
    decode_row(kv_b.row(2 * (24 + 32) + 5), row);
    for (int64_t i = 0; i < 64; ++i) {
        decode_row(k_b.row(2 * 64 + i), column);
        ASSERT_EQ(column[5], row[static_cast<size_t>(i)]) << i;
    }

    write_hugging_face(*gguf, t.path() / "hf", {}, {.n_threads = 2});
    // The routers' biases come back as BF16, which loses nothing here.
    ModelFile before = *original, after = *open_model(t.path() / "hf");
    for (ModelFile* m : {&before, &after}) {
        std::erase_if(m->tensors, [](const auto& view) { return view.name.ends_with(".bias"); });
    }
    expect_same_tensors(before, after);
}

// A GGUF file from before caches held latent vectors: kv_b whole, lengths those of a head.
TEST(LatentAttention, OldGgufFilesAreCompleted) {
    ModelFile model;
    model.container = Container::gguf;
    Metadata& m = model.metadata;
    for (const auto& [key, value] : {std::pair("block_count", 3),
                                     {"attention.kv_lora_rank", 64},
                                     {"rope.dimension_count", 16},
                                     {"attention.key_length", 40},
                                     {"attention.value_length", 32},
                                     {"attention.head_count_kv", 4}}) {
        m.set(std::string("deepseek2.") + key, int64_t{value});
    }
    fill_latent_attention(model, "deepseek2");
    EXPECT_EQ(m.get_int("deepseek2.attention.key_length"), 80);
    EXPECT_EQ(m.get_int("deepseek2.attention.key_length_mla"), 40);
    EXPECT_EQ(m.get_int("deepseek2.attention.value_length_mla"), 32);
    EXPECT_EQ(m.get_int("deepseek2.attention.head_count_kv"), 1);
    EXPECT_EQ(m.get_int("deepseek2.expert_gating_func"), 2);
}

TEST(LatentAttention, PredictionLayersAreLeftOutAndNamed) {
    for (const bool counted : {false, true}) {  // as in GGUF
        ModelFile model = *open_model(golden("glm4-moe-lite"));
        model.notes.clear();
        const size_t n = model.tensors.size();
        for (const char* name : {"blk.3.attn_norm.weight", "model.layers.3.eh_proj.weight"}) {
            model.tensors.push_back(model.tensors.front());
            model.tensors.back().name = name;
        }
        if (counted) {
            model.metadata.set("deepseek2.block_count", int64_t{4});
            model.metadata.set("deepseek2.nextn_predict_layers", int64_t{1});
        }
        leave_out_prediction_layers(model, "deepseek2");
        EXPECT_EQ(model.tensors.size(), n);
        EXPECT_EQ(model.metadata.get_int("deepseek2.block_count"), 3);
        ASSERT_EQ(model.notes.size(), 1u);
        EXPECT_NE(model.notes[0].find("2 tensors from layer 3 on"), std::string::npos) << model.notes[0];
    }
}

std::string load_error(const std::function<void(Metadata&)>& damage) {
    const auto backend = make_backend("cpu", {.n_threads = 1});
    const auto model = std::make_shared<ModelFile>(*open_model(golden("glm4-moe-lite")));
    damage(model->metadata);
    try {
        (void)load_model(model, *backend);
        return "";
    } catch (const Error& e) {
        return e.what();
    }
}

TEST(LatentAttention, NumbersThatCannotBeAreNamed) {
    EXPECT_EQ(load_error([](Metadata&) {}), "");
    for (const auto& [key, value, text] :
         {std::tuple("attention.kv_lora_rank", int64_t{1} << 40, "expected 1 to 1024"),
          {"attention.kv_lora_rank", 63, "attention.key_length: expected 79 to 79, found 80"},
          {"attention.q_lora_rank", -1, "q_lora_rank: expected"},
          {"attention.q_lora_rank", 95, "attn_q_a.weight: expected shape (95, 128), file has (96, 128)"},
          {"attention.key_length_mla", 16, "attention.key_length_mla: expected 17 to 1024, found 16"},
          {"attention.key_length_mla", 48, "attn_q_b.weight: expected shape (192, 96), file has (160, 96)"},
          {"attention.value_length_mla", 33,
           "attn_kv_b.weight: expected shape (228, 64), file has (224, 64)"},
          {"attention.head_count_kv", 4, "attention.head_count_kv: expected 1 to 1, found 4"},
          {"rope.dimension_count", 15, "attention.key_length: expected 79 to 79"},
          {"leading_dense_block_count", 4, "first_k_dense_replace: expected 0 to 3, found 4"},
          {"leading_dense_block_count", 2, "blk.1.ffn_gate.weight is missing"},
          {"expert_shared_count", 2, "ffn_gate_shexp.weight: expected shape (128, 128)"},
          {"expert_group_count", 8,
           "expert_group_count: expected groups of 8 experts that 2 can be chosen from"},
          {"expert_group_used_count", 4, "topk_group: expected 0 to 1, found 4"},
          {"expert_gating_func", 3, "expert_gating_func: expected 1 to 2, found 3"},
          {"expert_used_count", 9, "num_experts_per_tok: expected 1 to 8, found 9"}}) {
        const std::string error =
            load_error([&](Metadata& m) { m.set(std::string("deepseek2.") + key, int64_t{value}); });
        EXPECT_NE(error.find(text), std::string::npos) << key << " " << value << ": " << error;
    }
    EXPECT_NE(load_error([](Metadata& m) {
                  m.set("deepseek2.rope.scaling.type", std::string("yarn"));
              }).find("rope.scaling.factor: missing"),
              std::string::npos);
}

TEST(LatentAttention, ConfigsThatAreNotComputedAreRefused) {
    const std::string config = read_file(golden("glm4-moe-lite") / "config.json");
    for (const auto& [from, to, text] :
         {std::tuple("\"rope_interleave\": true", "\"rope_interleave\": false",
                     "rope_interleave: expected true"),
          {"\"attention_bias\": false", "\"attention_bias\": true", "attention_bias: expected false"},
          {"\"sparse\",", "\"odd\",", "mlp_layer_types: expected a list of dense layers, then sparse ones"},
          {"\"dense\",\n    \"sparse\"", "\"sparse\",\n    \"dense\"", "mlp_layer_types: expected"},
          {"\"n_group\": 1", "\"topk_method\": \"greedy\"", "topk_method: expected \"noaux_tc\""}}) {
        const TemporaryFolder t;
        std::string text_of = config;
        const size_t at = text_of.find(from);
        ASSERT_NE(at, std::string::npos) << from;
        write_file(t.path() / "config.json", text_of.replace(at, std::string_view(from).size(), to));
        fs::create_symlink(fs::absolute(golden("glm4-moe-lite") / "model.safetensors"),
                           t.path() / "model.safetensors");
        std::string error = open_error(t.path());
        if (error.empty()) error = open_model(t.path())->refused.at(0);  // can be looked at, not loaded
        EXPECT_NE(error.find(text), std::string::npos) << error;
    }
}

// One row a token for all heads, and no values beside it.
TEST(LatentAttention, TheCacheHoldsLatentVectorsOnly) {
    const auto backend = make_backend("cpu", {.n_threads = 1});
    const auto model = load_model(open_model(golden("glm4-moe-lite")), *backend);
    constexpr size_t n_layers = 3, row = 64 + 16, half = 2;
    EXPECT_EQ(kv_block_bytes(model->config(), 32, {}).all(), n_layers * 32 * row * half);
    const DeviceRunner runner(*model, *backend, {.n_ctx = 64});
    EXPECT_EQ(runner.kv_bytes(), n_layers * 64 * row * half);
}

}  // namespace
}  // namespace smelt
