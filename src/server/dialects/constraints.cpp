// One form an answer: a schema, a pattern, a grammar or a choice. Each spelling becomes the same.
#include "server/dialects/constraints.h"

#include "server/dialects/schema_checks.h"

namespace smelt {

namespace {

constexpr size_t max_grammar = size_t{1} << 20, max_choices = 1000;

bool is_schema(const Json& v) {
    return v.is_object() || v.is_boolean();
}

void check_schema(const std::string& param, const Json& v) {
    if (!is_schema(v)) wrong_type(param, "a JSON schema", v);
}

// vLLM takes a schema as text as well.
Json parsed_schema(const std::string& param, const Json& v) {
    if (!v.is_string()) return v;
    try {
        Json schema = parse_json(v.get_ref<const std::string&>(), param);
        if (is_schema(schema)) return schema;
    } catch (const Error&) {
    }
    wrong_value(param, "a JSON schema as text", v);
}

void check_schema_or_text(const std::string& param, const Json& v) {
    check_schema(param, parsed_schema(param, v));
}

void check_choices(const std::string& param, const Json& v) {
    if (!v.is_array()) wrong_type(param, "an array of strings", v);
    if (v.empty() || v.size() > max_choices)
        wrong_value(param, fmt::format("1 to {} strings", max_choices), v);
    for (size_t i = 0; i < v.size(); ++i) check_string(fmt::format("{}[{}]", param, i), v[i], max_grammar);
}

void check_response_format(const std::string& param, const Json& v) {
    check_object(param, v);
    constexpr std::string_view types[] = {"text", "json_object", "json_schema"};
    const std::string& type = need_string(param, v, "type");
    check_choice(param + ".type", type, types);
    if (type == "json_object") {
        if (const Json* schema = find_member(v, "schema")) check_schema(param + ".schema", *schema);
    }
    if (type != "json_schema") return;
    const Json& inner = need_member(param, v, "json_schema");
    check_object(param + ".json_schema", inner);
    check_schema(param + ".json_schema.schema", need_member(param + ".json_schema", inner, "schema"));
    if (const Json* strict = find_member(inner, "strict"))
        check_boolean(param + ".json_schema.strict", *strict);
}

void check_structured_outputs(const std::string& param, const Json& v) {
    check_object(param, v);
    if (const Json* json = find_member(v, "json")) check_schema_or_text(param + ".json", *json);
    for (const char* text : {"regex", "grammar"}) {
        if (const Json* t = find_member(v, text))
            check_string(fmt::format("{}.{}", param, text), *t, max_grammar);
    }
    if (const Json* choice = find_member(v, "choice")) check_choices(param + ".choice", *choice);
    if (const Json* object = find_member(v, "json_object")) check_boolean(param + ".json_object", *object);
}

const CompoundType schema_type = {
    .description = "JSON schema, or one as text",
    .check = check_schema_or_text,
    .openapi = R"({"oneOf": [{"type": "object"}, {"type": "boolean"}, {"type": "string"}]})"};
const CompoundType choices_type = {.description = "array of strings",
                                   .check = check_choices,
                                   .openapi = R"({"type": "array", "items": {"type": "string"}})"};
const CompoundType response_format_type = {
    .description = "{type: text, json_object or json_schema; json_schema: {name, schema, strict}}",
    .check = check_response_format,
    .openapi = R"({"type": "object", "required": ["type"]})"};
const CompoundType structured_outputs_type = {.description = "{json, regex, choice, grammar or json_object}",
                                              .check = check_structured_outputs,
                                              .openapi = R"({"type": "object"})"};

// Collects what is given, of which there may be one.
class Reader {
 public:
    void add(std::string param, GrammarSpec spec) {
        if (bound_) {
            throw bad_request("invalid_value", param, "{}: the answer has a form already, from {}", param,
                              bound_->param);
        }
        bound_ = {std::move(spec), std::move(param)};
    }
    void add_schema(const std::string& param, const Json* v) {
        if (v != nullptr) add(param, GrammarSpec::json_schema(parsed_schema(param, *v)));
    }
    void add_regex(const std::string& param, const Json* v) {
        if (v != nullptr) add(param, GrammarSpec::regex(v->get<std::string>()));
    }
    void add_gbnf(const std::string& param, const Json* v) {
        if (v != nullptr) add(param, GrammarSpec::gbnf(v->get<std::string>()));
    }
    void add_choices(const std::string& param, const Json* v) {
        if (v != nullptr) add(param, GrammarSpec::one_of_texts(v->get<std::vector<std::string>>()));
    }
    std::optional<AnswerBound> take() { return std::move(bound_); }

 private:
    std::optional<AnswerBound> bound_;
};

void check_room(const ChatModel& model, const TokenGrammar& grammar, const std::string& param,
                size_t n_prompt) {
    const auto limit = static_cast<size_t>(model.engine().limits().max_tokens());
    const size_t room = limit - std::min(limit, n_prompt);
    if (grammar.min_tokens() <= room) return;
    throw bad_request(
        "invalid_schema", param,
        "{}: the shortest answer of this form has at least {} tokens; the context has room for {}", param,
        grammar.min_tokens(), room);
}

std::shared_ptr<TokenGrammar> compile(const ChatModel& model, const GrammarSpec& spec,
                                      const std::string& param, const CompileTurn& turn) {
    std::shared_ptr<TokenGrammar> grammar = model.kept_grammar(spec);
    if (grammar == nullptr && !turn.turn.may_take_long) throw TakesLong{};
    if (grammar == nullptr) {
        auto result = model.compile(spec, {.effort = {.cancelled = turn.turn.nobody_waits}});
        if (turn.turn.is_over()) throw shutting_down();
        if (const auto* error = std::get_if<GrammarError>(&result))
            throw bad_request("invalid_schema", param, "{}: {}", param, error->message());
        grammar = std::get<std::shared_ptr<TokenGrammar>>(std::move(result));
    }
    check_room(model, *grammar, param, turn.n_prompt);
    for (const std::string& w : grammar->warnings()) turn.warnings.push_back(fmt::format("{}: {}", param, w));
    return grammar;
}

// A tool whose parameters are no schema is none, held to them or not.
void check_tool_schemas(const std::vector<Tool>& tools, const char* name) {
    for (size_t i = 0; i < tools.size(); ++i) {
        const Json* parameters = find_member(tools[i].function, "parameters");
        const auto error = parameters == nullptr ? std::nullopt : smelt::check_schema(*parameters);
        if (!error) continue;
        const std::string param = fmt::format(fmt::runtime(name), i);
        throw bad_request("invalid_schema", param, "{}: {}", param, error->message());
    }
}

// Throws for the first tool that the model's calls or no grammar can hold.
void check_tools_one_by_one(const ChatModel& model, const AnswerForm& form, const CallRules& rules,
                            const char* name, const CompileTurn& turn) {
    for (size_t i = 0; i < rules.tools.size(); ++i) {
        CallRules one = rules;
        one.tools = Json::array({rules.tools[i]});
        if (!one.only.empty() && rules.tools[i]["function"]["name"] != one.only) continue;
        const std::string param = fmt::format(fmt::runtime(name), i);
        try {
            compile(model, answer_grammar(form, std::nullopt, one), param, turn);
        } catch (const RequestError&) {
            throw;
        } catch (const Error& e) {
            throw bad_request("invalid_schema", param, "{}: {}", param, e.what());
        }
    }
}

}  // namespace

std::vector<Field> constraint_fields() {
    using enum FieldType;
    return {{.name = "response_format",
             .type = compound,
             .doc = "The answer is JSON, of a schema where one is given, strict or not.",
             .compound = &response_format_type},
            {.name = "structured_outputs",
             .type = compound,
             .doc = "The same and more as vLLM spells it.",
             .compound = &structured_outputs_type},
            {.name = "guided_json", .type = compound, .doc = "vLLM's older name.", .compound = &schema_type},
            {.name = "guided_regex",
             .type = string,
             .doc = "The answer matches it as a whole.",
             .max_length = max_grammar},
            {.name = "guided_choice",
             .type = compound,
             .doc = "The answer is one of these.",
             .compound = &choices_type},
            {.name = "guided_grammar", .type = string, .doc = "As grammar.", .max_length = max_grammar},
            {.name = "grammar",
             .type = string,
             .doc = "llama.cpp's grammar notation (GBNF).",
             .max_length = max_grammar},
            {.name = "json_schema",
             .type = compound,
             .doc = "llama.cpp's name for a schema.",
             .compound = &schema_type}};
}

std::optional<AnswerBound> read_bound(const Json& body) {
    Reader reader;
    if (const Json* format = find_member(body, "response_format")) {
        const std::string type = (*format)["type"];
        const Json* schema = find_member(*format, "schema");
        if (type == "json_schema") {
            reader.add_schema("response_format.json_schema.schema", &(*format)["json_schema"]["schema"]);
        } else if (type == "json_object" && schema != nullptr) {
            reader.add_schema("response_format.schema", schema);
        } else if (type == "json_object") {
            reader.add("response_format", GrammarSpec::json_object());
        }
    }
    if (const Json* s = find_member(body, "structured_outputs")) {
        reader.add_schema("structured_outputs.json", find_member(*s, "json"));
        reader.add_regex("structured_outputs.regex", find_member(*s, "regex"));
        reader.add_choices("structured_outputs.choice", find_member(*s, "choice"));
        reader.add_gbnf("structured_outputs.grammar", find_member(*s, "grammar"));
        if (get<bool>(*s, "json_object").value_or(false)) {
            reader.add("structured_outputs.json_object", GrammarSpec::json_object());
        }
    }
    reader.add_schema("guided_json", find_member(body, "guided_json"));
    reader.add_regex("guided_regex", find_member(body, "guided_regex"));
    reader.add_choices("guided_choice", find_member(body, "guided_choice"));
    reader.add_gbnf("guided_grammar", find_member(body, "guided_grammar"));
    reader.add_schema("json_schema", find_member(body, "json_schema"));
    // llama.cpp's clients send an empty one for none.
    const Json* grammar = find_member(body, "grammar");
    if (grammar != nullptr && *grammar != "") reader.add_gbnf("grammar", grammar);
    return reader.take();
}

std::shared_ptr<TokenGrammar> compile_chat_constraint(const ChatModel& model, const Prompt& prompt,
                                                      const ChatRequest& request, const SchemaNames& names,
                                                      const CompileTurn& turn) {
    const ToolRules& tools = request.tools;
    check_tool_schemas(tools.tools, names.parameters);
    const bool has_bound = request.bound.has_value();
    CallRules rules{.only = tools.only,
                    .must_call = tools.must_call,
                    .parallel = tools.parallel,
                    .all_held = tools.must_call};
    const bool holds_calls = has_bound || tools.must_call || tools.any_strict();
    if (tools.may_call && holds_calls) rules.tools = call_tools(tools.tools);
    if (!has_bound && rules.tools.is_null()) return nullptr;

    const AnswerForm form = model.answer_form(prompt);
    const std::optional<GrammarSpec> content = has_bound ? std::optional(request.bound->spec) : std::nullopt;
    if (rules.tools.is_null()) {
        return compile(model, answer_grammar(form, content, rules), request.bound->param, turn);
    }
    if (form.style == CallStyle::none) {
        throw bad_request("not_supported", "tools",
                          "tools: the model's template knows no calls that could be enforced");
    }
    const std::string param = has_bound ? request.bound->param : "tools";
    try {
        return compile(model, answer_grammar(form, content, rules), param, turn);
    } catch (const Error&) {
        check_tools_one_by_one(model, form, rules, names.parameters, turn);  // whose fault is it?
        throw;
    }
}

std::shared_ptr<TokenGrammar> compile_text_constraint(const ChatModel& model, const ChatRequest& request,
                                                      const CompileTurn& turn) {
    if (!request.bound) return nullptr;
    return compile(model, request.bound->spec, request.bound->param, turn);
}

}  // namespace smelt
