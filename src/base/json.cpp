// Depth and size of objects are checked before nlohmann sees the text: its values are copied and freed
// recursively, and its ordered objects are searched from front to back.
#include "base/json.h"

#include <algorithm>
#include <vector>

#include "base/error.h"

namespace smelt {

namespace {

void check_shape(std::string_view text, std::string_view source, const JsonLimits& limits) {
    // Commas of the objects and arrays that are open; arrays may have any number.
    struct Open {
        bool object;
        size_t commas;
    };
    std::vector<Open> open;
    bool in_string = false;
    size_t n_values = 0;
    for (size_t i = 0; i < text.size(); ++i) {
        const char c = text[i];
        if (in_string) {
            if (c == '\\') ++i;
            if (c == '"') in_string = false;
            continue;
        }
        n_values += c == '[' || c == '{' || c == ',';
        if (n_values > limits.max_values) {
            throw Error("{}: JSON of more than {} values at byte {}", source, limits.max_values, i);
        }
        if (c == '"') {
            in_string = true;
        } else if (c == '[' || c == '{') {
            open.push_back({c == '{', 0});
            if (open.size() > static_cast<size_t>(limits.max_depth)) {
                throw Error("{}: JSON nested deeper than {} levels at byte {}", source, limits.max_depth, i);
            }
        } else if ((c == ']' || c == '}') && !open.empty()) {
            open.pop_back();
        } else if (c == ',' && !open.empty() && open.back().object &&
                   ++open.back().commas >= limits.max_members) {
            throw Error("{}: a JSON object with more than {} members at byte {}", source, limits.max_members,
                        i);
        }
    }
}

}  // namespace

Json parse_json(std::string_view text, std::string_view source, JsonLimits limits) {
    if (text.size() > limits.max_bytes) {
        throw Error("{}: JSON of {} bytes, at most {} are accepted", source, text.size(), limits.max_bytes);
    }
    check_shape(text, source, limits);
    try {
        return Json::parse(text);
    } catch (const Json::exception& e) {
        // Without "; last read: ...", which repeats the text: a string of 15 MB, or what nobody should see
        // again.
        const std::string_view what = e.what();
        throw Error("{}: not valid JSON: {}", source,
                    what.substr(0, std::min<size_t>(what.find("; last read"), 200)));
    }
}

std::string to_string(const Json& value) {
    return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace smelt
