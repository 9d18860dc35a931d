// SmolLM3: Llama's layers, of which every fourth rotates nothing.
#include "model/architectures.h"
#include "model/grouped_attention.h"
#include "model/model.h"

namespace smelt {

namespace {

constexpr int64_t usual_interval = 4;

// GGUF has no name for the list: llama.cpp knows the usual interval alone.
constexpr auto config = joined(
    decoder_config, grouped_config,
    std::array{ConfigKey{"no_rope_layers", "rope.rotated_layers", KeyType::integers, "", true},
               ConfigKey{"no_rope_layer_interval", "rope.plain_layer_interval", KeyType::integer, "", true}});
constexpr auto tensors = joined(ends_tensors, attention_tensors, qkv_bias_tensors("attention_bias"),
                                output_bias_tensor("attention_bias"), ffn_norm_tensor, swiglu_tensors,
                                swiglu_bias_tensors("mlp_bias"));
constexpr PublishedModel published[] = {
    {"smollm3-3b",
     R"({"num_hidden_layers": 36, "hidden_size": 2048, "intermediate_size": 11008, "num_attention_heads": 16,
         "num_key_value_heads": 4, "vocab_size": 128256, "max_position_embeddings": 65536,
         "rope_theta": 5000000.0, "tie_word_embeddings": true})"},
};

// The list has 1 where a layer rotates. Without it every so many layers do not.
std::unique_ptr<Model> make(WeightLoader& load, const ModelConfig& c) {
    const auto interval =
        static_cast<int64_t>(load.metadata_number("rope.plain_layer_interval", usual_interval, 1, 1000));
    const std::vector<int64_t> list = load.metadata_list("rope.rotated_layers", c.n_layers);
    std::vector<bool> rotated;
    for (int64_t il = 0; il < c.n_layers; ++il) {
        rotated.push_back(list.empty() ? (il + 1) % interval != 0 : list[static_cast<size_t>(il)] != 0);
    }
    return make_decoder(load, c, std::move(rotated));
}

}  // namespace

constinit const Family families::smollm3 = {
    .models = "SmolLM3 3B",
    .tokenizer = "byte-level BPE",
    .architecture = "smollm3",
    .model_type = "smollm3",
    .hf_class = "SmolLM3ForCausalLM",
    .config = config,
    .tensors = tensors,
    .published = published,
    .defaults = R"({"num_key_value_heads": 4, "rope_theta": 2000000.0, "tie_word_embeddings": true})",
    .windows = {.exist = true, .opt_in = true, .layer_types = true},
    .gguf_interleaved = true,
    .tied = true,
    .make = make,
};

}  // namespace smelt
