// What a family of models is, as plain data: its config keys and tensors under both containers' names, with
// their shapes. Each family's table is in the file of its architecture in model/, beside the code that runs
// it. Knows no file, no device and no number of a particular model.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

namespace smelt {

class Model;
class WeightLoader;
struct ModelConfig;

enum class KeyType { integer, real, boolean, integers };

// config.json's key against GGUF's, the latter without "<architecture>.".
struct ConfigKey {
    std::string_view hf, gguf;
    KeyType type = KeyType::integer;
    std::string_view size = {};  // its name in shapes
    bool optional = false;       // a model may be without
};

// What is special about a tensor's bytes or use.
enum class TensorRole {
    plain,
    embedding,  // rows are looked up by token or position
    rotary,     // rows are RoPE dimensions of heads: reordered where the containers pair them differently
    conv1d,     // Hugging Face files have it as (in_features, out_features)
    one_plus,   // Hugging Face files have a norm's weights less one
    row,        // one row: (1, n) in Hugging Face files, (n) in GGUF
    channels,   // a convolution's weights: (n_channels, 1, kernel) in Hugging Face files
    decay,      // Hugging Face files have the logarithm of its negative
};

// Which models have a tensor, and in which layers.
enum class Presence {
    always,
    optional,          // a model without it is whole
    own_head,          // models whose output head is not their embedding
    dense_layers,      // layers without experts
    expert_layers,     // the others
    attention_layers,  // of a recurrent model, those that are not recurrent
    recurrent_layers,
    hugging_face,  // Hugging Face's form of what the rules after it are in GGUF
    gguf,
    hugging_face_recurrent,  // the same in recurrent layers
    gguf_recurrent,
};

// A tensor's names and shape. In names the first "{}" stands for the layer's number, a second one for the
// expert's; an expert's matrix in a Hugging Face file is part of a stacked tensor in GGUF, "..._exps.weight".
// A tensor without a name in a container does not exist there.
//
// Shapes have the slowest dimension first, in the names of sizes: "n_heads * head_dim, dim". Brackets say
// where devices may cut the tensor into whole pieces: in "3 [n_heads] head_dim, dim" between heads of
// head_dim rows, the same way in each of three matrices that lie one below the other.
struct TensorRule {
    std::string_view hf, gguf, shape;
    Presence presence = Presence::always;
    TensorRole role = TensorRole::plain;
    std::string_view flag =
        {};  // config.json's key that says whether the model has it; in GGUF it is optional
    // Its rows (columns) hold value heads of the delta rule from this row on, of so many rows each: where a
    // container has these heads tiled, they change places. Both in the names of sizes.
    std::string_view heads_from = {}, head_rows = {}, head_columns = {};
};

// In which layers a token sees a window of positions alone.
struct Windows {
    bool exist = false;        // else config.json's sliding_window means nothing
    bool opt_in = false;       // only with use_sliding_window
    bool from_layer = false;   // from max_window_layers on, where layer_types does not say
    bool layer_types = false;  // config.json may list the layers' kinds
    int64_t period = 0;        // every period-th layer sees all, where neither container says; 0: none does
};

// A model that was published: `bench --shape` makes one of random weights.
struct PublishedModel {
    std::string_view name;    // "qwen3-4b"
    std::string_view config;  // what its config.json says beyond the family's defaults, as JSON
};

// JSON in texts, so that they read as config.json does.
struct Family {
    std::string_view models;        // for people: "Qwen3 0.6B to 32B"
    std::string_view tokenizer;     // for people
    std::string_view architecture;  // GGUF's general.architecture
    std::string_view model_type;    // config.json
    std::string_view hf_class;      // config.json: architectures[0]
    std::span<const ConfigKey> config;
    std::span<const TensorRule> tensors;  // the first is the token embedding
    std::span<const PublishedModel> published = {};
    // What the reference implementation takes where config.json is silent.
    std::string_view defaults = "{}";
    // What GGUF files leave out, under GGUF's keys.
    std::string_view gguf_defaults = "{}";
    // What is so in every model of the family, under GGUF's keys.
    std::string_view constants = "{}";
    // Files of this family have this key, without "<architecture>.", those of another family of the same
    // architecture have not.
    std::string_view gguf_key = {};
    // Of a config.json that has one of these models as its text_config, beside pictures.
    std::string_view wrapper_type = {};
    // Makes features of pictures, for models that have one; of Hugging Face files the tensors of
    // "model.visual.", in GGUF a file of its own (mmproj).
    const Family* tower = nullptr;
    // Keys of config.json whose other values the code does not implement.
    std::string_view must = R"({"hidden_act": "silu"})";
    // Keys of config.json that the reference implementation of this family does not read, besides
    // those that no family's reads (files/known_keys.h).
    std::span<const std::string_view> unread = {};
    Windows windows = {};
    bool gguf_interleaved =
        false;                    // RoPE pairs are neighbours in GGUF; in Hugging Face files they are halves
    bool mixture = false;         // of experts
    bool partial_rotary = false;  // a part of each head may be rotated
    bool local_rotary = false;    // windowed layers have a RoPE base of their own
    bool prediction_layers = false;  // further layers may predict further tokens (MTP); they are left out
    bool recurrent = false;          // some layers carry a state in place of a KV cache
    bool tiled_in_gguf = false;      // value heads of recurrent layers, see TensorRule::heads_from
    bool rotary = true;              // RoPE; else learned positions
    bool latent = false;  // latent attention, files/latent_attention.h; pairs are neighbours everywhere
    bool tied = false;    // output head and embedding, where config.json does not say
    // Configs that say the first context were trained with the second: the rest is room for the answer.
    int64_t said_context = 0, trained_context = 0;
    int64_t ffn_per_dim = 0;  // feed_forward_length / embedding_length, where config.json does not say
    // Loads the weights of such a model; called by model/ alone.
    std::unique_ptr<Model> (*make)(WeightLoader& load, const ModelConfig& config) = nullptr;
};

// Lists of keys and tensors that families are put together from.
template <class T, size_t... n>
constexpr auto joined(const std::array<T, n>&... parts) {
    std::array<T, (n + ...)> all{};
    size_t at = 0;
    const auto append = [&](const auto& part) {
        for (const T& item : part) all[at++] = item;
    };
    (append(parts), ...);
    return all;
}

// Keys that nearly all decoder-only configs share.
inline constexpr std::array decoder_config = {
    ConfigKey{"hidden_size", "embedding_length", KeyType::integer, "dim"},
    ConfigKey{"num_hidden_layers", "block_count", KeyType::integer, "n_layers"},
    ConfigKey{"intermediate_size", "feed_forward_length", KeyType::integer, "ffn_dim", true},
    ConfigKey{"num_attention_heads", "attention.head_count", KeyType::integer, "n_heads"},
    ConfigKey{"rms_norm_eps", "attention.layer_norm_rms_epsilon", KeyType::real},
    ConfigKey{"max_position_embeddings", "context_length"},
    ConfigKey{"vocab_size", "vocab_size", KeyType::integer, "vocab_size"},
};
// And those of grouped-query attention.
inline constexpr std::array grouped_config = {
    ConfigKey{"num_key_value_heads", "attention.head_count_kv", KeyType::integer, "n_kv_heads"},
    ConfigKey{"head_dim", "attention.key_length", KeyType::integer, "head_dim"},
};

}  // namespace smelt
