// JSON from untrusted sources: strict UTF-8, bounded size and depth, errors as Error with the source's name.
#pragma once

#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string_view>

namespace smelt {

// Object members keep the file's order: chat templates print them.
using Json = nlohmann::ordered_json;

struct JsonLimits {
    size_t max_bytes = size_t{256} << 20;
    int max_depth = 64;
    size_t max_values = SIZE_MAX;  // in the whole text: each costs memory beyond its bytes
    size_t max_members = 10'000;   // of one object: finding a member is a search over all of them
};

// `source` names the text in errors: a path, or "request body".
Json parse_json(std::string_view text, std::string_view source, JsonLimits limits = {});

// One line, non-ASCII characters as they are; bytes that are not UTF-8 become U+FFFD.
std::string to_string(const Json& value);

}  // namespace smelt
