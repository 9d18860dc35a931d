// Values of arguments in the formats that write them as bare text: what the tool's schema says they are. The
// text stays a string where the schema allows one.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"

namespace smelt {

// `tools`: the request's list.
Json argument_value(const Json& tools, std::string_view function, std::string_view key,
                    std::string_view text);

// How the bare text of an argument may be held to its schema.
struct BareText {
    std::vector<std::string> texts = {};  // one of these, unless it is free
    bool is_free = false;
    std::vector<std::string> unkept = {};  // keywords that say more about the text
};
// None: the value is written as JSON. `parameters` is the schema that `schema` is a part of.
std::optional<BareText> bare_text(const Json& parameters, const Json& schema);

// Whether one of the tools has this name.
bool is_tool(const Json& tools, std::string_view name);
// Whether the tool declares such a parameter.
bool is_parameter(const Json& tools, std::string_view function, std::string_view key);

}  // namespace smelt
