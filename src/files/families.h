// What model families call things: one table a family, GGUF's names against Hugging Face's. A family that is
// in no table still opens, with its own names.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace smelt {

class Metadata;
struct ModelFile;

enum class KeyType { integer, real };

// config.json's key against GGUF's, the latter without "<architecture>.".
struct ConfigKey {
    std::string_view hf, gguf;
    KeyType type;
};

enum class TensorRole {
    plain,
    optional,  // a model without it is whole
    rotary_q,  // rows are RoPE dimensions: reordered where the containers pair them differently
    rotary_k,
    rotary_q_bias,
    rotary_k_bias,
    conv1d,  // Hugging Face files have it as (in_features, out_features)
};

// The first "{}" stands for the layer's number, a second one for the expert's. A name without them occurs
// once a model. One that has no name in a container does not exist there, or is left out in reading.
struct TensorRule {
    std::string_view hf, gguf;
    TensorRole role = TensorRole::plain;
};

struct Family {
    std::string_view architecture;  // GGUF's general.architecture
    std::string_view model_type;    // config.json
    std::string_view hf_class;      // config.json: architectures[0]
    bool gguf_interleaved;  // RoPE pairs are neighbours in GGUF; in Hugging Face files they are halves
    bool mixture;           // of experts
    std::span<const ConfigKey> config;
    std::span<const TensorRule> tensors;
    bool rotary = true;  // RoPE; else learned positions
    std::string_view activation_key = "hidden_act", activation = "silu";
    bool latent = false;  // latent attention, files/latent_attention.h; pairs are neighbours everywhere
    bool tied = false;    // output head and embedding, where config.json does not say
};

std::span<const Family> all_families();
// By general.architecture and whether there are experts: GGUF gives one name to Llama and Mixtral. Null: no
// table.
const Family* family_of(const Metadata& metadata);
const Family* family_of_model_type(std::string_view model_type);

// Keys that nearly all decoder-only configs share; used for families that have no table.
std::span<const ConfigKey> common_config();

// A name matched against the rules: which one, and layer and expert (-1 where the name has none).
struct RuleMatch {
    const TensorRule* rule;
    int64_t layer, expert;
};
// With or without the family's prefix ("model.", "transformer."), which checkpoints without a head leave out.
std::optional<RuleMatch> match_hf(const Family& family, std::string_view name);
std::optional<RuleMatch> match_gguf(const Family& family, std::string_view name);
std::string hf_name(const RuleMatch& match);
std::string gguf_name(const RuleMatch& match);

// Between "blk.{}.ffn_up_exps.weight", all experts in one tensor, and "blk.{}.ffn_up.{}.weight", one each:
// the rule for the other form. Null where `rule` is neither, or the family has no such form.
const TensorRule* stacked_form(const Family& family, const TensorRule& rule);
const TensorRule* single_form(const Family& family, const TensorRule& rule);
// The rule for this GGUF pattern; null where the family has none.
const TensorRule* find_rule(const Family& family, std::string_view gguf);

// Tensors that a model of a known family needs and the file lacks.
std::vector<std::string> missing_tensors(const ModelFile& model);

}  // namespace smelt
