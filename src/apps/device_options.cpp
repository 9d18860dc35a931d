// Scaling of positions in JSON's form.
#include "apps/device_options.h"

#include <algorithm>

#include "base/error.h"
#include "base/json.h"

namespace smelt {

namespace {

struct RopeKey {
    const char *json, *ours;
};
constexpr RopeKey rope_keys[] = {{"factor", "factor"},
                                 {"original_max_position_embeddings", "original"},
                                 {"attention_factor", "attn_factor"},
                                 {"beta_fast", "beta_fast"},
                                 {"beta_slow", "beta_slow"}};

}  // namespace

std::string rope_scaling_text(const std::string& text) {
    if (!text.starts_with('{')) return text;
    const auto wrong = [](const std::string& why) { return CLI::ValidationError("--rope-scaling", why); };
    Json json;
    try {
        json = parse_json(text, "JSON");
    } catch (const Error& e) {
        throw wrong(e.what());
    }
    std::string type, rest;
    for (const auto& [name, value] : json.items()) {
        if (name == "rope_type" || name == "type") {
            if (!value.is_string()) throw wrong(name + ": expected a name such as yarn");
            type = value.get<std::string>();
            continue;
        }
        const auto key = std::ranges::find(rope_keys, name, &RopeKey::json);
        if (key == std::end(rope_keys) || !value.is_number())
            throw wrong(
                fmt::format("{}: expected rope_type, factor, original_max_position_embeddings, "
                            "attention_factor, beta_fast or beta_slow with a number",
                            name));
        rest += fmt::format(",{}={}", key->ours, to_string(value));
    }
    if (type.empty()) throw wrong("expected rope_type, such as yarn");
    return (type == "default" ? "none" : type) + rest;
}

}  // namespace smelt
