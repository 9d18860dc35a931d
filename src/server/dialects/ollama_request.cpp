// Clients that give no ids mean the order: a result belongs to the first call of its name without one.
#include "server/dialects/ollama_request.h"

#include "server/dialects/openai_messages.h"
#include "server/dialects/openai_request.h"
#include "server/dialects/pictures.h"
#include "server/dialects/sampling_fields.h"
#include "server/dialects/schema_checks.h"

namespace smelt {

namespace {

using enum FieldType;
constexpr std::string_view efforts[] = {"low", "medium", "high"};

void read_images(const std::string& param, const Json& v, Message& to) {
    if (!v.is_array()) wrong_type(param, "an array of pictures as base64", v);
    if (!v.empty()) check_shows(param, to);
    for (size_t i = 0; i < v.size(); ++i)
        to.parts.push_back(read_picture_base64(fmt::format("{}[{}]", param, i), v[i]));
}

class OllamaMessages {
 public:
    std::vector<Message> read(const std::string& param, const Json& v) {
        if (!v.is_array()) wrong_type(param, "an array of messages", v);
        if (v.size() > max_messages) wrong_value(param, fmt::format("at most {} messages", max_messages), v);
        std::vector<Message> messages;
        for (size_t i = 0; i < v.size(); ++i) {
            calls_.begin_message();
            messages.push_back(read_message(fmt::format("{}[{}]", param, i), v[i]));
        }
        sort_results(messages);
        return messages;
    }

 private:
    Message read_message(const std::string& at, const Json& m) {
        constexpr std::string_view roles[] = {"system", "developer", "user", "assistant", "tool"};
        check_object(at, m);
        const std::string& role = need_string(at, m, "role");
        check_choice(at + ".role", role, roles);
        for (const char* text : {"content", "thinking", "tool_name", "tool_call_id"}) {
            if (find_member(m, text) != nullptr) need_string(at, m, text);
        }
        Message message{.role = role == "user"        ? Role::user
                                : role == "assistant" ? Role::assistant
                                : role == "tool"      ? Role::tool
                                                      : Role::system};
        const auto content = get<std::string>(m, "content").value_or("");
        if (message.role == Role::tool) {
            message.parts.push_back(ResultPart{find_call(at, m), content});
            return message;
        }
        if (message.role == Role::assistant) {
            const auto thinking = get<std::string>(m, "thinking");
            if (thinking && !thinking->empty()) message.parts.push_back(ReasoningPart{*thinking});
        }
        if (const Json* images = find_member(m, "images")) read_images(at + ".images", *images, message);
        message.parts.push_back(TextPart{content});
        if (const Json* calls = find_member(m, "tool_calls");
            calls != nullptr && message.role == Role::assistant) {
            read_calls(at + ".tool_calls", *calls, message);
        }
        return message;
    }

    void read_calls(const std::string& param, const Json& calls, Message& to) {
        if (!calls.is_array()) wrong_type(param, "an array of calls", calls);
        for (size_t i = 0; i < calls.size(); ++i) {
            const std::string at = fmt::format("{}[{}]", param, i), in = at + ".function";
            check_object(at, calls[i]);
            const Json& function = need_member(at, calls[i], "function");
            check_object(in, function);
            const std::string& name = need_string(in, function, "name");
            if (name.empty()) wrong_value(in + ".name", "a name", function["name"]);
            const Json* id = find_member(calls[i], "id");
            if (id != nullptr) check_string(at + ".id", *id, 256);
            const Json* arguments = find_member(function, "arguments");
            if (arguments != nullptr) check_object(in + ".arguments", *arguments);
            to.parts.push_back(CallPart{calls_.add_call(id == nullptr ? "" : id->get<std::string>(), name),
                                        name, arguments == nullptr ? Json::object() : *arguments});
        }
    }

    size_t find_call(const std::string& at, const Json& m) {
        CallBook::Result result{.id = get<std::string>(m, "tool_call_id"),
                                .name = get<std::string>(m, "tool_name")};
        if (result.id == "") result.id.reset();
        const auto call = calls_.find_call(result);
        if (!call) throw bad_request("invalid_value", at, "{}: a result that no earlier call waits for", at);
        return *call;
    }

    CallBook calls_;
};

std::string_view ollama_spelling(const SamplingParam& p) {
    return p.ollama;
}

std::vector<Field> make_option_fields() {
    std::vector<Field> fields = table_fields(ollama_spelling, Range::engine);
    fields.push_back({.name = "num_predict", .type = integer, .doc = "", .min = -2, .max = max_count});
    fields.push_back({.name = "seed", .type = integer, .doc = ""});
    fields.push_back({.name = "stop", .type = FieldType::stop, .doc = ""});
    return fields;
}

const std::vector<Field>& option_fields() {
    static const std::vector<Field> fields = make_option_fields();
    return fields;
}

void check_options(const std::string& param, const Json& v) {
    check_object(param, v);
    check_fields(param + ".", v, option_fields());
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
    if (v.is_structured()) wrong_type(param, "a duration or a number of seconds", v);
}

const CompoundType ollama_messages_type = {
    .description = "array of {role, content, images, thinking, tool_calls, tool_name, tool_call_id}",
    .openapi = R"({"type": "array", "items": {"type": "object", "required": ["role"]}})"};
const CompoundType images_type = {.description = "array of pictures as base64",
                                  .openapi = R"({"type": "array", "items": {"type": "string"}})"};
const CompoundType options_type = {
    .description =
        "object of num_predict, seed, stop, temperature, top_k, top_p, min_p, typical_p, repeat_penalty, "
        "repeat_last_n, presence_penalty, frequency_penalty",
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

const Field served_name_field = {
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
              "Sampling; what is not given is the model's. Others are ignored with a warning: the context is "
              "the server's.",
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

void read_options(const Json& options, ChatRequest& to) {
    GenerateOptions& o = to.options;
    read_sampling_table(options, ollama_spelling, to.sampling);
    if (const auto seed = get<int64_t>(options, "seed")) o.sampling.seed = static_cast<uint64_t>(*seed);
    if (const auto stop = get<Json>(options, "stop")) {
        o.stop =
            stop->is_string() ? std::vector{stop->get<std::string>()} : stop->get<std::vector<std::string>>();
    }
    // -2, "until the context is full", is what -1 is here.
    o.max_tokens = std::max(-1, get<int>(options, "num_predict").value_or(-1));
    for (const std::string& name : unknown_fields("options.", options, option_fields())) {
        if (to.warnings.size() < 32) to.warnings.push_back(name + ": not used here");
    }
}

void read_format(const Json& body, ChatRequest& to) {
    const Json* format = find_member(body, "format");
    if (format == nullptr || *format == "") return;
    to.bound = {format->is_object() ? GrammarSpec::json_schema(*format) : GrammarSpec::json_object(),
                "format"};
}

void read_think(const Json& body, ChatRequest& to) {
    const Json* think = find_member(body, "think");
    if (think == nullptr) return;
    to.thinking = think->is_string() || think->get<bool>();
    if (think->is_string()) to.template_kwargs = {{"reasoning_effort", *think}};
}

// What both kinds of request have.
ChatRequest read_common(const Json& body) {
    ChatRequest r;
    r.model = ollama_name(get<std::string>(body, "model").value_or(""));
    if (const Json* options = find_member(body, "options")) read_options(*options, r);
    read_format(body, r);
    read_think(body, r);
    return r;
}

}  // namespace

const CompoundType ollama_keep_alive_type = {.description = "duration, or number of seconds",
                                             .check = check_keep_alive,
                                             .openapi = R"({"type": ["string", "number"]})"};

const RequestSchema ollama_chat_schema = {
    .name = "OllamaChatRequest",
    .fields = with_common({served_name_field,
                           {.name = "messages",
                            .type = compound,
                            .doc = "The conversation; empty: the model is only loaded.",
                            .compound = &ollama_messages_type},
                           {.name = "tools",
                            .type = compound,
                            .doc = "Functions that the model may call.",
                            .compound = &tools_type}}),
    .example = R"({"messages": [{"role": "user", "content": "What is 12 + 30?"}], "stream": false})"};

const RequestSchema ollama_generate_schema = {
    .name = "OllamaGenerateRequest",
    .fields = with_common(
        {served_name_field,
         {.name = "prompt", .type = string, .doc = "What is asked; empty: the model is only loaded."},
         {.name = "system", .type = string, .doc = "System message."},
         {.name = "raw",
          .type = boolean,
          .doc = "Go on from the prompt as it is, without a template.",
          .fallback = "false"},
         {.name = "suffix", .type = unsupported, .doc = "Not supported.", .choices = {"\"\""}},
         {.name = "images", .type = compound, .doc = "Pictures as base64.", .compound = &images_type},
         {.name = "context", .type = unsupported, .doc = "Not supported; /api/chat takes conversations."},
         {.name = "template",
          .type = unsupported,
          .doc = "Templates come with the model, never with a request.",
          .choices = {"\"\""}}}),
    .example = R"({"prompt": "What is 12 + 30?", "stream": false})"};

const RequestSchema ollama_show_schema = {
    .name = "OllamaShowRequest",
    .fields = {served_name_field, {.name = "verbose", .type = boolean, .doc = "Accepted and not used."}},
    .example = "{}"};

std::string ollama_name(const std::string& model) {
    constexpr std::string_view latest = ":latest";
    return model.ends_with(latest) ? model.substr(0, model.size() - latest.size()) : model;
}

ChatRequest read_ollama_chat(const Json& body) {
    ChatRequest r = read_common(body);
    if (const Json* messages = find_member(body, "messages")) {
        r.messages = OllamaMessages().read("messages", *messages);
    }
    if (const Json* tools = find_member(body, "tools")) r.tools = read_tool_rules({{"tools", *tools}});
    if (r.messages.empty()) return r;
    // A last message of the assistant's is the beginning of the answer.
    const Message& last = r.messages.back();
    r.continues = last.role == Role::assistant && !last.has_calls();
    r.add_generation_prompt = !r.continues;
    return r;
}

ChatRequest read_ollama_question(const Json& body) {
    ChatRequest r = read_common(body);
    r.param = "prompt";
    const auto prompt = get<std::string>(body, "prompt").value_or("");
    if (prompt.empty()) return r;
    if (get<bool>(body, "raw").value_or(false)) {
        r.plain = prompt;
        return r;
    }
    const auto system = get<std::string>(body, "system").value_or("");
    if (!system.empty()) r.messages.push_back({.role = Role::system, .parts = {TextPart{system}}});
    Message question{.role = Role::user};
    if (const Json* images = find_member(body, "images")) read_images("images", *images, question);
    question.parts.push_back(TextPart{prompt});
    r.messages.push_back(std::move(question));
    return r;
}

}  // namespace smelt
