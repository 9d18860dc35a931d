// Qwen3, dense and mixture of experts (softmax over all, the best renormalised where the config says so):
// grouped-query attention with an RMS norm of each head of q and k, SwiGLU.
#include "model/architectures.h"
#include "model/grouped_attention.h"

namespace smelt::families {

namespace {

constexpr auto attention = joined(ends_tensors, attention_tensors, qkv_bias_tensors("attention_bias"),
                                  output_bias_tensor("attention_bias"), head_norm_tensors, ffn_norm_tensor);

constexpr auto dense_config = joined(decoder_config, grouped_config);
constexpr auto dense_tensors = joined(attention, swiglu_tensors);
constexpr PublishedModel dense_published[] = {
    {"qwen3-0.6b",
     R"({"num_hidden_layers": 28, "hidden_size": 1024, "intermediate_size": 3072, "num_attention_heads": 16,
         "num_key_value_heads": 8, "vocab_size": 151936, "max_position_embeddings": 40960,
         "rope_theta": 1000000.0, "tie_word_embeddings": true})"},
    {"qwen3-1.7b",
     R"({"num_hidden_layers": 28, "hidden_size": 2048, "intermediate_size": 6144, "num_attention_heads": 16,
         "num_key_value_heads": 8, "vocab_size": 151936, "max_position_embeddings": 40960,
         "rope_theta": 1000000.0, "tie_word_embeddings": true})"},
    {"qwen3-4b",
     R"({"num_hidden_layers": 36, "hidden_size": 2560, "intermediate_size": 9728, "num_attention_heads": 32,
         "num_key_value_heads": 8, "vocab_size": 151936, "max_position_embeddings": 40960,
         "rope_theta": 1000000.0, "tie_word_embeddings": true})"},
    {"qwen3-8b",
     R"({"num_hidden_layers": 36, "hidden_size": 4096, "intermediate_size": 12288, "num_attention_heads": 32,
         "num_key_value_heads": 8, "vocab_size": 151936, "max_position_embeddings": 40960,
         "rope_theta": 1000000.0})"},
    {"qwen3-14b",
     R"({"num_hidden_layers": 40, "hidden_size": 5120, "intermediate_size": 17408, "num_attention_heads": 40,
         "num_key_value_heads": 8, "vocab_size": 151936, "max_position_embeddings": 40960,
         "rope_theta": 1000000.0})"},
    {"qwen3-32b",
     R"({"num_hidden_layers": 64, "hidden_size": 5120, "intermediate_size": 25600, "num_attention_heads": 64,
         "num_key_value_heads": 8, "vocab_size": 151936, "max_position_embeddings": 40960,
         "rope_theta": 1000000.0})"},
};

// transformers 5 writes num_local_experts where it used to write num_experts.
constexpr auto moe_config = joined(
    decoder_config, grouped_config,
    std::array{
        ConfigKey{"num_experts", "expert_count", KeyType::integer, "n_experts"},
        ConfigKey{"num_local_experts", "expert_count"}, ConfigKey{"num_experts_per_tok", "expert_used_count"},
        ConfigKey{"moe_intermediate_size", "expert_feed_forward_length", KeyType::integer, "expert_ffn_dim"},
        ConfigKey{"norm_topk_prob", "expert_weights_norm", KeyType::boolean}});
constexpr auto moe_tensors = joined(attention, router_tensor, expert_tensors);
constexpr PublishedModel moe_published[] = {
    {"qwen3-30b-a3b",
     R"({"num_hidden_layers": 48, "hidden_size": 2048, "intermediate_size": 6144, "num_attention_heads": 32,
         "num_key_value_heads": 4, "head_dim": 128, "vocab_size": 151936, "max_position_embeddings": 40960,
         "rope_theta": 1000000.0, "num_experts": 128, "num_experts_per_tok": 8, "moe_intermediate_size": 768,
         "norm_topk_prob": true})"},
    {"qwen3-235b-a22b",
     R"({"num_hidden_layers": 94, "hidden_size": 4096, "intermediate_size": 12288, "num_attention_heads": 64,
         "num_key_value_heads": 4, "head_dim": 128, "vocab_size": 151936, "max_position_embeddings": 40960,
         "rope_theta": 1000000.0, "num_experts": 128, "num_experts_per_tok": 8, "moe_intermediate_size": 1536,
         "norm_topk_prob": true})"},
};

}  // namespace

constinit const Family qwen3 = {
    .models = "Qwen3 0.6B to 32B",
    .tokenizer = "byte-level BPE",
    .architecture = "qwen3",
    .model_type = "qwen3",
    .hf_class = "Qwen3ForCausalLM",
    .config = dense_config,
    .tensors = dense_tensors,
    .published = dense_published,
    .defaults =
        R"({"num_key_value_heads": 32, "head_dim": 128, "sliding_window": 4096, "max_window_layers": 28})",
    .windows = {.exist = true, .opt_in = true, .from_layer = true, .layer_types = true},
    .said_context = 40960,
    .trained_context = 32768,
    .make = make_decoder,
};

constinit const Family qwen3_moe = {
    .models = "Qwen3 30B-A3B, 235B-A22B",
    .tokenizer = "byte-level BPE",
    .architecture = "qwen3moe",
    .model_type = "qwen3_moe",
    .hf_class = "Qwen3MoeForCausalLM",
    .config = moe_config,
    .tensors = moe_tensors,
    .published = moe_published,
    .defaults = R"({"num_key_value_heads": 4, "num_experts": 128, "num_experts_per_tok": 8,
                    "moe_intermediate_size": 768, "norm_topk_prob": false, "sliding_window": 4096})",
    .gguf_defaults = R"({"expert_weights_norm": true})",
    .must = R"({"hidden_act": "silu", "decoder_sparse_step": 1, "mlp_only_layers": []})",
    .windows = {.exist = true, .opt_in = true},
    .mixture = true,
    .said_context = 40960,
    .trained_context = 32768,
    .make = make_decoder,
};

}  // namespace smelt::families
