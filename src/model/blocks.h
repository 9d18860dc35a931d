// Blocks that several architectures share.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "model/config.h"
#include "model/step.h"
#include "model/weight_loader.h"

namespace smelt {

// "blk.3." for layer 3.
std::string layer_prefix(int64_t layer);

// Scaled by head length, with the layer's window.
AttentionParams attention_params(const ModelConfig& c, int64_t layer);

// Token embedding at the one end, final norm and output head (own or tied) at the other.
struct Ends {
    Weight token_embd;   // (vocab_size, dim)
    Weight output_norm;  // (dim)
    Weight output;       // (vocab_size, dim); none: token_embd serves

    Ends(WeightLoader& load, const ModelConfig& c);
    // Logits, and hidden states, of the rows where they are wanted; residual (n_tokens, dim).
    void logits(Step& s, Tensor residual, float eps) const;
};

// Gated feed-forward: down(silu(gate(h)) * up(h)).
struct Swiglu {
    Weight ffn_gate, ffn_up;  // (ffn_dim, dim)
    Weight ffn_down;          // (dim, ffn_dim)

    Swiglu(WeightLoader& load, const std::string& prefix, const ModelConfig& c)
        : Swiglu(load, prefix, "", c.dim, c.ffn_dim) {}
    // `suffix` of the names: "_shexp" for shared experts.
    Swiglu(WeightLoader& load, const std::string& prefix, const std::string& suffix, int64_t dim,
           int64_t ffn_dim);
    Tensor operator()(Step& s, Tensor h) const;
};

// Mixture of SwiGLU experts: a router chooses n_experts_used of them for each token; shared ones work for
// all.
struct ExpertSwiglu {
    Weight ffn_gate_inp;                   // (n_experts, dim), the router
    Weight exp_probs_b;                    // (n_experts), its bias for choosing; none in most families
    std::vector<Weight> ffn_gate, ffn_up;  // each (expert_ffn_dim, dim)
    std::vector<Weight> ffn_down;          // each (dim, expert_ffn_dim)
    std::optional<Swiglu> shared;
    int64_t n_used;
    RouteParams route;  // without the bias

    ExpertSwiglu(WeightLoader& load, const std::string& prefix, const ModelConfig& c);
    void add_to(Step& s, Tensor x, Tensor h) const;  // x += experts(h)
};

// Either of the two, as the model says of the layer.
struct FeedForward {
    std::optional<Swiglu> dense;
    std::optional<ExpertSwiglu> experts;

    FeedForward(WeightLoader& load, int64_t layer, const ModelConfig& c);
    void add_to(Step& s, Tensor x, Tensor h) const;  // x += ffn(h)
};

// Rotary position embedding with the model's frequencies.
struct Rope {
    Weight inv_freq;  // (head_dim / 2)
    float scale;
    RopePairing pairing;

    Rope(WeightLoader& load, const ModelConfig& c);
    Tensor table(Step& s) const { return s.rope_table(inv_freq, scale); }
};

}  // namespace smelt
