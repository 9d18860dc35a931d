// Phi-3 and Phi-4: Llama's layers with q, k and v in one matrix, and gate and up in another; part of each
// head may be rotated, with frequencies of their own for long contexts (longrope).
#include "model/architectures.h"
#include "model/grouped_attention.h"

namespace smelt::families {

namespace {

constexpr auto config = joined(
    decoder_config,
    std::array{ConfigKey{"num_key_value_heads", "attention.head_count_kv", KeyType::integer, "n_kv_heads"},
               ConfigKey{"head_dim", "attention.key_length", KeyType::integer, "head_dim", true}});
// GGUF's ffn_up has the rows of gate and up too.
constexpr auto tensors = joined(
    ends_tensors, joined_attention_tensors, ffn_norm_tensor,
    std::array{
        TensorRule{"model.layers.{}.mlp.gate_up_proj.weight", "blk.{}.ffn_up.weight", "2 * ffn_dim, dim"},
        TensorRule{"model.layers.{}.mlp.down_proj.weight", "blk.{}.ffn_down.weight", "dim, [ffn_dim]"},
        // Hugging Face has these lists in config.json.
        TensorRule{"", "rope_factors_long.weight", "head_dim / 2", Presence::optional},
        TensorRule{"", "rope_factors_short.weight", "head_dim / 2", Presence::optional}});
// Of Phi-4-mini's own code, which does not read them either.
constexpr std::string_view unread[] = {"full_attn_mod", "interpolate_factor"};
constexpr PublishedModel published[] = {
    {"phi-3-mini",
     R"({"num_hidden_layers": 32, "hidden_size": 3072, "intermediate_size": 8192, "num_attention_heads": 32,
         "num_key_value_heads": 32, "vocab_size": 32064, "max_position_embeddings": 4096, "rms_norm_eps": 1e-5,
         "rope_theta": 10000.0, "sliding_window": 2047})"},
    {"phi-4-mini",
     R"({"num_hidden_layers": 32, "hidden_size": 3072, "intermediate_size": 8192, "num_attention_heads": 24,
         "num_key_value_heads": 8, "vocab_size": 200064, "max_position_embeddings": 131072, "rms_norm_eps": 1e-5,
         "rope_theta": 10000.0, "partial_rotary_factor": 0.75, "tie_word_embeddings": true})"},
    {"phi-4",
     R"({"num_hidden_layers": 40, "hidden_size": 5120, "intermediate_size": 17920, "num_attention_heads": 40,
         "num_key_value_heads": 10, "vocab_size": 100352, "max_position_embeddings": 16384, "rms_norm_eps": 1e-5,
         "rope_theta": 250000.0})"},
};

}  // namespace

constinit const Family phi3 = {
    .models = "Phi-3, Phi-4, Phi-4-mini",
    .tokenizer = "SentencePiece BPE (3), byte-level BPE (4)",
    .architecture = "phi3",
    .model_type = "phi3",
    .hf_class = "Phi3ForCausalLM",
    .config = config,
    .tensors = tensors,
    .published = published,
    .defaults = R"({"rms_norm_eps": 1e-5, "max_position_embeddings": 4096})",
    .must = R"({"hidden_act": "silu", "attention_bias": false})",
    .unread = unread,
    .windows = {.exist = true},
    .partial_rotary = true,
    .make = make_decoder,
};

}  // namespace smelt::families
