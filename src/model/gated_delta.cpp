// Loading and ops of both kinds of layers.
#include "model/gated_delta.h"

#include <cmath>

#include "model/model.h"

namespace smelt {

namespace {

// Attention with norms of heads and a gate on its output.
struct GatedAttention {
    Weight attn_q;                    // (n_heads * 2 * head_dim, dim): query and gate of each head
    Weight attn_k, attn_v;            // (n_kv_heads * head_dim, dim)
    Weight attn_q_norm, attn_k_norm;  // (head_dim)
    Weight attn_output;               // (dim, n_heads * head_dim)

    explicit GatedAttention(const LayerLoader& load)
        : attn_q(load("attn_q.weight")),
          attn_k(load("attn_k.weight")),
          attn_v(load("attn_v.weight")),
          attn_q_norm(load("attn_q_norm.weight")),
          attn_k_norm(load("attn_k_norm.weight")),
          attn_output(load("attn_output.weight")) {}

    Tensor operator()(Step& s, Tensor h, int64_t layer, const ModelConfig& c, RopePairing pairing,
                      Tensor angles) const {
        const auto [both, k, v] = s.matmul3({{{attn_q}, {attn_k}, {attn_v}}}, h);
        const int64_t n_tokens = s.n_tokens(), n_rows = n_tokens * c.n_heads;  // a row for each head
        const Tensor q = s.take(n_rows, c.head_dim);
        s.copy(q, both.in_rows(n_rows).columns(0, c.head_dim));
        const Tensor a = s.attention(layer, q.in_rows(n_tokens).heads(c.n_heads), k.heads(c.n_kv_heads),
                                     v.heads(c.n_kv_heads), {.scale = c.attention_scale},
                                     {.q_norm = &attn_q_norm,
                                      .k_norm = &attn_k_norm,
                                      .eps = c.norm_eps,
                                      .angles = angles,
                                      .pairing = pairing});
        s.sigmoid_mul(both.in_rows(n_rows).columns(c.head_dim, c.head_dim), a.in_rows(n_rows));
        return s.matmul(attn_output, a);
    }
};

// What a projection of q, k, v and the gate z gives, however a file has it.
struct Projected {
    Tensor q, k, v, z;  // (n_tokens, heads * length)
    Tensor a, b;        // (n_tokens, n_v_heads)
};

struct DeltaLayer {
    Weight ssm_in;                  // all four, together for each key head; none in most files
    Weight attn_qkv, attn_gate;     // q, k and v, and the gate
    Weight ssm_ba;                  // b and a, together for each key head, or
    Weight ssm_beta, ssm_alpha;     // (n_v_heads, dim) each
    Weight conv_q, conv_k, conv_v;  // (channels, conv_kernel)
    Weight ssm_a, ssm_dt;           // (n_v_heads)
    Weight ssm_norm;                // (v_dim)
    Weight ssm_out;                 // (dim, n_v_heads * v_dim)
    Weight q_length, k_length;      // (k_dim), which make an RMS norm one of length

    DeltaLayer(const LayerLoader& load, const RecurrentLayers& r)
        : ssm_in(load.if_present("ssm_in.weight")),
          attn_qkv(ssm_in ? Weight{} : load("attn_qkv.weight")),
          attn_gate(ssm_in ? Weight{} : load("attn_gate.weight")),
          ssm_ba(load.if_present("ssm_ba.weight")),
          ssm_beta(load.if_present("ssm_beta.weight")),
          ssm_alpha(load.if_present("ssm_alpha.weight")),
          conv_q(conv(load, r, 0, r.n_k_heads * r.k_dim)),
          conv_k(conv(load, r, r.n_k_heads * r.k_dim, r.n_k_heads * r.k_dim)),
          conv_v(conv(load, r, 2 * r.n_k_heads * r.k_dim, r.n_v_heads * r.v_dim)),
          ssm_a(load("ssm_a")),
          ssm_dt(load("ssm_dt.bias")),
          ssm_norm(load("ssm_norm.weight")),
          ssm_out(load("ssm_out.weight")) {
        // x / sqrt(mean(x²) + eps / n) / sqrt(n) = x / sqrt(sum(x²) + eps); q is divided by sqrt(k_dim) too.
        const auto n = static_cast<size_t>(r.k_dim);
        const float length = 1 / std::sqrt(static_cast<float>(r.k_dim));
        q_length = load.vector(std::vector<float>(n, length * length));
        k_length = load.vector(std::vector<float>(n, length));
    }
    static Weight conv(const LayerLoader& load, const RecurrentLayers& r, int64_t first, int64_t n) {
        return load.part("ssm_conv1d.weight", {.first = first, .n = n, .of = r.n_channels()});
    }

    Projected project(Step& s, Tensor h, const RecurrentLayers& r) const {
        const int64_t nk = r.n_k_heads * r.k_dim, nv = r.n_v_heads * r.v_dim,
                      each = r.n_v_heads / r.n_k_heads;
        const int64_t n_tokens = s.n_tokens(), n_rows = n_tokens * r.n_k_heads;  // a row for each key head
        Projected p;
        if (ssm_in) {
            const Tensor all = s.matmul(ssm_in, h).in_rows(n_rows);
            const auto part = [&](int64_t first, int64_t n) {
                const Tensor to = s.take(n_rows, n);
                s.copy(to, all.columns(first, n));
                return to.in_rows(n_tokens);
            };
            p.q = part(0, r.k_dim);
            p.k = part(r.k_dim, r.k_dim);
            p.v = part(2 * r.k_dim, each * r.v_dim);
            p.z = part(2 * r.k_dim + each * r.v_dim, each * r.v_dim);
        } else {
            const auto [qkv, z] = s.matmul2(attn_qkv, attn_gate, h);
            p.q = qkv.columns(0, nk);
            p.k = qkv.columns(nk, nk);
            p.v = qkv.columns(2 * nk, nv);
            p.z = z;
        }
        if (!ssm_ba) {
            std::tie(p.b, p.a) = s.matmul2(ssm_beta, ssm_alpha, h);
            return p;
        }
        const Tensor both = s.matmul(ssm_ba, h).in_rows(n_rows);
        for (Tensor* t : {&p.b, &p.a}) {
            const Tensor to = s.take(n_rows, each);
            s.copy(to, both.columns(t == &p.b ? 0 : each, each));
            *t = to.in_rows(n_tokens);
        }
        return p;
    }

    Tensor operator()(Step& s, Tensor h, int64_t layer, const RecurrentLayers& r, float eps) const {
        constexpr float length_eps = 1e-6f;  // of the reference implementation, whatever the config says
        const Projected p = project(s, h, r);
        // the state begins with the inputs of the three convolutions
        const int64_t n_held = r.conv_kernel - 1, nk = r.n_k_heads * r.k_dim;
        const Tensor q = s.causal_conv(layer, p.q, conv_q, 0).heads(r.n_k_heads);
        const Tensor k = s.causal_conv(layer, p.k, conv_k, n_held * nk).heads(r.n_k_heads);
        const Tensor v = s.causal_conv(layer, p.v, conv_v, 2 * n_held * nk).heads(r.n_v_heads);
        s.rms_norm_in_place(q, q_length, length_eps / static_cast<float>(r.k_dim));
        s.rms_norm_in_place(k, k_length, length_eps / static_cast<float>(r.k_dim));
        const Tensor y = s.delta_rule(
            layer,
            {.q = q, .k = k, .v = v, .a = p.a, .b = p.b, .decay = ssm_a, .bias = ssm_dt, .tiled = r.tiled},
            r.conv_floats());
        s.rms_norm_in_place(y.heads(r.n_v_heads), ssm_norm, eps);
        return s.matmul(ssm_out, s.silu_mul(p.z, y));
    }
};

struct Layer {
    Weight attn_norm, post_attention_norm;  // (dim)
    std::optional<GatedAttention> attention;
    std::optional<DeltaLayer> delta;
    FeedForward ffn;

    Layer(const LayerLoader& load, const ModelConfig& c)
        : attn_norm(load("attn_norm.weight")),
          post_attention_norm(load("post_attention_norm.weight")),
          ffn(load, c) {
        if (c.recurrent_at(load.layer())) {
            delta.emplace(load, *c.recurrent);
        } else {
            attention.emplace(load);
        }
    }
};

class GatedDelta : public Model {
 public:
    GatedDelta(WeightLoader& load, const ModelConfig& c) : Model(c), ends(load), rope(load, c) {
        for (int64_t il = 0; il < c.n_layers; ++il) layers.emplace_back(LayerLoader(load, il), c);
    }

    void forward(Step& s) const override {
        const ModelConfig& c = config_;
        const Tensor x = s.embed(ends.token_embd);  // (n_tokens, dim), the residual stream
        const Tensor angles = rope.table(s);
        for (int64_t il = 0; il < c.n_layers; ++il) {
            const Step::Scope scope(s);
            const Layer& l = layers[static_cast<size_t>(il)];
            const Tensor h = s.rms_norm(x, l.attn_norm, c.norm_eps);
            const Tensor a = l.delta ? (*l.delta)(s, h, il, *c.recurrent, c.norm_eps)
                                     : (*l.attention)(s, h, il, c, rope.pairing, angles);
            l.ffn.add_to(s, x, s.add_rms_norm(x, a, l.post_attention_norm, c.norm_eps));
        }
        ends.logits(s, x, c.norm_eps);
    }

 private:
    Ends ends;
    Rope rope;
    std::vector<Layer> layers;
};

}  // namespace

std::unique_ptr<Model> make_gated_delta(WeightLoader& load, const ModelConfig& config) {
    return std::make_unique<GatedDelta>(load, config);
}

}  // namespace smelt
