// The text of one <tool_call> in the spellings that models use.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/json.h"

namespace smelt {

struct ToolCall {
    std::string name;
    std::string arguments;  // JSON text
    bool operator==(const ToolCall&) const = default;
};

// A call of which a grammar made {"name": NAME, "arguments": {...}}, while it is written.
class HeldCall {
 public:
    // Takes from `text` what belongs to the call; what is left of it comes behind.
    void text(std::string& text);
    // Since it was asked for the last time.
    std::string take_name() { return std::exchange(name_, {}); }
    std::string take_arguments() { return std::exchange(arguments_, {}); }
    bool complete() const { return state_ == State::complete; }

 private:
    enum class State { head, arguments, complete } state_ = State::head;
    std::string head_, name_, arguments_;
    int depth_ = 0;
    bool in_string_ = false, escaped_ = false;
};

// What stands between <tool_call> and </tool_call>. `tools` is the request's list, which says where a value
// is a string whatever it looks like. None: it is no call.
std::optional<std::vector<ToolCall>> parse_tool_calls(std::string_view text, const Json& tools);

}  // namespace smelt
