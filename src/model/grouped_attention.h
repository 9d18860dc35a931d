// Grouped-query attention with RoPE, as Llama, Qwen2, Qwen3 and those after them have it: norm, q, k and v,
// attention, output. Where a family has biases or norms of each head, the weights are there.
#pragma once

#include "model/blocks.h"

namespace smelt {

inline constexpr std::array projection_tensors = {
    TensorRule{"model.layers.{}.self_attn.q_proj.weight", "blk.{}.attn_q.weight", "[n_heads] head_dim, dim",
               Presence::always, TensorRole::rotary},
    TensorRule{"model.layers.{}.self_attn.k_proj.weight", "blk.{}.attn_k.weight",
               "[n_kv_heads] head_dim, dim", Presence::always, TensorRole::rotary},
    TensorRule{"model.layers.{}.self_attn.v_proj.weight", "blk.{}.attn_v.weight",
               "[n_kv_heads] head_dim, dim"},
    TensorRule{"model.layers.{}.self_attn.o_proj.weight", "blk.{}.attn_output.weight",
               "dim, [n_heads] head_dim"},
};

inline constexpr auto attention_tensors =
    joined(std::array{TensorRule{"model.layers.{}.input_layernorm.weight", "blk.{}.attn_norm.weight", "dim"}},
           projection_tensors);

// `flag` as below.
constexpr std::array<TensorRule, 2> head_norm_rules(std::string_view flag,
                                                    TensorRole role = TensorRole::plain,
                                                    Presence presence = Presence::always) {
    return {TensorRule{"model.layers.{}.self_attn.q_norm.weight", "blk.{}.attn_q_norm.weight", "head_dim",
                       presence, role, flag},
            TensorRule{"model.layers.{}.self_attn.k_norm.weight", "blk.{}.attn_k_norm.weight", "head_dim",
                       presence, role, flag}};
}
inline constexpr std::array head_norm_tensors = head_norm_rules("");

// One matrix of q, k and v.
inline constexpr std::array joined_attention_tensors = {
    TensorRule{"model.layers.{}.input_layernorm.weight", "blk.{}.attn_norm.weight", "dim"},
    TensorRule{"model.layers.{}.self_attn.qkv_proj.weight", "blk.{}.attn_qkv.weight",
               "n_heads * head_dim + 2 * n_kv_heads * head_dim, dim"},
    TensorRule{"model.layers.{}.self_attn.o_proj.weight", "blk.{}.attn_output.weight",
               "dim, [n_heads] head_dim"},
};

// `flag`: config.json's key that says whether the model has them; empty: it always has.
constexpr std::array<TensorRule, 3> qkv_bias_tensors(std::string_view flag) {
    return {TensorRule{"model.layers.{}.self_attn.q_proj.bias", "blk.{}.attn_q.bias", "[n_heads] head_dim",
                       Presence::always, TensorRole::rotary, flag},
            TensorRule{"model.layers.{}.self_attn.k_proj.bias", "blk.{}.attn_k.bias", "[n_kv_heads] head_dim",
                       Presence::always, TensorRole::rotary, flag},
            TensorRule{"model.layers.{}.self_attn.v_proj.bias", "blk.{}.attn_v.bias", "[n_kv_heads] head_dim",
                       Presence::always, TensorRole::plain, flag}};
}

constexpr std::array<TensorRule, 1> output_bias_tensor(std::string_view flag) {
    return {TensorRule{"model.layers.{}.self_attn.o_proj.bias", "blk.{}.attn_output.bias", "dim",
                       Presence::always, TensorRole::plain, flag}};
}

struct GroupedAttention {
    Weight attn_norm;                            // (dim)
    Weight attn_q;                               // (n_heads * head_dim, dim)
    Weight attn_k, attn_v;                       // (n_kv_heads * head_dim, dim)
    Weight attn_output;                          // (dim, n_heads * head_dim)
    Weight q_bias, k_bias, v_bias, output_bias;  // none in most families
    Weight attn_q_norm, attn_k_norm;             // (head_dim), one for all heads; none in most families
    Weight attn_sinks;                           // (n_heads); none in most families

    explicit GroupedAttention(LayerLoader& load, const ModelConfig& c);
    // What attention adds to x, the residual stream; x itself stays. Without angles nothing is rotated.
    Tensor operator()(Step& s, Tensor x, int64_t layer, const ModelConfig& c, RopePairing pairing,
                      Tensor angles, float soft_cap = 0) const;
};

// Layers of grouped-query attention and SwiGLU, dense or of experts, with an RMS norm before each.
std::unique_ptr<Model> make_decoder(WeightLoader& load, const ModelConfig& config);
// The same with layers that rotate nothing: (n_layers), empty: all rotate.
std::unique_ptr<Model> make_decoder(WeightLoader& load, const ModelConfig& config, std::vector<bool> rotated);

}  // namespace smelt
