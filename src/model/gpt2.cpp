// GPT-2 and DialoGPT: learned positions, LayerNorm before each block, one product for q, k and v, GELU.
#include <cmath>

#include "base/error.h"
#include "model/architectures.h"
#include "model/blocks.h"
#include "model/model.h"

namespace smelt {

namespace {

constexpr std::array config = {
    ConfigKey{"n_embd", "embedding_length", KeyType::integer, "dim"},
    ConfigKey{"n_layer", "block_count", KeyType::integer, "n_layers"},
    ConfigKey{"n_inner", "feed_forward_length", KeyType::integer, "ffn_dim"},
    ConfigKey{"n_head", "attention.head_count", KeyType::integer, "n_heads"},
    ConfigKey{"layer_norm_epsilon", "attention.layer_norm_epsilon", KeyType::real},
    ConfigKey{"n_positions", "context_length", KeyType::integer, "n_positions"},
    ConfigKey{"vocab_size", "vocab_size", KeyType::integer, "vocab_size"},
    ConfigKey{"", "attention.key_length", KeyType::integer, "head_dim"},
};

constexpr std::array tensors = {
    TensorRule{"transformer.wte.weight", "token_embd.weight", "[vocab_size], dim", Presence::always,
               TensorRole::embedding},
    TensorRule{"transformer.wpe.weight", "position_embd.weight", "n_positions, dim", Presence::always,
               TensorRole::embedding},
    TensorRule{"transformer.ln_f.weight", "output_norm.weight", "dim"},
    TensorRule{"transformer.ln_f.bias", "output_norm.bias", "dim"},
    TensorRule{"lm_head.weight", "output.weight", "[vocab_size], dim", Presence::own_head},
    TensorRule{"transformer.h.{}.ln_1.weight", "blk.{}.attn_norm.weight", "dim"},
    TensorRule{"transformer.h.{}.ln_1.bias", "blk.{}.attn_norm.bias", "dim"},
    // q, k and v below each other
    TensorRule{"transformer.h.{}.attn.c_attn.weight", "blk.{}.attn_qkv.weight", "3 [n_heads] head_dim, dim",
               Presence::always, TensorRole::conv1d},
    TensorRule{"transformer.h.{}.attn.c_attn.bias", "blk.{}.attn_qkv.bias", "3 [n_heads] head_dim"},
    TensorRule{"transformer.h.{}.attn.c_proj.weight", "blk.{}.attn_output.weight", "dim, [n_heads] head_dim",
               Presence::always, TensorRole::conv1d},
    TensorRule{"transformer.h.{}.attn.c_proj.bias", "blk.{}.attn_output.bias", "dim"},
    TensorRule{"transformer.h.{}.ln_2.weight", "blk.{}.ffn_norm.weight", "dim"},
    TensorRule{"transformer.h.{}.ln_2.bias", "blk.{}.ffn_norm.bias", "dim"},
    TensorRule{"transformer.h.{}.mlp.c_fc.weight", "blk.{}.ffn_up.weight", "[ffn_dim], dim", Presence::always,
               TensorRole::conv1d},
    TensorRule{"transformer.h.{}.mlp.c_fc.bias", "blk.{}.ffn_up.bias", "[ffn_dim]"},
    TensorRule{"transformer.h.{}.mlp.c_proj.weight", "blk.{}.ffn_down.weight", "dim, [ffn_dim]",
               Presence::always, TensorRole::conv1d},
    TensorRule{"transformer.h.{}.mlp.c_proj.bias", "blk.{}.ffn_down.bias", "dim"},
    // Buffers of the causal mask, no weights.
    TensorRule{"transformer.h.{}.attn.bias", "", "1, 1, n_positions, n_positions", Presence::optional},
    TensorRule{"transformer.h.{}.attn.masked_bias", "", "1", Presence::optional},
};

constexpr PublishedModel published[] = {
    {"dialogpt-medium",
     R"({"n_layer": 24, "n_embd": 1024, "n_head": 16, "vocab_size": 50257, "n_positions": 1024})"},
};

struct LayerNorm {
    Weight weight, bias;  // (dim)

    Tensor operator()(Step& s, Tensor x, float eps) const { return s.layer_norm(x, weight, bias, eps); }
};

struct Linear {
    Weight weight;  // (out, in)
    Weight bias;    // (out)

    Tensor operator()(Step& s, Tensor x) const { return s.matmul(weight, x, bias); }
};

struct Layer {
    LayerNorm attn_norm;
    Linear attn_qkv;     // (3 * dim, dim)
    Linear attn_output;  // (dim, dim)
    LayerNorm ffn_norm;
    Linear ffn_up;    // (ffn_dim, dim)
    Linear ffn_down;  // (dim, ffn_dim)

    explicit Layer(const LayerLoader& load)
        : attn_norm{load("attn_norm.weight"), load("attn_norm.bias")},
          attn_qkv{load("attn_qkv.weight"), load("attn_qkv.bias")},
          attn_output{load("attn_output.weight"), load("attn_output.bias")},
          ffn_norm{load("ffn_norm.weight"), load("ffn_norm.bias")},
          ffn_up{load("ffn_up.weight"), load("ffn_up.bias")},
          ffn_down{load("ffn_down.weight"), load("ffn_down.bias")} {}
};

class Gpt2 : public Model {
 public:
    Gpt2(WeightLoader& load, const ModelConfig& c)
        : Model(c),
          token_embd(load("token_embd.weight")),
          position_embd(load("position_embd.weight")),
          output_norm{load("output_norm.weight"), load("output_norm.bias")},
          output(load.if_present("output.weight")) {
        for (int64_t il = 0; il < c.n_layers; ++il) layers.emplace_back(LayerLoader(load, il));
    }

    void forward(Step& s) const override {
        const ModelConfig& c = config_;
        const Tensor x = s.embed(token_embd);  // (n_tokens, dim), the residual stream
        s.add(x, s.embed_positions(position_embd));
        for (int64_t il = 0; il < c.n_layers; ++il) {
            const Step::Scope scope(s);
            const Layer& l = layers[static_cast<size_t>(il)];
            const Tensor qkv = l.attn_qkv(s, l.attn_norm(s, x, c.norm_eps));
            const auto part = [&](int64_t i) { return qkv.columns(i * c.dim, c.dim).heads(c.n_heads); };
            s.add(x, l.attn_output(s, s.attention(il, part(0), part(1), part(2), attention_params(c, il))));
            const Tensor h = l.ffn_norm(s, x, c.norm_eps);
            s.add(x, l.ffn_down(s, s.gelu(l.ffn_up(s, h))));
        }
        if (s.wants_hidden()) s.set_hidden(output_norm(s, s.hidden_rows(x), c.norm_eps));
        if (!s.wants_logits()) return;
        const Tensor last = output_norm(s, s.wanted_rows(x), c.norm_eps);
        s.set_logits(s.matmul(output ? output : token_embd, last));
    }

 private:
    Weight token_embd;     // (vocab_size, dim)
    Weight position_embd;  // (n_positions, dim)
    LayerNorm output_norm;
    Weight output;  // (vocab_size, dim); none: token_embd serves
    std::vector<Layer> layers;
};

std::unique_ptr<Model> make_gpt2(WeightLoader& load, const ModelConfig& c) {
    if (c.n_kv_heads != c.n_heads || c.head_dim * c.n_heads != c.dim) {
        throw Error(
            "gpt2: expected heads of {} / {} values with a kv head each; found {} of {} and {} kv heads",
            c.dim, c.n_heads, c.n_heads, c.head_dim, c.n_kv_heads);
    }
    return std::make_unique<Gpt2>(load, c);
}

}  // namespace

constinit const Family families::gpt2 = {
    .models = "GPT-2, DialoGPT",
    .tokenizer = "byte-level BPE",
    .architecture = "gpt2",
    .model_type = "gpt2",
    .hf_class = "GPT2LMHeadModel",
    .config = config,
    .tensors = tensors,
    .published = published,
    .defaults = R"({"layer_norm_epsilon": 1e-5})",
    .must = R"({"activation_function": "gelu_new", "scale_attn_weights": true,
                "scale_attn_by_inverse_layer_idx": false, "add_cross_attention": false})",
    .rotary = false,
    .tied = true,
    .ffn_per_dim = 4,
    .make = make_gpt2,
};

}  // namespace smelt
