// Qwen2 and Qwen2.5: grouped-query attention with biases on q, k and v, SwiGLU.
#include "model/architectures.h"
#include "model/blocks.h"

namespace smelt {

namespace {

struct Layer {
    Weight attn_norm;       // (dim)
    Weight attn_q;          // (n_heads * head_dim, dim)
    Weight attn_k, attn_v;  // (n_kv_heads * head_dim, dim)
    Weight attn_q_bias, attn_k_bias, attn_v_bias;
    Weight attn_output;  // (dim, n_heads * head_dim)
    Weight ffn_norm;     // (dim)
    Swiglu ffn;
};

Layer load_layer(WeightLoader& load, const std::string& p, const ModelConfig& c) {
    const int64_t q_dim = c.n_heads * c.head_dim, kv_dim = c.n_kv_heads * c.head_dim;
    return {
        .attn_norm = load.vector(p + "attn_norm.weight", c.dim),
        .attn_q = load.matrix(p + "attn_q.weight", q_dim, c.dim),
        .attn_k = load.matrix(p + "attn_k.weight", kv_dim, c.dim),
        .attn_v = load.matrix(p + "attn_v.weight", kv_dim, c.dim),
        .attn_q_bias = load.vector(p + "attn_q.bias", q_dim),
        .attn_k_bias = load.vector(p + "attn_k.bias", kv_dim),
        .attn_v_bias = load.vector(p + "attn_v.bias", kv_dim),
        .attn_output = load.matrix(p + "attn_output.weight", c.dim, q_dim),
        .ffn_norm = load.vector(p + "ffn_norm.weight", c.dim),
        .ffn = Swiglu(load, p, c),
    };
}

class Qwen2 : public Model {
 public:
    Qwen2(WeightLoader& load, const ModelConfig& c) : Model(c), ends(load, c), rope(load, c) {
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
            const Tensor a =
                s.attention(il, q.heads(c.n_heads), k.heads(c.n_kv_heads), v.heads(c.n_kv_heads),
                            attention_params(c, il), {.angles = angles, .pairing = rope.pairing});
            s.add(x, l.ffn(s, s.add_rms_norm(x, s.matmul(l.attn_output, a), l.ffn_norm, c.rms_eps)));
        }
        ends.logits(s, x, c.rms_eps);
    }

 private:
    Ends ends;
    Rope rope;
    std::vector<Layer> layers;
};

}  // namespace

std::unique_ptr<Model> make_qwen2(WeightLoader& load, const ModelConfig& config) {
    return std::make_unique<Qwen2>(load, config);
}

}  // namespace smelt
