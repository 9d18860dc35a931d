// Qwen3.5, dense and mixture: Qwen3-Next's layers with projections of their own for q, k and v, the gate, a
// and b. GGUF has the value heads of the delta rule tiled over the key heads.
#include "model/architectures.h"
#include "model/gated_delta.h"

namespace smelt::families {

namespace {

constexpr std::array projections = {
    TensorRule{"model.layers.{}.linear_attn.in_proj_qkv.weight", "blk.{}.attn_qkv.weight",
               "2 * lin_k_heads * lin_k_dim + lin_v_heads * lin_v_dim, dim", Presence::recurrent_layers,
               TensorRole::plain, "", "2 * lin_k_heads * lin_k_dim", "lin_v_dim"},
    TensorRule{"model.layers.{}.linear_attn.in_proj_z.weight", "blk.{}.attn_gate.weight",
               "lin_v_heads * lin_v_dim, dim", Presence::recurrent_layers, TensorRole::plain, "", "",
               "lin_v_dim"},
    TensorRule{"model.layers.{}.linear_attn.in_proj_b.weight", "blk.{}.ssm_beta.weight", "lin_v_heads, dim",
               Presence::recurrent_layers, TensorRole::plain, "", "", "1"},
    TensorRule{"model.layers.{}.linear_attn.in_proj_a.weight", "blk.{}.ssm_alpha.weight", "lin_v_heads, dim",
               Presence::recurrent_layers, TensorRole::plain, "", "", "1"},
};
constexpr auto dense_config = joined(decoder_config, grouped_config, recurrent_config);
constexpr auto dense_tensors =
    joined(gated_ends_tensors, gated_attention_tensors, delta_tensors, projections, swiglu_tensors);
constexpr auto moe_config = joined(decoder_config, grouped_config, recurrent_config, gated_expert_config);
constexpr auto moe_tensors =
    joined(gated_ends_tensors, gated_attention_tensors, delta_tensors, projections, gated_expert_tensors);

constexpr PublishedModel dense_published[] = {
    {"qwen3.5-0.8b",
     R"({"num_hidden_layers": 24, "hidden_size": 1024, "intermediate_size": 3584, "num_attention_heads": 8,
         "num_key_value_heads": 2, "linear_num_value_heads": 16, "tie_word_embeddings": true})"},
    {"qwen3.5-2b",
     R"({"num_hidden_layers": 24, "hidden_size": 2048, "intermediate_size": 6144, "num_attention_heads": 8,
         "num_key_value_heads": 2, "linear_num_value_heads": 16, "tie_word_embeddings": true})"},
    {"qwen3.5-4b",
     R"({"num_hidden_layers": 32, "hidden_size": 2560, "intermediate_size": 9216, "num_attention_heads": 16,
         "tie_word_embeddings": true})"},
    {"qwen3.5-9b",
     R"({"num_hidden_layers": 32, "hidden_size": 4096, "intermediate_size": 12288, "num_attention_heads": 16})"},
    {"qwen3.5-27b",
     R"({"num_hidden_layers": 64, "hidden_size": 5120, "intermediate_size": 17408, "num_attention_heads": 24,
         "linear_num_value_heads": 48})"},
};
constexpr PublishedModel moe_published[] = {
    {"qwen3.5-35b-a3b", R"({"num_hidden_layers": 40, "hidden_size": 2048, "num_attention_heads": 16})"},
    {"qwen3.5-122b-a10b",
     R"({"num_hidden_layers": 48, "hidden_size": 3072, "num_attention_heads": 32, "linear_num_value_heads": 64,
         "moe_intermediate_size": 1024, "shared_expert_intermediate_size": 1024})"},
    {"qwen3.5-397b-a17b",
     R"({"num_hidden_layers": 60, "hidden_size": 4096, "num_attention_heads": 32, "linear_num_value_heads": 64,
         "num_experts": 512, "num_experts_per_tok": 10, "moe_intermediate_size": 1024,
         "shared_expert_intermediate_size": 1024})"},
};

}  // namespace

constinit const Family qwen3_5 = {
    .models = "Qwen3.5 0.8B to 27B",
    .tokenizer = "byte-level BPE",
    .architecture = "qwen35",
    .model_type = "qwen3_5_text",
    .hf_class = "Qwen3_5ForCausalLM",
    .config = dense_config,
    .tensors = dense_tensors,
    .published = dense_published,
    .defaults = R"({"vocab_size": 248320, "num_key_value_heads": 4, "head_dim": 256,
                    "max_position_embeddings": 262144, "rope_theta": 10000000.0, "partial_rotary_factor": 0.25,
                    "linear_conv_kernel_dim": 4, "linear_key_head_dim": 128, "linear_value_head_dim": 128,
                    "linear_num_key_heads": 16, "linear_num_value_heads": 32})",
    .constants = R"({"rope.dimension_sections": [11, 11, 10, 0]})",
    .wrapper_type = "qwen3_5",
    .tower = &qwen3_vision,
    .must = R"({"hidden_act": "silu", "attention_bias": false, "attn_output_gate": true})",
    .unread = recurrent_unread,
    .partial_rotary = true,
    .prediction_layers = true,
    .recurrent = true,
    .tiled_in_gguf = true,
    .make = make_gated_delta,
};

constinit const Family qwen3_5_moe = {
    .models = "Qwen3.5 35B-A3B to 397B-A17B",
    .tokenizer = "byte-level BPE",
    .architecture = "qwen35moe",
    .model_type = "qwen3_5_moe_text",
    .hf_class = "Qwen3_5MoeForCausalLM",
    .config = moe_config,
    .tensors = moe_tensors,
    .published = moe_published,
    .defaults = R"({"vocab_size": 248320, "num_key_value_heads": 2, "head_dim": 256,
                    "max_position_embeddings": 262144, "rope_theta": 10000000.0, "partial_rotary_factor": 0.25,
                    "linear_conv_kernel_dim": 4, "linear_key_head_dim": 128, "linear_value_head_dim": 128,
                    "linear_num_key_heads": 16, "linear_num_value_heads": 32, "num_experts": 256,
                    "num_experts_per_tok": 8, "moe_intermediate_size": 512,
                    "shared_expert_intermediate_size": 512, "norm_topk_prob": true})",
    .gguf_defaults = R"({"expert_weights_norm": true})",
    .constants = R"({"rope.dimension_sections": [11, 11, 10, 0]})",
    .wrapper_type = "qwen3_5_moe",
    .tower = &qwen3_vision,
    .must = R"({"hidden_act": "silu", "attention_bias": false, "attn_output_gate": true})",
    .unread = recurrent_unread,
    .mixture = true,
    .partial_rotary = true,
    .prediction_layers = true,
    .recurrent = true,
    .tiled_in_gguf = true,
    .make = make_gated_delta,
};

}  // namespace smelt::families
