// GPT-2 and DialoGPT: learned positions, LayerNorm before each block, one product for q, k and v, GELU.
#include <cmath>

#include "model/architectures.h"
#include "model/blocks.h"

namespace smelt {

namespace {

struct LayerNorm {
    Weight weight, bias;  // (dim)

    LayerNorm(WeightLoader& load, const std::string& name, int64_t dim)
        : weight(load.vector(name + ".weight", dim)), bias(load.vector(name + ".bias", dim)) {}
    Tensor operator()(Step& s, Tensor x, float eps) const { return s.layer_norm(x, weight, bias, eps); }
};

struct Linear {
    Weight weight;  // (out, in)
    Weight bias;    // (out)

    Linear(WeightLoader& load, const std::string& name, int64_t out, int64_t in)
        : weight(load.matrix(name + ".weight", out, in)), bias(load.vector(name + ".bias", out)) {}
    Tensor operator()(Step& s, Tensor x) const { return s.matmul(weight, x, bias); }
};

struct Layer {
    LayerNorm attn_norm;
    Linear attn_qkv;     // (3 * dim, dim): q, k and v below each other
    Linear attn_output;  // (dim, dim)
    LayerNorm ffn_norm;
    Linear ffn_up;    // (ffn_dim, dim)
    Linear ffn_down;  // (dim, ffn_dim)

    Layer(WeightLoader& load, const std::string& p, const ModelConfig& c)
        : attn_norm(load, p + "attn_norm", c.dim),
          attn_qkv(load, p + "attn_qkv", 3 * c.dim, c.dim),
          attn_output(load, p + "attn_output", c.dim, c.dim),
          ffn_norm(load, p + "ffn_norm", c.dim),
          ffn_up(load, p + "ffn_up", c.ffn_dim, c.dim),
          ffn_down(load, p + "ffn_down", c.dim, c.ffn_dim) {}
};

class Gpt2 : public Model {
 public:
    Gpt2(WeightLoader& load, const ModelConfig& c)
        : Model(c),
          token_embd(load.embedding("token_embd.weight", c.vocab_size, c.dim, !load.has("output.weight"))),
          position_embd(load.embedding("position_embd.weight", c.n_positions, c.dim, false)),
          output_norm(load, "output_norm", c.dim) {
        if (load.has("output.weight")) output = load.matrix("output.weight", c.vocab_size, c.dim);
        for (int64_t il = 0; il < c.n_layers; ++il) layers.emplace_back(load, layer_prefix(il), c);
    }

    void forward(Step& s) const override {
        const ModelConfig& c = config_;
        const AttentionParams attention{.scale = 1 / std::sqrt(static_cast<float>(c.head_dim))};
        const Tensor x = s.embed(token_embd);  // (n_tokens, dim), the residual stream
        s.add(x, s.embed_positions(position_embd));
        for (int64_t il = 0; il < c.n_layers; ++il) {
            const Step::Scope scope(s);
            const Layer& l = layers[static_cast<size_t>(il)];
            const Tensor qkv = l.attn_qkv(s, l.attn_norm(s, x, c.layer_norm_eps));
            const auto part = [&](int64_t i) { return qkv.columns(i * c.dim, c.dim).heads(c.n_heads); };
            s.add(x, l.attn_output(s, s.attention(il, part(0), part(1), part(2), attention)));
            const Tensor h = l.ffn_norm(s, x, c.layer_norm_eps);
            s.add(x, l.ffn_down(s, s.gelu(l.ffn_up(s, h))));
        }
        if (s.wants_hidden()) s.set_hidden(output_norm(s, s.hidden_rows(x), c.layer_norm_eps));
        if (!s.wants_logits()) return;
        const Tensor last = output_norm(s, s.wanted_rows(x), c.layer_norm_eps);
        s.set_logits(s.matmul(output ? output : token_embd, last));
    }

 private:
    Weight token_embd;     // (vocab_size, dim)
    Weight position_embd;  // (n_positions, dim)
    LayerNorm output_norm;
    Weight output;  // (vocab_size, dim); none: token_embd serves
    std::vector<Layer> layers;
};

}  // namespace

std::unique_ptr<Model> make_gpt2(WeightLoader& load, const ModelConfig& config) {
    const bool one_kv_head_each = config.n_kv_heads == config.n_heads;
    if (!one_kv_head_each || config.head_dim * config.n_heads != config.dim || config.n_positions == 0) {
        throw Error(
            "gpt2: expected position_embd.weight and heads of {} / {} values with a kv head each; found {} "
            "of {} and {} kv heads, {} positions",
            config.dim, config.n_heads, config.n_heads, config.head_dim, config.n_kv_heads,
            config.n_positions);
    }
    return std::make_unique<Gpt2>(load, config);
}

}  // namespace smelt
