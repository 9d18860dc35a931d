// Blocks that several architectures share: of each the tensors, for families' tables, and the code.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "files/family.h"
#include "model/config.h"
#include "model/step.h"
#include "model/weight_loader.h"

namespace smelt {

// Scaled by head length, with the layer's window.
AttentionParams attention_params(const ModelConfig& c, int64_t layer);

// Token embedding at the one end, final norm and output head (own or tied) at the other.
inline constexpr std::array ends_tensors = {
    TensorRule{"model.embed_tokens.weight", "token_embd.weight", "[vocab_size], dim", Presence::always,
               TensorRole::embedding},
    TensorRule{"model.norm.weight", "output_norm.weight", "dim"},
    TensorRule{"lm_head.weight", "output.weight", "[vocab_size], dim", Presence::own_head},
};

struct Ends {
    Weight token_embd;   // (vocab_size, dim)
    Weight output_norm;  // (dim)
    Weight output;       // (vocab_size, dim); none: token_embd serves

    explicit Ends(WeightLoader& load);
    // Logits, and hidden states, of the rows where they are wanted; residual (n_tokens, dim).
    // With a soft cap logits become soft_cap * tanh(logit / soft_cap).
    void logits(Step& s, Tensor residual, float eps, float soft_cap = 0) const;
};

inline constexpr std::array ffn_norm_tensor = {
    TensorRule{"model.layers.{}.post_attention_layernorm.weight", "blk.{}.ffn_norm.weight", "dim"}};

// Gated feed-forward: down(silu(gate(h)) * up(h)).
inline constexpr std::array swiglu_tensors = {
    TensorRule{"model.layers.{}.mlp.gate_proj.weight", "blk.{}.ffn_gate.weight", "[ffn_dim], dim",
               Presence::dense_layers},
    TensorRule{"model.layers.{}.mlp.up_proj.weight", "blk.{}.ffn_up.weight", "[ffn_dim], dim",
               Presence::dense_layers},
    TensorRule{"model.layers.{}.mlp.down_proj.weight", "blk.{}.ffn_down.weight", "dim, [ffn_dim]",
               Presence::dense_layers},
};

// `flag`: config.json's key that says whether the model has them.
constexpr std::array<TensorRule, 3> swiglu_bias_tensors(std::string_view flag) {
    return {TensorRule{"model.layers.{}.mlp.gate_proj.bias", "blk.{}.ffn_gate.bias", "[ffn_dim]",
                       Presence::dense_layers, TensorRole::plain, flag},
            TensorRule{"model.layers.{}.mlp.up_proj.bias", "blk.{}.ffn_up.bias", "[ffn_dim]",
                       Presence::dense_layers, TensorRole::plain, flag},
            TensorRule{"model.layers.{}.mlp.down_proj.bias", "blk.{}.ffn_down.bias", "dim",
                       Presence::dense_layers, TensorRole::plain, flag}};
}

struct Swiglu {
    Weight ffn_gate, ffn_up;               // (ffn_dim, dim)
    Weight ffn_down;                       // (dim, ffn_dim)
    Weight gate_bias, up_bias, down_bias;  // none in most families

    // `suffix` of the names: "_shexp" for shared experts.
    // Without ffn_gate, ffn_up has the rows of both, those of the gate first.
    explicit Swiglu(const LayerLoader& load, const std::string& suffix = "");
    Tensor operator()(Step& s, Tensor h) const;
};

// Mixture of SwiGLU experts: a router chooses n_experts_used of them for each token; shared ones work for
// all.
inline constexpr std::array router_tensor = {TensorRule{"model.layers.{}.mlp.gate.weight",
                                                        "blk.{}.ffn_gate_inp.weight", "n_experts, dim",
                                                        Presence::expert_layers}};

inline constexpr std::array router_bias_tensor = {
    TensorRule{"model.layers.{}.mlp.gate.e_score_correction_bias", "blk.{}.exp_probs_b.bias", "n_experts",
               Presence::expert_layers}};

inline constexpr std::array expert_tensors = {
    TensorRule{"model.layers.{}.mlp.experts.{}.gate_proj.weight", "blk.{}.ffn_gate_exps.weight",
               "n_experts, [expert_ffn_dim], dim", Presence::expert_layers},
    TensorRule{"model.layers.{}.mlp.experts.{}.up_proj.weight", "blk.{}.ffn_up_exps.weight",
               "n_experts, [expert_ffn_dim], dim", Presence::expert_layers},
    TensorRule{"model.layers.{}.mlp.experts.{}.down_proj.weight", "blk.{}.ffn_down_exps.weight",
               "n_experts, dim, [expert_ffn_dim]", Presence::expert_layers},
};

// Where families number the shared experts and those are of the others' length.
inline constexpr std::array shared_expert_tensors = {
    TensorRule{"model.layers.{}.mlp.shared_experts.gate_proj.weight", "blk.{}.ffn_gate_shexp.weight",
               "[n_shared_experts * expert_ffn_dim], dim", Presence::expert_layers},
    TensorRule{"model.layers.{}.mlp.shared_experts.up_proj.weight", "blk.{}.ffn_up_shexp.weight",
               "[n_shared_experts * expert_ffn_dim], dim", Presence::expert_layers},
    TensorRule{"model.layers.{}.mlp.shared_experts.down_proj.weight", "blk.{}.ffn_down_shexp.weight",
               "dim, [n_shared_experts * expert_ffn_dim]", Presence::expert_layers},
};

struct ExpertSwiglu {
    Weight ffn_gate_inp;                   // (n_experts, dim), the router
    Weight exp_probs_b;                    // (n_experts), its bias for choosing; none in most families
    std::vector<Weight> ffn_gate, ffn_up;  // each (expert_ffn_dim, dim)
    std::vector<Weight> ffn_down;          // each (dim, expert_ffn_dim)
    std::optional<Swiglu> shared;
    Weight ffn_gate_inp_shexp;  // (1, dim), whose sigmoid the shared expert is multiplied by; none in most
    int64_t n_used;
    RouteParams route;  // without the bias

    ExpertSwiglu(const LayerLoader& load, const ModelConfig& c);
    void add_to(Step& s, Tensor x, Tensor h) const;  // x += experts(h)
};

// Either of the two, as the model says of the layer.
struct FeedForward {
    std::optional<Swiglu> dense;
    std::optional<ExpertSwiglu> experts;

    FeedForward(const LayerLoader& load, const ModelConfig& c);
    void add_to(Step& s, Tensor x, Tensor h) const;  // x += ffn(h)
};

// Rotary position embedding with the model's frequencies.
struct Rope {
    Weight inv_freq;       // (rotated values / 2)
    Weight inv_freq_long;  // in its place for contexts beyond short_context; none in most families
    int64_t short_context;
    float scale;
    RopePairing pairing;

    // Of several axes: the frequencies of each among the leading ones, where the axes take turns, and runs of
    // one axis among those after them.
    struct Run {
        Weight inv_freq;
        int axis = 0;
    };
    std::vector<Run> turns, rest;

    Rope(WeightLoader& load, const ModelConfig& c);
    Tensor table(Step& s) const;
};

}  // namespace smelt
