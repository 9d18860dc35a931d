// Items become messages: what the assistant thought, said and called in one turn is one message.
#include "server/dialects/responses_request.h"

#include "server/dialects/openai_messages.h"
#include "server/dialects/openai_request.h"
#include "server/dialects/pictures.h"
#include "server/dialects/sampling_fields.h"
#include "server/dialects/schema_checks.h"

namespace smelt {

namespace {

using enum FieldType;

enum class Pictures { refused, read };

// A string, or an array of parts.
std::vector<Part> read_parts(const std::string& param, const Json& v, Pictures pictures = Pictures::refused) {
    if (v.is_string()) return {TextPart{v.get<std::string>()}};
    if (!v.is_array()) wrong_type(param, "a string or an array of parts", v);
    std::vector<Part> parts;
    for (size_t i = 0; i < v.size(); ++i) {
        const std::string at = fmt::format("{}[{}]", param, i);
        check_object(at, v[i]);
        const std::string& type = need_string(at, v[i], "type");
        if (type == "refusal") {
            parts.push_back(RefusalPart{need_string(at, v[i], "refusal")});
        } else if (type == "input_text" || type == "output_text" || type == "text" ||
                   type == "reasoning_text" || type == "summary_text") {
            parts.push_back(TextPart{need_string(at, v[i], "text")});
        } else if (type == "input_image" && pictures == Pictures::read) {
            parts.push_back(read_picture_url(at + ".image_url", need_member(at, v[i], "image_url")));
        } else {
            throw bad_request("unsupported_content", at + ".type", "{}.type: \"{}\" is not supported here",
                              at, type.substr(0, 60));
        }
    }
    return parts;
}

std::string read_text(const std::string& param, const Json& v) {
    return Message{.parts = read_parts(param, v)}.text();
}

// Items become messages: what the assistant thought, said and called in one turn is one message.
class ItemReader {
 public:
    std::vector<Message> read(const std::string& param, const Json& v) {
        if (v.is_string()) return {{.role = Role::user, .parts = {TextPart{v.get<std::string>()}}}};
        if (!v.is_array()) wrong_type(param, "a string or an array of items", v);
        if (v.empty() || v.size() > max_messages)
            wrong_value(param, fmt::format("1 to {} items", max_messages), v);
        for (size_t i = 0; i < v.size(); ++i) read_item(fmt::format("{}[{}]", param, i), v[i]);
        sort_results(messages_);
        return std::move(messages_);
    }

 private:
    void read_item(const std::string& at, const Json& item) {
        check_object(at, item);
        if (const Json* type = find_member(item, "type")) check_string(at + ".type", *type, 100);
        const std::string type = get<std::string>(item, "type").value_or("message");
        if (type == "message") {
            read_message(at, item);
        } else if (type == "function_call") {
            read_call(at, item);
        } else if (type == "function_call_output") {
            read_result(at, item);
        } else if (type == "reasoning") {
            read_reasoning(at, item);
        } else {
            throw bad_request("not_supported", at + ".type", "{}.type: \"{}\" is not supported here", at,
                              type.substr(0, 60));
        }
    }

    // The assistant's turn that goes on, or a new one.
    Message& turn() {
        if (messages_.empty() || messages_.back().role != Role::assistant) {
            messages_.push_back({.role = Role::assistant});
            calls_.begin_message();
        }
        return messages_.back();
    }
    static bool has_text(const Message& m) {
        return std::ranges::any_of(m.parts, [](const Part& p) {
            return std::holds_alternative<TextPart>(p) || std::holds_alternative<RefusalPart>(p);
        });
    }

    void read_message(const std::string& at, const Json& item) {
        constexpr std::string_view roles[] = {"system", "developer", "user", "assistant"};
        const std::string& role = need_string(at, item, "role");
        check_choice(at + ".role", role, roles);
        std::vector<Part> parts = read_parts(at + ".content", need_member(at, item, "content"),
                                             role == "user" ? Pictures::read : Pictures::refused);
        if (role != "assistant") {
            messages_.push_back(
                {.role = role == "user" ? Role::user : Role::system, .parts = std::move(parts)});
            return;
        }
        if (!messages_.empty() && messages_.back().role == Role::assistant && has_text(messages_.back())) {
            messages_.push_back({.role = Role::assistant});
            calls_.begin_message();
        }
        std::ranges::move(parts, std::back_inserter(turn().parts));
    }

    void read_call(const std::string& at, const Json& item) {
        const std::string& id = need_string(at, item, "call_id");
        const std::string& name = need_string(at, item, "name");
        if (name.empty()) wrong_value(at + ".name", "a name", item["name"]);
        Json arguments = read_arguments(at + ".arguments", need_member(at, item, "arguments"));
        Message& message = turn();
        message.parts.push_back(CallPart{calls_.add_call(id, name), name, std::move(arguments)});
    }

    void read_result(const std::string& at, const Json& item) {
        const std::string& id = need_string(at, item, "call_id");
        const auto call = calls_.find_call({.id = id});
        if (!call) {
            throw bad_request("invalid_value", at + ".call_id",
                              "{}.call_id: expected that of an earlier function_call, found \"{}\"", at,
                              id.substr(0, 60));
        }
        std::string text = read_text(at + ".output", need_member(at, item, "output"));
        messages_.push_back({.role = Role::tool, .parts = {ResultPart{*call, std::move(text)}}});
    }

    // Of a reasoning item the text counts, and where a service gave none, its summary.
    void read_reasoning(const std::string& at, const Json& item) {
        std::string text;
        for (const char* name : {"content", "summary"}) {
            const Json* v = find_member(item, name);
            if (v != nullptr && text.empty()) text = read_text(fmt::format("{}.{}", at, name), *v);
        }
        if (text.empty()) return;
        // It begins a turn, unless the turn has nothing else yet.
        if (!messages_.empty() && messages_.back().role == Role::assistant && has_text(messages_.back())) {
            messages_.push_back({.role = Role::assistant});
            calls_.begin_message();
        }
        turn().parts.push_back(ReasoningPart{std::move(text)});
    }

    CallBook calls_;
    std::vector<Message> messages_;
};

ToolRules read_function_tools(const Json& body, std::vector<std::string>& warnings) {
    ToolRules rules;
    const Json* tools = find_member(body, "tools");
    if (tools != nullptr && !tools->is_array()) wrong_type("tools", "an array of tools", *tools);
    if (tools != nullptr && tools->size() > max_tools) {
        wrong_value("tools", fmt::format("at most {} tools", max_tools), *tools);
    }
    for (size_t i = 0; tools != nullptr && i < tools->size(); ++i) {
        const std::string at = fmt::format("tools[{}]", i);
        check_object(at, (*tools)[i]);
        const std::string& type = need_string(at, (*tools)[i], "type");
        if (type != "function") {
            warnings.push_back(
                fmt::format("{}: only functions, which the client runs, are offered to the model, not \"{}\"",
                            at, type.substr(0, 60)));
            continue;
        }
        Json function = (*tools)[i];
        function.erase("type");
        rules.tools.push_back(read_function(at, function));
    }
    rules.may_call = !rules.tools.empty();
    rules.parallel = get<bool>(body, "parallel_tool_calls").value_or(true);
    return rules;
}

void read_choice_of_tool(const Json& body, ToolRules& rules) {
    constexpr std::string_view words[] = {"none", "auto", "required"};
    const Json* choice = find_member(body, "tool_choice");
    if (choice == nullptr) return;
    if (choice->is_string()) {
        check_choice("tool_choice", *choice, words);
        rules.may_call = rules.may_call && *choice != "none";
        rules.must_call = *choice == "required";
    } else if (choice->is_object()) {
        const std::string& type = need_string("tool_choice", *choice, "type");
        if (type != "function") wrong_value("tool_choice.type", "\"function\"", type);
        rules.only = need_string("tool_choice", *choice, "name");
        rules.must_call = true;
    } else {
        wrong_type("tool_choice", "none, auto, required or an object", *choice);
    }
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
    .openapi = R"({"oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "object"}}]})"};
const CompoundType function_tools_type = {
    .description = "array of {type: function, name, description, parameters, strict}",
    .openapi = R"({"type": "array", "items": {"type": "object", "required": ["type"]}})"};
const CompoundType choice_type = {
    .description = "none, auto, required, or {type: function, name}",
    .openapi =
        R"({"oneOf": [{"type": "string", "enum": ["none", "auto", "required"]}, {"type": "object"}]})"};
const CompoundType reasoning_type = {
    .description = "object {effort}", .check = check_reasoning, .openapi = R"({"type": "object"})"};
const CompoundType text_type = {
    .description = "object {format}", .check = check_text_options, .openapi = R"({"type": "object"})"};
const CompoundType include_type = {.description = "array of strings",
                                   .check = check_include,
                                   .openapi = R"({"type": "array", "items": {"type": "string"}})"};

std::string_view responses_name(const SamplingParam& p) {
    return p.responses ? p.name : "";
}

std::vector<Field> with_sampling(std::vector<Field> fields) {
    for (const Field& f : table_fields(responses_name, Range::openai)) fields.push_back(f);
    return fields;
}

}  // namespace

const RequestSchema responses_schema = {
    .name = "ResponsesRequest",
    .fields = with_sampling(
        {{.name = "model", .type = string, .doc = "A name of GET /v1/models, or auto.", .max_length = 512},
         {.name = "input",
          .type = compound,
          .doc = "What is asked, or the conversation so far.",
          .required = true,
          .compound = &input_type},
         {.name = "instructions", .type = string, .doc = "System message."},
         {.name = "max_output_tokens",
          .type = integer,
          .doc = "Tokens of the answer at most. Default and -1: until the context is full.",
          .min = 1,
          .max = max_count,
          .or_minus_one = true},
         {.name = "stream", .type = boolean, .doc = "Send events.", .fallback = "false"},
         {.name = "return_progress",
          .type = boolean,
          .doc = "With stream: response.in_progress events with prompt_progress, as llama.cpp has them.",
          .fallback = "false"},
         {.name = "timings_per_token",
          .type = boolean,
          .doc = "With stream: timings with each piece of text, as llama.cpp has them.",
          .fallback = "false"},
         {.name = "seed", .type = integer, .doc = "Same seed, same answer; not OpenAI's."},
         {.name = "tools",
          .type = compound,
          .doc = "Functions that the model may call; tools of other kinds are left out with a warning.",
          .compound = &function_tools_type},
         {.name = "tool_choice",
          .type = compound,
          .doc = "As in chat completions.",
          .compound = &choice_type},
         {.name = "parallel_tool_calls",
          .type = boolean,
          .doc = "false: the answer ends after its first call.",
          .fallback = "true"},
         {.name = "text", .type = compound, .doc = "The form of the answer.", .compound = &text_type},
         {.name = "reasoning",
          .type = compound,
          .doc = "effort none turns thinking off; the others are for the template.",
          .compound = &reasoning_type},
         {.name = "chat_template_kwargs",
          .type = template_kwargs,
          .doc = "Variables for the model's template, such as enable_thinking."},
         {.name = "enable_thinking",
          .type = boolean,
          .doc = "Whether the model thinks first. Default: as its template has it."},
         {.name = "cache_salt", .type = string, .doc = "As in chat completions.", .max_length = 256},
         {.name = "service_tier",
          .type = string,
          .doc = "flex waits for others, priority goes first.",
          .choices = {"auto", "default", "flex", "priority"}},
         {.name = "store",
          .type = boolean,
          .doc = "Keep the answer with its conversation, for previous_response_id; the oldest are forgotten.",
          .fallback = "false"},
         {.name = "previous_response_id",
          .type = string,
          .doc = "An answer that was kept: input goes on from its conversation.",
          .max_length = 64},
         {.name = "conversation",
          .type = unsupported,
          .doc = "conversations have no id here: previous_response_id goes on from an answer."},
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
         {.name = "user", .type = string, .doc = "Accepted and not used.", .max_length = 512}}),
    .example = R"({"input": "What is 12 + 30?", "temperature": 0})"};

ChatRequest read_responses_request(const Json& body) {
    ChatRequest r;
    r.model = get<std::string>(body, "model").value_or("");
    const auto instructions = get<std::string>(body, "instructions").value_or("");
    if (!instructions.empty())
        r.messages.push_back({.role = Role::system, .parts = {TextPart{instructions}}});
    std::vector<Message> messages = ItemReader().read("input", body["input"]);
    std::ranges::move(messages, std::back_inserter(r.messages));
    if (r.messages.empty()) wrong_value("input", "an item with text", body["input"]);
    // A last message of the assistant's is the beginning of the answer.
    const Message& last = r.messages.back();
    r.continues = last.role == Role::assistant && !last.has_calls() && !last.text().empty();
    r.add_generation_prompt = !r.continues;
    r.tools = read_function_tools(body, r.warnings);
    read_choice_of_tool(body, r.tools);
    check_tool_rules(r.tools, "tools[{}].name", "tool_choice");
    if (const auto seed = get<int64_t>(body, "seed")) {
        r.options.sampling.seed = static_cast<uint64_t>(*seed);
    }
    r.options.priority = read_service_tier(body);
    read_cache_salt(body, r);
    read_sampling_table(body, responses_name, r.sampling);
    r.options.max_tokens = get<int>(body, "max_output_tokens").value_or(-1);
    read_thinking(body, r);
    if (const Json* text = find_member(body, "text")) {
        const Json* format = find_member(*text, "format");
        const Json type = format == nullptr ? Json() : (*format)["type"];
        if (type == "json_object") r.bound = {GrammarSpec::json_object(), "text.format"};
        if (type == "json_schema")
            r.bound = {GrammarSpec::json_schema((*format)["schema"]), "text.format.schema"};
    }
    const Json* reasoning = find_member(body, "reasoning");
    const auto effort = reasoning == nullptr ? std::nullopt : get<std::string>(*reasoning, "effort");
    if (effort) set_effort(*effort, r);
    return r;
}

}  // namespace smelt
