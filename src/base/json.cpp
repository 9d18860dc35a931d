// Depth is checked before nlohmann sees the text, because its values are copied and freed recursively.
#include "base/json.h"

#include "base/error.h"

namespace smelt {

namespace {

void check_depth(std::string_view text, std::string_view source, int max_depth) {
    int depth = 0;
    bool in_string = false;
    for (size_t i = 0; i < text.size(); ++i) {
        const char c = text[i];
        if (in_string) {
            if (c == '\\') ++i;
            if (c == '"') in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else if (c == '[' || c == '{') {
            if (++depth > max_depth) {
                throw Error("{}: JSON nested deeper than {} levels at byte {}", source, max_depth, i);
            }
        } else if (c == ']' || c == '}') {
            --depth;
        }
    }
}

}  // namespace

Json parse_json(std::string_view text, std::string_view source, JsonLimits limits) {
    if (text.size() > limits.max_bytes) {
        throw Error("{}: JSON of {} bytes, at most {} are accepted", source, text.size(), limits.max_bytes);
    }
    check_depth(text, source, limits.max_depth);
    try {
        return Json::parse(text);
    } catch (const Json::exception& e) {
        throw Error("{}: not valid JSON: {}", source, e.what());
    }
}

std::string to_string(const Json& value) {
    return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace smelt
