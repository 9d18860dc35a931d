// Content blocks become messages: results of tools first, then text, as templates expect them.
#include "server/dialects/anthropic_request.h"

#include "server/dialects/openai_messages.h"
#include "server/dialects/openai_request.h"
#include "server/dialects/pictures.h"
#include "server/dialects/sampling_fields.h"
#include "server/dialects/schema_checks.h"

namespace smelt {

namespace {

[[noreturn]] void refuse_block(const std::string& at, const std::string& type) {
    throw bad_request("unsupported_content", at + ".type", "{}.type: \"{}\" is not supported here", at,
                      type.substr(0, 60));
}

// A string, or an array of text blocks.
std::string read_blocks_text(const std::string& param, const Json& v) {
    if (v.is_string()) return v.get<std::string>();
    if (!v.is_array()) wrong_type(param, "a string or an array of blocks", v);
    std::string text;
    for (size_t i = 0; i < v.size(); ++i) {
        const std::string at = fmt::format("{}[{}]", param, i);
        check_object(at, v[i]);
        const std::string& type = need_string(at, v[i], "type");
        if (type != "text") refuse_block(at, type);
        const std::string& block = need_string(at, v[i], "text");
        text += (text.empty() ? "" : "\n") + block;
    }
    return text;
}

ImagePart read_picture(const std::string& at, const Json& source) {
    check_object(at, source);
    const std::string& type = need_string(at, source, "type");
    if (type == "url") return read_picture_url(at + ".url", need_member(at, source, "url"));
    if (type != "base64") refuse_block(at, type);
    return read_picture_base64(at + ".data", need_member(at, source, "data"));
}

// Blocks of a message, in their order; results of tools become messages of their own, before what else the
// user says.
class BlockReader {
 public:
    std::vector<Message> read(const std::string& param, const Json& v) {
        if (!v.is_array()) wrong_type(param, "an array of messages", v);
        if (v.empty() || v.size() > max_messages)
            wrong_value(param, fmt::format("1 to {} messages", max_messages), v);
        for (size_t i = 0; i < v.size(); ++i) read_message(fmt::format("{}[{}]", param, i), v[i]);
        sort_results(messages_);
        return std::move(messages_);
    }

 private:
    void read_message(const std::string& at, const Json& m) {
        // Some clients put the system's words among the messages.
        constexpr std::string_view roles[] = {"user", "assistant", "system"};
        check_object(at, m);
        const std::string& role = need_string(at, m, "role");
        check_choice(at + ".role", role, roles);
        calls_.begin_message();
        Message message{.role = role == "user"        ? Role::user
                                : role == "assistant" ? Role::assistant
                                                      : Role::system};
        const Json& content = need_member(at, m, "content");
        if (content.is_string()) {
            message.parts.push_back(TextPart{content.get<std::string>()});
        } else if (content.is_array()) {
            for (size_t b = 0; b < content.size(); ++b) {
                read_block(fmt::format("{}.content[{}]", at, b), content[b], message);
            }
        } else {
            wrong_type(at + ".content", "a string or an array of blocks", content);
        }
        if (!message.parts.empty() || message.role == Role::assistant)
            messages_.push_back(std::move(message));
    }

    void read_block(const std::string& at, const Json& block, Message& to) {
        check_object(at, block);
        const std::string& type = need_string(at, block, "type");
        const bool assistant = to.role == Role::assistant;
        if (type == "text") {
            const bool more = !to.parts.empty() && std::holds_alternative<TextPart>(to.parts.back());
            to.parts.push_back(TextPart{(more ? "\n" : "") + need_string(at, block, "text")});
        } else if (type == "thinking" && assistant) {
            to.parts.push_back(ReasoningPart{need_string(at, block, "thinking")});
        } else if (type == "redacted_thinking" && assistant) {
            return;
        } else if (type == "tool_use" && assistant) {
            const std::string& id = need_string(at, block, "id");
            const std::string& name = need_string(at, block, "name");
            if (name.empty()) wrong_value(at + ".name", "a name", block["name"]);
            const Json& input = need_member(at, block, "input");
            check_object(at + ".input", input);
            to.parts.push_back(CallPart{calls_.add_call(id, name), name, input});
        } else if (type == "tool_result" && to.role == Role::user) {
            read_result(at, block);
        } else if (type == "image") {
            check_shows(at + ".type", to);
            to.parts.push_back(read_picture(at + ".source", need_member(at, block, "source")));
        } else {
            refuse_block(at, type);
        }
    }

    void read_result(const std::string& at, const Json& block) {
        const std::string& id = need_string(at, block, "tool_use_id");
        const auto call = calls_.find_call({.id = id});
        if (!call) {
            throw bad_request("invalid_value", at + ".tool_use_id",
                              "{}.tool_use_id: expected the id of an earlier tool_use, found \"{}\"", at,
                              id.substr(0, 60));
        }
        const Json* content = find_member(block, "content");
        std::string text = content == nullptr ? "" : read_blocks_text(at + ".content", *content);
        messages_.push_back({.role = Role::tool, .parts = {ResultPart{*call, std::move(text)}}});
    }

    CallBook calls_;
    std::vector<Message> messages_;
};

ToolRules read_anthropic_tools(const Json& body, std::vector<std::string>& warnings) {
    ToolRules rules;
    const Json* tools = find_member(body, "tools");
    if (tools != nullptr && !tools->is_array()) wrong_type("tools", "an array of tools", *tools);
    if (tools != nullptr && tools->size() > max_tools) {
        wrong_value("tools", fmt::format("at most {} tools", max_tools), *tools);
    }
    for (size_t i = 0; tools != nullptr && i < tools->size(); ++i) {
        const std::string at = fmt::format("tools[{}]", i);
        const Json& tool = (*tools)[i];
        check_object(at, tool);
        if (const Json* type = find_member(tool, "type"); type != nullptr && *type != "custom") {
            check_string(at + ".type", *type, max_text);
            warnings.push_back(
                fmt::format("{}: \"{}\" runs on Anthropic's servers; it is not offered to the model", at,
                            type->get<std::string>().substr(0, 60)));
            continue;
        }
        Json function = {{"name", need_string(at, tool, "name")}};
        for (const char* name : {"description", "strict"}) {
            if (const Json* v = find_member(tool, name)) function[name] = *v;
        }
        const Json& schema = need_member(at, tool, "input_schema");
        check_object(at + ".input_schema", schema);
        function["parameters"] = schema;
        rules.tools.push_back(read_function(at, function));
    }
    rules.may_call = !rules.tools.empty();
    const Json* choice = find_member(body, "tool_choice");
    if (choice != nullptr) {
        constexpr std::string_view types[] = {"auto", "any", "tool", "none"};
        check_object("tool_choice", *choice);
        const std::string& type = need_string("tool_choice", *choice, "type");
        check_choice("tool_choice.type", type, types);
        rules.must_call = type == "any" || type == "tool";
        rules.may_call = rules.may_call && type != "none";
        if (type == "tool") rules.only = need_string("tool_choice", *choice, "name");
        if (const Json* one = find_member(*choice, "disable_parallel_tool_use")) {
            check_boolean("tool_choice.disable_parallel_tool_use", *one);
            rules.parallel = !one->get<bool>();
        }
    }
    check_tool_rules(rules, "tools[{}].name", "tool_choice");
    return rules;
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

const CompoundType blocks_type = {
    .description =
        "array of {role, content}: strings, or blocks text, image, tool_use, tool_result, thinking",
    .openapi =
        R"({"type": "array", "minItems": 1, "items": {"type": "object", "required": ["role", "content"]}})"};
const CompoundType system_type = {
    .description = "string, or array of text blocks",
    .openapi = R"({"oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "object"}}]})"};
const CompoundType anthropic_tools_type = {
    .description = "array of {name, description, input_schema}",
    .openapi = R"({"type": "array", "items": {"type": "object", "required": ["name"]}})"};
const CompoundType anthropic_choice_type = {.description = "{type: auto, any, tool or none; name}",
                                            .openapi = R"({"type": "object", "required": ["type"]})"};
const CompoundType thinking_type = {.description = "{type: enabled, disabled or adaptive}",
                                    .check = check_thinking,
                                    .openapi = R"({"type": "object", "required": ["type"]})"};
const CompoundType output_config_type = {.description = "{format: {type: json_schema, schema}}",
                                         .check = check_output_config,
                                         .openapi = R"({"type": "object"})"};
const CompoundType thread_type = {
    .description = "not supported", .check = check_thread, .openapi = R"({"type": "null"})"};

std::string_view anthropic_name(const SamplingParam& p) {
    return p.anthropic ? p.name : "";
}

std::vector<Field> common_fields() {
    using enum FieldType;
    return {
        {.name = "model", .type = string, .doc = "A name of GET /v1/models, or auto.", .max_length = 512},
        {.name = "messages",
         .type = compound,
         .doc = "The conversation.",
         .required = true,
         .compound = &blocks_type},
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
    for (const Field& f : table_fields(anthropic_name, Range::openai)) schema.fields.push_back(f);
    return schema;
}

// Thinks where it is asked to, and else not.
void read_anthropic_thinking(const Json& body, ChatRequest& to) {
    const Json* thinking = find_member(body, "thinking");
    to.thinking = thinking != nullptr && (*thinking)["type"] != "disabled";
    const Json* budget = to.thinking == true ? find_member(*thinking, "budget_tokens") : nullptr;
    if (budget != nullptr) to.options.thinking_budget = budget->get<int>();
}

}  // namespace

const RequestSchema messages_schema = make_messages_schema();
const RequestSchema count_tokens_schema = {
    .name = "CountTokensRequest",
    .fields = common_fields(),
    .example = R"({"messages": [{"role": "user", "content": "What is 12 + 30?"}]})"};

ChatRequest read_anthropic_conversation(const Json& body) {
    ChatRequest r;
    r.model = get<std::string>(body, "model").value_or("");
    std::vector<Message> messages = BlockReader().read("messages", body["messages"]);
    const Json* system = find_member(body, "system");
    const std::string said = system == nullptr ? "" : read_blocks_text("system", *system);
    if (!said.empty()) r.messages.push_back({.role = Role::system, .parts = {TextPart{said}}});
    std::ranges::move(messages, std::back_inserter(r.messages));
    if (r.messages.empty()) wrong_value("messages", "a message with content", body["messages"]);
    // A last message of the assistant's is the beginning of the answer.
    const Message& last = r.messages.back();
    r.continues = last.role == Role::assistant && !last.has_calls();
    r.add_generation_prompt = !r.continues;
    r.tools = read_anthropic_tools(body, r.warnings);
    read_anthropic_thinking(body, r);
    return r;
}

ChatRequest read_anthropic_request(const Json& body) {
    ChatRequest r = read_anthropic_conversation(body);
    GenerateOptions& o = r.options;
    o.max_tokens = get<int>(body, "max_tokens").value_or(-1);
    read_sampling_table(body, anthropic_name, r.sampling);
    if (const auto seed = get<int64_t>(body, "seed")) o.sampling.seed = static_cast<uint64_t>(*seed);
    if (const auto stops = get<Json>(body, "stop_sequences")) {
        o.stop = stops->is_string() ? std::vector{stops->get<std::string>()}
                                    : stops->get<std::vector<std::string>>();
    }
    read_cache_salt(body, r);
    const Json* config = find_member(body, "output_config");
    const Json* format = config == nullptr ? nullptr : find_member(*config, "format");
    if (format != nullptr) {
        r.bound = {GrammarSpec::json_schema((*format)["schema"]), "output_config.format.schema"};
    }
    return r;
}

}  // namespace smelt
