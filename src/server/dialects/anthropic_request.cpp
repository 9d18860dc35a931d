// Content blocks become messages: results of tools first, then text, as templates expect them.
#include "server/dialects/anthropic_request.h"

#include <unordered_set>

#include "server/dialects/schema_checks.h"

namespace smelt {

namespace {

constexpr size_t max_text = size_t{1} << 24, max_tools = 128;
using CallIds = std::unordered_set<std::string>;

[[noreturn]] void unsupported(const std::string& at, const std::string& type) {
    throw bad_request("unsupported_content", at + ".type", "{}.type: \"{}\" is not supported here", at,
                      type.substr(0, 60));
}

// A string, or an array of text blocks.
void check_text(const std::string& param, const Json& v) {
    if (v.is_string()) return;
    if (!v.is_array()) wrong_type(param, "a string or an array of blocks", v);
    for (size_t i = 0; i < v.size(); ++i) {
        const std::string at = fmt::format("{}[{}]", param, i);
        check_object(at, v[i]);
        const std::string& type = need_string(at, v[i], "type");
        if (type != "text") unsupported(at, type);
        need_string(at, v[i], "text");
    }
}

void check_block(const std::string& at, const Json& block, bool assistant, CallIds& calls) {
    check_object(at, block);
    const std::string& type = need_string(at, block, "type");
    if (type == "text") {
        need_string(at, block, "text");
    } else if (type == "thinking" && assistant) {
        need_string(at, block, "thinking");
    } else if (type == "redacted_thinking" && assistant) {
        return;
    } else if (type == "tool_use" && assistant) {
        calls.insert(need_string(at, block, "id"));
        if (need_string(at, block, "name").empty()) wrong_value(at + ".name", "a name", block["name"]);
        check_object(at + ".input", need_member(at, block, "input"));
    } else if (type == "tool_result" && !assistant) {
        const std::string& id = need_string(at, block, "tool_use_id");
        if (!calls.contains(id)) {
            throw bad_request("invalid_value", at + ".tool_use_id",
                              "{}.tool_use_id: expected the id of an earlier tool_use, found \"{}\"", at,
                              id.substr(0, 60));
        }
        if (const Json* content = find_member(block, "content")) check_text(at + ".content", *content);
    } else {
        unsupported(at, type);
    }
}

void check_anthropic_messages(const std::string& param, const Json& v) {
    if (!v.is_array()) wrong_type(param, "an array of messages", v);
    if (v.empty() || v.size() > max_messages)
        wrong_value(param, fmt::format("1 to {} messages", max_messages), v);
    CallIds calls;
    constexpr std::string_view roles[] = {"user", "assistant"};
    for (size_t i = 0; i < v.size(); ++i) {
        const std::string at = fmt::format("{}[{}]", param, i);
        check_object(at, v[i]);
        const std::string& role = need_string(at, v[i], "role");
        check_choice(at + ".role", role, roles);
        const Json& content = need_member(at, v[i], "content");
        if (content.is_string()) continue;
        if (!content.is_array()) wrong_type(at + ".content", "a string or an array of blocks", content);
        for (size_t b = 0; b < content.size(); ++b) {
            check_block(fmt::format("{}.content[{}]", at, b), content[b], role == "assistant", calls);
        }
    }
    if (v.back()["role"] == "assistant") {
        throw bad_request("not_supported", fmt::format("{}[{}]", param, v.size() - 1),
                          "{}: the last message must be the user's; answers cannot be begun for the model",
                          param);
    }
}

void check_anthropic_tools(const std::string& param, const Json& v) {
    if (!v.is_array()) wrong_type(param, "an array of tools", v);
    if (v.size() > max_tools) wrong_value(param, fmt::format("at most {} tools", max_tools), v);
    for (size_t i = 0; i < v.size(); ++i) {
        const std::string at = fmt::format("{}[{}]", param, i);
        check_object(at, v[i]);
        if (const Json* type = find_member(v[i], "type"); type != nullptr && *type != "custom") {
            throw bad_request("not_supported", at + ".type", "{}.type: only tools of the client (custom)",
                              at);
        }
        need_string(at, v[i], "name");
        check_object(at + ".input_schema", need_member(at, v[i], "input_schema"));
    }
}

void check_anthropic_choice(const std::string& param, const Json& v) {
    check_object(param, v);
    constexpr std::string_view types[] = {"auto", "any", "tool", "none"};
    const std::string& type = need_string(param, v, "type");
    check_choice(param + ".type", type, types);
    if (type == "tool") need_string(param, v, "name");
    if (const Json* one = find_member(v, "disable_parallel_tool_use")) {
        check_boolean(param + ".disable_parallel_tool_use", *one);
    }
}

void check_thinking(const std::string& param, const Json& v) {
    check_object(param, v);
    constexpr std::string_view types[] = {"enabled", "disabled", "adaptive"};
    check_choice(param + ".type", need_string(param, v, "type"), types);
    if (const Json* budget = find_member(v, "budget_tokens")) {
        check_integer(param + ".budget_tokens", *budget, 0, std::numeric_limits<int32_t>::max());
    }
}

void check_output_config(const std::string& param, const Json& v) {
    check_object(param, v);
    const Json* format = find_member(v, "format");
    if (format == nullptr) return;
    const std::string at = param + ".format";
    check_object(at, *format);
    constexpr std::string_view types[] = {"json_schema"};
    check_choice(at + ".type", need_string(at, *format, "type"), types);
    check_object(at + ".schema", need_member(at, *format, "schema"));
}

// Its client then goes on by sending the whole conversation.
void check_thread(const std::string& param, const Json&) {
    throw bad_request("thread_unsupported_request", param, "{}: conversations are not kept here", param);
}

const CompoundType messages_type = {
    .description = "array of {role, content}: strings, or blocks text, tool_use, tool_result, thinking",
    .check = check_anthropic_messages,
    .openapi =
        R"({"type": "array", "minItems": 1, "items": {"type": "object", "required": ["role", "content"]}})"};
const CompoundType system_type = {
    .description = "string, or array of text blocks",
    .check = check_text,
    .openapi = R"({"oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "object"}}]})"};
const CompoundType anthropic_tools_type = {
    .description = "array of {name, description, input_schema}",
    .check = check_anthropic_tools,
    .openapi = R"({"type": "array", "items": {"type": "object", "required": ["name", "input_schema"]}})"};
const CompoundType anthropic_choice_type = {.description = "{type: auto, any, tool or none; name}",
                                            .check = check_anthropic_choice,
                                            .openapi = R"({"type": "object", "required": ["type"]})"};
const CompoundType thinking_type = {.description = "{type: enabled, disabled or adaptive}",
                                    .check = check_thinking,
                                    .openapi = R"({"type": "object", "required": ["type"]})"};

const CompoundType output_config_type = {.description = "{format: {type: json_schema, schema}}",
                                         .check = check_output_config,
                                         .openapi = R"({"type": "object"})"};
const CompoundType thread_type = {
    .description = "not supported", .check = check_thread, .openapi = R"({"type": "null"})"};

std::vector<Field> common_fields() {
    using enum FieldType;
    return {
        {.name = "model", .type = string, .doc = "A name of GET /v1/models, or auto.", .max_length = 512},
        {.name = "messages",
         .type = compound,
         .doc = "The conversation.",
         .required = true,
         .compound = &messages_type},
        {.name = "system", .type = compound, .doc = "System message.", .compound = &system_type},
        {.name = "tools",
         .type = compound,
         .doc = "Functions that the model may call.",
         .compound = &anthropic_tools_type},
        {.name = "tool_choice",
         .type = compound,
         .doc = "any or tool: the model must call.",
         .compound = &anthropic_choice_type},
        {.name = "thinking",
         .type = compound,
         .doc = "Whether the model thinks first; without it, as disabled. A budget is not kept.",
         .compound = &thinking_type},
    };
}

RequestSchema make_messages_schema() {
    using enum FieldType;
    constexpr int64_t max_count = std::numeric_limits<int32_t>::max();
    RequestSchema schema{
        .name = "MessagesRequest",
        .fields = common_fields(),
        .example = R"({"max_tokens": 100, "messages": [{"role": "user", "content": "What is 12 + 30?"}]})"};
    for (const Field& f : std::initializer_list<Field>{
             {.name = "max_tokens",
     .type = integer,
     .doc = "Tokens of the answer at most.",
     .min = 1,
     .max = max_count,
     .required = true},
             {.name = "stream", .type = boolean, .doc = "Send events.", .fallback = "false"},
             {.name = "stop_sequences", .type = stop, .doc = "The answer ends before the first of these."},
             {.name = "temperature", .type = number, .doc = "Default: the model's.", .min = 0, .max = 2},
             {.name = "top_p", .type = number, .doc = "Default: the model's.", .min = 0, .max = 1},
             {.name = "top_k", .type = integer, .doc = "Default: the model's.", .min = -1, .max = max_count},
             {.name = "seed", .type = integer, .doc = "Same seed, same answer; not Anthropic's."},
             {.name = "cache_salt",
             .type = string,
             .doc = "As in chat completions; not Anthropic's.",
             .max_length = 256},
             {.name = "output_config",
             .type = compound,
             .doc = "The answer is JSON of a schema. An effort is not kept.",
             .compound = &output_config_type},
             {.name = "thread",
             .type = compound,
             .doc = "Not supported: each request brings its conversation.",
             .compound = &thread_type},
             {.name = "metadata", .type = compound, .doc = "Accepted and not used.", .compound = &any_object},
             {.name = "service_tier",
             .type = string,
             .doc = "Accepted and not used.",
             .choices = {"auto", "standard_only"}},
         }) {
        schema.fields.push_back(f);
    }
    return schema;
}

std::string joined_text(const Json& content) {
    if (content.is_string()) return content.get<std::string>();
    std::string text;
    for (const Json& block : content) {
        if (!text.empty()) text += '\n';
        text += block["text"].get<std::string>();
    }
    return text;
}

void add_message(const Json& m, Json& messages) {
    const std::string role = m["role"];
    if (m["content"].is_string()) {
        messages.push_back({{"role", role}, {"content", m["content"]}});
        return;
    }
    Json message = {{"role", role}};
    Json texts = Json::array();
    for (const Json& block : m["content"]) {
        const std::string type = block["type"];
        if (type == "text") {
            texts.push_back(block);
        } else if (type == "thinking") {
            message["reasoning_content"] = block["thinking"];
        } else if (type == "tool_use") {
            message["tool_calls"].push_back(
                {{"id", block["id"]},
                 {"function", {{"name", block["name"]}, {"arguments", block["input"]}}}});
        } else if (type == "tool_result") {
            const Json* content = find_member(block, "content");
            messages.push_back({{"role", "tool"},
                                {"tool_call_id", block["tool_use_id"]},
                                {"content", content == nullptr ? "" : joined_text(*content)}});
        }
    }
    message["content"] = joined_text(texts);
    if (!texts.empty() || role == "assistant") messages.push_back(std::move(message));
}

}  // namespace

const RequestSchema messages_schema = make_messages_schema();
const RequestSchema count_tokens_schema = {
    .name = "CountTokensRequest",
    .fields = common_fields(),
    .example = R"({"messages": [{"role": "user", "content": "What is 12 + 30?"}]})"};

Json from_anthropic(const Json& body) {
    Json chat = Json::object();
    for (const char* same : {"model", "max_tokens", "temperature", "top_p", "top_k", "seed", "cache_salt"}) {
        if (const Json* v = find_member(body, same)) chat[same] = *v;
    }
    if (const Json* v = find_member(body, "stop_sequences")) chat["stop"] = *v;
    Json messages = Json::array();
    if (const Json* system = find_member(body, "system")) {
        messages.push_back({{"role", "system"}, {"content", joined_text(*system)}});
    }
    for (const Json& m : body["messages"]) add_message(m, messages);
    chat["messages"] = std::move(messages);

    const Json* tools = find_member(body, "tools");
    for (const Json& tool : tools == nullptr ? Json::array() : *tools) {
        Json function = {{"name", tool["name"]}};
        if (const Json* text = find_member(tool, "description")) function["description"] = *text;
        function["parameters"] = tool["input_schema"];
        if (const Json* strict = find_member(tool, "strict")) function["strict"] = *strict;
        chat["tools"].push_back({{"type", "function"}, {"function", std::move(function)}});
    }
    if (const Json* choice = find_member(body, "tool_choice")) {
        const std::string type = (*choice)["type"];
        chat["tool_choice"] = type == "any" ? Json("required") : Json(type);
        if (type == "tool") {
            chat["tool_choice"] = {{"type", "function"}, {"function", {{"name", (*choice)["name"]}}}};
        }
        if (get<bool>(*choice, "disable_parallel_tool_use").value_or(false)) {
            chat["parallel_tool_calls"] = false;
        }
    }
    const Json* config = find_member(body, "output_config");
    const Json* format = config == nullptr ? nullptr : find_member(*config, "format");
    if (format != nullptr) {
        chat["response_format"] = {{"type", "json_object"}, {"schema", (*format)["schema"]}};
    }
    const Json* thinking = find_member(body, "thinking");
    const bool thinks = thinking != nullptr && (*thinking)["type"] != "disabled";
    chat["chat_template_kwargs"] = {{"enable_thinking", thinks}};
    if (const Json* budget = thinks ? find_member(*thinking, "budget_tokens") : nullptr) {
        chat["thinking_token_budget"] = *budget;
    }
    return chat;
}

}  // namespace smelt
