// The tables, and matching against them.
#include "files/families.h"

#include <algorithm>
#include <array>
#include <charconv>

#include <fmt/format.h>

#include "files/limits.h"
#include "files/model_file.h"

namespace smelt {

namespace {

constexpr std::array dense_config = {
    ConfigKey{"hidden_size", "embedding_length", KeyType::integer},
    ConfigKey{"num_hidden_layers", "block_count", KeyType::integer},
    ConfigKey{"intermediate_size", "feed_forward_length", KeyType::integer},
    ConfigKey{"num_attention_heads", "attention.head_count", KeyType::integer},
    ConfigKey{"num_key_value_heads", "attention.head_count_kv", KeyType::integer},
    ConfigKey{"head_dim", "attention.key_length", KeyType::integer},
    ConfigKey{"rms_norm_eps", "attention.layer_norm_rms_epsilon", KeyType::real},
    ConfigKey{"max_position_embeddings", "context_length", KeyType::integer},
    ConfigKey{"vocab_size", "vocab_size", KeyType::integer},
};

template <size_t N>
constexpr auto with_dense(const std::array<ConfigKey, N>& more) {
    std::array<ConfigKey, dense_config.size() + N> all{};
    std::ranges::copy(dense_config, all.begin());
    std::ranges::copy(more, all.begin() + dense_config.size());
    return all;
}

// transformers 5 writes num_local_experts where it used to write num_experts.
constexpr auto qwen3moe_config = with_dense(std::array{
    ConfigKey{"num_experts", "expert_count", KeyType::integer},
    ConfigKey{"num_local_experts", "expert_count", KeyType::integer},
    ConfigKey{"num_experts_per_tok", "expert_used_count", KeyType::integer},
    ConfigKey{"moe_intermediate_size", "expert_feed_forward_length", KeyType::integer},
});

constexpr auto mixtral_config = with_dense(std::array{
    ConfigKey{"num_local_experts", "expert_count", KeyType::integer},
    ConfigKey{"num_experts_per_tok", "expert_used_count", KeyType::integer},
});

constexpr auto optional = TensorRole::optional;

// The shape that qwen2, qwen3 and llama share: pre-norm, grouped-query attention, SwiGLU.
#define DENSE_TENSORS                                                                                \
    ATTENTION_TENSORS, TensorRule{"model.layers.{}.mlp.gate_proj.weight", "blk.{}.ffn_gate.weight"}, \
        TensorRule{"model.layers.{}.mlp.up_proj.weight", "blk.{}.ffn_up.weight"}, TensorRule {       \
        "model.layers.{}.mlp.down_proj.weight", "blk.{}.ffn_down.weight"                             \
    }

#define ATTENTION_TENSORS                                                                                    \
    TensorRule{"model.embed_tokens.weight", "token_embd.weight"},                                            \
        TensorRule{"model.norm.weight", "output_norm.weight"},                                               \
        TensorRule{"lm_head.weight", "output.weight", optional},                                             \
        TensorRule{"model.layers.{}.input_layernorm.weight", "blk.{}.attn_norm.weight"},                     \
        TensorRule{"model.layers.{}.self_attn.q_proj.weight", "blk.{}.attn_q.weight", TensorRole::rotary_q}, \
        TensorRule{"model.layers.{}.self_attn.k_proj.weight", "blk.{}.attn_k.weight", TensorRole::rotary_k}, \
        TensorRule{"model.layers.{}.self_attn.v_proj.weight", "blk.{}.attn_v.weight"},                       \
        TensorRule{"model.layers.{}.self_attn.o_proj.weight", "blk.{}.attn_output.weight"}, TensorRule {     \
        "model.layers.{}.post_attention_layernorm.weight", "blk.{}.ffn_norm.weight"                          \
    }

// Experts as matrices of their own; GGUF files of today stack them.
#define STACKED_EXPERTS                                                     \
    TensorRule{"", "blk.{}.ffn_gate_exps.weight", optional},                \
        TensorRule{"", "blk.{}.ffn_up_exps.weight", optional}, TensorRule { \
        "", "blk.{}.ffn_down_exps.weight", optional                         \
    }

constexpr std::array qwen3moe_tensors = {
    ATTENTION_TENSORS,
    TensorRule{"model.layers.{}.self_attn.q_norm.weight", "blk.{}.attn_q_norm.weight"},
    TensorRule{"model.layers.{}.self_attn.k_norm.weight", "blk.{}.attn_k_norm.weight"},
    TensorRule{"model.layers.{}.mlp.gate.weight", "blk.{}.ffn_gate_inp.weight"},
    TensorRule{"model.layers.{}.mlp.experts.{}.gate_proj.weight", "blk.{}.ffn_gate.{}.weight", optional},
    TensorRule{"model.layers.{}.mlp.experts.{}.up_proj.weight", "blk.{}.ffn_up.{}.weight", optional},
    TensorRule{"model.layers.{}.mlp.experts.{}.down_proj.weight", "blk.{}.ffn_down.{}.weight", optional},
    STACKED_EXPERTS,
};

// Mixtral is architecture llama in GGUF.
constexpr std::array mixtral_tensors = {
    ATTENTION_TENSORS,
    TensorRule{"model.layers.{}.block_sparse_moe.gate.weight", "blk.{}.ffn_gate_inp.weight"},
    TensorRule{"model.layers.{}.block_sparse_moe.experts.{}.w1.weight", "blk.{}.ffn_gate.{}.weight",
               optional},
    TensorRule{"model.layers.{}.block_sparse_moe.experts.{}.w3.weight", "blk.{}.ffn_up.{}.weight", optional},
    TensorRule{"model.layers.{}.block_sparse_moe.experts.{}.w2.weight", "blk.{}.ffn_down.{}.weight",
               optional},
    STACKED_EXPERTS,
};

constexpr std::array qwen3_tensors = {
    DENSE_TENSORS,
    TensorRule{"model.layers.{}.self_attn.q_norm.weight", "blk.{}.attn_q_norm.weight"},
    TensorRule{"model.layers.{}.self_attn.k_norm.weight", "blk.{}.attn_k_norm.weight"},
};

constexpr std::array qwen2_tensors = {
    DENSE_TENSORS,
    TensorRule{"model.layers.{}.self_attn.q_proj.bias", "blk.{}.attn_q.bias", TensorRole::rotary_q_bias},
    TensorRule{"model.layers.{}.self_attn.k_proj.bias", "blk.{}.attn_k.bias", TensorRole::rotary_k_bias},
    TensorRule{"model.layers.{}.self_attn.v_proj.bias", "blk.{}.attn_v.bias"},
};

constexpr std::array llama_tensors = {
    DENSE_TENSORS,
    TensorRule{"", "rope_freqs.weight", optional},  // Hugging Face has the formula in config.json instead
};

// gate_up has gate and up rows by turns; GGUF files have two tensors instead. The experts' *_blocks stand for
// the pair with *_scales.
constexpr std::array gpt_oss_tensors = {
    TensorRule{"model.embed_tokens.weight", "token_embd.weight"},
    TensorRule{"model.norm.weight", "output_norm.weight"},
    TensorRule{"lm_head.weight", "output.weight", optional},
    TensorRule{"model.layers.{}.input_layernorm.weight", "blk.{}.attn_norm.weight"},
    TensorRule{"model.layers.{}.self_attn.q_proj.weight", "blk.{}.attn_q.weight", TensorRole::rotary_q},
    TensorRule{"model.layers.{}.self_attn.q_proj.bias", "blk.{}.attn_q.bias", TensorRole::rotary_q_bias},
    TensorRule{"model.layers.{}.self_attn.k_proj.weight", "blk.{}.attn_k.weight", TensorRole::rotary_k},
    TensorRule{"model.layers.{}.self_attn.k_proj.bias", "blk.{}.attn_k.bias", TensorRole::rotary_k_bias},
    TensorRule{"model.layers.{}.self_attn.v_proj.weight", "blk.{}.attn_v.weight"},
    TensorRule{"model.layers.{}.self_attn.v_proj.bias", "blk.{}.attn_v.bias"},
    TensorRule{"model.layers.{}.self_attn.o_proj.weight", "blk.{}.attn_output.weight"},
    TensorRule{"model.layers.{}.self_attn.o_proj.bias", "blk.{}.attn_output.bias"},
    TensorRule{"model.layers.{}.self_attn.sinks", "blk.{}.attn_sinks.weight"},
    TensorRule{"model.layers.{}.post_attention_layernorm.weight", "blk.{}.post_attention_norm.weight"},
    TensorRule{"model.layers.{}.mlp.router.weight", "blk.{}.ffn_gate_inp.weight"},
    TensorRule{"model.layers.{}.mlp.router.bias", "blk.{}.ffn_gate_inp.bias"},
    TensorRule{"model.layers.{}.mlp.experts.gate_up_proj_blocks", "blk.{}.ffn_gate_up_exps.weight", optional},
    TensorRule{"model.layers.{}.mlp.experts.gate_up_proj_bias", "blk.{}.ffn_gate_up_exps.bias", optional},
    TensorRule{"model.layers.{}.mlp.experts.down_proj_blocks", "blk.{}.ffn_down_exps.weight"},
    TensorRule{"model.layers.{}.mlp.experts.down_proj_bias", "blk.{}.ffn_down_exps.bias"},
    TensorRule{"", "blk.{}.ffn_gate_exps.weight", optional},
    TensorRule{"", "blk.{}.ffn_gate_exps.bias", optional},
    TensorRule{"", "blk.{}.ffn_up_exps.weight", optional},
    TensorRule{"", "blk.{}.ffn_up_exps.bias", optional},
};

constexpr auto gpt_oss_config = with_dense(std::array{
    ConfigKey{"num_local_experts", "expert_count", KeyType::integer},
    ConfigKey{"num_experts_per_tok", "expert_used_count", KeyType::integer},
    ConfigKey{"intermediate_size", "expert_feed_forward_length", KeyType::integer},
});

constexpr std::array gpt2_config = {
    ConfigKey{"n_embd", "embedding_length", KeyType::integer},
    ConfigKey{"n_layer", "block_count", KeyType::integer},
    ConfigKey{"n_inner", "feed_forward_length", KeyType::integer},
    ConfigKey{"n_head", "attention.head_count", KeyType::integer},
    ConfigKey{"layer_norm_epsilon", "attention.layer_norm_epsilon", KeyType::real},
    ConfigKey{"n_positions", "context_length", KeyType::integer},
    ConfigKey{"vocab_size", "vocab_size", KeyType::integer},
};

constexpr std::array gpt2_tensors = {
    TensorRule{"transformer.wte.weight", "token_embd.weight"},
    TensorRule{"transformer.wpe.weight", "position_embd.weight"},
    TensorRule{"transformer.ln_f.weight", "output_norm.weight"},
    TensorRule{"transformer.ln_f.bias", "output_norm.bias"},
    TensorRule{"lm_head.weight", "output.weight", optional},
    TensorRule{"transformer.h.{}.ln_1.weight", "blk.{}.attn_norm.weight"},
    TensorRule{"transformer.h.{}.ln_1.bias", "blk.{}.attn_norm.bias"},
    TensorRule{"transformer.h.{}.attn.c_attn.weight", "blk.{}.attn_qkv.weight", TensorRole::conv1d},
    TensorRule{"transformer.h.{}.attn.c_attn.bias", "blk.{}.attn_qkv.bias"},
    TensorRule{"transformer.h.{}.attn.c_proj.weight", "blk.{}.attn_output.weight", TensorRole::conv1d},
    TensorRule{"transformer.h.{}.attn.c_proj.bias", "blk.{}.attn_output.bias"},
    TensorRule{"transformer.h.{}.ln_2.weight", "blk.{}.ffn_norm.weight"},
    TensorRule{"transformer.h.{}.ln_2.bias", "blk.{}.ffn_norm.bias"},
    TensorRule{"transformer.h.{}.mlp.c_fc.weight", "blk.{}.ffn_up.weight", TensorRole::conv1d},
    TensorRule{"transformer.h.{}.mlp.c_fc.bias", "blk.{}.ffn_up.bias"},
    TensorRule{"transformer.h.{}.mlp.c_proj.weight", "blk.{}.ffn_down.weight", TensorRole::conv1d},
    TensorRule{"transformer.h.{}.mlp.c_proj.bias", "blk.{}.ffn_down.bias"},
    // Buffers of the causal mask, no weights.
    TensorRule{"transformer.h.{}.attn.bias", "", optional},
    TensorRule{"transformer.h.{}.attn.masked_bias", "", optional},
};

// Either container's way of the latent projections, see files/latent_attention.h. Leading layers are dense.
constexpr std::array deepseek2_tensors = {
    TensorRule{"model.embed_tokens.weight", "token_embd.weight"},
    TensorRule{"model.norm.weight", "output_norm.weight"},
    TensorRule{"lm_head.weight", "output.weight", optional},
    TensorRule{"model.layers.{}.input_layernorm.weight", "blk.{}.attn_norm.weight"},
    TensorRule{"model.layers.{}.self_attn.q_a_proj.weight", "blk.{}.attn_q_a.weight"},
    TensorRule{"model.layers.{}.self_attn.q_a_layernorm.weight", "blk.{}.attn_q_a_norm.weight"},
    TensorRule{"model.layers.{}.self_attn.q_b_proj.weight", "blk.{}.attn_q_b.weight"},
    TensorRule{"model.layers.{}.self_attn.kv_a_proj_with_mqa.weight", "blk.{}.attn_kv_a_mqa.weight"},
    TensorRule{"model.layers.{}.self_attn.kv_a_layernorm.weight", "blk.{}.attn_kv_a_norm.weight"},
    TensorRule{"model.layers.{}.self_attn.kv_b_proj.weight", "blk.{}.attn_kv_b.weight", optional},
    TensorRule{"", "blk.{}.attn_k_b.weight", optional},
    TensorRule{"", "blk.{}.attn_v_b.weight", optional},
    TensorRule{"model.layers.{}.self_attn.o_proj.weight", "blk.{}.attn_output.weight"},
    TensorRule{"model.layers.{}.post_attention_layernorm.weight", "blk.{}.ffn_norm.weight"},
    TensorRule{"model.layers.{}.mlp.gate_proj.weight", "blk.{}.ffn_gate.weight", optional},
    TensorRule{"model.layers.{}.mlp.up_proj.weight", "blk.{}.ffn_up.weight", optional},
    TensorRule{"model.layers.{}.mlp.down_proj.weight", "blk.{}.ffn_down.weight", optional},
    TensorRule{"model.layers.{}.mlp.gate.weight", "blk.{}.ffn_gate_inp.weight", optional},
    TensorRule{"model.layers.{}.mlp.gate.e_score_correction_bias", "blk.{}.exp_probs_b.bias", optional},
    TensorRule{"model.layers.{}.mlp.shared_experts.gate_proj.weight", "blk.{}.ffn_gate_shexp.weight",
               optional},
    TensorRule{"model.layers.{}.mlp.shared_experts.up_proj.weight", "blk.{}.ffn_up_shexp.weight", optional},
    TensorRule{"model.layers.{}.mlp.shared_experts.down_proj.weight", "blk.{}.ffn_down_shexp.weight",
               optional},
    TensorRule{"model.layers.{}.mlp.experts.{}.gate_proj.weight", "blk.{}.ffn_gate.{}.weight", optional},
    TensorRule{"model.layers.{}.mlp.experts.{}.up_proj.weight", "blk.{}.ffn_up.{}.weight", optional},
    TensorRule{"model.layers.{}.mlp.experts.{}.down_proj.weight", "blk.{}.ffn_down.{}.weight", optional},
    STACKED_EXPERTS,
};

constexpr std::array deepseek2_config = {
    ConfigKey{"hidden_size", "embedding_length", KeyType::integer},
    ConfigKey{"num_hidden_layers", "block_count", KeyType::integer},
    ConfigKey{"intermediate_size", "feed_forward_length", KeyType::integer},
    ConfigKey{"num_attention_heads", "attention.head_count", KeyType::integer},
    ConfigKey{"rms_norm_eps", "attention.layer_norm_rms_epsilon", KeyType::real},
    ConfigKey{"max_position_embeddings", "context_length", KeyType::integer},
    ConfigKey{"vocab_size", "vocab_size", KeyType::integer},
    ConfigKey{"q_lora_rank", "attention.q_lora_rank", KeyType::integer},
    ConfigKey{"kv_lora_rank", "attention.kv_lora_rank", KeyType::integer},
    ConfigKey{"qk_nope_head_dim", "attention.nope_length", KeyType::integer},
    ConfigKey{"qk_rope_head_dim", "rope.dimension_count", KeyType::integer},
    ConfigKey{"v_head_dim", "attention.value_length_mla", KeyType::integer},
    ConfigKey{"first_k_dense_replace", "leading_dense_block_count", KeyType::integer},
    ConfigKey{"n_routed_experts", "expert_count", KeyType::integer},
    ConfigKey{"num_experts_per_tok", "expert_used_count", KeyType::integer},
    ConfigKey{"n_shared_experts", "expert_shared_count", KeyType::integer},
    ConfigKey{"moe_intermediate_size", "expert_feed_forward_length", KeyType::integer},
    ConfigKey{"routed_scaling_factor", "expert_weights_scale", KeyType::real},
    ConfigKey{"n_group", "expert_group_count", KeyType::integer},
    ConfigKey{"topk_group", "expert_group_used_count", KeyType::integer},
};

constexpr std::array families = {
    Family{"qwen3", "qwen3", "Qwen3ForCausalLM", false, false, dense_config, qwen3_tensors},
    Family{"qwen2", "qwen2", "Qwen2ForCausalLM", false, false, dense_config, qwen2_tensors},
    Family{"llama", "llama", "LlamaForCausalLM", true, false, dense_config, llama_tensors},
    Family{"llama", "mixtral", "MixtralForCausalLM", true, true, mixtral_config, mixtral_tensors},
    Family{"qwen3moe", "qwen3_moe", "Qwen3MoeForCausalLM", false, true, qwen3moe_config, qwen3moe_tensors},
    Family{"gpt-oss", "gpt_oss", "GptOssForCausalLM", false, true, gpt_oss_config, gpt_oss_tensors},
    Family{"gpt2", "gpt2", "GPT2LMHeadModel", false, false, gpt2_config, gpt2_tensors, false,
           "activation_function", "gelu_new", false, true},
    Family{"deepseek2", "glm4_moe_lite", "Glm4MoeLiteForCausalLM", true, true, deepseek2_config,
           deepseek2_tensors, true, "hidden_act", "silu", true},
};

constexpr std::string_view hole = "{}";
constexpr std::string_view single_ending = ".{}.weight", stacked_ending = "_exps.weight";

// The number at the beginning of text as names write it, without leading zeros; it is taken off the text.
std::optional<int64_t> take_number(std::string_view& text) {
    int64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    const auto length = static_cast<size_t>(end - text.data());
    if (error != std::errc{} || text[0] == '-' || (text[0] == '0' && length > 1)) return std::nullopt;
    text.remove_prefix(length);
    return value;
}

// The numbers in the holes of a name that fits the pattern, -1 for holes that it has not.
std::optional<std::array<int64_t, 2>> match(std::string_view pattern, std::string_view name) {
    std::array<int64_t, 2> numbers = {-1, -1};
    for (int64_t& number : numbers) {
        const size_t at = pattern.find(hole);
        if (at == std::string_view::npos) break;
        if (!name.starts_with(pattern.substr(0, at)) || name.size() == at) return std::nullopt;
        name.remove_prefix(at);
        pattern.remove_prefix(at + hole.size());
        const auto value = take_number(name);
        if (!value) return std::nullopt;
        number = *value;
    }
    return name == pattern ? std::optional(numbers) : std::nullopt;
}

std::optional<RuleMatch> match_rules(const Family& family, std::string_view name,
                                     std::string_view TensorRule::*side) {
    for (const TensorRule& rule : family.tensors) {
        if ((rule.*side).empty()) continue;
        if (const auto numbers = match(rule.*side, name))
            return RuleMatch{&rule, (*numbers)[0], (*numbers)[1]};
    }
    return std::nullopt;
}

std::string fill(std::string_view pattern, int64_t layer, int64_t expert = -1) {
    std::string name(pattern);
    for (const int64_t number : {layer, expert}) {
        if (const size_t at = name.find(hole); at != std::string::npos) {
            name.replace(at, hole.size(), std::to_string(number));
        }
    }
    return name;
}

}  // namespace

std::span<const Family> all_families() {
    return families;
}

std::span<const ConfigKey> common_config() {
    return dense_config;
}

const Family* family_of(const Metadata& metadata) {
    const MetadataValue* architecture = metadata.find("general.architecture");
    if (architecture == nullptr || !std::holds_alternative<std::string>(*architecture)) return nullptr;
    const auto& name = std::get<std::string>(*architecture);
    const MetadataValue* experts = metadata.find(name + ".expert_count");
    const bool mixture = experts != nullptr && *experts != MetadataValue(int64_t{0});
    const auto it = std::ranges::find_if(
        families, [&](const Family& f) { return f.architecture == name && f.mixture == mixture; });
    return it == families.end() ? nullptr : &*it;
}

const Family* family_of_model_type(std::string_view model_type) {
    const auto it = std::ranges::find(families, model_type, &Family::model_type);
    return it == families.end() ? nullptr : &*it;
}

std::optional<RuleMatch> match_hf(const Family& family, std::string_view name) {
    if (const auto match = match_rules(family, name, &TensorRule::hf)) return match;
    const std::string_view first = family.tensors.front().hf;
    return match_rules(family, fmt::format("{}{}", first.substr(0, first.find('.') + 1), name),
                       &TensorRule::hf);
}

std::optional<RuleMatch> match_gguf(const Family& family, std::string_view name) {
    return match_rules(family, name, &TensorRule::gguf);
}

std::string hf_name(const RuleMatch& m) {
    return fill(m.rule->hf, m.layer, m.expert);
}

std::string gguf_name(const RuleMatch& m) {
    return fill(m.rule->gguf, m.layer, m.expert);
}

const TensorRule* find_rule(const Family& family, std::string_view gguf) {
    const auto it = std::ranges::find(family.tensors, gguf, &TensorRule::gguf);
    return it == family.tensors.end() ? nullptr : &*it;
}

const TensorRule* stacked_form(const Family& family, const TensorRule& rule) {
    if (!rule.gguf.ends_with(single_ending)) return nullptr;
    const auto stem = rule.gguf.substr(0, rule.gguf.size() - single_ending.size());
    return find_rule(family, std::string(stem).append(stacked_ending));
}

const TensorRule* single_form(const Family& family, const TensorRule& rule) {
    if (!rule.gguf.ends_with(stacked_ending)) return nullptr;
    const auto stem = rule.gguf.substr(0, rule.gguf.size() - stacked_ending.size());
    return find_rule(family, std::string(stem).append(single_ending));
}

std::vector<std::string> missing_tensors(const ModelFile& model) {
    const Family* family = family_of(model.metadata);
    if (family == nullptr) return {};
    const int64_t n_layers = std::clamp<int64_t>(
        model.metadata.get_int(std::string(family->architecture) + ".block_count").value_or(0), 0,
        limits::layers);
    std::vector<std::string> present;
    for (const TensorView& t : model.tensors) present.push_back(t.name);
    for (const UnsupportedTensor& t : model.unsupported) present.push_back(t.name);
    std::ranges::sort(present);
    std::vector<std::string> missing;
    for (const TensorRule& rule : family->tensors) {
        if (rule.role == TensorRole::optional) continue;
        const bool layered = rule.gguf.find(hole) != std::string_view::npos;
        for (int64_t layer = 0; layer < (layered ? n_layers : 1); ++layer) {
            std::string name = fill(rule.gguf, layer);
            if (!std::ranges::binary_search(present, name)) missing.push_back(std::move(name));
        }
    }
    return missing;
}

}  // namespace smelt
