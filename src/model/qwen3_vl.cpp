// Qwen3-VL, dense and mixture: Qwen3 whose rotation has axes of time, row and column, and whose first layers
// get features of pictures besides. The tower that makes these is Qwen3.5's too; its code is in
// vision_tower.cpp.
#include "model/architectures.h"
#include "model/grouped_attention.h"

namespace smelt::families {

namespace {

constexpr auto attention = joined(ends_tensors, attention_tensors, qkv_bias_tensors("attention_bias"),
                                  output_bias_tensor("attention_bias"), head_norm_tensors, ffn_norm_tensor);
constexpr std::array deep_config = {
    ConfigKey{"", "n_deepstack_layers", KeyType::integer, "n_deepstack_layers", true}};

constexpr auto dense_config = joined(decoder_config, grouped_config, deep_config);
constexpr auto dense_tensors = joined(attention, swiglu_tensors);
constexpr PublishedModel dense_published[] = {
    {"qwen3-vl-2b",
     R"({"num_hidden_layers": 28, "hidden_size": 2048, "intermediate_size": 6144, "num_attention_heads": 16,
         "num_key_value_heads": 8, "tie_word_embeddings": true})"},
    {"qwen3-vl-4b",
     R"({"num_hidden_layers": 36, "hidden_size": 2560, "intermediate_size": 9728, "num_attention_heads": 32,
         "num_key_value_heads": 8, "tie_word_embeddings": true})"},
    {"qwen3-vl-8b",
     R"({"num_hidden_layers": 36, "hidden_size": 4096, "intermediate_size": 12288, "num_attention_heads": 32,
         "num_key_value_heads": 8})"},
    {"qwen3-vl-32b",
     R"({"num_hidden_layers": 64, "hidden_size": 5120, "intermediate_size": 25600, "num_attention_heads": 64,
         "num_key_value_heads": 8})"},
};

constexpr auto moe_config = joined(
    decoder_config, grouped_config, deep_config,
    std::array{
        ConfigKey{"num_experts", "expert_count", KeyType::integer, "n_experts"},
        ConfigKey{"num_experts_per_tok", "expert_used_count"},
        ConfigKey{"moe_intermediate_size", "expert_feed_forward_length", KeyType::integer, "expert_ffn_dim"},
        ConfigKey{"norm_topk_prob", "expert_weights_norm", KeyType::boolean}});
constexpr auto moe_tensors = joined(attention, router_tensor, expert_tensors);
constexpr PublishedModel moe_published[] = {
    {"qwen3-vl-30b-a3b",
     R"({"num_hidden_layers": 48, "hidden_size": 2048, "intermediate_size": 6144, "num_attention_heads": 32,
         "num_key_value_heads": 4, "num_experts": 128, "num_experts_per_tok": 8, "moe_intermediate_size": 768})"},
    {"qwen3-vl-235b-a22b",
     R"({"num_hidden_layers": 94, "hidden_size": 4096, "intermediate_size": 12288, "num_attention_heads": 64,
         "num_key_value_heads": 4, "num_experts": 128, "num_experts_per_tok": 8, "moe_intermediate_size": 1536})"},
};

constexpr std::array tower_config = {
    ConfigKey{"depth", "vision.block_count", KeyType::integer, "n_layers"},
    ConfigKey{"hidden_size", "vision.embedding_length", KeyType::integer, "dim"},
    ConfigKey{"intermediate_size", "vision.feed_forward_length", KeyType::integer, "ffn_dim"},
    ConfigKey{"num_heads", "vision.attention.head_count"},
    ConfigKey{"out_hidden_size", "vision.projection_dim", KeyType::integer, "out_dim"},
    ConfigKey{"num_position_embeddings", "vision.n_positions", KeyType::integer, "n_positions"},
    ConfigKey{"patch_size", "vision.patch_size", KeyType::integer, "patch_size"},
    ConfigKey{"spatial_merge_size", "vision.spatial_merge_size", KeyType::integer, "merge"},
    ConfigKey{"deepstack_visual_indexes", "vision.deepstack_layers", KeyType::integers, {}, true},
};

// A weight and a bias.
constexpr std::array<TensorRule, 2> pair(std::string_view hf_weight, std::string_view weight,
                                         std::string_view shape, std::string_view hf_bias,
                                         std::string_view bias, std::string_view n,
                                         Presence presence = Presence::always) {
    return {TensorRule{hf_weight, weight, shape, presence}, TensorRule{hf_bias, bias, n, presence}};
}

constexpr auto tower_tensors = joined(
    pair("model.visual.patch_embed.proj.weight", "v.patch_embd.weight",
         "dim, 3 * 2 * patch_size * patch_size", "model.visual.patch_embed.proj.bias", "v.patch_embd.bias",
         "dim"),
    std::array{TensorRule{"model.visual.pos_embed.weight", "v.position_embd.weight", "n_positions, dim",
                          Presence::always, TensorRole::embedding}},
    pair("model.visual.blocks.{}.norm1.weight", "v.blk.{}.ln1.weight", "dim",
         "model.visual.blocks.{}.norm1.bias", "v.blk.{}.ln1.bias", "dim"),
    pair("model.visual.blocks.{}.norm2.weight", "v.blk.{}.ln2.weight", "dim",
         "model.visual.blocks.{}.norm2.bias", "v.blk.{}.ln2.bias", "dim"),
    pair("model.visual.blocks.{}.attn.qkv.weight", "v.blk.{}.attn_qkv.weight", "3 * dim, dim",
         "model.visual.blocks.{}.attn.qkv.bias", "v.blk.{}.attn_qkv.bias", "3 * dim"),
    pair("model.visual.blocks.{}.attn.proj.weight", "v.blk.{}.attn_out.weight", "dim, dim",
         "model.visual.blocks.{}.attn.proj.bias", "v.blk.{}.attn_out.bias", "dim"),
    pair("model.visual.blocks.{}.mlp.linear_fc1.weight", "v.blk.{}.ffn_up.weight", "ffn_dim, dim",
         "model.visual.blocks.{}.mlp.linear_fc1.bias", "v.blk.{}.ffn_up.bias", "ffn_dim"),
    pair("model.visual.blocks.{}.mlp.linear_fc2.weight", "v.blk.{}.ffn_down.weight", "dim, ffn_dim",
         "model.visual.blocks.{}.mlp.linear_fc2.bias", "v.blk.{}.ffn_down.bias", "dim"),
    pair("model.visual.merger.norm.weight", "v.post_ln.weight", "dim", "model.visual.merger.norm.bias",
         "v.post_ln.bias", "dim"),
    pair("model.visual.merger.linear_fc1.weight", "mm.0.weight", "merge * merge * dim, merge * merge * dim",
         "model.visual.merger.linear_fc1.bias", "mm.0.bias", "merge * merge * dim"),
    pair("model.visual.merger.linear_fc2.weight", "mm.2.weight", "out_dim, merge * merge * dim",
         "model.visual.merger.linear_fc2.bias", "mm.2.bias", "out_dim"),
    // Hugging Face counts these mergers, GGUF has the layers after which they are.
    pair("model.visual.deepstack_merger_list.{}.norm.weight", "v.deepstack.{}.norm.weight",
         "merge * merge * dim", "model.visual.deepstack_merger_list.{}.norm.bias", "v.deepstack.{}.norm.bias",
         "merge * merge * dim", Presence::optional),
    pair("model.visual.deepstack_merger_list.{}.linear_fc1.weight", "v.deepstack.{}.fc1.weight",
         "merge * merge * dim, merge * merge * dim", "model.visual.deepstack_merger_list.{}.linear_fc1.bias",
         "v.deepstack.{}.fc1.bias", "merge * merge * dim", Presence::optional),
    pair("model.visual.deepstack_merger_list.{}.linear_fc2.weight", "v.deepstack.{}.fc2.weight",
         "out_dim, merge * merge * dim", "model.visual.deepstack_merger_list.{}.linear_fc2.bias",
         "v.deepstack.{}.fc2.bias", "out_dim", Presence::optional));

}  // namespace

constinit const Family qwen3_vision = {
    .models = "vision tower of Qwen3-VL and Qwen3.5",
    .tokenizer = "",
    .architecture = "clip",
    .model_type = "qwen3_vl_vision",
    .hf_class = "",
    .config = tower_config,
    .tensors = tower_tensors,
    .defaults = R"({"depth": 27, "hidden_size": 1152, "intermediate_size": 4304, "num_heads": 16,
                    "out_hidden_size": 3584, "num_position_embeddings": 2304, "patch_size": 16,
                    "spatial_merge_size": 2})",
    .must = R"({"hidden_act": "gelu_pytorch_tanh", "in_channels": 3, "temporal_patch_size": 2,
                "rope_parameters": {"rope_theta": 10000.0, "rope_type": "axial"}})",
    .rotary = false,
};

constinit const Family qwen3_vl = {
    .models = "Qwen3-VL 2B to 32B",
    .tokenizer = "byte-level BPE",
    .architecture = "qwen3vl",
    .model_type = "qwen3_vl_text",
    .hf_class = "Qwen3VLForConditionalGeneration",
    .config = dense_config,
    .tensors = dense_tensors,
    .published = dense_published,
    .defaults = R"({"num_key_value_heads": 32, "head_dim": 128, "vocab_size": 151936, "rope_theta": 5000000.0,
                    "max_position_embeddings": 262144})",
    .constants = R"({"rope.dimension_sections": [24, 20, 20, 0]})",
    .wrapper_type = "qwen3_vl",
    .tower = &qwen3_vision,
    .make = make_decoder,
};

constinit const Family qwen3_vl_moe = {
    .models = "Qwen3-VL 30B-A3B, 235B-A22B",
    .tokenizer = "byte-level BPE",
    .architecture = "qwen3vlmoe",
    .model_type = "qwen3_vl_moe_text",
    .hf_class = "Qwen3VLMoeForConditionalGeneration",
    .config = moe_config,
    .tensors = moe_tensors,
    .published = moe_published,
    .defaults = R"({"num_key_value_heads": 16, "head_dim": 128, "vocab_size": 151936, "rope_theta": 5000000.0,
                    "max_position_embeddings": 262144, "num_experts": 60, "num_experts_per_tok": 4,
                    "moe_intermediate_size": 1408, "norm_topk_prob": true})",
    .gguf_defaults = R"({"expert_weights_norm": true})",
    .constants = R"({"rope.dimension_sections": [24, 20, 20, 0]})",
    .wrapper_type = "qwen3_vl_moe",
    .tower = &qwen3_vision,
    .must = R"({"hidden_act": "silu", "decoder_sparse_step": 1, "mlp_only_layers": []})",
    .mixture = true,
    .make = make_decoder,
};

}  // namespace smelt::families
