// Qwen2 and Qwen2.5: grouped-query attention with biases on q, k and v, SwiGLU.
#include "model/architectures.h"
#include "model/grouped_attention.h"

namespace smelt::families {

namespace {

constexpr auto config = joined(decoder_config, grouped_config);
constexpr auto tensors =
    joined(ends_tensors, attention_tensors, qkv_bias_tensors(""), ffn_norm_tensor, swiglu_tensors);
constexpr std::string_view unread[] = {"attention_bias", "mlp_bias"};
constexpr PublishedModel published[] = {
    {"qwen2.5-3b",
     R"({"num_hidden_layers": 36, "hidden_size": 2048, "intermediate_size": 11008, "num_attention_heads": 16,
         "num_key_value_heads": 2, "vocab_size": 151936, "max_position_embeddings": 32768,
         "rope_theta": 1000000.0, "tie_word_embeddings": true})"},
    {"qwen2.5-7b",
     R"({"num_hidden_layers": 28, "hidden_size": 3584, "intermediate_size": 18944, "num_attention_heads": 28,
         "num_key_value_heads": 4, "vocab_size": 152064, "max_position_embeddings": 131072,
         "rope_theta": 1000000.0})"},
};

}  // namespace

constinit const Family qwen2 = {
    .models = "Qwen2, Qwen2.5",
    .tokenizer = "byte-level BPE",
    .architecture = "qwen2",
    .model_type = "qwen2",
    .hf_class = "Qwen2ForCausalLM",
    .config = config,
    .tensors = tensors,
    .published = published,
    .defaults = R"({"num_key_value_heads": 32, "sliding_window": 4096, "max_window_layers": 28})",
    .unread = unread,
    .windows = {.exist = true, .opt_in = true, .from_layer = true, .layer_types = true},
    .make = make_decoder,
};

}  // namespace smelt::families
