// Shared blocks: loading and ops.
#include "model/blocks.h"

#include <fmt/core.h>

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
    if (!s.wants_logits()) return;
    s.set_logits(
        s.matmul(output ? output : token_embd, s.rms_norm(s.wanted_rows(residual), output_norm, eps)));
}

Swiglu::Swiglu(WeightLoader& load, const std::string& prefix, const ModelConfig& c)
    : ffn_gate(load.matrix(prefix + "ffn_gate.weight", c.ffn_dim, c.dim)),
      ffn_up(load.matrix(prefix + "ffn_up.weight", c.ffn_dim, c.dim)),
      ffn_down(load.matrix(prefix + "ffn_down.weight", c.dim, c.ffn_dim)) {}

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
      route{.normalize = c.norm_expert_weights} {}

void ExpertSwiglu::add_to(Step& s, Tensor x, Tensor h) const {
    const Step::Routed routed = s.route(s.matmul(ffn_gate_inp, h), n_used, route);
    const auto [gate, up] = s.matmul_experts2(ffn_gate, ffn_up, h, routed);
    s.add_experts(x, s.matmul_experts(ffn_down, s.silu_mul(gate, up), routed), routed);
}

FeedForward::FeedForward(WeightLoader& load, const std::string& prefix, const ModelConfig& c) {
    if (c.n_experts > 0) {
        experts.emplace(load, prefix, c);
    } else {
        dense.emplace(load, prefix, c);
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
