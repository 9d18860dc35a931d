// Llama 2 and 3, and Mixtral, which GGUF calls llama too: grouped-query attention, SwiGLU or a mixture of
// SwiGLU experts. Llama 3's context scaling lies in the RoPE frequencies.
#include "model/architectures.h"
#include "model/grouped_attention.h"

namespace smelt::families {

namespace {

constexpr auto llama_config = joined(decoder_config, grouped_config);
constexpr auto llama_tensors = joined(
    ends_tensors, attention_tensors, qkv_bias_tensors("attention_bias"), output_bias_tensor("attention_bias"),
    ffn_norm_tensor, swiglu_tensors, swiglu_bias_tensors("mlp_bias"),
    // Hugging Face has the formula in config.json instead.
    std::array{TensorRule{"", "rope_freqs.weight", "head_dim / 2", Presence::optional}});
constexpr std::string_view llama_unread[] = {"sliding_window", "use_sliding_window", "max_window_layers",
                                             "layer_types"};
constexpr PublishedModel llama_published[] = {
    {"llama-3.1-8b",
     R"({"num_hidden_layers": 32, "hidden_size": 4096, "intermediate_size": 14336, "num_attention_heads": 32,
         "num_key_value_heads": 8, "vocab_size": 128256, "max_position_embeddings": 131072, "rms_norm_eps": 1e-5,
         "rope_theta": 500000.0, "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
         "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}})"},
};

constexpr auto mixtral_config =
    joined(decoder_config, grouped_config,
           std::array{ConfigKey{"num_local_experts", "expert_count", KeyType::integer, "n_experts"},
                      ConfigKey{"num_experts_per_tok", "expert_used_count"}});
// The experts' length is that of a dense feed-forward.
constexpr auto mixtral_tensors =
    joined(ends_tensors, attention_tensors, ffn_norm_tensor,
           std::array{TensorRule{"model.layers.{}.block_sparse_moe.gate.weight", "blk.{}.ffn_gate_inp.weight",
                                 "n_experts, dim"},
                      TensorRule{"model.layers.{}.block_sparse_moe.experts.{}.w1.weight",
                                 "blk.{}.ffn_gate_exps.weight", "n_experts, [ffn_dim], dim"},
                      TensorRule{"model.layers.{}.block_sparse_moe.experts.{}.w3.weight",
                                 "blk.{}.ffn_up_exps.weight", "n_experts, [ffn_dim], dim"},
                      TensorRule{"model.layers.{}.block_sparse_moe.experts.{}.w2.weight",
                                 "blk.{}.ffn_down_exps.weight", "n_experts, dim, [ffn_dim]"}});
constexpr PublishedModel mixtral_published[] = {
    {"mixtral-8x7b",
     R"({"num_hidden_layers": 32, "hidden_size": 4096, "intermediate_size": 14336, "num_attention_heads": 32,
         "num_key_value_heads": 8, "vocab_size": 32000, "max_position_embeddings": 32768, "rms_norm_eps": 1e-5,
         "rope_theta": 1000000.0, "num_local_experts": 8, "num_experts_per_tok": 2})"},
};

}  // namespace

constinit const Family llama = {
    .models = "Llama 2, Llama 3",
    .tokenizer = "SentencePiece BPE (2), byte-level BPE (3)",
    .architecture = "llama",
    .model_type = "llama",
    .hf_class = "LlamaForCausalLM",
    .config = llama_config,
    .tensors = llama_tensors,
    .published = llama_published,
    .unread = llama_unread,
    .gguf_interleaved = true,
    .make = make_decoder,
};

constinit const Family mixtral = {
    .models = "Mixtral 8x7B",
    .tokenizer = "SentencePiece BPE",
    .architecture = "llama",
    .model_type = "mixtral",
    .hf_class = "MixtralForCausalLM",
    .config = mixtral_config,
    .tensors = mixtral_tensors,
    .published = mixtral_published,
    .defaults = R"({"num_key_value_heads": 8, "rms_norm_eps": 1e-5, "rope_theta": 1000000.0,
                    "num_local_experts": 8, "num_experts_per_tok": 2})",
    .windows = {.exist = true},
    .gguf_interleaved = true,
    .mixture = true,
    .make = make_decoder,
};

}  // namespace smelt::families
