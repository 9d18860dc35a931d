// Items become messages: what the assistant thought, said and called in one turn is one message.
#include "server/dialects/responses_request.h"

#include <unordered_set>

#include "server/dialects/schema_checks.h"

namespace smelt {

namespace {

using enum FieldType;
constexpr int64_t max_count = std::numeric_limits<int32_t>::max();
constexpr size_t max_tools = 128;
using CallIds = std::unordered_set<std::string>;

// A string, or an array of text parts.
void check_text(const std::string& param, const Json& v) {
    if (v.is_string()) return;
    if (!v.is_array()) wrong_type(param, "a string or an array of parts", v);
    for (size_t i = 0; i < v.size(); ++i) {
        const std::string at = fmt::format("{}[{}]", param, i);
        check_object(at, v[i]);
        const std::string& type = need_string(at, v[i], "type");
        if (type != "input_text" && type != "output_text" && type != "text" && type != "reasoning_text") {
            throw bad_request("unsupported_content", at + ".type", "{}.type: \"{}\" is not supported here",
                              at, type.substr(0, 60));
        }
        need_string(at, v[i], "text");
    }
}

std::string type_of(const Json& item) {
    return get<std::string>(item, "type").value_or("message");
}

void check_item(const std::string& at, const Json& item, CallIds& calls) {
    check_object(at, item);
    if (const Json* type = find_member(item, "type")) check_string(at + ".type", *type, 100);
    const std::string type = type_of(item);
    if (type == "message") {
        constexpr std::string_view roles[] = {"system", "developer", "user", "assistant"};
        check_choice(at + ".role", need_string(at, item, "role"), roles);
        check_text(at + ".content", need_member(at, item, "content"));
    } else if (type == "function_call") {
        calls.insert(need_string(at, item, "call_id"));
        if (need_string(at, item, "name").empty()) wrong_value(at + ".name", "a name", item["name"]);
        check_arguments(at + ".arguments", need_member(at, item, "arguments"));
    } else if (type == "function_call_output") {
        const std::string& id = need_string(at, item, "call_id");
        if (!calls.contains(id)) {
            throw bad_request("invalid_value", at + ".call_id",
                              "{}.call_id: expected that of an earlier function_call, found \"{}\"", at,
                              id.substr(0, 60));
        }
        check_text(at + ".output", need_member(at, item, "output"));
    } else if (type == "reasoning") {
        if (const Json* content = find_member(item, "content")) check_text(at + ".content", *content);
    } else {
        throw bad_request("not_supported", at + ".type", "{}.type: \"{}\" is not supported here", at,
                          type.substr(0, 60));
    }
}

void check_input(const std::string& param, const Json& v) {
    if (v.is_string()) return;
    if (!v.is_array()) wrong_type(param, "a string or an array of items", v);
    if (v.empty() || v.size() > max_messages)
        wrong_value(param, fmt::format("1 to {} items", max_messages), v);
    CallIds calls;
    for (size_t i = 0; i < v.size(); ++i) check_item(fmt::format("{}[{}]", param, i), v[i], calls);
}

void check_function_tools(const std::string& param, const Json& v) {
    if (!v.is_array()) wrong_type(param, "an array of tools", v);
    if (v.size() > max_tools) wrong_value(param, fmt::format("at most {} tools", max_tools), v);
    for (size_t i = 0; i < v.size(); ++i) {
        const std::string at = fmt::format("{}[{}]", param, i);
        check_object(at, v[i]);
        const std::string& type = need_string(at, v[i], "type");
        if (type != "function") {
            throw bad_request("not_supported", at + ".type",
                              "{}.type: only functions, which the client runs, found \"{}\"", at,
                              type.substr(0, 60));
        }
        if (need_string(at, v[i], "name").empty()) wrong_value(at + ".name", "a name", v[i]["name"]);
        if (const Json* p = find_member(v[i], "parameters")) check_object(at + ".parameters", *p);
        if (const Json* strict = find_member(v[i], "strict")) check_boolean(at + ".strict", *strict);
    }
}

void check_choice_of_tool(const std::string& param, const Json& v) {
    constexpr std::string_view words[] = {"none", "auto", "required"};
    if (v.is_string()) return check_choice(param, v, words);
    if (!v.is_object()) wrong_type(param, "none, auto, required or an object", v);
    const std::string& type = need_string(param, v, "type");
    if (type != "function") wrong_value(param + ".type", "\"function\"", type);
    need_string(param, v, "name");
}

void check_reasoning(const std::string& param, const Json& v) {
    check_object(param, v);
    constexpr std::string_view efforts[] = {"none", "minimal", "low", "medium", "high", "xhigh"};
    if (const Json* effort = find_member(v, "effort")) check_choice(param + ".effort", *effort, efforts);
}

void check_text_options(const std::string& param, const Json& v) {
    check_object(param, v);
    const Json* format = find_member(v, "format");
    if (format == nullptr) return;
    check_object(param + ".format", *format);
    constexpr std::string_view types[] = {"text", "json_object", "json_schema"};
    const std::string& type = need_string(param + ".format", *format, "type");
    check_choice(param + ".format.type", type, types);
    if (type == "json_schema")
        check_object(param + ".format.schema", need_member(param + ".format", *format, "schema"));
}

void check_include(const std::string& param, const Json& v) {
    if (!v.is_array()) wrong_type(param, "an array of strings", v);
    for (size_t i = 0; i < v.size(); ++i) check_string(fmt::format("{}[{}]", param, i), v[i], 100);
}

const CompoundType input_type = {
    .description = "string, or items: message, function_call, function_call_output, reasoning",
    .check = check_input,
    .openapi = R"({"oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "object"}}]})"};
const CompoundType function_tools_type = {
    .description = "array of {type: function, name, description, parameters, strict}",
    .check = check_function_tools,
    .openapi = R"({"type": "array", "items": {"type": "object", "required": ["type", "name"]}})"};
const CompoundType choice_type = {
    .description = "none, auto, required, or {type: function, name}",
    .check = check_choice_of_tool,
    .openapi =
        R"({"oneOf": [{"type": "string", "enum": ["none", "auto", "required"]}, {"type": "object"}]})"};
const CompoundType reasoning_type = {
    .description = "object {effort}", .check = check_reasoning, .openapi = R"({"type": "object"})"};
const CompoundType text_type = {
    .description = "object {format}", .check = check_text_options, .openapi = R"({"type": "object"})"};
const CompoundType include_type = {.description = "array of strings",
                                   .check = check_include,
                                   .openapi = R"({"type": "array", "items": {"type": "string"}})"};

std::string joined_text(const Json& content) {
    if (content.is_string()) return content.get<std::string>();
    std::string text;
    for (const Json& part : content) text += part["text"].get<std::string>();
    return text;
}

// The assistant's turn that goes on, or a new one.
Json& assistant_turn(Json& messages) {
    if (messages.empty() || messages.back()["role"] != "assistant") {
        messages.push_back({{"role", "assistant"}, {"content", ""}});
    }
    return messages.back();
}

void add_item(const Json& item, Json& messages) {
    const std::string type = type_of(item);
    if (type == "reasoning") {
        const Json* content = find_member(item, "content");
        if (content == nullptr || content->empty()) return;
        messages.push_back(
            {{"role", "assistant"}, {"content", ""}, {"reasoning_content", joined_text(*content)}});
    } else if (type == "function_call") {
        assistant_turn(messages)["tool_calls"].push_back(
            {{"id", item["call_id"]},
             {"function", {{"name", item["name"]}, {"arguments", item["arguments"]}}}});
    } else if (type == "function_call_output") {
        messages.push_back(
            {{"role", "tool"}, {"tool_call_id", item["call_id"]}, {"content", joined_text(item["output"])}});
    } else {
        const std::string text = joined_text(item["content"]);
        const bool goes_on = item["role"] == "assistant" && !messages.empty() &&
                             messages.back()["role"] == "assistant" && messages.back()["content"] == "";
        if (goes_on) {
            messages.back()["content"] = text;
        } else {
            messages.push_back({{"role", item["role"]}, {"content", text}});
        }
    }
}

}  // namespace

const RequestSchema responses_schema = {
    .name = "ResponsesRequest",
    .fields =
        {{.name = "model", .type = string, .doc = "A name of GET /v1/models, or auto.", .max_length = 512},
         {.name = "input",
          .type = compound,
          .doc = "What is asked, or the conversation so far.",
          .required = true,
          .compound = &input_type},
         {.name = "instructions", .type = string, .doc = "System message."},
         {.name = "max_output_tokens",
          .type = integer,
          .doc = "Tokens of the answer at most. Default: until the context is full.",
          .min = 1,
          .max = max_count},
         {.name = "stream", .type = boolean, .doc = "Send events.", .fallback = "false"},
         {.name = "temperature", .type = number, .doc = "Default: the model's.", .min = 0, .max = 2},
         {.name = "top_p", .type = number, .doc = "Default: the model's.", .min = 0, .max = 1},
         {.name = "seed", .type = integer, .doc = "Same seed, same answer; not OpenAI's."},
         {.name = "tools",
          .type = compound,
          .doc = "Functions that the model may call.",
          .compound = &function_tools_type},
         {.name = "tool_choice",
          .type = compound,
          .doc = "As in chat completions.",
          .compound = &choice_type},
         {.name = "parallel_tool_calls",
          .type = boolean,
          .doc = "false: the answer ends behind its first call.",
          .fallback = "true"},
         {.name = "text", .type = compound, .doc = "The form of the answer.", .compound = &text_type},
         {.name = "reasoning",
          .type = compound,
          .doc = "effort none turns thinking off; the others are for the template.",
          .compound = &reasoning_type},
         {.name = "chat_template_kwargs",
          .type = template_kwargs,
          .doc = "Variables for the model's template, such as enable_thinking."},
         {.name = "cache_salt", .type = string, .doc = "As in chat completions.", .max_length = 256},
         {.name = "service_tier",
          .type = string,
          .doc = "flex waits for others, priority goes first.",
          .choices = {"auto", "default", "flex", "priority"}},
         {.name = "store",
          .type = unsupported,
          .doc = "Answers are not kept: false, which is the default.",
          .choices = {"false"}},
         {.name = "previous_response_id",
          .type = unsupported,
          .doc = "Answers are not kept: send the conversation as input."},
         {.name = "conversation",
          .type = unsupported,
          .doc = "Answers are not kept: send the conversation as input."},
         {.name = "background", .type = unsupported, .doc = "Not supported.", .choices = {"false"}},
         {.name = "prompt", .type = unsupported, .doc = "Templates of prompts are not kept here."},
         {.name = "truncation",
          .type = string,
          .doc = "A conversation beyond the context is refused, never cut.",
          .choices = {"disabled"}},
         {.name = "include", .type = compound, .doc = "Accepted and not used.", .compound = &include_type},
         {.name = "metadata",
          .type = compound,
          .doc = "Comes back with the answer.",
          .compound = &any_object},
         {.name = "user", .type = string, .doc = "Accepted and not used.", .max_length = 512}},
    .example = R"({"input": "What is 12 + 30?", "temperature": 0})"};

Json from_responses(const Json& body) {
    Json chat = Json::object();
    for (const char* same : {"model", "temperature", "top_p", "seed", "parallel_tool_calls", "cache_salt",
                             "service_tier", "chat_template_kwargs"}) {
        if (const Json* v = find_member(body, same)) chat[same] = *v;
    }
    if (const Json* v = find_member(body, "max_output_tokens")) chat["max_tokens"] = *v;
    Json messages = Json::array();
    if (const Json* text = find_member(body, "instructions")) {
        messages.push_back({{"role", "system"}, {"content", *text}});
    }
    const Json& input = body["input"];
    if (input.is_string()) {
        messages.push_back({{"role", "user"}, {"content", input}});
    } else {
        for (const Json& item : input) add_item(item, messages);
    }
    chat["messages"] = std::move(messages);
    const Json* tools = find_member(body, "tools");
    for (const Json& tool : tools == nullptr ? Json::array() : *tools) {
        Json function = tool;
        function.erase("type");
        chat["tools"].push_back({{"type", "function"}, {"function", std::move(function)}});
    }
    if (const Json* choice = find_member(body, "tool_choice")) {
        chat["tool_choice"] = *choice;
        if (choice->is_object()) {
            chat["tool_choice"] = {{"type", "function"}, {"function", {{"name", (*choice)["name"]}}}};
        }
    }
    const Json* text = find_member(body, "text");
    const Json* format = text == nullptr ? nullptr : find_member(*text, "format");
    if (format != nullptr) {
        chat["response_format"] = {{"type", (*format)["type"]}};
        if ((*format)["type"] == "json_schema") chat["response_format"]["json_schema"] = *format;
    }
    const Json* reasoning = find_member(body, "reasoning");
    if (reasoning != nullptr) {
        if (const Json* effort = find_member(*reasoning, "effort")) chat["reasoning_effort"] = *effort;
    }
    return chat;
}

}  // namespace smelt
