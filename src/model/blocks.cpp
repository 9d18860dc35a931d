// Shared blocks: loading and ops.
#include "model/blocks.h"

#include <fmt/format.h>

#include <cmath>

namespace smelt {

std::string layer_prefix(int64_t layer) {
    return fmt::format("blk.{}.", layer);
}

AttentionParams attention_params(const ModelConfig& c, int64_t layer) {
    return {.scale = 1 / std::sqrt(static_cast<float>(c.head_dim)), .window = c.window_of(layer)};
}

Ends::Ends(WeightLoader& load, const ModelConfig& c)
    : token_embd(load.embedding("token_embd.weight", c.vocab_size, c.dim, !load.has("output.weight"))),
      output_norm(load.vector("output_norm.weight", c.dim)) {
    if (load.has("output.weight")) output = load.matrix("output.weight", c.vocab_size, c.dim);
}

void Ends::logits(Step& s, Tensor residual, float eps) const {
    if (s.wants_hidden()) s.set_hidden(s.rms_norm(s.hidden_rows(residual), output_norm, eps));
    if (!s.wants_logits()) return;
    s.set_logits(
        s.matmul(output ? output : token_embd, s.rms_norm(s.wanted_rows(residual), output_norm, eps)));
}

Swiglu::Swiglu(WeightLoader& load, const std::string& prefix, const std::string& suffix, int64_t dim,
               int64_t ffn_dim)
    : ffn_gate(load.matrix(prefix + "ffn_gate" + suffix + ".weight", ffn_dim, dim)),
      ffn_up(load.matrix(prefix + "ffn_up" + suffix + ".weight", ffn_dim, dim)),
      ffn_down(load.matrix(prefix + "ffn_down" + suffix + ".weight", dim, ffn_dim)) {}

Tensor Swiglu::operator()(Step& s, Tensor h) const {
    const auto [gate, up] = s.matmul2(ffn_gate, ffn_up, h);
    return s.matmul(ffn_down, s.silu_mul(gate, up));
}

ExpertSwiglu::ExpertSwiglu(WeightLoader& load, const std::string& prefix, const ModelConfig& c)
    : ffn_gate_inp(load.matrix(prefix + "ffn_gate_inp.weight", c.n_experts, c.dim)),
      ffn_gate(load.experts(prefix, "ffn_gate", c.n_experts, c.n_experts_used, c.expert_ffn_dim, c.dim)),
      ffn_up(load.experts(prefix, "ffn_up", c.n_experts, c.n_experts_used, c.expert_ffn_dim, c.dim)),
      ffn_down(load.experts(prefix, "ffn_down", c.n_experts, c.n_experts_used, c.dim, c.expert_ffn_dim)),
      n_used(c.n_experts_used),
      route{.score = c.expert_score, .normalize = c.norm_expert_weights, .scale = c.expert_weights_scale} {
    if (load.has(prefix + "exp_probs_b.bias")) {
        exp_probs_b = load.vector(prefix + "exp_probs_b.bias", c.n_experts);
    }
    if (c.n_shared_experts > 0) {
        shared.emplace(load, prefix, "_shexp", c.dim, c.n_shared_experts * c.expert_ffn_dim);
    }
}

void ExpertSwiglu::add_to(Step& s, Tensor x, Tensor h) const {
    if (shared) s.add(x, (*shared)(s, h));
    RouteParams p = route;
    if (exp_probs_b) p.selection_bias = &exp_probs_b;
    const Step::Routed routed = s.route(s.matmul(ffn_gate_inp, h), n_used, p);
    const auto [gate, up] = s.matmul_experts2(ffn_gate, ffn_up, h, routed);
    s.add_experts(x, s.matmul_experts(ffn_down, s.silu_mul(gate, up), routed), routed);
}

FeedForward::FeedForward(WeightLoader& load, int64_t layer, const ModelConfig& c) {
    if (c.n_experts > 0 && layer >= c.n_dense_layers) {
        experts.emplace(load, layer_prefix(layer), c);
    } else {
        dense.emplace(load, layer_prefix(layer), c);
    }
}

void FeedForward::add_to(Step& s, Tensor x, Tensor h) const {
    if (experts) {
        experts->add_to(s, x, h);
    } else {
        s.add(x, (*dense)(s, h));
    }
}

Rope::Rope(WeightLoader& load, const ModelConfig& c)
    : inv_freq(load.vector(c.rope_inv_freq)), scale(c.rope_scale), pairing(c.rope_pairing) {}

}  // namespace smelt
