// A default that is the model's own is said in words.
#include "server/dialects/sampling_fields.h"

#include <deque>

namespace smelt {

namespace {

// Fields hold views; what is made here lives as long as the process.
std::string_view keep(std::string text) {
    static std::deque<std::string> kept;
    return kept.emplace_back(std::move(text));
}

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
