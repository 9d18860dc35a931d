// A default that is the model's own is said in words.
#include "server/dialects/sampling_fields.h"

#include <deque>

#include "server/dialects/schema_checks.h"

namespace smelt {

namespace {

// Fields hold views; what is made here lives as long as the process.
std::string_view keep(std::string text) {
    static std::deque<std::string> kept;
    return kept.emplace_back(std::move(text));
}

void check_lora(const std::string& param, const Json& v) {
    constexpr size_t most = 64;
    if (!v.is_array()) wrong_type(param, "an array of {id, scale}", v);
    if (v.size() > most) wrong_value(param, fmt::format("at most {} adapters", most), v);
    for (size_t i = 0; i < v.size(); ++i) {
        const std::string at = fmt::format("{}[{}]", param, i);
        check_object(at, v[i]);
        check_integer(at + ".id", need_member(at, v[i], "id"), 0, max_count);
        check_number(at + ".scale", need_member(at, v[i], "scale"), -1e6, 1e6);
    }
}

const CompoundType lora_type = {
    .description = "array of {id, scale}",
    .check = check_lora,
    .openapi =
        R"({"type": "array", "items": {"type": "object", "properties": {"id": {"type": "integer"}, "scale": {"type": "number"}}, "required": ["id", "scale"]}})"};

}  // namespace

Field table_field(const SamplingParam& p, std::string_view name, Range range) {
    const bool narrow = range == Range::openai;
    Field f{.name = name,
            .type = p.number != nullptr ? FieldType::number : FieldType::integer,
            .doc = p.fallback.empty() ? keep(std::string(p.doc) + " Default: the model's.") : p.doc,
            .low = narrow ? p.openai_min : p.min,
            .high = narrow ? p.openai_max : p.max,
            .fallback = p.fallback};
    if (f.type == FieldType::integer) {
        f.min = static_cast<int64_t>(f.low);
        f.max = static_cast<int64_t>(f.high);
    }
    return f;
}

std::vector<Field> table_fields(std::string_view (*spelling)(const SamplingParam&), Range range) {
    std::vector<Field> fields;
    for (const SamplingParam& p : sampling_table()) {
        if (const std::string_view name = spelling(p); !name.empty())
            fields.push_back(table_field(p, name, range));
    }
    return fields;
}

Field lora_field() {
    return {.name = "lora",
            .type = FieldType::compound,
            .doc =
                "Adapters of this request by their ids, as GET /lora-adapters lists them, and their scales; "
                "others "
                "are left out.",
            .compound = &lora_type};
}

std::optional<std::vector<std::pair<int, float>>> read_lora(const Json& body) {
    const auto list = get<Json>(body, "lora");
    if (!list) return std::nullopt;
    std::vector<std::pair<int, float>> scales;
    for (const Json& a : *list) scales.emplace_back(a.at("id").get<int>(), a.at("scale").get<float>());
    return scales;
}

Field max_drafts_field() {
    return {.name = "speculative.n_max",
            .type = FieldType::integer,
            .doc =
                "Tokens that are drafted for a step at most, where the server drafts; 0: none. The answer is "
                "the same.",
            .min = 0,
            .max = 64};
}

}  // namespace smelt
