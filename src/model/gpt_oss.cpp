// gpt-oss: grouped-query attention with a sink in every head's softmax, windows in every other layer, biases
// everywhere, and a mixture of experts whose SwiGLU is clamped.
#include "model/architectures.h"
#include "model/grouped_attention.h"
#include "model/model.h"

namespace smelt {

namespace {

constexpr auto config = joined(
    decoder_config, grouped_config,
    std::array{
        ConfigKey{"num_local_experts", "expert_count", KeyType::integer, "n_experts"},
        ConfigKey{"num_experts_per_tok", "expert_used_count"},
        ConfigKey{"intermediate_size", "expert_feed_forward_length", KeyType::integer, "expert_ffn_dim"},
        ConfigKey{"swiglu_limit", "swiglu_limit", KeyType::real}});

// Hugging Face files have rows of gate and up by turns in one tensor, GGUF files two tensors. The experts'
// *_blocks stand for the pair with *_scales.
constexpr auto tensors = joined(
    ends_tensors, attention_tensors, qkv_bias_tensors(""), output_bias_tensor(""),
    std::array{
        TensorRule{"model.layers.{}.self_attn.sinks", "blk.{}.attn_sinks.weight", "[n_heads]"},
        TensorRule{"model.layers.{}.post_attention_layernorm.weight", "blk.{}.post_attention_norm.weight",
                   "dim"},
        TensorRule{"model.layers.{}.mlp.router.weight", "blk.{}.ffn_gate_inp.weight", "n_experts, dim"},
        TensorRule{"model.layers.{}.mlp.router.bias", "blk.{}.ffn_gate_inp.bias", "n_experts"},
        TensorRule{"model.layers.{}.mlp.experts.gate_up_proj_blocks", "blk.{}.ffn_gate_up_exps.weight",
                   "n_experts, 2 * expert_ffn_dim, dim", Presence::hugging_face},
        TensorRule{"model.layers.{}.mlp.experts.gate_up_proj_bias", "blk.{}.ffn_gate_up_exps.bias",
                   "n_experts, 2 * expert_ffn_dim", Presence::hugging_face},
        TensorRule{"", "blk.{}.ffn_gate_exps.weight", "n_experts, [expert_ffn_dim], dim", Presence::gguf},
        TensorRule{"", "blk.{}.ffn_gate_exps.bias", "n_experts, [expert_ffn_dim]", Presence::gguf},
        TensorRule{"", "blk.{}.ffn_up_exps.weight", "n_experts, [expert_ffn_dim], dim", Presence::gguf},
        TensorRule{"", "blk.{}.ffn_up_exps.bias", "n_experts, [expert_ffn_dim]", Presence::gguf},
        TensorRule{"model.layers.{}.mlp.experts.down_proj_blocks", "blk.{}.ffn_down_exps.weight",
                   "n_experts, dim, [expert_ffn_dim]"},
        TensorRule{"model.layers.{}.mlp.experts.down_proj_bias", "blk.{}.ffn_down_exps.bias",
                   "n_experts, dim"},
    });

constexpr std::string_view unread[] = {"experts_per_token"};

constexpr PublishedModel published[] = {
    {"gpt-oss-20b",
     R"({"num_hidden_layers": 24, "hidden_size": 2880, "intermediate_size": 2880, "num_attention_heads": 64,
         "vocab_size": 201088, "max_position_embeddings": 131072, "num_local_experts": 32})"},
    {"gpt-oss-120b",
     R"({"num_hidden_layers": 36, "hidden_size": 2880, "intermediate_size": 2880, "num_attention_heads": 64,
         "vocab_size": 201088, "max_position_embeddings": 131072, "num_local_experts": 128})"},
};

constexpr float swiglu_alpha = 1.702f;  // sigmoid(1.702 x) x is close to GELU

// A matrix of each expert and a row of biases.
struct Experts {
    std::vector<Weight> weights;  // each (rows, cols)
    Weight bias;                  // (n_experts, rows)

    Step::ExpertLinear linear() const { return {weights, bias}; }
};

struct Layer {
    GroupedAttention attention;
    Weight post_attention_norm;              // (dim)
    Weight ffn_gate_inp, ffn_gate_inp_bias;  // (n_experts, dim), the router
    Experts gate, up;                        // (expert_ffn_dim, dim)
    Experts down;                            // (dim, expert_ffn_dim)
};

Layer load_layer(LayerLoader load, const ModelConfig& c) {
    const auto experts = [&](const std::string& name) {
        return Experts{load.experts(name + "_exps.weight"), load(name + "_exps.bias")};
    };
    const auto every_other = [&](const std::string& name, int64_t first) {
        return Experts{load.every_nth(name + "_exps.weight", "ffn_gate_up_exps.weight", {first, 2}),
                       load.every_nth_bias(name + "_exps.bias", "ffn_gate_up_exps.bias", {first, 2})};
    };
    const bool joined = load.has("ffn_gate_up_exps.weight");
    return {
        .attention = GroupedAttention(load, c),
        .post_attention_norm = load("post_attention_norm.weight"),
        .ffn_gate_inp = load("ffn_gate_inp.weight"),
        .ffn_gate_inp_bias = load("ffn_gate_inp.bias"),
        .gate = joined ? every_other("ffn_gate", 0) : experts("ffn_gate"),
        .up = joined ? every_other("ffn_up", 1) : experts("ffn_up"),
        .down = experts("ffn_down"),
    };
}

class GptOss : public Model {
 public:
    GptOss(WeightLoader& load, const ModelConfig& c)
        : Model(c),
          ends(load),
          rope(load, c),
          swiglu_limit(static_cast<float>(load.metadata_number("swiglu_limit", 7, 1e-6, 1e6))) {
        for (int64_t il = 0; il < c.n_layers; ++il) layers.push_back(load_layer(LayerLoader(load, il), c));
    }

    void forward(Step& s) const override {
        const ModelConfig& c = config_;
        const Tensor x = s.embed(ends.token_embd);  // (n_tokens, dim), the residual stream
        const Tensor angles = rope.table(s);
        for (int64_t il = 0; il < c.n_layers; ++il) {
            const Step::Scope scope(s);
            const Layer& l = layers[static_cast<size_t>(il)];
            const Tensor a = l.attention(s, x, il, c, rope.pairing, angles);
            add_experts(s, x, s.add_rms_norm(x, a, l.post_attention_norm, c.norm_eps), l);
        }
        ends.logits(s, x, c.norm_eps);
    }

 private:
    // The softmax over the chosen alone, which the model is defined with, is the softmax over all of them
    // divided by its sum over the chosen.
    void add_experts(Step& s, Tensor x, Tensor h, const Layer& l) const {
        const Tensor logits = s.matmul(l.ffn_gate_inp, h, l.ffn_gate_inp_bias);
        const Step::Routed routed = s.route(logits, config_.n_experts_used, {.normalize = true});
        const auto [gate, up] = s.matmul_experts2(l.gate.linear(), l.up.linear(), h, routed);
        const Tensor inner = s.clamped_silu_mul(gate, up, swiglu_alpha, swiglu_limit);
        s.add_experts(x, s.matmul_experts(l.down.linear(), inner, routed), routed);
    }

    Ends ends;
    Rope rope;
    float swiglu_limit;
    std::vector<Layer> layers;
};

std::unique_ptr<Model> make_gpt_oss(WeightLoader& load, const ModelConfig& c) {
    return std::make_unique<GptOss>(load, c);
}

}  // namespace

constinit const Family families::gpt_oss = {
    .models = "gpt-oss 20B, 120B",
    .tokenizer = "byte-level BPE",
    .architecture = "gpt-oss",
    .model_type = "gpt_oss",
    .hf_class = "GptOssForCausalLM",
    .config = config,
    .tensors = tensors,
    .published = published,
    .defaults = R"({"num_key_value_heads": 8, "head_dim": 64, "rms_norm_eps": 1e-5, "num_local_experts": 128,
                    "num_experts_per_tok": 4, "sliding_window": 128, "swiglu_limit": 7.0,
                    "rope_theta": 150000.0, "rope_parameters": {"rope_type": "yarn", "factor": 32.0,
                    "beta_fast": 32.0, "beta_slow": 1.0, "truncate": false,
                    "original_max_position_embeddings": 4096}})",
    // Not said in GGUF files, whose readers round where the model was trained without.
    .gguf_defaults = R"({"rope.scaling.truncate": false, "swiglu_limit": 7.0})",
    .must = R"({"hidden_act": "silu", "attention_bias": true, "swiglu_alpha": 1.702})",
    .unread = unread,
    .windows = {.exist = true, .layer_types = true, .period = 2},
    .mixture = true,
    .make = make_gpt_oss,
};

}  // namespace smelt
