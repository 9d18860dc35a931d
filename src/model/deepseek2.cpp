// GLM-4.7-Flash (glm4_moe_lite; GGUF calls the architecture deepseek2): multi-head latent attention, and a
// mixture with sigmoid routing and a shared expert behind leading dense layers. Each head's key and value
// projections are applied to query and output instead of the cached latent vectors, which all heads share:
// (W_k c)·q = c·(W_kᵀ q), and a weighted sum of W_v c is W_v times the weighted sum of c.
#include <cmath>

#include "model/architectures.h"
#include "model/blocks.h"

namespace smelt {

namespace {

// Of the norms of latent vectors, whatever the config says of the others: transformers builds them so.
constexpr float latent_eps = 1e-6f;

struct Layer {
    Weight attn_norm;                      // (dim)
    Weight attn_q_a, attn_kv_a_mqa;        // (q_rank, dim), (kv_rank + rope_dim, dim)
    Weight attn_q_a_norm, attn_kv_a_norm;  // (q_rank), (kv_rank)
    Weight attn_q_b;                       // (n_heads * (nope_dim + rope_dim), q_rank)
    WeightLoader::LatentHeads heads;
    Weight attn_output;  // (dim, n_heads * v_dim)
    Weight ffn_norm;     // (dim)
    FeedForward ffn;
};

Layer load_layer(WeightLoader& load, int64_t il, const ModelConfig& c) {
    const LatentAttention& a = *c.latent;
    const std::string p = layer_prefix(il);
    return {
        .attn_norm = load.vector(p + "attn_norm.weight", c.dim),
        .attn_q_a = load.matrix(p + "attn_q_a.weight", a.q_rank, c.dim),
        .attn_kv_a_mqa = load.matrix(p + "attn_kv_a_mqa.weight", a.kv_rank + a.rope_dim, c.dim),
        .attn_q_a_norm = load.vector(p + "attn_q_a_norm.weight", a.q_rank),
        .attn_kv_a_norm = load.vector(p + "attn_kv_a_norm.weight", a.kv_rank),
        .attn_q_b = load.matrix(p + "attn_q_b.weight", c.n_heads * (a.nope_dim + a.rope_dim), a.q_rank),
        .heads = load.latent_heads(p, c.n_heads, a),
        .attn_output = load.matrix(p + "attn_output.weight", c.dim, c.n_heads * a.v_dim),
        .ffn_norm = load.vector(p + "ffn_norm.weight", c.dim),
        .ffn = FeedForward(load, il, c),
    };
}

class Deepseek2 : public Model {
 public:
    Deepseek2(WeightLoader& load, const ModelConfig& c) : Model(c), ends(load, c), rope(load, c) {
        for (int64_t il = 0; il < c.n_layers; ++il) layers.push_back(load_layer(load, il, c));
    }

    void forward(Step& s) const override {
        const ModelConfig& c = config_;
        const int64_t nope = c.latent->nope_dim, rotated = c.latent->rope_dim, rank = c.latent->kv_rank;
        const AttentionParams attention{.scale = 1 / std::sqrt(static_cast<float>(nope + rotated))};
        const int64_t n_tokens = s.n_tokens(), n_rows = n_tokens * c.n_heads;  // a row for each head
        const Tensor x = s.embed(ends.token_embd);  // (n_tokens, dim), the residual stream
        const Tensor angles = rope.table(s);
        for (int64_t il = 0; il < c.n_layers; ++il) {
            const Step::Scope scope(s);
            const Layer& l = layers[static_cast<size_t>(il)];
            const Tensor h = s.rms_norm(x, l.attn_norm, c.rms_eps);
            const auto [q_latent, kv] = s.matmul2(l.attn_q_a, l.attn_kv_a_mqa, h);
            // k = [latent vector | rotated key], v is its first part
            s.rms_norm_in_place(kv.columns(0, rank), l.attn_kv_a_norm, latent_eps);
            const Tensor k = s.rope(kv.heads(1), angles, rope.pairing, rank);
            // q = [W_kᵀ of the plain part | rotated part]
            s.rms_norm_in_place(q_latent, l.attn_q_a_norm, latent_eps);
            const Tensor parts = s.matmul(l.attn_q_b, q_latent).in_rows(n_rows);
            const Tensor q = s.take(n_rows, rank + rotated);
            s.matmul_heads(q.columns(0, rank), l.heads.k, parts.columns(0, nope));
            s.copy(q.columns(rank, rotated), parts.columns(nope, rotated));
            s.rope(q.in_rows(n_tokens).heads(c.n_heads), angles, rope.pairing, rank);

            const Tensor mixed = s.attention(il, q.in_rows(n_tokens).heads(c.n_heads), k, {}, attention);
            const Tensor v = s.take(n_rows, c.latent->v_dim);
            s.matmul_heads(v, l.heads.v, mixed.in_rows(n_rows));
            const Tensor a = s.matmul(l.attn_output, v.in_rows(n_tokens));
            l.ffn.add_to(s, x, s.add_rms_norm(x, a, l.ffn_norm, c.rms_eps));
        }
        ends.logits(s, x, c.rms_eps);
    }

 private:
    Ends ends;
    Rope rope;
    std::vector<Layer> layers;
};

}  // namespace

std::unique_ptr<Model> make_deepseek2(WeightLoader& load, const ModelConfig& config) {
    if (!config.latent) {
        throw Error("deepseek2.attention.kv_lora_rank: missing; deepseek2 needs latent attention");
    }
    return std::make_unique<Deepseek2>(load, config);
}

}  // namespace smelt
