// The layers of Qwen3-Next and Qwen3.5: the gated delta rule behind a causal convolution, and attention whose
// output has a gate for each value. Every fourth layer is of the second kind.
#pragma once

#include "model/blocks.h"
#include "model/grouped_attention.h"

namespace smelt {

inline constexpr std::array recurrent_config = {
    ConfigKey{"linear_conv_kernel_dim", "ssm.conv_kernel", KeyType::integer, "conv_kernel"},
    ConfigKey{"linear_key_head_dim", "ssm.state_size", KeyType::integer, "lin_k_dim"},
    ConfigKey{"linear_num_key_heads", "ssm.group_count", KeyType::integer, "lin_k_heads"},
    ConfigKey{"linear_num_value_heads", "ssm.time_step_rank", KeyType::integer, "lin_v_heads"},
    ConfigKey{"linear_value_head_dim", "ssm.value_length", KeyType::integer, "lin_v_dim"},
};

// About the layers that predict further tokens, and the number format of states, which is float32 here.
inline constexpr std::string_view recurrent_unread[] = {"mtp_num_hidden_layers",
                                                        "mtp_use_dedicated_embeddings", "mamba_ssm_dtype"};

// Norms are of 1 + w in Hugging Face files.
constexpr TensorRule one_plus_norm(std::string_view hf, std::string_view gguf) {
    return {hf, gguf, "dim", Presence::always, TensorRole::one_plus};
}
inline constexpr std::array gated_ends_tensors = {
    TensorRule{"model.embed_tokens.weight", "token_embd.weight", "[vocab_size], dim", Presence::always,
               TensorRole::embedding},
    one_plus_norm("model.norm.weight", "output_norm.weight"),
    TensorRule{"lm_head.weight", "output.weight", "[vocab_size], dim", Presence::own_head},
    one_plus_norm("model.layers.{}.input_layernorm.weight", "blk.{}.attn_norm.weight"),
    one_plus_norm("model.layers.{}.post_attention_layernorm.weight", "blk.{}.post_attention_norm.weight"),
};

// Of each head the rows of the query, then those of its gate.
inline constexpr auto gated_attention_tensors =
    joined(std::array{TensorRule{"model.layers.{}.self_attn.q_proj.weight", "blk.{}.attn_q.weight",
                                 "[n_heads] 2 * head_dim, dim", Presence::attention_layers},
                      TensorRule{"model.layers.{}.self_attn.k_proj.weight", "blk.{}.attn_k.weight",
                                 "[n_kv_heads] head_dim, dim", Presence::attention_layers},
                      TensorRule{"model.layers.{}.self_attn.v_proj.weight", "blk.{}.attn_v.weight",
                                 "[n_kv_heads] head_dim, dim", Presence::attention_layers},
                      TensorRule{"model.layers.{}.self_attn.o_proj.weight", "blk.{}.attn_output.weight",
                                 "dim, [n_heads] head_dim", Presence::attention_layers}},
           head_norm_rules("", TensorRole::one_plus, Presence::attention_layers));

// What both families have alike. Every partner of tensor parallelism computes these layers whole.
inline constexpr std::array delta_tensors = {
    TensorRule{"model.layers.{}.linear_attn.conv1d.weight", "blk.{}.ssm_conv1d.weight",
               "2 * lin_k_heads * lin_k_dim + lin_v_heads * lin_v_dim, conv_kernel",
               Presence::recurrent_layers, TensorRole::channels, "", "2 * lin_k_heads * lin_k_dim",
               "lin_v_dim"},
    TensorRule{"model.layers.{}.linear_attn.dt_bias", "blk.{}.ssm_dt.bias", "lin_v_heads",
               Presence::recurrent_layers, TensorRole::plain, "", "", "1"},
    TensorRule{"model.layers.{}.linear_attn.A_log", "blk.{}.ssm_a", "lin_v_heads", Presence::recurrent_layers,
               TensorRole::decay, "", "", "1"},
    TensorRule{"model.layers.{}.linear_attn.norm.weight", "blk.{}.ssm_norm.weight", "lin_v_dim",
               Presence::recurrent_layers},
    TensorRule{"model.layers.{}.linear_attn.out_proj.weight", "blk.{}.ssm_out.weight",
               "dim, lin_v_heads * lin_v_dim", Presence::recurrent_layers, TensorRole::plain, "", "", "",
               "lin_v_dim"},
};

// A mixture with a shared expert that has a gate.
inline constexpr std::array gated_expert_config = {
    ConfigKey{"num_experts", "expert_count", KeyType::integer, "n_experts"},
    ConfigKey{"num_experts_per_tok", "expert_used_count"},
    ConfigKey{"moe_intermediate_size", "expert_feed_forward_length", KeyType::integer, "expert_ffn_dim"},
    ConfigKey{"shared_expert_intermediate_size", "expert_shared_feed_forward_length", KeyType::integer,
              "shared_ffn_dim"},
    ConfigKey{"norm_topk_prob", "expert_weights_norm", KeyType::boolean},
};
inline constexpr auto gated_expert_tensors = joined(
    router_tensor, expert_tensors,
    std::array{TensorRule{"model.layers.{}.mlp.shared_expert.gate_proj.weight",
                          "blk.{}.ffn_gate_shexp.weight", "[shared_ffn_dim], dim"},
               TensorRule{"model.layers.{}.mlp.shared_expert.up_proj.weight", "blk.{}.ffn_up_shexp.weight",
                          "[shared_ffn_dim], dim"},
               TensorRule{"model.layers.{}.mlp.shared_expert.down_proj.weight",
                          "blk.{}.ffn_down_shexp.weight", "dim, [shared_ffn_dim]"},
               TensorRule{"model.layers.{}.mlp.shared_expert_gate.weight", "blk.{}.ffn_gate_inp_shexp.weight",
                          "1, dim", Presence::always, TensorRole::row}});

// The model that is made of these layers and SwiGLU, dense or of experts.
std::unique_ptr<Model> make_gated_delta(WeightLoader& load, const ModelConfig& config);

}  // namespace smelt
