// gpt-oss: grouped-query attention with a sink in every head's softmax, windows in every other layer, biases
// everywhere, and a mixture of experts whose SwiGLU is clamped.
#include "model/architectures.h"
#include "model/blocks.h"

namespace smelt {

namespace {

constexpr float swiglu_alpha = 1.702f;  // sigmoid(1.702 x) x is close to GELU

// A matrix of each expert and a row of biases.
struct Experts {
    std::vector<Weight> weights;  // each (rows, cols)
    Weight bias;                  // (n_experts, rows)

    Step::ExpertLinear linear() const { return {weights, bias}; }
};

struct Layer {
    Weight attn_norm;                        // (dim)
    Weight attn_q, attn_q_bias;              // (n_heads * head_dim, dim)
    Weight attn_k, attn_k_bias;              // (n_kv_heads * head_dim, dim)
    Weight attn_v, attn_v_bias;              // as attn_k
    Weight attn_output, attn_output_bias;    // (dim, n_heads * head_dim)
    Weight attn_sinks;                       // (n_heads)
    Weight post_attention_norm;              // (dim)
    Weight ffn_gate_inp, ffn_gate_inp_bias;  // (n_experts, dim), the router
    Experts gate, up;                        // (expert_ffn_dim, dim)
    Experts down;                            // (dim, expert_ffn_dim)
};

Layer load_layer(WeightLoader& load, const std::string& p, const ModelConfig& c) {
    const int64_t q_dim = c.n_heads * c.head_dim, kv_dim = c.n_kv_heads * c.head_dim;
    const auto experts = [&](const std::string& name, int64_t rows, int64_t cols, EveryNth nth = {}) {
        return Experts{load.experts(p, name, c.n_experts, c.n_experts_used, rows, cols, nth),
                       load.expert_biases(p, name, c.n_experts, rows, nth)};
    };
    // Hugging Face has rows of gate and up by turns in one tensor, GGUF two tensors.
    const bool joined = load.has(p + "ffn_gate_up_exps.weight");
    return {
        .attn_norm = load.vector(p + "attn_norm.weight", c.dim),
        .attn_q = load.matrix(p + "attn_q.weight", q_dim, c.dim),
        .attn_q_bias = load.vector(p + "attn_q.bias", q_dim),
        .attn_k = load.matrix(p + "attn_k.weight", kv_dim, c.dim),
        .attn_k_bias = load.vector(p + "attn_k.bias", kv_dim),
        .attn_v = load.matrix(p + "attn_v.weight", kv_dim, c.dim),
        .attn_v_bias = load.vector(p + "attn_v.bias", kv_dim),
        .attn_output = load.matrix(p + "attn_output.weight", c.dim, q_dim),
        .attn_output_bias = load.vector(p + "attn_output.bias", c.dim),
        .attn_sinks = load.vector(p + "attn_sinks.weight", c.n_heads),
        .post_attention_norm = load.vector(p + "post_attention_norm.weight", c.dim),
        .ffn_gate_inp = load.matrix(p + "ffn_gate_inp.weight", c.n_experts, c.dim),
        .ffn_gate_inp_bias = load.vector(p + "ffn_gate_inp.bias", c.n_experts),
        .gate = experts(joined ? "ffn_gate_up" : "ffn_gate", c.expert_ffn_dim, c.dim,
                        joined ? EveryNth{0, 2} : EveryNth{}),
        .up = experts(joined ? "ffn_gate_up" : "ffn_up", c.expert_ffn_dim, c.dim,
                      joined ? EveryNth{1, 2} : EveryNth{}),
        .down = experts("ffn_down", c.dim, c.expert_ffn_dim),
    };
}

class GptOss : public Model {
 public:
    GptOss(WeightLoader& load, const ModelConfig& c) : Model(c), ends(load, c), rope(load, c) {
        for (int64_t il = 0; il < c.n_layers; ++il) layers.push_back(load_layer(load, layer_prefix(il), c));
    }

    void forward(Step& s) const override {
        const ModelConfig& c = config_;
        const Tensor x = s.embed(ends.token_embd);  // (n_tokens, dim), the residual stream
        const Tensor angles = rope.table(s);
        for (int64_t il = 0; il < c.n_layers; ++il) {
            const Step::Scope scope(s);
            const Layer& l = layers[static_cast<size_t>(il)];
            const Tensor h = s.rms_norm(x, l.attn_norm, c.rms_eps);
            const auto [q, k, v] = s.matmul3(
                {{{l.attn_q, l.attn_q_bias}, {l.attn_k, l.attn_k_bias}, {l.attn_v, l.attn_v_bias}}}, h);
            AttentionParams attention = attention_params(c, il);
            attention.sinks = &l.attn_sinks;
            const Tensor a = s.attention(il, q.heads(c.n_heads), k.heads(c.n_kv_heads), v.heads(c.n_kv_heads),
                                         attention, {.angles = angles, .pairing = rope.pairing});
            const Tensor o = s.matmul(l.attn_output, a, l.attn_output_bias);
            add_experts(s, x, s.add_rms_norm(x, o, l.post_attention_norm, c.rms_eps), l);
        }
        ends.logits(s, x, c.rms_eps);
    }

 private:
    // The softmax over the chosen alone, which the model is defined with, is the softmax over all of them
    // divided by its sum over the chosen.
    void add_experts(Step& s, Tensor x, Tensor h, const Layer& l) const {
        const Tensor logits = s.matmul(l.ffn_gate_inp, h, l.ffn_gate_inp_bias);
        const Step::Routed routed = s.route(logits, config_.n_experts_used, {.normalize = true});
        const auto [gate, up] = s.matmul_experts2(l.gate.linear(), l.up.linear(), h, routed);
        const Tensor inner = s.clamped_silu_mul(gate, up, swiglu_alpha, config_.swiglu_limit);
        s.add_experts(x, s.matmul_experts(l.down.linear(), inner, routed), routed);
    }

    Ends ends;
    Rope rope;
    std::vector<Layer> layers;
};

}  // namespace

std::unique_ptr<Model> make_gpt_oss(WeightLoader& load, const ModelConfig& config) {
    return std::make_unique<GptOss>(load, config);
}

}  // namespace smelt
