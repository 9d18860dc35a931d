// Hermes, Qwen, Llama and Mistral write JSON, {"name": ..., "arguments": {...}}, or Mistral a name, [ARGS]
// and JSON; GLM a name, then keys and values in marks; Qwen3-Coder <function=NAME> with <parameter=KEY>.
#include "chat/tool_call_text.h"

#include "base/error.h"
#include "chat/answer_parser.h"

namespace smelt {

namespace {

constexpr JsonLimits call_limits{.max_bytes = size_t{4} << 20, .max_values = 100'000};

std::string_view trimmed(std::string_view text) {
    const size_t first = text.find_first_not_of(blank_chars);
    if (first == std::string_view::npos) return {};
    return text.substr(first, text.find_last_not_of(blank_chars) - first + 1);
}

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

const Json* find_member(const Json& object, std::string_view key) {
    if (!object.is_object()) return nullptr;
    const auto it = object.find(std::string(key));
    return it == object.end() ? nullptr : &*it;
}

// Whether the tool's schema calls the parameter a string.
bool is_string_parameter(const Json& tools, std::string_view function, std::string_view key) {
    if (!tools.is_array()) return false;
    for (const Json& tool : tools) {
        const Json* inner = find_member(tool, "function");
        const Json& declared = inner == nullptr ? tool : *inner;
        const Json* name = find_member(declared, "name");
        if (name == nullptr || *name != function) continue;
        for (const char* step : {"parameters", "properties"}) {
            const Json* next = find_member(inner == nullptr ? tool : *inner, step);
            if (next == nullptr) return false;
            inner = next;
        }
        const Json* property = find_member(*inner, key);
        const Json* type = property == nullptr ? nullptr : find_member(*property, "type");
        return type != nullptr && *type == "string";
    }
    return false;
}

Json value_of(const Json& tools, std::string_view function, std::string_view key, std::string_view text) {
    if (!is_string_parameter(tools, function, key)) {
        if (auto value = json_of(text)) return std::move(*value);
    }
    return Json(text);
}

std::optional<ToolCall> call_of(const Json& json) {
    const Json* name = find_member(json, "name");
    if (name == nullptr || !name->is_string() || !is_name(name->get<std::string>())) return std::nullopt;
    const Json* arguments = find_member(json, "arguments");
    if (arguments == nullptr) arguments = find_member(json, "parameters");
    ToolCall call{name->get<std::string>(), "{}"};
    if (arguments != nullptr && !arguments->is_null()) {
        call.arguments = arguments->is_string() ? arguments->get<std::string>() : to_string(*arguments);
    }
    return call;
}

std::optional<std::vector<ToolCall>> parse_json_calls(std::string_view text) {
    const auto json = json_of(text);
    if (!json) return std::nullopt;
    std::vector<ToolCall> calls;
    for (const Json& item : json->is_array() ? *json : Json::array({*json})) {
        auto call = call_of(item);
        if (!call) return std::nullopt;
        calls.push_back(std::move(*call));
    }
    if (calls.empty()) return std::nullopt;
    return calls;
}

// Takes text up to `mark` and the mark off; none: the mark is not there.
std::optional<std::string_view> take_until(std::string_view& rest, std::string_view mark) {
    const size_t at = rest.find(mark);
    if (at == std::string_view::npos) return std::nullopt;
    const std::string_view before = rest.substr(0, at);
    rest.remove_prefix(at + mark.size());
    return before;
}

// `rest` begins with `open`: KEY middle VALUE close
bool take_argument(std::string_view& rest, std::string_view open, std::string_view middle,
                   std::string_view close, bool drop_line_ends, const Json& tools,
                   const std::string& function, Json& arguments) {
    rest.remove_prefix(open.size());
    const auto key = take_until(rest, middle);
    auto value = take_until(rest, close);
    if (!key || !value || trimmed(*key).empty()) return false;
    if (drop_line_ends) {
        if (value->starts_with('\n')) value->remove_prefix(1);
        if (value->ends_with('\n')) value->remove_suffix(1);
    }
    const std::string name(trimmed(*key));
    arguments[name] = value_of(tools, function, name, *value);
    rest = trimmed(rest);
    return true;
}

std::optional<std::vector<ToolCall>> parse_glm_call(std::string_view text, const Json& tools) {
    constexpr std::string_view key_mark = "<arg_key>";
    const size_t at = std::min(text.size(), text.find(key_mark));
    const std::string name(trimmed(text.substr(0, at)));
    if (!is_name(name)) return std::nullopt;
    std::string_view rest = text.substr(at);
    Json arguments = Json::object();
    while (rest.starts_with(key_mark)) {
        // Between key and value there may be a line end.
        const size_t end = rest.find("</arg_key>");
        const size_t value = end == std::string_view::npos ? end : rest.find("<arg_value>", end);
        if (value == std::string_view::npos || !trimmed(rest.substr(end + 10, value - end - 10)).empty()) {
            return std::nullopt;
        }
        const std::string middle(rest.substr(end, value + 11 - end));
        if (!take_argument(rest, key_mark, middle, "</arg_value>", false, tools, name, arguments))
            return std::nullopt;
    }
    if (!rest.empty()) return std::nullopt;
    return {{ToolCall{name, to_string(arguments)}}};
}

std::optional<std::vector<ToolCall>> parse_coder_calls(std::string_view rest, const Json& tools) {
    constexpr std::string_view function_mark = "<function=", parameter_mark = "<parameter=";
    std::vector<ToolCall> calls;
    while (rest.starts_with(function_mark)) {
        rest.remove_prefix(function_mark.size());
        const auto head = take_until(rest, ">");
        if (!head || !is_name(*head)) return std::nullopt;
        const std::string name(*head);
        Json arguments = Json::object();
        rest = trimmed(rest);
        while (rest.starts_with(parameter_mark)) {
            if (!take_argument(rest, parameter_mark, ">", "</parameter>", true, tools, name, arguments)) {
                return std::nullopt;
            }
        }
        if (!rest.starts_with("</function>")) return std::nullopt;
        rest = trimmed(rest.substr(std::string_view("</function>").size()));
        calls.push_back({name, to_string(arguments)});
    }
    if (!rest.empty()) return std::nullopt;
    return calls;
}

// Llama's: objects with semicolons between them, which cannot stand outside of a string in JSON.
std::optional<std::vector<ToolCall>> parse_listed_calls(std::string_view text) {
    if (auto calls = parse_json_calls(text)) return calls;
    std::vector<ToolCall> all;
    for (size_t from = 0, at = 0; at != std::string_view::npos;) {
        at = text.find(';', at);
        const auto calls = parse_json_calls(trimmed(text.substr(from, at - from)));
        if (calls) all.insert(all.end(), calls->begin(), calls->end());
        if (at != std::string_view::npos) ++at;
        if (calls) from = at;
        if (at == std::string_view::npos && !calls) return std::nullopt;
    }
    return all;
}

// NAME[ARGS]{...}[TOOL_CALLS]NAME[ARGS]{...}
std::optional<std::vector<ToolCall>> parse_named_calls(std::string_view text) {
    constexpr std::string_view args = "[ARGS]";
    std::vector<ToolCall> calls;
    for (size_t at = 0; at != std::string_view::npos;) {
        at = text.find(mistral_calls);
        const std::string_view one = text.substr(0, at);
        text = at == std::string_view::npos ? "" : text.substr(at + mistral_calls.size());
        const size_t middle = one.find(args);
        if (middle == std::string_view::npos) return std::nullopt;
        const std::string_view name = trimmed(one.substr(0, middle));
        const auto arguments = json_of(one.substr(middle + args.size()));
        if (!is_name(name) || !arguments || !arguments->is_object()) return std::nullopt;
        calls.push_back({std::string(name), to_string(*arguments)});
    }
    return calls;
}

}  // namespace

void HeldCall::text(std::string& text) {
    constexpr std::string_view middle = ", \"arguments\": ";
    if (state_ == State::head) {
        head_ += std::exchange(text, {});
        const size_t at = head_.find(middle);
        if (at == std::string::npos) return;
        const auto object = json_of(head_.substr(0, at) + "}");
        if (const Json* name = object ? find_member(*object, "name") : nullptr;
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

std::optional<std::vector<ToolCall>> parse_tool_calls(std::string_view text, const Json& tools) {
    text = trimmed(text);
    if (text.starts_with(python_tag)) text = trimmed(text.substr(python_tag.size()));
    if (text.starts_with('{') || text.starts_with('[')) return parse_listed_calls(text);
    if (text.find("[ARGS]") != std::string_view::npos) return parse_named_calls(text);
    if (text.starts_with("<function=")) return parse_coder_calls(text, tools);
    return parse_glm_call(text, tools);
}

}  // namespace smelt
