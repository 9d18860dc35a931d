// Calls have no ids in this dialect: a result belongs to the first call of its name without one.
#include "server/dialects/ollama_request.h"

#include <deque>

#include "server/dialects/conversation.h"
#include "server/dialects/schema_checks.h"

namespace smelt {

namespace {

using enum FieldType;
constexpr int64_t max_count = std::numeric_limits<int32_t>::max();
constexpr std::string_view efforts[] = {"low", "medium", "high"};

// Calls without a result yet, of a conversation up to a message.
class OpenCalls {
 public:
    std::string add(std::string name) {
        calls_.push_back({fmt::format("call_{}", n_++), std::move(name)});
        return calls_.back().id;
    }
    // None: there is no such call.
    std::optional<std::string> take(const Json& m) {
        const auto name = get<std::string>(m, "tool_name");
        const auto it = std::ranges::find_if(calls_, [&](const Call& c) { return !name || c.name == *name; });
        if (it == calls_.end()) return std::nullopt;
        std::string id = it->id;
        calls_.erase(it);
        return id;
    }

 private:
    struct Call {
        std::string id, name;
    };
    std::deque<Call> calls_;
    int n_ = 0;
};

void check_ollama_calls(const std::string& param, const Json& calls, OpenCalls& open) {
    if (!calls.is_array()) wrong_type(param, "an array of calls", calls);
    for (size_t i = 0; i < calls.size(); ++i) {
        const std::string at = fmt::format("{}[{}]", param, i);
        check_object(at, calls[i]);
        const Json& function = need_member(at, calls[i], "function");
        check_object(at + ".function", function);
        const std::string& name = need_string(at + ".function", function, "name");
        if (name.empty()) wrong_value(at + ".function.name", "a name", function["name"]);
        if (const Json* arguments = find_member(function, "arguments")) {
            check_object(at + ".function.arguments", *arguments);
        }
        open.add(name);
    }
}

void check_ollama_messages(const std::string& param, const Json& v) {
    if (!v.is_array()) wrong_type(param, "an array of messages", v);
    if (v.size() > max_messages) wrong_value(param, fmt::format("at most {} messages", max_messages), v);
    constexpr std::string_view roles[] = {"system", "user", "assistant", "tool"};
    OpenCalls open;
    for (size_t i = 0; i < v.size(); ++i) {
        const std::string at = fmt::format("{}[{}]", param, i);
        check_object(at, v[i]);
        const std::string& role = need_string(at, v[i], "role");
        check_choice(at + ".role", role, roles);
        for (const char* text : {"content", "thinking", "tool_name"}) {
            if (find_member(v[i], text) != nullptr) need_string(at, v[i], text);
        }
        const Json* images = find_member(v[i], "images");
        if (images != nullptr && !images->empty()) {
            throw bad_request("unsupported_content", at + ".images", "{}.images: the model sees text alone",
                              at);
        }
        const Json* calls = find_member(v[i], "tool_calls");
        if (calls != nullptr && role == "assistant") check_ollama_calls(at + ".tool_calls", *calls, open);
        if (role == "tool" && !open.take(v[i])) {
            throw bad_request("invalid_value", at, "{}: a result that no earlier call waits for", at);
        }
    }
}

const std::vector<Field> option_fields = {
    {.name = "num_predict", .type = integer, .doc = "", .min = -2, .max = max_count},
    {.name = "temperature", .type = number, .doc = "", .min = 0, .max = 2},
    {.name = "top_p", .type = number, .doc = "", .min = 0, .max = 1},
    {.name = "top_k", .type = integer, .doc = "", .min = -1, .max = max_count},
    {.name = "min_p", .type = number, .doc = "", .min = 0, .max = 1},
    {.name = "seed", .type = integer, .doc = ""},
    {.name = "stop", .type = FieldType::stop, .doc = ""},
    {.name = "repeat_penalty", .type = number, .doc = "", .min = 0, .max = 10},
    {.name = "presence_penalty", .type = number, .doc = "", .min = -2, .max = 2},
    {.name = "frequency_penalty", .type = number, .doc = "", .min = -2, .max = 2},
};

void check_options(const std::string& param, const Json& v) {
    check_object(param, v);
    check_fields(param + ".", v, option_fields);
}

// Some clients send an empty one for none.
void check_format(const std::string& param, const Json& v) {
    if (!v.is_object() && v != "json" && v != "") wrong_type(param, "json or a JSON schema", v);
}

void check_think(const std::string& param, const Json& v) {
    if (v.is_string()) return check_choice(param, v, efforts);
    check_boolean(param, v);
}

void check_keep_alive(const std::string& param, const Json& v) {
    if (!v.is_string() && !v.is_number()) wrong_type(param, "a duration or a number of seconds", v);
}

const CompoundType messages_type = {
    .description = "array of {role, content, thinking, tool_calls, tool_name}",
    .check = check_ollama_messages,
    .openapi = R"({"type": "array", "items": {"type": "object", "required": ["role"]}})"};
const CompoundType options_type = {
    .description =
        "object of num_predict, temperature, top_p, top_k, min_p, seed, stop, repeat_penalty, "
        "presence_penalty, frequency_penalty",
    .check = check_options,
    .openapi = R"({"type": "object"})"};
const CompoundType format_type = {
    .description = "json, or a JSON schema",
    .check = check_format,
    .openapi = R"({"oneOf": [{"type": "string", "enum": ["json", ""]}, {"type": "object"}]})"};
const CompoundType think_type = {
    .description = "true, false, low, medium or high",
    .check = check_think,
    .openapi = R"({"oneOf": [{"type": "boolean"}, {"type": "string", "enum": ["low", "medium", "high"]}]})"};

const Field model_field = {
    .name = "model", .type = string, .doc = "A name of GET /api/tags.", .max_length = 512};

std::vector<Field> with_common(std::vector<Field> fields) {
    fields.insert(
        fields.end(),
        {{.name = "stream",
          .type = boolean,
          .doc = "A line of JSON for each piece of the answer.",
          .fallback = "true"},
         {.name = "format",
          .type = compound,
          .doc = "The answer is JSON, or JSON of a schema.",
          .compound = &format_type},
         {.name = "options",
          .type = compound,
          .doc =
              "Sampling; what is not given is the model's. Others are ignored: the context is the server's.",
          .compound = &options_type},
         {.name = "think",
          .type = compound,
          .doc = "Default: as the model's template has it.",
          .compound = &think_type},
         {.name = "keep_alive",
          .type = compound,
          .doc = "Accepted and not used; idle models are smelt serve's matter.",
          .compound = &ollama_keep_alive_type}});
    return fields;
}

// What both kinds of request have.
Json common(const Json& body) {
    Json chat = Json::object();
    chat["model"] = ollama_name(get<std::string>(body, "model").value_or(""));
    const Json options = get<Json>(body, "options").value_or(Json::object());
    for (const char* same : {"temperature", "top_p", "top_k", "min_p", "seed", "stop", "presence_penalty",
                             "frequency_penalty"}) {
        if (const Json* v = find_member(options, same)) chat[same] = *v;
    }
    if (const Json* v = find_member(options, "repeat_penalty")) chat["repetition_penalty"] = *v;
    if (const auto n = get<int>(options, "num_predict"); n && *n >= 0) chat["max_tokens"] = *n;
    const Json* format = find_member(body, "format");
    if (format != nullptr && format->is_object()) {
        chat["response_format"] = {{"type", "json_object"}, {"schema", *format}};
    } else if (format != nullptr && *format == "json") {
        chat["response_format"] = {{"type", "json_object"}};
    }
    const Json* think = find_member(body, "think");
    if (think == nullptr) return chat;
    chat["chat_template_kwargs"] = {{"enable_thinking", think->is_string() || think->get<bool>()}};
    if (think->is_string()) chat["reasoning_effort"] = *think;
    return chat;
}

}  // namespace

const CompoundType ollama_keep_alive_type = {.description = "duration, or number of seconds",
                                             .check = check_keep_alive,
                                             .openapi = R"({"type": ["string", "number"]})"};

const RequestSchema ollama_chat_schema = {
    .name = "OllamaChatRequest",
    .fields = with_common({model_field,
                           {.name = "messages",
                            .type = compound,
                            .doc = "The conversation; empty: the model is only loaded.",
                            .compound = &messages_type},
                           {.name = "tools",
                            .type = compound,
                            .doc = "Functions that the model may call.",
                            .compound = &tools_type}}),
    .example = R"({"messages": [{"role": "user", "content": "What is 12 + 30?"}], "stream": false})"};

const RequestSchema ollama_generate_schema = {
    .name = "OllamaGenerateRequest",
    .fields = with_common(
        {model_field,
         {.name = "prompt", .type = string, .doc = "What is asked; empty: the model is only loaded."},
         {.name = "system", .type = string, .doc = "System message."},
         {.name = "raw",
          .type = boolean,
          .doc = "Go on from the prompt as it is, without a template.",
          .fallback = "false"},
         {.name = "suffix", .type = unsupported, .doc = "Not supported.", .choices = {"\"\""}},
         {.name = "images", .type = unsupported, .doc = "Not supported."},
         {.name = "context", .type = unsupported, .doc = "Not supported; /api/chat takes conversations."},
         {.name = "template",
          .type = unsupported,
          .doc = "Templates come with the model, never with a request.",
          .choices = {"\"\""}}}),
    .example = R"({"prompt": "What is 12 + 30?", "stream": false})"};

const RequestSchema ollama_show_schema = {
    .name = "OllamaShowRequest",
    .fields = {model_field, {.name = "verbose", .type = boolean, .doc = "Accepted and not used."}},
    .example = "{}"};

std::string ollama_name(const std::string& model) {
    constexpr std::string_view latest = ":latest";
    return model.ends_with(latest) ? model.substr(0, model.size() - latest.size()) : model;
}

Json from_ollama_chat(const Json& body) {
    Json chat = common(body);
    if (const Json* tools = find_member(body, "tools")) chat["tools"] = *tools;
    Json messages = Json::array();
    OpenCalls open;
    for (const Json& m : get<Json>(body, "messages").value_or(Json::array())) {
        Json message = {{"role", m["role"]}, {"content", get<std::string>(m, "content").value_or("")}};
        if (const auto thinking = get<std::string>(m, "thinking")) message["reasoning_content"] = *thinking;
        if (m["role"] == "tool") message["tool_call_id"] = *open.take(m);
        const Json* calls = m["role"] == "assistant" ? find_member(m, "tool_calls") : nullptr;
        for (const Json& call : calls == nullptr ? Json::array() : *calls) {
            const std::string id = open.add(call["function"]["name"]);
            message["tool_calls"].push_back({{"id", id}, {"function", call["function"]}});
        }
        messages.push_back(std::move(message));
    }
    chat["messages"] = std::move(messages);
    return chat;
}

Json from_ollama_generate(const Json& body) {
    Json question = common(body);
    question["prompt"] = get<std::string>(body, "prompt").value_or("");
    for (const char* same : {"system", "raw"}) {
        if (const Json* v = find_member(body, same)) question[same] = *v;
    }
    return question;
}

}  // namespace smelt
