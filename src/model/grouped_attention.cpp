// The block, and the model that is made of it and SwiGLU alone.
#include "model/grouped_attention.h"

#include "model/model.h"

namespace smelt {

namespace {

// A matrix of its own, or the part of q, k and v together from head `first` on.
Weight load_heads(const LayerLoader& load, const std::string& name, const ModelConfig& c, int64_t first,
                  int64_t n) {
    if (load.has(name)) return load(name);
    return load.part("attn_qkv.weight",
                     {.first = first, .n = n, .of = c.n_heads + 2 * c.n_kv_heads, .unit = c.head_dim});
}

}  // namespace

GroupedAttention::GroupedAttention(LayerLoader& load, const ModelConfig& c)
    : attn_norm(load("attn_norm.weight")),
      attn_q(load_heads(load, "attn_q.weight", c, 0, c.n_heads)),
      attn_k(load_heads(load, "attn_k.weight", c, c.n_heads, c.n_kv_heads)),
      attn_v(load_heads(load, "attn_v.weight", c, c.n_heads + c.n_kv_heads, c.n_kv_heads)),
      attn_output(load("attn_output.weight")),
      q_bias(load.if_present("attn_q.bias")),
      k_bias(load.if_present("attn_k.bias")),
      v_bias(load.if_present("attn_v.bias")),
      output_bias(load.if_present("attn_output.bias")),
      attn_q_norm(load.if_present("attn_q_norm.weight")),
      attn_k_norm(load.if_present("attn_k_norm.weight")),
      attn_sinks(load.if_present("attn_sinks.weight")) {}

Tensor GroupedAttention::operator()(Step& s, Tensor x, int64_t layer, const ModelConfig& c,
                                    RopePairing pairing, Tensor angles, float soft_cap) const {
    const Tensor h = s.rms_norm(x, attn_norm, c.norm_eps);
    const auto [q, k, v] = s.matmul3({{{attn_q, q_bias}, {attn_k, k_bias}, {attn_v, v_bias}}}, h);
    AttentionParams attention = attention_params(c, layer);
    if (attn_sinks) attention.sinks = &attn_sinks;
    attention.soft_cap = soft_cap;
    PrepareParams prepare{.eps = c.norm_eps, .angles = angles, .pairing = pairing};
    if (attn_q_norm) prepare.q_norm = &attn_q_norm;  // over head_dim, before rope
    if (attn_k_norm) prepare.k_norm = &attn_k_norm;
    const Tensor a = s.attention(layer, q.heads(c.n_heads), k.heads(c.n_kv_heads), v.heads(c.n_kv_heads),
                                 attention, prepare);
    return s.matmul(attn_output, a, output_bias);
}

namespace {

struct Layer {
    GroupedAttention attention;
    Weight ffn_norm;  // (dim)
    FeedForward ffn;

    Layer(LayerLoader load, const ModelConfig& c)
        : attention(load, c),
          ffn_norm(load(load.has("ffn_norm.weight") ? "ffn_norm.weight" : "post_attention_norm.weight")),
          ffn(load, c) {}
};

class Decoder : public Model {
 public:
    Decoder(WeightLoader& load, const ModelConfig& c, std::vector<bool> is_rotated)
        : Model(c), ends(load), rope(load, c), rotated(std::move(is_rotated)) {
        for (int64_t il = 0; il < c.n_layers; ++il) layers.emplace_back(LayerLoader(load, il), c);
    }

    void forward(Step& s) const override {
        const ModelConfig& c = config_;
        const Tensor x = s.embed(ends.token_embd);  // (n_tokens, dim), the residual stream
        const Tensor angles = rope.table(s);
        for (int64_t il = 0; il < c.n_layers; ++il) {
            const Step::Scope scope(s);
            const Layer& l = layers[static_cast<size_t>(il)];
            const bool rotates = rotated.empty() || rotated[static_cast<size_t>(il)];
            const Tensor a = l.attention(s, x, il, c, rope.pairing, rotates ? angles : Tensor{});
            l.ffn.add_to(s, x, s.add_rms_norm(x, a, l.ffn_norm, c.norm_eps));
            s.add_features(x, il);
        }
        ends.logits(s, x, c.norm_eps);
    }

 private:
    Ends ends;
    Rope rope;
    std::vector<bool> rotated;  // (n_layers); empty: all
    std::vector<Layer> layers;
};

}  // namespace

std::unique_ptr<Model> make_decoder(WeightLoader& load, const ModelConfig& config) {
    return make_decoder(load, config, {});
}

std::unique_ptr<Model> make_decoder(WeightLoader& load, const ModelConfig& config,
                                    std::vector<bool> rotated) {
    return std::make_unique<Decoder>(load, config, std::move(rotated));
}

}  // namespace smelt
