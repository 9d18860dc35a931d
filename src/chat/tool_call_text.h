// The text of one <tool_call> in the spellings that models use.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"

namespace smelt {

struct ToolCall {
    std::string name;
    std::string arguments;  // JSON text
    bool operator==(const ToolCall&) const = default;
};

// What stands between <tool_call> and </tool_call>. `tools` is the request's list, which says where a value
// is a string whatever it looks like. None: it is no call.
std::optional<std::vector<ToolCall>> parse_tool_calls(std::string_view text, const Json& tools);

}  // namespace smelt
