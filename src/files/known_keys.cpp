// The table of what is known and harmless, and comparisons with it.
#include "files/known_keys.h"

#include <algorithm>
#include <array>

#include "base/error.h"
#include "files/families.h"
#include "files/hugging_face/pooling.h"
#include "files/limits.h"
#include "files/model_file.h"
#include "files/sizes.h"

namespace smelt {

namespace {

// Read by smelt for every family.
constexpr std::string_view used_config[] = {"model_type",   "architectures",       "bos_token_id",
                                            "eos_token_id", "tie_word_embeddings", "quantization_config",
                                            "quantization", "compression_config"};
// And for those with RoPE.
constexpr std::string_view used_rope[] = {"rope_theta", "rope_scaling", "rope_parameters",
                                          "original_max_position_embeddings", "partial_rotary_factor"};
constexpr std::string_view used_windows[] = {"sliding_window", "use_sliding_window", "max_window_layers",
                                             "layer_types"};

// About training, other programs, other verbs of transformers, or how numbers are kept: logits are the same.
constexpr std::string_view harmless_config[] = {"attention_dropout",
                                                "attn_pdrop",
                                                "auto_map",
                                                "bad_words_ids",
                                                "begin_suppress_tokens",
                                                "chunk_size_feed_forward",
                                                "classifier_dropout",
                                                "cross_attention_hidden_size",
                                                "decoder_start_token_id",
                                                "diversity_penalty",
                                                "do_sample",
                                                "dtype",
                                                "early_stopping",
                                                "embd_pdrop",
                                                "encoder_no_repeat_ngram_size",
                                                "ep_size",
                                                "eos_token",
                                                "bos_token",
                                                "pad_token",
                                                "exponential_decay_length_penalty",
                                                "finetuning_task",
                                                "forced_bos_token_id",
                                                "forced_eos_token_id",
                                                "gradient_checkpointing",
                                                "hidden_dropout",
                                                "id2label",
                                                "initial_context_length",
                                                "initializer_range",
                                                "is_encoder_decoder",
                                                "keys_to_ignore_at_inference",
                                                "label2id",
                                                "language",
                                                "length_penalty",
                                                "license",
                                                "max_length",
                                                "min_length",
                                                "model_max_length",
                                                "model_name",
                                                "n_ctx",
                                                "no_repeat_ngram_size",
                                                "num_beam_groups",
                                                "num_beams",
                                                "num_labels",
                                                "num_nextn_predict_layers",
                                                "num_return_sequences",
                                                "output_attentions",
                                                "output_hidden_states",
                                                "output_router_logits",
                                                "output_scores",
                                                "pad_token_id",
                                                "prefix",
                                                "pretraining_tp",
                                                "problem_type",
                                                "pruned_heads",
                                                "remove_invalid_values",
                                                "reorder_and_upcast_attn",
                                                "repetition_penalty",
                                                "resid_pdrop",
                                                "return_dict",
                                                "return_dict_in_generate",
                                                "router_aux_loss_coef",
                                                "router_jitter_noise",
                                                "sep_token_id",
                                                "summary_activation",
                                                "summary_first_dropout",
                                                "summary_proj_to_labels",
                                                "summary_type",
                                                "summary_use_proj",
                                                "suppress_tokens",
                                                "task_specific_params",
                                                "temperature",
                                                "tf_legacy_loss",
                                                "tie_encoder_decoder",
                                                "tokenizer_class",
                                                "top_k",
                                                "top_p",
                                                "torch_dtype",
                                                "torchscript",
                                                "transformers.js_config",
                                                "transformers_version",
                                                "transformers_weights",
                                                "typical_p",
                                                "unk_token_id",
                                                "unsloth_fixed",
                                                "unsloth_version",
                                                "use_bfloat16",
                                                "use_cache"};

constexpr std::string_view used_rope_members[] = {"rope_type",
                                                  "type",
                                                  "rope_theta",
                                                  "factor",
                                                  "original_max_position_embeddings",
                                                  "low_freq_factor",
                                                  "high_freq_factor",
                                                  "beta_fast",
                                                  "beta_slow",
                                                  "truncate",
                                                  "attention_factor",
                                                  "partial_rotary_factor",
                                                  "finetuned"};

// Without "<architecture>."; those of the family's table besides.
constexpr std::string_view used_metadata[] = {"attention.head_count_kv",
                                              "attention.key_length",
                                              "attention.value_length",
                                              "attention.sliding_window",
                                              "attention.sliding_window_pattern",
                                              "context_length",
                                              "expert_count",
                                              "expert_feed_forward_length",
                                              "expert_gating_func",
                                              "expert_group_count",
                                              "expert_group_used_count",
                                              "expert_shared_count",
                                              "expert_used_count",
                                              "expert_weights_norm",
                                              "expert_weights_scale",
                                              "leading_dense_block_count",
                                              "nextn_predict_layers",
                                              "rope.dimension_count",
                                              "rope.freq_base",
                                              "rope.scale_linear",
                                              "rope.scaling.attn_factor",
                                              "rope.scaling.factor",
                                              "rope.scaling.high_freq_factor",
                                              "rope.scaling.low_freq_factor",
                                              "rope.scaling.original_context_length",
                                              "rope.scaling.truncate",
                                              "rope.scaling.type",
                                              "rope.scaling.yarn_beta_fast",
                                              "rope.scaling.yarn_beta_slow",
                                              "vocab_size"};
constexpr std::string_view used_latent_metadata[] = {"attention.key_length_mla", "attention.value_length_mla",
                                                     "attention.kv_lora_rank", "attention.q_lora_rank",
                                                     "rope.scaling.yarn_log_multiplier"};
constexpr std::string_view used_recurrent_metadata[] = {"attention.recurrent_layers",
                                                        "full_attention_interval", "ssm.inner_size"};
// A token of a text has the same position on all axes, whatever sections of a head an axis has.
constexpr std::string_view harmless_metadata[] = {"rope.scaling.finetuned", "rope.dimension_sections",
                                                  "tensor_data_layout"};

// Buffers that checkpoints of old versions of transformers hold, and of quantized KV caches.
constexpr std::string_view harmless_tensor_endings[] = {".rotary_emb.inv_freq", ".self_attn.k_scale",
                                                        ".self_attn.v_scale", ".input_scale"};

bool has(std::span<const std::string_view> list, std::string_view name) {
    return std::ranges::find(list, name) != list.end();
}

bool has_flag(const Family& family, std::string_view name) {
    return std::ranges::find(family.tensors, name, &TensorRule::flag) != family.tensors.end();
}

bool is_known(const std::string& key, const Family& family, const Json& must) {
    return std::ranges::find(family.config, key, &ConfigKey::hf) != family.config.end() ||
           has_flag(family, key) || must.contains(key) || has(used_config, key) ||
           has(harmless_config, key) || has(family.unread, key) || (family.rotary && has(used_rope, key)) ||
           (family.windows.exist && has(used_windows, key)) || (family.latent && key == "mlp_layer_types") ||
           (family.windows.period > 0 && key == "sliding_window_pattern") ||
           (family.local_rotary && key == "rope_local_base_freq") ||
           (family.recurrent && (key == "layer_types" || key == "full_attention_interval")) ||
           key.starts_with('_');
}

// null, false and empty lists ask for nothing.
bool says_nothing(const Json& value) {
    return value.is_null() || value == false || (value.is_structured() && value.empty());
}

// Quantizers write a bias for every matrix, of zeros where the model has none.
bool is_harmless(const TensorView& t) {
    const bool zeros = t.name.ends_with(".bias") &&
                       std::ranges::all_of(t.data, [](std::byte b) { return b == std::byte{0}; });
    return zeros || std::ranges::any_of(harmless_tensor_endings,
                                        [&](std::string_view ending) { return t.name.ends_with(ending); });
}

// Of a section about RoPE. mscale scales cos and sin, mscale_all_dim takes that back and scales the scores.
bool is_known_rope(const std::string& key, const Json& section, const Family& family) {
    // One section for each kind of layer, and nothing beside them.
    if (section.contains("full_attention") || section.contains("sliding_attention"))
        return family.local_rotary && (key == "full_attention" || key == "sliding_attention");
    if (has(used_rope_members, key)) return true;
    if (key == "mscale" || key == "mscale_all_dim") {
        return family.latent && section.value("mscale", Json()) == section.value("mscale_all_dim", Json()) &&
               (section.value("rope_type", "") == "yarn" || section.value("type", "") == "yarn");
    }
    if (key == "short_factor" || key == "long_factor") return family.partial_rotary;
    // The positions of pictures.
    return family.tower != nullptr && (key == "mrope_section" || key == "mrope_interleaved");
}

std::string value_text(const Json& value) {
    return to_string(value).substr(0, 60);
}

void refuse_unknown_rope(const Json& section, const std::string& name, const Family& family,
                         const std::string& source, ModelFile& model) {
    for (const auto& [key, value] : section.items()) {
        if (says_nothing(value)) continue;
        if (!is_known_rope(key, section, family)) {
            model.refused.push_back(fmt::format("{}: {}: {}: not known; it may change results, found {}",
                                                source, name, key, value_text(value)));
        } else if (key.ends_with("_attention") && value.is_object()) {
            refuse_unknown_rope(value, fmt::format("{}: {}", name, key), family, source, model);
        }
    }
}

}  // namespace

void refuse_unknown_config(const Json& config, const Family& family, const std::string& source,
                           ModelFile& model) {
    const Json must = parse_json(family.must, "must");
    for (const auto& [key, value] : config.items()) {
        if (must.contains(key)) {
            if (!value.is_null() && value != must[key]) {
                model.refused.push_back(fmt::format("{}: {}: expected {}, found {}", source, key,
                                                    value_text(must[key]), value_text(value)));
            }
        } else if (!says_nothing(value) && !is_known(key, family, must)) {
            model.refused.push_back(fmt::format(
                "{}: {}: not known for {}; it may change results (remove it if it does not), found {}",
                source, key, family.model_type, value_text(value)));
        }
    }
    if (!family.rotary) return;
    for (const char* section : {"rope_parameters", "rope_scaling"}) {
        if (!config.contains(section) || !config[section].is_object()) continue;
        refuse_unknown_rope(config[section], section, family, source, model);
    }
}

void refuse_unknown_metadata(const Family& family, ModelFile& model) {
    const std::string prefix = std::string(family.architecture) + ".";
    for (const auto& [name, value] : model.metadata.values()) {
        if (!name.starts_with(prefix)) continue;
        const std::string_view key = std::string_view(name).substr(prefix.size());
        if (std::ranges::find(family.config, key, &ConfigKey::gguf) != family.config.end() ||
            has(used_metadata, key) || has(harmless_metadata, key) ||
            (family.latent && has(used_latent_metadata, key)) ||
            (family.recurrent && has(used_recurrent_metadata, key)) ||
            (family.local_rotary && key == "rope.freq_base_swa")) {
            continue;
        }
        if (key == "pooling_type" && value != MetadataValue(static_cast<int64_t>(PoolingType::first)) &&
            value != MetadataValue(static_cast<int64_t>(PoolingType::rank))) {
            continue;
        }
        if (key == "attention.causal" && value == MetadataValue(true)) continue;
        if (value == MetadataValue(false) && key != "attention.causal") continue;
        model.refused.push_back(
            fmt::format("{}: metadata {}: not known; it may change results", model.path.string(), name));
    }
}

void refuse_unknown_tensors(const Family& family, ModelFile& model) {
    const Sizes sizes(family, model.metadata);
    const int64_t n_layers = sizes["n_layers"], n_experts = sizes["n_experts"];
    // Why it may change results; empty: it does not.
    const auto reason = [&](const std::string& name) -> std::string {
        const auto match = match_gguf(family, name);
        if (!match) return fmt::format("not known for {}; it may change results", family.model_type);
        if (match->layer >= n_layers) return fmt::format("the model has {} layers", n_layers);
        if (match->expert >= n_experts) return fmt::format("the model has {} experts", n_experts);
        const std::string_view flag = match->rule->flag;
        const bool unsaid = model.container == Container::hugging_face && !flag.empty() &&
                            !model.metadata.get_bool(fmt::format("smelt.{}", flag)).value_or(false);
        return unsaid ? fmt::format("config.json does not say {} = true", flag) : "";
    };
    const auto refuse = [&](const std::string& name, const std::string& source, const std::string& why) {
        model.refused.push_back(fmt::format("{}: tensor {}: {}", source, name, why));
    };
    const size_t n_left_out = std::erase_if(model.tensors, [&](const TensorView& t) {
        const std::string why = reason(t.name);
        if (why.empty()) return false;
        if (is_harmless(t)) return true;
        refuse(t.name, t.source, why);
        return false;
    });
    if (n_left_out > 0) {
        model.notes.push_back(fmt::format("{} tensors that change no result are left out", n_left_out));
    }
    for (const UnsupportedTensor& t : model.unsupported) {
        if (const std::string why = reason(t.name); !why.empty()) refuse(t.name, t.source, why);
    }
}

void require_known(const ModelFile& model) {
    if (!model.refused.empty()) throw Error("{}", model.refused.front());
}

}  // namespace smelt
