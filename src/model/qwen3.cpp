// Qwen3, dense and mixture of experts (softmax over all, the best renormalised): grouped-query attention with
// per-head q/k norm, SwiGLU, no biases.
#include "model/architectures.h"
#include "model/blocks.h"

namespace smelt {

namespace {

struct Layer {
    Weight attn_norm;                 // (dim)
    Weight attn_q;                    // (n_heads * head_dim, dim)
    Weight attn_k, attn_v;            // (n_kv_heads * head_dim, dim)
    Weight attn_q_norm, attn_k_norm;  // (head_dim), one for all heads
    Weight attn_output;               // (dim, n_heads * head_dim)
    Weight ffn_norm;                  // (dim)
    FeedForward ffn;
};

Layer load_layer(WeightLoader& load, int64_t il, const ModelConfig& c) {
    const std::string p = layer_prefix(il);
    const int64_t q_dim = c.n_heads * c.head_dim, kv_dim = c.n_kv_heads * c.head_dim;
    return {
        .attn_norm = load.vector(p + "attn_norm.weight", c.dim),
        .attn_q = load.matrix(p + "attn_q.weight", q_dim, c.dim),
        .attn_k = load.matrix(p + "attn_k.weight", kv_dim, c.dim),
        .attn_v = load.matrix(p + "attn_v.weight", kv_dim, c.dim),
        .attn_q_norm = load.vector(p + "attn_q_norm.weight", c.head_dim),
        .attn_k_norm = load.vector(p + "attn_k_norm.weight", c.head_dim),
        .attn_output = load.matrix(p + "attn_output.weight", c.dim, q_dim),
        .ffn_norm = load.vector(p + "ffn_norm.weight", c.dim),
        .ffn = FeedForward(load, il, c),
    };
}

class Qwen3 : public Model {
 public:
    Qwen3(WeightLoader& load, const ModelConfig& c) : Model(c), ends(load, c), rope(load, c) {
        for (int64_t il = 0; il < c.n_layers; ++il) layers.push_back(load_layer(load, il, c));
    }

    void forward(Step& s) const override {
        const ModelConfig& c = config_;
        const Tensor x = s.embed(ends.token_embd);  // (n_tokens, dim), the residual stream
        const Tensor angles = rope.table(s);
        for (int64_t il = 0; il < c.n_layers; ++il) {
            const Step::Scope scope(s);
            const Layer& l = layers[static_cast<size_t>(il)];
            const Tensor h = s.rms_norm(x, l.attn_norm, c.rms_eps);
            const auto [q, k, v] = s.matmul3({{{l.attn_q}, {l.attn_k}, {l.attn_v}}}, h);
            // norm over head_dim, before rope
            const Tensor a = s.attention(il, q.heads(c.n_heads), k.heads(c.n_kv_heads), v.heads(c.n_kv_heads),
                                         attention_params(c, il),
                                         {.q_norm = &l.attn_q_norm,
                                          .k_norm = &l.attn_k_norm,
                                          .eps = c.rms_eps,
                                          .angles = angles,
                                          .pairing = rope.pairing});
            l.ffn.add_to(s, x, s.add_rms_norm(x, s.matmul(l.attn_output, a), l.ffn_norm, c.rms_eps));
        }
        ends.logits(s, x, c.rms_eps);
    }

 private:
    Ends ends;
    Rope rope;
    std::vector<Layer> layers;
};

}  // namespace

std::unique_ptr<Model> make_qwen3(WeightLoader& load, const ModelConfig& config) {
    return std::make_unique<Qwen3>(load, config);
}

std::unique_ptr<Model> make_qwen3moe(WeightLoader& load, const ModelConfig& config) {
    return std::make_unique<Qwen3>(load, config);
}

}  // namespace smelt
