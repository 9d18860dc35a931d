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

// What stands in the marks of calls.
struct ParsedCalls {
    std::vector<ToolCall> calls;
    std::string rest = {};  // text behind them
};

// `tools` is the request's list, which says where a value is a string whatever it looks like. `closed`: the
// mark at the end was met, so that what is missing before it was forgotten, not cut off. None: it is no call.
std::optional<ParsedCalls> parse_tool_calls(std::string_view text, const Json& tools, bool closed);

// Where a call ends: at the first closing mark that stands in none of its values, as far as that can be told.
class CallEnd {
 public:
    // Looks for `mark` in the call's text so far, which only grows.
    std::optional<size_t> find(std::string_view text, std::string_view mark);
    // The first one, wherever it stands: when nothing more comes.
    static std::optional<size_t> first(std::string_view text, std::string_view mark);

 private:
    bool may_end(std::string_view before) const;

    size_t at_ = 0;
    bool begun_ = false, is_json_ = false, in_string_ = false, escaped_ = false;
};

}  // namespace smelt
