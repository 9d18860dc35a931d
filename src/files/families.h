// The list of families, and matching names of tensors against their tables. A family that is in no table
// still opens, with its own names.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "files/family.h"

namespace smelt {

class Metadata;
struct ModelFile;

// Defined in model/architectures.cpp: the tables are beside the code that runs them.
std::span<const Family* const> all_families();
// By general.architecture and whether there are experts: GGUF gives one name to Llama and Mixtral. Null: no
// table.
const Family* family_of(const Metadata& metadata);
const Family* family_of_model_type(std::string_view model_type);

// A name matched against the rules: which one, and layer and expert (-1 where the name has none).
struct RuleMatch {
    const TensorRule* rule;
    int64_t layer, expert;
};
// With or without the family's prefix ("model.", "transformer."), which checkpoints without a head leave out.
std::optional<RuleMatch> match_hf(const Family& family, std::string_view name);
// Of an expert's matrix the stacked name as well as "blk.{}.ffn_up.{}.weight", one each.
std::optional<RuleMatch> match_gguf(const Family& family, std::string_view name);
std::string hf_name(const RuleMatch& match);
std::string gguf_name(const RuleMatch& match);

// Whether Hugging Face files have a tensor for each expert.
bool has_experts_apart(const TensorRule& rule);
// The rule for this GGUF pattern; null where the family has none.
const TensorRule* find_rule(const Family& family, std::string_view gguf);

// The tensors that a model has in a container, as names and numbers of layers and experts, in the table's
// order. Optional ones are left out, unless a flag of config.json says that they are there.
std::vector<RuleMatch> list_tensors(const Family& family, const Metadata& metadata, bool gguf);

// Tensors that a model of a known family needs and the file lacks.
std::vector<std::string> missing_tensors(const ModelFile& model);

}  // namespace smelt
