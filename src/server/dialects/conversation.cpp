// A history that no template could print is refused here, with the place in it.
#include "server/dialects/conversation.h"

#include <unordered_map>
#include <unordered_set>

#include "server/dialects/schema_checks.h"

namespace smelt {

namespace {

constexpr size_t max_text = size_t{1} << 24, max_tools = 128, max_calls = 128, max_name = 256;
constexpr std::string_view roles[] = {"system", "developer", "user", "assistant", "tool"};

void check_content(const std::string& param, const Json& v) {
    if (v.is_string()) return;
    if (!v.is_array()) wrong_type(param, "a string or an array of parts", v);
    for (size_t i = 0; i < v.size(); ++i) {
        const std::string at = fmt::format("{}[{}]", param, i);
        if (!v[i].is_object()) wrong_type(at, "an object", v[i]);
        const std::string& type = need_string(at, v[i], "type");
        if (type != "text") {
            throw bad_request("unsupported_content", at + ".type", "{}.type: expected \"text\", found \"{}\"",
                              at, type.substr(0, 60));
        }
        need_string(at, v[i], "text");
    }
}

std::optional<Json> parsed_arguments(const Json& arguments) {
    if (arguments.is_object()) return arguments;
    if (!arguments.is_string()) return std::nullopt;
    const std::string& text = arguments.get_ref<const std::string&>();
    if (text.find_first_not_of(" \r\n\t") == std::string::npos) return Json::object();
    try {
        Json object = parse_json(text, "arguments");
        if (object.is_object()) return object;
    } catch (const Error&) {
    }
    return std::nullopt;
}

void check_call(const std::string& at, const Json& call) {
    check_object(at, call);
    if (const Json* type = find_member(call, "type"); type != nullptr && *type != "function") {
        wrong_value(at + ".type", "\"function\"", *type);
    }
    need_string(at, call, "id");
    const Json& function = need_member(at, call, "function");
    check_object(at + ".function", function);
    const std::string& name = need_string(at + ".function", function, "name");
    if (name.empty()) wrong_value(at + ".function.name", "a name", name);
    const Json* arguments = find_member(function, "arguments");
    if (arguments != nullptr) check_arguments(at + ".function.arguments", *arguments);
}

// What comes before a message: the calls that its results may belong to.
using CallIds = std::unordered_set<std::string>;

void check_message(const std::string& at, const Json& m, CallIds& calls) {
    check_object(at, m);
    const std::string& role = need_string(at, m, "role");
    check_choice(at + ".role", role, roles);
    const Json* content = find_member(m, "content");
    if (content != nullptr) check_content(at + ".content", *content);
    if (content == nullptr && role != "assistant") {
        if (m.contains("content")) wrong_type(at + ".content", "a string or an array of parts", nullptr);
        missing(at + ".content");
    }
    for (const char* text : {"name", "reasoning_content"}) {
        if (const Json* v = find_member(m, text)) check_string(fmt::format("{}.{}", at, text), *v, max_text);
    }
    if (const Json* list = find_member(m, "tool_calls")) {
        const std::string param = at + ".tool_calls";
        if (!list->is_array()) wrong_type(param, "an array of calls", *list);
        if (role != "assistant" && !list->empty()) {
            throw bad_request("invalid_value", param, "{}: only assistants call, found role {}", param, role);
        }
        if (list->size() > max_calls) wrong_value(param, fmt::format("at most {} calls", max_calls), *list);
        for (size_t i = 0; i < list->size(); ++i) {
            check_call(fmt::format("{}[{}]", param, i), (*list)[i]);
            calls.insert((*list)[i]["id"].get<std::string>());
        }
    }
    if (role != "tool") return;
    const std::string& id = need_string(at, m, "tool_call_id");
    if (!calls.contains(id)) {
        throw bad_request("invalid_value", at + ".tool_call_id",
                          "{}.tool_call_id: expected the id of a call in an earlier message, found \"{}\"",
                          at, id.substr(0, 60));
    }
}

void check_tool(const std::string& at, const Json& tool, std::unordered_set<std::string>& names) {
    check_object(at, tool);
    const std::string& type = need_string(at, tool, "type");
    if (type != "function") {
        throw bad_request("not_supported", at + ".type", "{}.type: expected \"function\", found \"{}\"", at,
                          type.substr(0, 60));
    }
    const std::string in = at + ".function";
    const Json& function = need_member(at, tool, "function");
    check_object(in, function);
    const std::string& name = need_string(in, function, "name");
    const bool plain = name.find_first_of(" \r\n\t<>{}\"") == std::string::npos;
    if (name.empty() || name.size() > max_name || !plain) {
        wrong_value(in + ".name",
                    fmt::format("1 to {} bytes without blanks, quotes, braces and angles", max_name), name);
    }
    if (!names.insert(name).second) wrong_value(in + ".name", "every name once", name);
    if (const Json* v = find_member(function, "description")) check_string(in + ".description", *v, max_text);
    if (const Json* v = find_member(function, "parameters")) check_object(in + ".parameters", *v);
    if (const Json* v = find_member(function, "strict")) check_boolean(in + ".strict", *v);
}

void check_tools(const std::string& param, const Json& v) {
    if (!v.is_array()) wrong_type(param, "an array of tools", v);
    if (v.size() > max_tools) wrong_value(param, fmt::format("at most {} tools", max_tools), v);
    std::unordered_set<std::string> names;
    for (size_t i = 0; i < v.size(); ++i) check_tool(fmt::format("{}[{}]", param, i), v[i], names);
}

void check_tool_choice(const std::string& param, const Json& v) {
    constexpr std::string_view words[] = {"none", "auto", "required"};
    if (v.is_string()) return check_choice(param, v, words);
    if (!v.is_object()) wrong_type(param, "none, auto, required or an object", v);
    const std::string& type = need_string(param, v, "type");
    if (type != "function") wrong_value(param + ".type", "\"function\"", type);
    const Json& function = need_member(param, v, "function");
    check_object(param + ".function", function);
    need_string(param + ".function", function, "name");
}

std::string text_of(const Json& m) {
    const Json* content = find_member(m, "content");
    if (content == nullptr) return "";
    if (content->is_string()) return content->get<std::string>();
    std::string text;
    for (const Json& part : *content) text += part.at("text").get<std::string>();
    return text;
}

}  // namespace

const CompoundType tools_type = {
    .description = "array of {type: function, function: {name, description, parameters, strict}}",
    .check = check_tools,
    .openapi = R"({"type": "array", "items": {"type": "object", "required": ["type", "function"],
        "properties": {"type": {"type": "string", "enum": ["function"]},
            "function": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"},
                "description": {"type": "string"}, "parameters": {"type": "object"}, "strict": {"type": "boolean"}}}}}})"};

const CompoundType tool_choice_type = {
    .description = "none, auto, required, or {type: function, function: {name}}",
    .check = check_tool_choice,
    .openapi =
        R"({"oneOf": [{"type": "string", "enum": ["none", "auto", "required"]}, {"type": "object"}]})"};

void check_arguments(const std::string& param, const Json& v) {
    if (!parsed_arguments(v)) wrong_value(param, "a JSON object as text", v);
}

void check_messages(const std::string& param, const Json& v) {
    if (!v.is_array()) wrong_type(param, "an array of messages", v);
    if (v.empty() || v.size() > max_messages)
        wrong_value(param, fmt::format("1 to {} messages", max_messages), v);
    CallIds calls;
    for (size_t i = 0; i < v.size(); ++i) check_message(fmt::format("{}[{}]", param, i), v[i], calls);
}

Json template_messages(const Json& messages) {
    Json result = Json::array();
    // Nine letters and digits, because Mistral's templates take no others.
    std::unordered_map<std::string, std::string> ids;
    size_t n_calls = 0;
    for (const Json& m : messages) {
        Json clean = Json::object();
        const std::string role = m.at("role");
        clean["role"] = role == "developer" ? "system" : role;
        clean["content"] = text_of(m);
        for (const char* key : {"name", "reasoning_content"}) {
            if (const auto value = get<std::string>(m, key)) clean[key] = *value;
        }
        if (role == "tool") clean["tool_call_id"] = ids.at(m.at("tool_call_id").get<std::string>());
        const Json* calls = find_member(m, "tool_calls");
        for (const Json& call : calls == nullptr ? Json::array() : *calls) {
            const std::string id = ids[call.at("id").get<std::string>()] =
                fmt::format("call{:05}", n_calls++ % 100'000);
            const Json& function = call.at("function");
            const Json* arguments = find_member(function, "arguments");
            clean["tool_calls"].push_back(
                {{"id", id},
                 {"type", "function"},
                 {"function",
                  {{"name", function.at("name")},
                   {"arguments", arguments == nullptr ? Json::object() : *parsed_arguments(*arguments)}}}});
        }
        result.push_back(std::move(clean));
    }
    return result;
}

// What OpenAI added for its server means nothing to a template.
Json template_tools(const Json& tools) {
    Json result = tools;
    for (Json& tool : result) tool["function"].erase("strict");
    return result;
}

ToolRules read_tool_rules(const Json& body) {
    ToolRules rules;
    const Json* tools = find_member(body, "tools");
    const bool any = tools != nullptr && !tools->empty();
    if (any) rules.tools = *tools;
    rules.may_call = any;
    rules.parallel = get<bool>(body, "parallel_tool_calls").value_or(true);
    const Json* choice = find_member(body, "tool_choice");
    if (choice == nullptr || *choice == "auto") return rules;
    if (*choice == "none") {
        rules.may_call = false;
        return rules;
    }
    if (!any) throw bad_request("invalid_value", "tool_choice", "tool_choice: there are no tools to choose");
    rules.must_call = true;
    if (choice->is_string()) return rules;
    rules.only = (*choice)["function"]["name"];
    const auto named = [&](const Json& t) { return t["function"]["name"] == rules.only; };
    if (std::ranges::none_of(rules.tools, named)) {
        throw bad_request("invalid_value", "tool_choice",
                          "tool_choice.function.name: no tool is called \"{}\"", rules.only.substr(0, 60));
    }
    return rules;
}

}  // namespace smelt
