// Shared blocks: loading and ops.
#include "model/blocks.h"

namespace smelt {

AttentionParams attention_params(const ModelConfig& c, int64_t layer) {
    return {.scale = c.attention_scale, .window = c.window_of(layer)};
}

Ends::Ends(WeightLoader& load)
    : token_embd(load("token_embd.weight")),
      output_norm(load("output_norm.weight")),
      output(load.if_present("output.weight")) {}

void Ends::logits(Step& s, Tensor residual, float eps, float soft_cap) const {
    if (s.wants_hidden()) s.set_hidden(s.rms_norm(s.hidden_rows(residual), output_norm, eps));
    if (!s.wants_logits()) return;
    const Tensor logits =
        s.matmul(output ? output : token_embd, s.rms_norm(s.wanted_rows(residual), output_norm, eps));
    if (soft_cap > 0) s.soft_cap(logits, soft_cap);
    s.set_logits(logits);
}

Swiglu::Swiglu(const LayerLoader& load, const std::string& suffix)
    : ffn_gate(load.has("ffn_gate" + suffix + ".weight")
                   ? load("ffn_gate" + suffix + ".weight")
                   : load.part("ffn_up" + suffix + ".weight", {.first = 0, .n = 1, .of = 2})),
      ffn_up(load.has("ffn_gate" + suffix + ".weight")
                 ? load("ffn_up" + suffix + ".weight")
                 : load.part("ffn_up" + suffix + ".weight", {.first = 1, .n = 1, .of = 2})),
      ffn_down(load("ffn_down" + suffix + ".weight")),
      gate_bias(load.if_present("ffn_gate" + suffix + ".bias")),
      up_bias(load.if_present("ffn_up" + suffix + ".bias")),
      down_bias(load.if_present("ffn_down" + suffix + ".bias")) {}

Tensor Swiglu::operator()(Step& s, Tensor h) const {
    if (gate_bias || up_bias) {
        const Tensor gate = s.matmul(ffn_gate, h, gate_bias), up = s.matmul(ffn_up, h, up_bias);
        return s.matmul(ffn_down, s.silu_mul(gate, up), down_bias);
    }
    const auto [gate, up] = s.matmul2(ffn_gate, ffn_up, h);
    return s.matmul(ffn_down, s.silu_mul(gate, up), down_bias);
}

ExpertSwiglu::ExpertSwiglu(const LayerLoader& load, const ModelConfig& c)
    : ffn_gate_inp(load("ffn_gate_inp.weight")),
      exp_probs_b(load.if_present("exp_probs_b.bias")),
      ffn_gate(load.experts("ffn_gate_exps.weight")),
      ffn_up(load.experts("ffn_up_exps.weight")),
      ffn_down(load.experts("ffn_down_exps.weight")),
      ffn_gate_inp_shexp(load.if_present("ffn_gate_inp_shexp.weight")),
      n_used(c.n_experts_used),
      route{.score = c.expert_score,
            .normalize = c.norm_expert_weights,
            .scale = c.expert_weights_scale,
            .n_groups = c.n_expert_groups,
            .n_groups_used = c.n_expert_groups_used} {
    if (c.n_shared_experts > 0 || ffn_gate_inp_shexp) shared.emplace(load, "_shexp");
}

void ExpertSwiglu::add_to(Step& s, Tensor x, Tensor h) const {
    if (shared) {
        const Tensor own = (*shared)(s, h);
        s.add(x, ffn_gate_inp_shexp ? s.sigmoid_mul(s.matmul(ffn_gate_inp_shexp, h), own) : own);
    }
    RouteParams p = route;
    if (exp_probs_b) p.selection_bias = &exp_probs_b;
    const Step::Routed routed = s.route(s.matmul(ffn_gate_inp, h), n_used, p);
    const auto [gate, up] = s.matmul_experts2(ffn_gate, ffn_up, h, routed);
    s.add_experts(x, s.matmul_experts(ffn_down, s.silu_mul(gate, up), routed), routed);
}

FeedForward::FeedForward(const LayerLoader& load, const ModelConfig& c) {
    if (c.n_experts > 0 && load.layer() >= c.n_dense_layers) {
        experts.emplace(load, c);
    } else {
        dense.emplace(load);
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
    : inv_freq(load.vector(c.rope_inv_freq)),
      short_context(c.rope_short_context),
      scale(c.rope_scale),
      pairing(c.rope_pairing) {
    if (!c.rope_inv_freq_long.empty()) inv_freq_long = load.vector(c.rope_inv_freq_long);
    if (c.rope_sections[1] == 0 && c.rope_sections[2] == 0) return;
    const auto& f = c.rope_inv_freq;
    const int64_t n = std::ssize(f);
    int64_t first = 0;
    while (first + 2 < n && c.rope_axis_of(first + 1) == 1 && c.rope_axis_of(first + 2) == 2) first += 3;
    for (int64_t axis = 0; axis < 3 && first > 0; ++axis) {
        std::vector<float> own;
        for (int64_t i = axis; i < first; i += 3) own.push_back(f[static_cast<size_t>(i)]);
        turns.push_back({load.vector(own), static_cast<int>(axis)});
    }
    while (first < n) {
        const int64_t begin = first;
        while (first < n && c.rope_axis_of(first) == c.rope_axis_of(begin)) ++first;
        rest.push_back(
            {load.vector(std::vector<float>(f.begin() + begin, f.begin() + first)), c.rope_axis_of(begin)});
    }
}

// The context, not the text, decides between the two sets: a token has the same angles all its life.
Tensor Rope::table(Step& s) const {
    const bool is_long = inv_freq_long && s.n_ctx() > short_context;
    const Weight& all = is_long ? inv_freq_long : inv_freq;
    if (s.rope_axes() < 3 || (turns.empty() && rest.empty())) return s.rope_table(all, scale);
    // A column is a cosine or a sine: of each frequency two.
    const Tensor table = s.take(s.n_tokens(), 2 * all.cols);
    int64_t first = 0;
    if (!turns.empty()) {
        const int64_t n_rows = s.n_tokens() * turns[0].inv_freq.cols;
        const Tensor woven = s.take(n_rows, 6);
        for (const Run& run : turns) {
            const Tensor part = s.rope_table(run.inv_freq, scale, run.axis);
            s.copy(woven.columns(2 * run.axis, 2), part.in_rows(n_rows));
        }
        first = 6 * turns[0].inv_freq.cols;
        s.copy(table.columns(0, first), woven.in_rows(s.n_tokens()));
    }
    for (const Run& run : rest) {
        const Tensor part = s.rope_table(run.inv_freq, scale, run.axis).flat();
        s.copy(table.columns(first, part.row_len()), part);
        first += part.row_len();
    }
    return table.heads(all.cols);
}

}  // namespace smelt
