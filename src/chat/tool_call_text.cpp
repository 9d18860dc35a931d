// Hermes, Qwen, Llama and Mistral write JSON, {"name": ..., "arguments": {...}}, or Mistral a name, [ARGS]
// and JSON; GLM a name, then keys and values in marks; Qwen3-Coder <function=NAME> with <parameter=KEY>;
// DeepSeek marks around a name and JSON.
#include "chat/tool_call_text.h"

#include <algorithm>

#include "base/ascii.h"
#include "base/error.h"
#include "chat/answer_parser.h"
#include "chat/argument_types.h"
#include "chat/lenient_json.h"

namespace smelt {

namespace {

constexpr JsonLimits call_limits{.max_bytes = size_t{4} << 20, .max_values = 100'000};

std::optional<Json> json_of(std::string_view text) {
    try {
        return parse_json(text, "tool call", call_limits);
    } catch (const Error&) {
        return std::nullopt;
    }
}

bool is_name(std::string_view name) {
    constexpr size_t longest = 256;
    return !name.empty() && name.size() <= longest &&
           name.find_first_of("\r\n \t<>{}\"") == std::string_view::npos;
}

const Json* member_of(const Json& object, std::string_view key) {
    if (!object.is_object()) return nullptr;
    const auto it = object.find(std::string(key));
    return it == object.end() ? nullptr : &*it;
}

// {"name", "arguments"}; Llama's {"name", "parameters"} and {"function": NAME}; OpenAI's {"function": {...}}.
std::optional<ToolCall> call_of(const Json& json) {
    const Json* function = member_of(json, "function");
    if (function != nullptr && function->is_object()) return call_of(*function);
    const Json* name = member_of(json, "name");
    if (name == nullptr && function != nullptr && member_of(json, "parameters") != nullptr) name = function;
    if (name == nullptr || !name->is_string() || !is_name(name->get<std::string>())) return std::nullopt;
    const Json* arguments = member_of(json, "arguments");
    if (arguments == nullptr) arguments = member_of(json, "parameters");
    ToolCall call{name->get<std::string>(), "{}"};
    if (arguments != nullptr && !arguments->is_null()) {
        call.arguments = arguments->is_string() ? arguments->get<std::string>() : to_string(*arguments);
    }
    return call;
}

bool add_calls(const Json& json, std::vector<ToolCall>& calls) {
    if (json.is_array()) {
        return !json.empty() &&
               std::ranges::all_of(json, [&](const Json& item) { return add_calls(item, calls); });
    }
    auto call = call_of(json);
    if (call) calls.push_back(std::move(*call));
    return call.has_value();
}

// One value or several, with line ends, commas or semicolons between them. Behind them brackets too many are
// dropped; other text is the rest.
std::optional<ParsedCalls> parse_json_calls(std::string_view text, bool closed) {
    ParsedCalls all;
    if (const auto json = json_of(text)) {
        if (!add_calls(*json, all.calls)) return std::nullopt;
        return all;
    }
    constexpr std::string_view between = ",; \r\n\t}]";
    while (true) {
        std::string_view next = text.substr(std::min(text.size(), text.find_first_not_of(between)));
        if (next.starts_with(python_tag)) next = trimmed(next.substr(python_tag.size()));
        const bool is_json = next.starts_with('{') || next.starts_with('[');
        if (!is_json) {
            all.rest = std::string(next);
            break;
        }
        const auto json = take_lenient_json(next, closed);
        if (!json || !add_calls(*json, all.calls)) return std::nullopt;
        text = next;
    }
    if (all.calls.empty()) return std::nullopt;
    return all;
}

// Takes text up to `mark` and the mark off; none: the mark is not there.
std::optional<std::string_view> take_until(std::string_view& rest, std::string_view mark) {
    const size_t at = rest.find(mark);
    if (at == std::string_view::npos) return std::nullopt;
    const std::string_view before = rest.substr(0, at);
    rest.remove_prefix(at + mark.size());
    return before;
}

// The first `mark` behind which the form goes on as `goes_on` says; npos: there is none.
template <class GoesOn>
size_t find_end(std::string_view text, std::string_view mark, GoesOn goes_on) {
    size_t at = text.find(mark);
    while (at != std::string_view::npos && !goes_on(trimmed(text.substr(at + mark.size())))) {
        at = text.find(mark, at + 1);
    }
    return at;
}

std::optional<ParsedCalls> parse_glm_call(std::string_view text, const Json& tools) {
    constexpr std::string_view key_mark = "<arg_key>", key_end = "</arg_key>", value_mark = "<arg_value>",
                               value_end = "</arg_value>";
    const size_t at = std::min(text.size(), text.find(key_mark));
    const std::string name(trimmed(text.substr(0, at)));
    if (!is_name(name)) return std::nullopt;
    std::string_view rest = text.substr(at);
    Json arguments = Json::object();
    while (rest.starts_with(key_mark)) {
        rest.remove_prefix(key_mark.size());
        const auto key = take_until(rest, key_end);
        rest = trimmed(rest);
        if (!key || trimmed(*key).empty() || !rest.starts_with(value_mark)) return std::nullopt;
        rest.remove_prefix(value_mark.size());
        const auto goes_on = [&](std::string_view s) { return s.empty() || s.starts_with(key_mark); };
        const size_t end = find_end(rest, value_end, goes_on);
        if (end == std::string_view::npos) return std::nullopt;
        const std::string_view value = rest.substr(0, end);
        rest = trimmed(rest.substr(end + value_end.size()));
        const std::string key_name(trimmed(*key));
        arguments[key_name] = argument_value(tools, name, key_name, value);
    }
    if (!rest.empty()) return std::nullopt;
    return ParsedCalls{{ToolCall{name, to_string(arguments)}}};
}

// Qwen3-Coder's functions. The closing mark of a parameter is forgotten at times: then the next parameter
// that the tool has, at the beginning of a line, or the end of the function says the same.
class CoderCalls {
 public:
    CoderCalls(std::string_view text, const Json& tools, bool closed)
        : rest_(text), tools_(tools), closed_(closed) {}

    std::optional<ParsedCalls> read() {
        ParsedCalls all;
        while (rest_.starts_with(function_mark)) {
            auto call = one();
            if (!call) return std::nullopt;
            all.calls.push_back(std::move(*call));
        }
        if (!rest_.empty()) return std::nullopt;
        return all;
    }

 private:
    static constexpr std::string_view function_mark = "<function=", function_end = "</function>",
                                      parameter_mark = "<parameter=", parameter_end = "</parameter>";

    std::optional<ToolCall> one() {
        rest_.remove_prefix(function_mark.size());
        const auto head = take_until(rest_, ">");
        if (!head || !is_name(*head)) return std::nullopt;
        name_ = *head;
        Json arguments = Json::object();
        rest_ = trimmed(rest_);
        while (rest_.starts_with(parameter_mark)) {
            rest_.remove_prefix(parameter_mark.size());
            const auto key = take_until(rest_, ">");
            if (!key || trimmed(*key).empty()) return std::nullopt;
            auto value = take_value();
            if (!value) return std::nullopt;
            if (value->starts_with('\n')) value->remove_prefix(1);
            if (value->ends_with('\n')) value->remove_suffix(1);
            const std::string key_name(trimmed(*key));
            arguments[key_name] = argument_value(tools_, name_, key_name, *value);
        }
        if (rest_.starts_with(function_end)) {
            rest_ = trimmed(rest_.substr(function_end.size()));
        } else if (!rest_.empty() || !closed_ || arguments.empty()) {
            return std::nullopt;
        }
        return ToolCall{name_, to_string(arguments)};
    }

    std::optional<std::string_view> take_value() {
        const auto goes_on = [&](std::string_view s) {
            return s.starts_with(parameter_mark) || s.starts_with(function_end) || (closed_ && s.empty());
        };
        const size_t end = find_end(rest_, parameter_end, goes_on), next = forgotten_end();
        if (end == next) return std::nullopt;  // neither
        const std::string_view value = rest_.substr(0, std::min(end, next));
        rest_ = trimmed(rest_.substr(end < next ? end + parameter_end.size() : next));
        return value;
    }

    size_t forgotten_end() const {
        const auto last = [&](std::string_view s) { return s.empty() || s.starts_with(function_mark); };
        const size_t function = find_end(rest_, function_end, last);
        for (size_t at = 0; (at = rest_.find(parameter_mark, at)) < function; ++at) {
            const size_t name = at + parameter_mark.size(), name_end = rest_.find('>', name);
            if (name_end == std::string_view::npos) break;
            const bool begins_line = trimmed_end(rest_.substr(0, at)).ends_with('\n') || at == 0;
            if (begins_line && is_parameter(tools_, name_, trimmed(rest_.substr(name, name_end - name))))
                return at;
        }
        return function;
    }

    // Without blanks that are no line ends.
    static std::string_view trimmed_end(std::string_view s) {
        return s.substr(0, s.find_last_not_of(" \t") + 1);
    }

    std::string_view rest_;
    const Json& tools_;
    bool closed_;
    std::string name_;
};

// NAME[ARGS]{...}[TOOL_CALLS]NAME[ARGS]{...}, in some versions with [CALL_ID]ID behind the name.
std::optional<ParsedCalls> parse_named_calls(std::string_view text, bool closed) {
    constexpr std::string_view args = "[ARGS]", call_id = "[CALL_ID]";
    ParsedCalls all;
    while (true) {
        auto name = take_until(text, args);
        if (!name) return std::nullopt;
        name = trimmed(name->substr(0, name->find(call_id)));
        const auto arguments = take_lenient_json(text, closed);
        if (!is_name(*name) || !arguments || !arguments->is_object()) return std::nullopt;
        all.calls.push_back({std::string(*name), to_string(*arguments)});
        constexpr std::string_view between = "}] \r\n\t";
        text.remove_prefix(std::min(text.size(), text.find_first_not_of(between)));
        if (!text.starts_with(mistral_calls)) break;
        text.remove_prefix(mistral_calls.size());
    }
    all.rest = std::string(text);
    return all;
}

// DeepSeek's, each in its marks.
std::optional<ParsedCalls> parse_deepseek_calls(std::string_view text, bool closed) {
    ParsedCalls all;
    while (text.starts_with(deepseek_call)) {
        text.remove_prefix(deepseek_call.size());
        const auto head = take_until(text, deepseek_sep);
        if (!head) return std::nullopt;
        std::string_view name = trimmed(*head);
        text = trimmed(text);
        // "function", and behind the separator the name and a fence
        if (!text.starts_with('{')) {
            const size_t object = std::min(text.size(), text.find('{'));
            name = trimmed(text.substr(0, std::min(object, text.find_first_of("\r\n"))));
            text.remove_prefix(object);
        }
        const auto arguments = take_lenient_json(text, closed);
        if (!is_name(name) || !arguments || !arguments->is_object()) return std::nullopt;
        all.calls.push_back({std::string(name), to_string(*arguments)});
        if (!take_until(text, deepseek_call_end)) text = {};
        text = trimmed(text);
    }
    if (all.calls.empty()) return std::nullopt;
    all.rest = std::string(text);
    return all;
}

}  // namespace

void HeldCall::text(std::string& text) {
    constexpr std::string_view middle = ", \"arguments\": ";
    if (state_ == State::head) {
        head_ += std::exchange(text, {});
        const size_t at = head_.find(middle);
        if (at == std::string::npos) return;
        const auto object = json_of(head_.substr(0, at) + "}");
        if (const Json* name = object ? member_of(*object, "name") : nullptr;
            name != nullptr && name->is_string()) {
            name_ = name->get<std::string>();
        }
        text = head_.substr(at + middle.size());
        state_ = State::arguments;
    }
    size_t n = 0;
    while (state_ == State::arguments && n < text.size()) {
        const char c = text[n++];
        if (in_string_) {
            in_string_ = escaped_ || c != '"';
            escaped_ = !escaped_ && c == '\\';
        } else if (c == '"') {
            in_string_ = true;
        } else if (c == '{' || c == '[') {
            ++depth_;
        } else if (c == '}' || c == ']') {
            if (--depth_ == 0) state_ = State::complete;
        }
    }
    arguments_ += text.substr(0, n);
    text.erase(0, n);
}

std::optional<ParsedCalls> parse_tool_calls(std::string_view text, const Json& tools, bool closed) {
    text = trimmed(text);
    if (text.starts_with(python_tag)) text = trimmed(text.substr(python_tag.size()));
    if (text.starts_with('{') || text.starts_with('[')) return parse_json_calls(text, closed);
    if (text.starts_with(deepseek_call)) return parse_deepseek_calls(text, closed);
    if (text.find("[ARGS]") != std::string_view::npos) return parse_named_calls(text, closed);
    if (text.starts_with("<function=")) return CoderCalls(text, tools, closed).read();
    return parse_glm_call(text, tools);
}

std::optional<size_t> CallEnd::first(std::string_view text, std::string_view mark) {
    const size_t at = text.find(mark);
    return at == std::string_view::npos ? std::nullopt : std::optional(at);
}

bool CallEnd::may_end(std::string_view before) const {
    if (is_json_) return !in_string_;
    before = trimmed(before);
    if (before.starts_with("<function=")) return before.ends_with("</function>");
    if (before.starts_with(deepseek_call)) return before.ends_with(deepseek_call_end);
    return before.find("<arg_key>") == std::string_view::npos || before.ends_with("</arg_value>");
}

std::optional<size_t> CallEnd::find(std::string_view text, std::string_view mark) {
    for (; at_ < text.size(); ++at_) {
        const char c = text[at_];
        if (!begun_) {
            begun_ = blank_chars.find(c) == std::string_view::npos;
            is_json_ = c == '{' || c == '[';
        }
        if (c == mark[0]) {
            const std::string_view here = text.substr(at_, mark.size());
            if (here == mark && may_end(text.substr(0, at_))) return at_;
            if (here.size() < mark.size() && mark.starts_with(here)) return std::nullopt;
        }
        if (!is_json_) continue;
        if (in_string_) {
            in_string_ = escaped_ || c != '"';
            escaped_ = !escaped_ && c == '\\';
        } else {
            in_string_ = c == '"';
        }
    }
    return std::nullopt;
}

}  // namespace smelt
