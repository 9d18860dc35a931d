// A history that no template could print is refused here, with the place in it.
#include "server/dialects/openai_messages.h"

#include <unordered_set>

#include "server/dialects/pictures.h"

namespace smelt {

namespace {

constexpr size_t max_calls = 128, max_name = 256;

bool is_blank(const std::string& text) {
    return text.find_first_not_of(" \r\n\t") == std::string::npos;
}

class MessageReader {
 public:
    std::vector<Message> read(const std::string& param, const Json& v) {
        if (!v.is_array()) wrong_type(param, "an array of messages", v);
        if (v.empty() || v.size() > max_messages)
            wrong_value(param, fmt::format("1 to {} messages", max_messages), v);
        std::vector<Message> messages;
        for (size_t i = 0; i < v.size(); ++i) {
            calls_.begin_message();
            messages.push_back(read_message(fmt::format("{}[{}]", param, i), v[i]));
        }
        sort_results(messages);
        return messages;
    }

 private:
    Message read_message(const std::string& at, const Json& m);
    void read_content(const std::string& param, const Json& v, Message& to) const;
    void read_reasoning(const std::string& at, const Json& m, Message& to) const;
    void read_calls(const std::string& at, const Json& m, Message& to);
    CallPart read_call(const std::string& at, const Json& call);
    CallPart read_called_function(const std::string& in, const Json& function, std::string id);
    ResultPart read_result(const std::string& at, const Json& m, bool by_name, std::string text);

    CallBook calls_;
};

void MessageReader::read_content(const std::string& param, const Json& v, Message& to) const {
    if (v.is_string()) return to.parts.push_back(TextPart{v.get<std::string>()});
    if (!v.is_array()) wrong_type(param, "a string or an array of parts", v);
    for (size_t i = 0; i < v.size(); ++i) {
        const std::string at = fmt::format("{}[{}]", param, i);
        check_object(at, v[i]);
        const std::string& type = need_string(at, v[i], "type");
        if (type == "text") {
            to.parts.push_back(TextPart{need_string(at, v[i], "text")});
        } else if (type == "refusal" && to.role == Role::assistant) {
            to.parts.push_back(RefusalPart{need_string(at, v[i], "refusal")});
        } else if (type == "image_url") {
            check_shows(at + ".type", to);
            const Json& image = need_member(at, v[i], "image_url");
            to.parts.push_back(
                image.is_string()
                    ? read_picture_url(at + ".image_url", image)
                    : read_picture_url(at + ".image_url.url", need_member(at + ".image_url", image, "url")));
        } else {
            throw bad_request("unsupported_content", at + ".type",
                              "{}.type: expected \"text\" or \"image_url\", found \"{}\"", at,
                              type.substr(0, 60));
        }
    }
}

// DeepSeek's and vLLM's name, OpenRouter's, Ollama's and gpt-oss's: clients send what they got.
void MessageReader::read_reasoning(const std::string& at, const Json& m, Message& to) const {
    std::string text;
    for (const char* name : {"reasoning_content", "reasoning", "thinking"}) {
        const Json* v = find_member(m, name);
        if (v == nullptr) continue;
        check_string(fmt::format("{}.{}", at, name), *v, max_text);
        if (text.empty()) text = v->get<std::string>();
    }
    if (!text.empty()) to.parts.push_back(ReasoningPart{std::move(text)});
}

CallPart MessageReader::read_called_function(const std::string& in, const Json& function, std::string id) {
    check_object(in, function);
    const std::string& name = need_string(in, function, "name");
    if (name.empty()) wrong_value(in + ".name", "a name", name);
    const Json* arguments = find_member(function, "arguments");
    return {
        .call = calls_.add_call(std::move(id), name),
        .name = name,
        .arguments = arguments == nullptr ? Json::object() : read_arguments(in + ".arguments", *arguments)};
}

CallPart MessageReader::read_call(const std::string& at, const Json& call) {
    check_object(at, call);
    if (const Json* type = find_member(call, "type"); type != nullptr && *type != "function") {
        wrong_value(at + ".type", "\"function\"", *type);
    }
    const std::string& id = need_string(at, call, "id");
    return read_called_function(at + ".function", need_member(at, call, "function"), id);
}

void MessageReader::read_calls(const std::string& at, const Json& m, Message& to) {
    const std::string param = at + ".tool_calls";
    if (const Json* list = find_member(m, "tool_calls")) {
        if (!list->is_array()) wrong_type(param, "an array of calls", *list);
        if (to.role != Role::assistant && !list->empty()) {
            throw bad_request("invalid_value", param, "{}: only assistants call, found role {}", param,
                              m["role"].get<std::string>());
        }
        if (list->size() > max_calls) wrong_value(param, fmt::format("at most {} calls", max_calls), *list);
        for (size_t i = 0; i < list->size(); ++i) {
            to.parts.push_back(read_call(fmt::format("{}[{}]", param, i), (*list)[i]));
        }
    }
    // OpenAI's older form of one call, without an id.
    const Json* call = find_member(m, "function_call");
    if (call != nullptr && to.role == Role::assistant) {
        to.parts.push_back(read_called_function(at + ".function_call", *call, ""));
    }
}

ResultPart MessageReader::read_result(const std::string& at, const Json& m, bool by_name, std::string text) {
    const char* member = by_name ? "name" : "tool_call_id";
    const std::string& what = need_string(at, m, member);
    const auto call =
        calls_.find_call(by_name ? CallBook::Result{.name = what} : CallBook::Result{.id = what});
    if (!call) {
        throw bad_request("invalid_value", fmt::format("{}.{}", at, member),
                          "{}.{}: expected the {} of a call in an earlier message, found \"{}\"", at, member,
                          by_name ? "name" : "id", what.substr(0, 60));
    }
    return {.call = *call, .text = std::move(text)};
}

Message MessageReader::read_message(const std::string& at, const Json& m) {
    constexpr std::string_view roles[] = {"system", "developer", "user", "assistant", "tool", "function"};
    check_object(at, m);
    const std::string& role = need_string(at, m, "role");
    check_choice(at + ".role", role, roles);
    const bool is_result = role == "tool" || role == "function";
    Message message{.role = is_result             ? Role::tool
                            : role == "assistant" ? Role::assistant
                            : role == "user"      ? Role::user
                                                  : Role::system};
    if (const Json* name = find_member(m, "name")) {
        check_string(at + ".name", *name, max_text);
        message.name = *name;
    }
    if (message.role == Role::assistant) read_reasoning(at, m, message);
    const Json* content = find_member(m, "content");
    if (content != nullptr) read_content(at + ".content", *content, message);
    if (content == nullptr && message.role != Role::assistant && role != "function") {
        if (m.contains("content")) wrong_type(at + ".content", "a string or an array of parts", nullptr);
        missing(at + ".content");
    }
    // Where an assistant refused, its content is null and the refusal is beside it.
    const Json* refusal = find_member(m, "refusal");
    if (refusal != nullptr && message.role == Role::assistant) {
        check_string(at + ".refusal", *refusal, max_text);
        message.parts.push_back(RefusalPart{*refusal});
    }
    read_calls(at, m, message);
    if (is_result) message.parts = {read_result(at, m, role == "function", message.text())};
    return message;
}

void check_tools(const std::string& param, const Json& v) {
    if (!v.is_array()) wrong_type(param, "an array of tools", v);
    if (v.size() > max_tools) wrong_value(param, fmt::format("at most {} tools", max_tools), v);
}

Tool read_tool(const std::string& at, const Json& tool) {
    check_object(at, tool);
    const std::string& type = need_string(at, tool, "type");
    if (type != "function") {
        throw bad_request("not_supported", at + ".type", "{}.type: expected \"function\", found \"{}\"", at,
                          type.substr(0, 60));
    }
    return read_function(at + ".function", need_member(at, tool, "function"));
}

// "none", "auto", "required", or the function that must be called.
void read_choice_of_tool(const std::string& param, const Json& v, ToolRules& rules) {
    constexpr std::string_view words[] = {"none", "auto", "required"};
    if (v.is_string()) {
        check_choice(param, v, words);
        rules.may_call = rules.may_call && v != "none";
        rules.must_call = v == "required";
        return;
    }
    if (!v.is_object()) wrong_type(param, "none, auto, required or an object", v);
    const std::string& type = need_string(param, v, "type");
    if (type != "function") wrong_value(param + ".type", "\"function\"", type);
    const Json& function = need_member(param, v, "function");
    check_object(param + ".function", function);
    rules.only = need_string(param + ".function", function, "name");
    rules.must_call = true;
}

void read_older_tools(const Json& body, ToolRules& rules) {
    const Json* functions = find_member(body, "functions");
    if (functions == nullptr) return;
    if (!rules.tools.empty()) {
        throw bad_request("invalid_value", "functions",
                          "functions: expected either tools or functions, found both");
    }
    check_tools("functions", *functions);
    for (size_t i = 0; i < functions->size(); ++i) {
        rules.tools.push_back(read_function(fmt::format("functions[{}]", i), (*functions)[i]));
    }
    rules.may_call = !rules.tools.empty();
    rules.parallel = false;
    check_tool_rules(rules, "functions[{}].name", "function_call");
}

void read_older_choice(const Json& body, ToolRules& rules) {
    constexpr std::string_view words[] = {"none", "auto"};
    const Json* choice = find_member(body, "function_call");
    if (choice == nullptr) return;
    if (choice->is_string()) {
        check_choice("function_call", *choice, words);
        rules.may_call = rules.may_call && *choice != "none";
        return;
    }
    if (!choice->is_object()) wrong_type("function_call", "none, auto or {name}", *choice);
    rules.only = need_string("function_call", *choice, "name");
    rules.must_call = true;
    check_tool_rules(rules, "functions[{}].name", "function_call");
}

}  // namespace

const CompoundType messages_type = {
    .description = "array of {role, content}",
    .openapi =
        R"({"type": "array", "minItems": 1, "maxItems": 4096, "items": {"type": "object", "required": ["role"],
        "properties": {
            "role": {"type": "string", "enum": ["system", "developer", "user", "assistant", "tool", "function"]},
            "content": {"description": "string, null, or array of {type: text, text}, {type: image_url, image_url: {url}} with a data: URL, and {type: refusal, refusal}"},
            "reasoning_content": {"type": ["string", "null"]},
            "tool_calls": {"type": ["array", "null"], "items": {"type": "object"}},
            "tool_call_id": {"type": "string"}, "name": {"type": "string"}}}})"};
const CompoundType tools_type = {
    .description = "array of {type: function, function: {name, description, parameters, strict}}",
    .openapi =
        R"({"type": "array", "items": {"type": "object", "required": ["type", "function"],
        "properties": {"type": {"type": "string", "enum": ["function"]},
            "function": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"},
                "description": {"type": "string"}, "parameters": {"type": "object"}, "strict": {"type": "boolean"}}}}}})"};
const CompoundType tool_choice_type = {
    .description = "none, auto, required, or {type: function, function: {name}}",
    .openapi =
        R"({"oneOf": [{"type": "string", "enum": ["none", "auto", "required"]}, {"type": "object"}]})"};
const CompoundType functions_type = {.description = "array of {name, description, parameters}",
                                     .openapi = R"({"type": "array", "items": {"type": "object"}})"};
const CompoundType function_call_type = {
    .description = "none, auto, or {name}",
    .openapi = R"({"oneOf": [{"type": "string", "enum": ["none", "auto"]}, {"type": "object"}]})"};

Json read_arguments(const std::string& param, const Json& v) {
    if (v.is_object()) return v;
    if (v.is_string()) {
        const std::string& text = v.get_ref<const std::string&>();
        if (is_blank(text)) return Json::object();
        try {
            Json object = parse_json(text, "arguments");
            if (object.is_object()) return object;
        } catch (const Error&) {
        }
    }
    wrong_value(param, "a JSON object as text", v);
}

Tool read_function(const std::string& in, const Json& function) {
    check_object(in, function);
    const std::string& name = need_string(in, function, "name");
    const bool plain = name.find_first_of(" \r\n\t<>{}\"") == std::string::npos;
    if (name.empty() || name.size() > max_name || !plain) {
        wrong_value(in + ".name",
                    fmt::format("1 to {} bytes without blanks, quotes, braces and angles", max_name), name);
    }
    Tool tool{.name = name, .function = function};
    if (const Json* v = find_member(function, "description")) check_string(in + ".description", *v, max_text);
    if (const Json* v = find_member(function, "parameters")) check_object(in + ".parameters", *v);
    if (const Json* v = find_member(function, "strict")) {
        check_boolean(in + ".strict", *v);
        tool.strict = *v;
    }
    return tool;
}

void check_tool_rules(const ToolRules& rules, const char* name_format, const std::string& choice) {
    std::unordered_set<std::string> names;
    for (size_t i = 0; i < rules.tools.size(); ++i) {
        const std::string& name = rules.tools[i].name;
        if (!names.insert(name).second) {
            wrong_value(fmt::format(fmt::runtime(name_format), i), "every name once", name);
        }
    }
    if (rules.must_call && rules.tools.empty()) {
        throw bad_request("invalid_value", choice, "{}: there are no tools to choose", choice);
    }
    if (!rules.only.empty() && rules.find(rules.only) == nullptr) {
        throw bad_request("invalid_value", choice, "{}: no tool is called \"{}\"", choice,
                          rules.only.substr(0, 60));
    }
}

std::vector<Message> read_messages(const std::string& param, const Json& v) {
    return MessageReader().read(param, v);
}

ToolRules read_tool_rules(const Json& body) {
    ToolRules rules;
    if (const Json* tools = find_member(body, "tools")) {
        check_tools("tools", *tools);
        for (size_t i = 0; i < tools->size(); ++i) {
            rules.tools.push_back(read_tool(fmt::format("tools[{}]", i), (*tools)[i]));
        }
    }
    rules.may_call = !rules.tools.empty();
    rules.parallel = get<bool>(body, "parallel_tool_calls").value_or(true);
    if (const Json* choice = find_member(body, "tool_choice"))
        read_choice_of_tool("tool_choice", *choice, rules);
    check_tool_rules(rules, "tools[{}].function.name", "tool_choice");
    read_older_tools(body, rules);
    read_older_choice(body, rules);
    return rules;
}

}  // namespace smelt
