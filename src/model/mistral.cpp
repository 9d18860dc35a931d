// Mistral 7B, Nemo, Small and Ministral 8B: Llama's layers, all of them with a window where the config has
// one. GGUF calls them llama; files with a window are these.
#include "model/architectures.h"
#include "model/grouped_attention.h"

namespace smelt::families {

namespace {

constexpr auto config = joined(decoder_config, grouped_config);
constexpr auto tensors = joined(ends_tensors, attention_tensors, ffn_norm_tensor, swiglu_tensors);
constexpr PublishedModel published[] = {
    {"mistral-7b",
     R"({"num_hidden_layers": 32, "hidden_size": 4096, "intermediate_size": 14336, "num_attention_heads": 32,
         "vocab_size": 32768, "max_position_embeddings": 32768, "rms_norm_eps": 1e-5, "rope_theta": 1000000.0,
         "sliding_window": null})"},
    {"ministral-8b",
     R"({"num_hidden_layers": 36, "hidden_size": 4096, "intermediate_size": 12288, "num_attention_heads": 32,
         "head_dim": 128, "vocab_size": 131072, "max_position_embeddings": 32768, "rms_norm_eps": 1e-5,
         "rope_theta": 100000000.0, "sliding_window": 32768})"},
    {"mistral-nemo-12b",
     R"({"num_hidden_layers": 40, "hidden_size": 5120, "intermediate_size": 14336, "num_attention_heads": 32,
         "head_dim": 128, "vocab_size": 131072, "max_position_embeddings": 131072, "rms_norm_eps": 1e-5,
         "rope_theta": 1000000.0, "sliding_window": null})"},
    {"mistral-small-24b",
     R"({"num_hidden_layers": 40, "hidden_size": 5120, "intermediate_size": 32768, "num_attention_heads": 32,
         "head_dim": 128, "vocab_size": 131072, "max_position_embeddings": 32768, "rms_norm_eps": 1e-5,
         "rope_theta": 100000000.0, "sliding_window": null})"},
};

}  // namespace

constinit const Family mistral = {
    .models = "Mistral 7B, Nemo, Small, Ministral 8B",
    .tokenizer = "SentencePiece BPE (7B), byte-level BPE (Tekken)",
    .architecture = "llama",
    .model_type = "mistral",
    .hf_class = "MistralForCausalLM",
    .config = config,
    .tensors = tensors,
    .published = published,
    .defaults = R"({"num_key_value_heads": 8, "sliding_window": 4096})",
    .gguf_key = "attention.sliding_window",
    .windows = {.exist = true},
    .gguf_interleaved = true,
    .make = make_decoder,
};

}  // namespace smelt::families
