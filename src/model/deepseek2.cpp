// DeepSeek-V3 and GLM-4.7-Flash (glm4_moe_lite; GGUF calls both deepseek2): multi-head latent attention, and
// a mixture with sigmoid routing, within the best groups of experts, and a shared expert behind leading dense
// layers. Each head's key and value projections are applied to query and output instead of the cached latent
// vectors, which all heads share: (W_k c)·q = c·(W_kᵀ q), and a weighted sum of W_v c is W_v times the
// weighted sum of c.
#include "model/architectures.h"
#include "model/blocks.h"
#include "model/model.h"

namespace smelt {

namespace {

constexpr auto config = joined(
    decoder_config,
    std::array{
        ConfigKey{"q_lora_rank", "attention.q_lora_rank", KeyType::integer, "q_rank"},
        ConfigKey{"kv_lora_rank", "attention.kv_lora_rank", KeyType::integer, "kv_rank"},
        ConfigKey{"qk_nope_head_dim", "attention.nope_length", KeyType::integer, "nope_dim"},
        ConfigKey{"qk_rope_head_dim", "rope.dimension_count", KeyType::integer, "rope_dim"},
        ConfigKey{"v_head_dim", "attention.value_length_mla", KeyType::integer, "v_dim"},
        ConfigKey{"first_k_dense_replace", "leading_dense_block_count", KeyType::integer, "n_dense_layers"},
        ConfigKey{"n_routed_experts", "expert_count", KeyType::integer, "n_experts"},
        ConfigKey{"num_experts_per_tok", "expert_used_count"},
        ConfigKey{"n_shared_experts", "expert_shared_count", KeyType::integer, "n_shared_experts"},
        ConfigKey{"moe_intermediate_size", "expert_feed_forward_length", KeyType::integer, "expert_ffn_dim"},
        ConfigKey{"norm_topk_prob", "expert_weights_norm", KeyType::boolean},
        ConfigKey{"routed_scaling_factor", "expert_weights_scale", KeyType::real},
        ConfigKey{"n_group", "expert_group_count"},
        ConfigKey{"topk_group", "expert_group_used_count"},
    });

constexpr auto tensors = joined(
    ends_tensors,
    std::array{
        TensorRule{"model.layers.{}.input_layernorm.weight", "blk.{}.attn_norm.weight", "dim"},
        TensorRule{"model.layers.{}.self_attn.q_a_proj.weight", "blk.{}.attn_q_a.weight", "q_rank, dim"},
        TensorRule{"model.layers.{}.self_attn.q_a_layernorm.weight", "blk.{}.attn_q_a_norm.weight", "q_rank"},
        TensorRule{"model.layers.{}.self_attn.q_b_proj.weight", "blk.{}.attn_q_b.weight",
                   "[n_heads] nope_dim + rope_dim, q_rank"},
        TensorRule{"model.layers.{}.self_attn.kv_a_proj_with_mqa.weight", "blk.{}.attn_kv_a_mqa.weight",
                   "kv_rank + rope_dim, dim"},
        TensorRule{"model.layers.{}.self_attn.kv_a_layernorm.weight", "blk.{}.attn_kv_a_norm.weight",
                   "kv_rank"},
        // Either container's form of the latent projections, see files/latent_attention.h.
        TensorRule{"model.layers.{}.self_attn.kv_b_proj.weight", "blk.{}.attn_kv_b.weight",
                   "[n_heads] nope_dim + v_dim, kv_rank", Presence::hugging_face},
        TensorRule{"", "blk.{}.attn_k_b.weight", "[n_heads], kv_rank, nope_dim", Presence::gguf},
        TensorRule{"", "blk.{}.attn_v_b.weight", "[n_heads], v_dim, kv_rank", Presence::gguf},
        TensorRule{"model.layers.{}.self_attn.o_proj.weight", "blk.{}.attn_output.weight",
                   "dim, [n_heads] v_dim"},
    },
    ffn_norm_tensor, swiglu_tensors, router_tensor, router_bias_tensor, shared_expert_tensors,
    expert_tensors);

constexpr std::string_view unread[] = {"num_key_value_heads", "head_dim",       "qk_head_dim",
                                       "sliding_window",      "aux_loss_alpha", "seq_aux"};

constexpr PublishedModel published[] = {
    {"glm-4.7-flash",
     R"({"num_hidden_layers": 47, "hidden_size": 2048, "intermediate_size": 10240, "num_attention_heads": 20,
         "vocab_size": 154880, "max_position_embeddings": 202752, "q_lora_rank": 768, "kv_lora_rank": 512,
         "qk_nope_head_dim": 192, "qk_rope_head_dim": 64, "v_head_dim": 256, "n_routed_experts": 64,
         "num_experts_per_tok": 4, "n_shared_experts": 1, "moe_intermediate_size": 1536,
         "first_k_dense_replace": 1, "routed_scaling_factor": 1.8, "rope_theta": 1000000.0})"},
};

constexpr PublishedModel deepseek_published[] = {
    {"deepseek-v3",
     R"({"num_hidden_layers": 61, "hidden_size": 7168, "intermediate_size": 18432, "num_attention_heads": 128,
         "vocab_size": 129280, "max_position_embeddings": 163840, "moe_intermediate_size": 2048,
         "rope_theta": 10000.0, "rope_scaling": {"type": "yarn", "factor": 40, "beta_fast": 32, "beta_slow": 1,
         "mscale": 1.0, "mscale_all_dim": 1.0, "original_max_position_embeddings": 4096}})"},
};

// Of the norms of latent vectors, whatever the config says of the others: transformers builds them so.
constexpr float latent_eps = 1e-6f;

struct Layer {
    Weight attn_norm;                      // (dim)
    Weight attn_q_a, attn_kv_a_mqa;        // (q_rank, dim), (kv_rank + rope_dim, dim)
    Weight attn_q_a_norm, attn_kv_a_norm;  // (q_rank), (kv_rank)
    Weight attn_q_b;                       // (n_heads * (nope_dim + rope_dim), q_rank)
    LayerLoader::LatentHeads heads;
    Weight attn_output;  // (dim, n_heads * v_dim)
    Weight ffn_norm;     // (dim)
    FeedForward ffn;
};

Layer load_layer(const LayerLoader& load, const ModelConfig& c) {
    return {
        .attn_norm = load("attn_norm.weight"),
        .attn_q_a = load("attn_q_a.weight"),
        .attn_kv_a_mqa = load("attn_kv_a_mqa.weight"),
        .attn_q_a_norm = load("attn_q_a_norm.weight"),
        .attn_kv_a_norm = load("attn_kv_a_norm.weight"),
        .attn_q_b = load("attn_q_b.weight"),
        .heads = load.latent_heads(*c.latent),
        .attn_output = load("attn_output.weight"),
        .ffn_norm = load("ffn_norm.weight"),
        .ffn = FeedForward(load, c),
    };
}

class Deepseek2 : public Model {
 public:
    Deepseek2(WeightLoader& load, const ModelConfig& c) : Model(c), ends(load), rope(load, c) {
        for (int64_t il = 0; il < c.n_layers; ++il) layers.push_back(load_layer(LayerLoader(load, il), c));
    }

    void forward(Step& s) const override {
        const ModelConfig& c = config_;
        const int64_t nope = c.latent->nope_dim, rotated = c.latent->rope_dim, rank = c.latent->kv_rank;
        const AttentionParams attention{.scale = c.attention_scale};
        const int64_t n_tokens = s.n_tokens(), n_rows = n_tokens * c.n_heads;  // a row for each head
        const Tensor x = s.embed(ends.token_embd);  // (n_tokens, dim), the residual stream
        const Tensor angles = rope.table(s);
        for (int64_t il = 0; il < c.n_layers; ++il) {
            const Step::Scope scope(s);
            const Layer& l = layers[static_cast<size_t>(il)];
            const Tensor h = s.rms_norm(x, l.attn_norm, c.norm_eps);
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
            l.ffn.add_to(s, x, s.add_rms_norm(x, a, l.ffn_norm, c.norm_eps));
        }
        ends.logits(s, x, c.norm_eps);
    }

 private:
    Ends ends;
    Rope rope;
    std::vector<Layer> layers;
};

std::unique_ptr<Model> make_deepseek2(WeightLoader& load, const ModelConfig& c) {
    return std::make_unique<Deepseek2>(load, c);
}

}  // namespace

constinit const Family families::glm4_moe_lite = {
    .models = "GLM-4.7-Flash",
    .tokenizer = "byte-level BPE",
    .architecture = "deepseek2",
    .model_type = "glm4_moe_lite",
    .hf_class = "Glm4MoeLiteForCausalLM",
    .config = config,
    .tensors = tensors,
    .published = published,
    .defaults = R"({"rms_norm_eps": 1e-5, "norm_topk_prob": true, "routed_scaling_factor": 1.8, "n_group": 1,
                    "topk_group": 1, "n_shared_experts": 1, "num_experts_per_tok": 4, "first_k_dense_replace": 1,
                    "n_routed_experts": 64})",
    .gguf_defaults = R"({"expert_weights_norm": true})",
    .must =
        R"({"hidden_act": "silu", "rope_interleave": true, "attention_bias": false, "topk_method": "noaux_tc",
                "scoring_func": "sigmoid"})",
    .unread = unread,
    .gguf_interleaved = true,
    .mixture = true,
    .prediction_layers = true,
    .latent = true,
    .make = make_deepseek2,
};

constinit const Family families::deepseek_v3 = {
    .models = "DeepSeek-V3, V3.1, R1",
    .tokenizer = "byte-level BPE",
    .architecture = "deepseek2",
    .model_type = "deepseek_v3",
    .hf_class = "DeepseekV3ForCausalLM",
    .config = config,
    .tensors = tensors,
    .published = deepseek_published,
    .defaults = R"({"rms_norm_eps": 1e-6, "norm_topk_prob": true, "routed_scaling_factor": 2.5, "n_group": 8,
                    "topk_group": 4, "n_shared_experts": 1, "num_experts_per_tok": 8, "first_k_dense_replace": 3,
                    "n_routed_experts": 256, "kv_lora_rank": 512, "q_lora_rank": 1536, "qk_rope_head_dim": 64,
                    "v_head_dim": 128, "qk_nope_head_dim": 128})",
    .gguf_defaults = R"({"expert_weights_norm": false})",
    .gguf_key = "rope.scaling.type",
    .must =
        R"({"hidden_act": "silu", "rope_interleave": true, "attention_bias": false, "topk_method": "noaux_tc",
                "scoring_func": "sigmoid", "moe_layer_freq": 1})",
    .unread = unread,
    .gguf_interleaved = true,
    .mixture = true,
    .prediction_layers = true,
    .latent = true,
    .make = make_deepseek2,
};

}  // namespace smelt
