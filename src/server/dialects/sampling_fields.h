// Fields of requests made of the table of sampling parameters, by the names of a dialect.
#pragma once

#include <optional>
#include <utility>
#include <vector>

#include "sampling/sampling_table.h"
#include "server/dialects/schema.h"

namespace smelt {

enum class Range { openai, engine };  // what the dialect allows, or all that the engine can

Field table_field(const SamplingParam& param, std::string_view name, Range range);
// `spelling` gives "" for those that the dialect has not.
std::vector<Field> table_fields(std::string_view (*spelling)(const SamplingParam&), Range range);

// All that the dialects of OpenAI's kind have, of the table and otherwise.
std::vector<Field> openai_sampling_fields();

// llama.cpp's, in all dialects that have its fields.
Field max_drafts_field();
// [{"id": 0, "scale": 0.5}], the adapters of the request.
Field lora_field();
// By their ids; none where the body has no such field.
std::optional<std::vector<std::pair<int, float>>> read_lora(const Json& body);

}  // namespace smelt
