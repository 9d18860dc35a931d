// Gemma 2 and 3: scaled embeddings, norms before and after attention and feed-forward, GELU in place of SiLU.
// Gemma 2 caps scores and logits and has a window in every other layer; Gemma 3 norms heads of q and k, and
// has five windowed layers, with a RoPE base of their own, for each that sees all.
#include <cmath>

#include "model/architectures.h"
#include "model/grouped_attention.h"
#include "model/model.h"

namespace smelt {

namespace {

constexpr auto config = joined(
    decoder_config, grouped_config,
    std::array{ConfigKey{"query_pre_attn_scalar", "attention.query_pre_attn_scalar", KeyType::real, "", true},
               ConfigKey{"attn_logit_softcapping", "attn_logit_softcapping", KeyType::real, "", true},
               ConfigKey{"final_logit_softcapping", "final_logit_softcapping", KeyType::real, "", true}});

constexpr TensorRule norm(std::string_view hf, std::string_view gguf) {
    return {hf, gguf, "dim", Presence::always, TensorRole::one_plus};
}
constexpr auto gemma2_tensors = joined(
    std::array{TensorRule{"model.embed_tokens.weight", "token_embd.weight", "[vocab_size], dim",
                          Presence::always, TensorRole::embedding},
               norm("model.norm.weight", "output_norm.weight"),
               TensorRule{"lm_head.weight", "output.weight", "[vocab_size], dim", Presence::own_head},
               norm("model.layers.{}.input_layernorm.weight", "blk.{}.attn_norm.weight"),
               norm("model.layers.{}.post_attention_layernorm.weight", "blk.{}.post_attention_norm.weight"),
               norm("model.layers.{}.pre_feedforward_layernorm.weight", "blk.{}.ffn_norm.weight"),
               norm("model.layers.{}.post_feedforward_layernorm.weight", "blk.{}.post_ffw_norm.weight")},
    projection_tensors, swiglu_tensors);
constexpr auto gemma3_tensors = joined(gemma2_tensors, head_norm_rules("", TensorRole::one_plus));

// hidden_act is of the first release; transformers reads hidden_activation.
constexpr std::string_view unread[] = {"hidden_act", "cache_implementation"};

constexpr PublishedModel gemma2_published[] = {
    {"gemma-2-2b",
     R"({"num_hidden_layers": 26, "hidden_size": 2304, "intermediate_size": 9216, "num_attention_heads": 8,
         "num_key_value_heads": 4, "max_position_embeddings": 8192})"},
    {"gemma-2-9b",
     R"({"num_hidden_layers": 42, "hidden_size": 3584, "intermediate_size": 14336, "num_attention_heads": 16,
         "num_key_value_heads": 8, "max_position_embeddings": 8192})"},
    {"gemma-2-27b",
     R"({"num_hidden_layers": 46, "hidden_size": 4608, "intermediate_size": 36864, "num_attention_heads": 32,
         "num_key_value_heads": 16, "head_dim": 128, "query_pre_attn_scalar": 144,
         "max_position_embeddings": 8192})"},
};
constexpr PublishedModel gemma3_published[] = {
    {"gemma-3-270m",
     R"({"num_hidden_layers": 18, "hidden_size": 640, "intermediate_size": 2048, "num_attention_heads": 4,
         "num_key_value_heads": 1, "vocab_size": 262144, "max_position_embeddings": 32768,
         "sliding_window": 512})"},
    {"gemma-3-1b",
     R"({"num_hidden_layers": 26, "hidden_size": 1152, "intermediate_size": 6912, "num_attention_heads": 4,
         "num_key_value_heads": 1, "vocab_size": 262144, "max_position_embeddings": 32768,
         "sliding_window": 512})"},
    {"gemma-3-4b",
     R"({"num_hidden_layers": 34, "hidden_size": 2560, "intermediate_size": 10240, "num_attention_heads": 8,
         "num_key_value_heads": 4, "sliding_window": 1024,
         "rope_scaling": {"rope_type": "linear", "factor": 8.0}})"},
    {"gemma-3-12b",
     R"({"num_hidden_layers": 48, "hidden_size": 3840, "intermediate_size": 15360, "num_attention_heads": 16,
         "num_key_value_heads": 8, "sliding_window": 1024,
         "rope_scaling": {"rope_type": "linear", "factor": 8.0}})"},
    {"gemma-3-27b",
     R"({"num_hidden_layers": 62, "hidden_size": 5376, "intermediate_size": 21504, "num_attention_heads": 32,
         "num_key_value_heads": 16, "head_dim": 128, "query_pre_attn_scalar": 168, "sliding_window": 1024,
         "rope_scaling": {"rope_type": "linear", "factor": 8.0}})"},
};

// What files in GGUF do not say: the largest of either series scales by the columns of a head of the stream.
constexpr int64_t gemma2_largest = 46, gemma3_largest = 62;  // layers

struct Layer {
    GroupedAttention attention;
    Weight post_attention_norm, ffn_norm, post_ffw_norm;  // (dim)
    Swiglu ffn;                                           // of which only the weights are used

    Layer(LayerLoader load, const ModelConfig& c)
        : attention(load, c),
          post_attention_norm(load("post_attention_norm.weight")),
          ffn_norm(load("ffn_norm.weight")),
          post_ffw_norm(load("post_ffw_norm.weight")),
          ffn(load) {}
};

ModelConfig with_scale(ModelConfig c, WeightLoader& load) {
    const bool largest = c.n_layers == gemma2_largest || c.n_layers == gemma3_largest;
    const auto usual = static_cast<double>(largest ? c.dim / c.n_heads : c.head_dim);
    const double scalar = load.metadata_number("attention.query_pre_attn_scalar", usual, 1e-6, 1e9);
    c.attention_scale = static_cast<float>(1 / std::sqrt(scalar));
    return c;
}

class Gemma : public Model {
 public:
    Gemma(WeightLoader& load, const ModelConfig& c)
        : Model(with_scale(c, load)),
          ends(load),
          rope(load, c),
          score_cap(static_cast<float>(load.metadata_number("attn_logit_softcapping", 0, 0, 1e6))),
          logit_cap(static_cast<float>(load.metadata_number("final_logit_softcapping", 0, 0, 1e6))) {
        if (!c.rope_inv_freq_local.empty()) local_inv_freq = load.vector(c.rope_inv_freq_local);
        for (int64_t il = 0; il < c.n_layers; ++il) layers.emplace_back(LayerLoader(load, il), c);
    }

    void forward(Step& s) const override {
        const ModelConfig& c = config_;
        const Tensor x = s.embed(ends.token_embd);  // (n_tokens, dim), the residual stream
        s.scale(x, std::sqrt(static_cast<float>(c.dim)));
        const Tensor angles = rope.table(s);
        const Tensor local_angles = local_inv_freq ? s.rope_table(local_inv_freq, 1) : angles;
        for (int64_t il = 0; il < c.n_layers; ++il) {
            const Step::Scope scope(s);
            const Layer& l = layers[static_cast<size_t>(il)];
            const Tensor a = l.attention(s, x, il, c, rope.pairing,
                                         c.window_of(il) > 0 ? local_angles : angles, score_cap);
            s.rms_norm_in_place(a, l.post_attention_norm, c.norm_eps);
            const Tensor h = s.add_rms_norm(x, a, l.ffn_norm, c.norm_eps);
            const auto [gate, up] = s.matmul2(l.ffn.ffn_gate, l.ffn.ffn_up, h);
            const Tensor y = s.matmul(l.ffn.ffn_down, s.gelu_mul(gate, up));
            s.rms_norm_in_place(y, l.post_ffw_norm, c.norm_eps);
            s.add(x, y);
        }
        ends.logits(s, x, c.norm_eps, logit_cap);
    }

 private:
    Ends ends;
    Rope rope;
    Weight local_inv_freq;       // of windowed layers; none: as the others
    float score_cap, logit_cap;  // 0: none
    std::vector<Layer> layers;
};

std::unique_ptr<Model> make_gemma(WeightLoader& load, const ModelConfig& c) {
    return std::make_unique<Gemma>(load, c);
}

}  // namespace

constinit const Family families::gemma2 = {
    .models = "Gemma 2",
    .tokenizer = "SentencePiece BPE",
    .architecture = "gemma2",
    .model_type = "gemma2",
    .hf_class = "Gemma2ForCausalLM",
    .config = config,
    .tensors = gemma2_tensors,
    .published = gemma2_published,
    .defaults =
        R"({"vocab_size": 256000, "num_key_value_heads": 4, "head_dim": 256, "query_pre_attn_scalar": 256,
                    "sliding_window": 4096, "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0})",
    .gguf_defaults = R"({"attention.sliding_window": 4096})",
    .must = R"({"hidden_activation": "gelu_pytorch_tanh", "attention_bias": false,
                "use_bidirectional_attention": false})",
    .unread = unread,
    .windows = {.exist = true, .layer_types = true, .period = 2},
    .tied = true,
    .make = make_gemma,
};

constinit const Family families::gemma3 = {
    .models = "Gemma 3 (text)",
    .tokenizer = "SentencePiece BPE",
    .architecture = "gemma3",
    .model_type = "gemma3_text",
    .hf_class = "Gemma3ForCausalLM",
    .config = config,
    .tensors = gemma3_tensors,
    .published = gemma3_published,
    .defaults =
        R"({"vocab_size": 262208,
                    "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256,
                    "query_pre_attn_scalar": 256, "sliding_window": 4096, "rope_theta": 1000000.0,
                    "rope_local_base_freq": 10000.0, "max_position_embeddings": 131072})",
    .wrapper_type = "gemma3",
    .must = R"({"hidden_activation": "gelu_pytorch_tanh", "attention_bias": false,
                "use_bidirectional_attention": false})",
    .unread = unread,
    .windows = {.exist = true, .layer_types = true, .period = 6},
    .local_rotary = true,
    .tied = true,
    .make = make_gemma,
};

}  // namespace smelt
