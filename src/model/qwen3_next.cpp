// Qwen3-Next: layers of the gated delta rule, every fourth one gated attention, and a mixture of experts.
#include "model/architectures.h"
#include "model/gated_delta.h"

namespace smelt::families {

namespace {

constexpr auto config = joined(decoder_config, grouped_config, recurrent_config, gated_expert_config);
// Hugging Face has q, k, v and gates of each key head together; older GGUF files too.
constexpr auto tensors = joined(
    gated_ends_tensors, gated_attention_tensors, delta_tensors,
    std::array{
        TensorRule{"model.layers.{}.linear_attn.in_proj_qkvz.weight", "blk.{}.ssm_in.weight",
                   "2 * lin_k_heads * lin_k_dim + 2 * lin_v_heads * lin_v_dim, dim",
                   Presence::hugging_face_recurrent},
        TensorRule{"", "blk.{}.attn_qkv.weight", "2 * lin_k_heads * lin_k_dim + lin_v_heads * lin_v_dim, dim",
                   Presence::gguf_recurrent},
        TensorRule{"", "blk.{}.attn_gate.weight", "lin_v_heads * lin_v_dim, dim", Presence::gguf_recurrent},
        TensorRule{"model.layers.{}.linear_attn.in_proj_ba.weight", "blk.{}.ssm_ba.weight",
                   "2 * lin_v_heads, dim", Presence::recurrent_layers}},
    gated_expert_tensors);
constexpr PublishedModel published[] = {
    {"qwen3-next-80b-a3b",
     R"({"num_hidden_layers": 48, "hidden_size": 2048, "intermediate_size": 5120, "num_attention_heads": 16,
         "vocab_size": 151936, "max_position_embeddings": 262144, "rope_theta": 10000000.0,
         "norm_topk_prob": true})"},
};

}  // namespace

constinit const Family qwen3_next = {
    .models = "Qwen3-Next 80B-A3B",
    .tokenizer = "byte-level BPE",
    .architecture = "qwen3next",
    .model_type = "qwen3_next",
    .hf_class = "Qwen3NextForCausalLM",
    .config = config,
    .tensors = tensors,
    .published = published,
    .defaults = R"({"num_key_value_heads": 2, "head_dim": 256, "partial_rotary_factor": 0.25,
                    "linear_conv_kernel_dim": 4, "linear_key_head_dim": 128, "linear_value_head_dim": 128,
                    "linear_num_key_heads": 16, "linear_num_value_heads": 32, "num_experts": 512,
                    "num_experts_per_tok": 10, "moe_intermediate_size": 512,
                    "shared_expert_intermediate_size": 512, "norm_topk_prob": true})",
    .gguf_defaults = R"({"expert_weights_norm": true})",
    .must =
        R"({"hidden_act": "silu", "attention_bias": false, "decoder_sparse_step": 1, "mlp_only_layers": []})",
    .unread = recurrent_unread,
    .mixture = true,
    .partial_rotary = true,
    .prediction_layers = true,
    .recurrent = true,
    .make = make_gated_delta,
};

}  // namespace smelt::families
