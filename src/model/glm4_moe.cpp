// GLM-4.5 and 4.6: grouped-query attention with biases, half of each head rotated, norms of heads in the
// larger ones; a mixture with sigmoid routing and a shared expert behind leading dense layers.
#include "model/architectures.h"
#include "model/grouped_attention.h"

namespace smelt::families {

namespace {

constexpr auto config = joined(
    decoder_config, grouped_config,
    std::array{
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
    ends_tensors, attention_tensors, qkv_bias_tensors("attention_bias"), head_norm_rules("use_qk_norm"),
    std::array{TensorRule{"model.layers.{}.post_attention_layernorm.weight",
                          "blk.{}.post_attention_norm.weight", "dim"}},
    swiglu_tensors, router_tensor, router_bias_tensor, shared_expert_tensors, expert_tensors);
constexpr PublishedModel published[] = {
    {"glm-4.5-air",
     R"({"num_hidden_layers": 46, "hidden_size": 4096, "intermediate_size": 10944, "num_attention_heads": 96,
         "head_dim": 128, "vocab_size": 151552, "max_position_embeddings": 131072, "rope_theta": 1000000.0,
         "attention_bias": true})"},
    {"glm-4.5",
     R"({"num_hidden_layers": 92, "hidden_size": 5120, "intermediate_size": 12288, "num_attention_heads": 96,
         "head_dim": 128, "vocab_size": 151552, "max_position_embeddings": 131072, "rope_theta": 1000000.0,
         "attention_bias": true, "use_qk_norm": true, "n_routed_experts": 160, "moe_intermediate_size": 1536,
         "first_k_dense_replace": 3, "routed_scaling_factor": 2.5})"},
};

}  // namespace

constinit const Family glm4_moe = {
    .models = "GLM-4.5, 4.5-Air, 4.6, 4.7",
    .tokenizer = "byte-level BPE",
    .architecture = "glm4moe",
    .model_type = "glm4_moe",
    .hf_class = "Glm4MoeForCausalLM",
    .config = config,
    .tensors = tensors,
    .published = published,
    .defaults = R"({"num_key_value_heads": 8, "rms_norm_eps": 1e-5, "norm_topk_prob": true, "n_group": 1,
                    "topk_group": 1, "n_shared_experts": 1, "num_experts_per_tok": 8, "first_k_dense_replace": 1,
                    "n_routed_experts": 128, "moe_intermediate_size": 1408, "routed_scaling_factor": 1.0,
                    "partial_rotary_factor": 0.5})",
    .gguf_defaults = R"({"expert_weights_norm": true})",
    .constants = R"({"expert_gating_func": 2, "expert_group_count": 1, "expert_group_used_count": 1})",
    .mixture = true,
    .partial_rotary = true,
    .prediction_layers = true,
    .make = make_decoder,
};

}  // namespace smelt::families
