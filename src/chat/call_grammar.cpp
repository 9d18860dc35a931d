// Text of a format is put together here and taken apart by its parser: a test holds one to the other.
#include "chat/call_grammar.h"

#include <algorithm>

#include "base/error.h"

namespace smelt {

namespace {

const std::string call_open = "<tool_call>", call_close = "</tool_call>";

using Spec = GrammarSpec;

Spec optional(Spec part) {
    return Spec::repeat(std::move(part), 0, 1);
}

const Json* find_member(const Json& object, const char* name) {
    const auto it = object.find(name);
    return it == object.end() || it->is_null() ? nullptr : &*it;
}

// What stands in a schema beside `known` cannot be enforced outside of JSON.
void check_known(const std::string& where, const Json& schema,
                 std::initializer_list<std::string_view> known) {
    constexpr std::string_view notes[] = {"type", "title", "description", "default", "examples", "$schema"};
    for (const auto& [key, value] : schema.items()) {
        if (std::ranges::find(known, key) == known.end() &&
            std::ranges::find(notes, key) == std::end(notes)) {
            throw Error("{}: {} cannot be enforced in the form in which this model writes calls", where, key);
        }
    }
}

// A value as the style writes it: strings stand there as they are, others as JSON.
Spec marked_value(const std::string& key, const Json& schema, const std::string& end) {
    const bool is_text = schema.is_object() && schema.contains("type") && schema["type"] == "string";
    if (!is_text) return Spec::json_schema(schema);
    check_known(key, schema, {"enum", "$defs", "definitions"});
    const Json* choices = find_member(schema, "enum");
    if (choices == nullptr) return Spec::text_without({end});
    const auto is_string = [](const Json& choice) { return choice.is_string(); };
    if (!choices->is_array() || !std::ranges::all_of(*choices, is_string)) {
        throw Error("{}: expected strings in enum", key);
    }
    return Spec::one_of_texts(choices->get<std::vector<std::string>>());
}

// An object's members one by one, in the form of a style that has marks for them.
Spec marked_arguments(const Json& schema, const std::string& open, const std::string& middle,
                      const std::string& close) {
    check_known("parameters", schema,
                {"properties", "required", "additionalProperties", "$defs", "definitions"});
    const Json* declared = find_member(schema, "properties");
    const Json* list = find_member(schema, "required");
    const Json properties = declared != nullptr && declared->is_object() ? *declared : Json::object();
    const Json required = list != nullptr && list->is_array() ? *list : Json::array();
    for (const Json& key : required) {
        if (!key.is_string() || !properties.contains(key.get<std::string>())) {
            throw Error("required: {} is no property", to_string(key));
        }
    }
    std::vector<Spec> parts;
    for (const auto& [key, property] : properties.items()) {
        Json value = property;
        for (const char* shared : {"$defs", "definitions"}) {
            if (const Json* defs = find_member(schema, shared); defs != nullptr && value.is_object()) {
                value[shared] = *defs;
            }
        }
        Spec argument = Spec::sequence({Spec::literal(open + key + middle),
                                        marked_value(key, value, close.substr(0, close.find('>') + 1)),
                                        Spec::literal(close)});
        const bool needed = std::ranges::find(required, Json(key)) != required.end();
        parts.push_back(needed ? std::move(argument) : optional(std::move(argument)));
    }
    return Spec::sequence(std::move(parts));
}

// A call as it stands between the marks of its style.
Spec call(CallStyle style, const Json& tool, bool strict) {
    const Json& function = tool.at("function");
    const std::string name = function.at("name");
    const Json* parameters = find_member(function, "parameters");
    const bool has_schema = strict && parameters != nullptr && !parameters->empty();
    const Json schema = has_schema ? *parameters : Json{{"type", "object"}};
    const Spec arguments = has_schema ? Spec::json_schema(schema) : Spec::json_object();
    const auto object = [&](const char* member) {
        return Spec::sequence(
            {Spec::literal("{\"name\": " + to_string(Json(name)) + ", \"" + member + "\": "), arguments,
             Spec::literal("}")});
    };
    switch (style) {
        case CallStyle::glm:
            return Spec::sequence(
                {Spec::literal(name),
                 marked_arguments(schema, "<arg_key>", "</arg_key><arg_value>", "</arg_value>")});
        case CallStyle::coder:
            return Spec::sequence({Spec::literal("\n<function=" + name + ">\n"),
                                   marked_arguments(schema, "<parameter=", ">\n", "\n</parameter>\n"),
                                   Spec::literal("</function>\n")});
        case CallStyle::harmony:
            return Spec::sequence({Spec::literal("commentary to=functions." + name + " "),
                                   Spec::control_token("<|constrain|>"), Spec::literal("json"),
                                   Spec::control_token("<|message|>"), arguments});
        case CallStyle::llama:
            return object("parameters");
        case CallStyle::mistral:
            return object("arguments");
        case CallStyle::json:
        case CallStyle::none:
            break;
    }
    return Spec::sequence({Spec::literal("\n"), object("arguments"), Spec::literal("\n")});
}

Spec any_call(CallStyle style, const CallRules& rules) {
    std::vector<Spec> calls;
    for (const Json& tool : rules.tools) {
        const Json& function = tool.at("function");
        if (!rules.only.empty() && function.at("name") != rules.only) continue;
        const Json* strict = find_member(function, "strict");
        calls.push_back(call(style, tool, rules.all_strict || (strict != nullptr && *strict == true)));
    }
    return Spec::one_of(std::move(calls));
}

// One call, or several where they may be, with all marks.
Spec calls_alone(CallStyle style, const CallRules& rules) {
    const Spec one = any_call(style, rules);
    const auto list = [&](const Spec& first, const std::string& between) {
        const Spec next = Spec::sequence({Spec::literal(between), first});
        return Spec::sequence({first, Spec::repeat(next, 0, rules.parallel ? Spec::unlimited : 0)});
    };
    if (style == CallStyle::llama) return one;
    if (style == CallStyle::mistral) {
        return Spec::sequence(
            {Spec::literal(std::string(mistral_calls) + "["), list(one, ", "), Spec::literal("]")});
    }
    return list(Spec::sequence({Spec::literal(call_open), one, Spec::literal(call_close)}), "\n");
}

// Free text, and calls that end the answer: a model that was held to a call seldom writes sense behind it.
Spec text_with_calls(CallStyle style, const CallRules& rules) {
    if (style == CallStyle::llama) {
        const Spec text =
            Spec::sequence({Spec::regex("[^{ \\r\\n\\t]"), Spec::text_without({std::string(python_tag)})});
        return Spec::one_of({any_call(style, rules), optional(text)});
    }
    if (style == CallStyle::mistral) {
        return Spec::sequence(
            {Spec::text_without({std::string(mistral_calls)}), optional(calls_alone(style, rules))});
    }
    const Spec one = Spec::sequence({any_call(style, rules), Spec::literal(call_close)});
    const Spec next = Spec::sequence({Spec::literal("\n" + call_open), one});
    return Spec::one_of({Spec::text_without({call_open}),
                         Spec::sequence({Spec::text_until({call_open}), one,
                                         Spec::repeat(next, 0, rules.parallel ? Spec::unlimited : 0)})});
}

// Channels: analysis where the model thinks, then a call or the final one.
Spec harmony_answer(const AnswerForm& form, const std::optional<Spec>& content, const CallRules& rules) {
    const Spec text = Spec::text_without({});
    if (form.starts_final) return content ? *content : text;
    const Spec channel = Spec::control_token("<|channel|>"), message = Spec::control_token("<|message|>");
    const Spec next = Spec::sequence(
        {Spec::control_token("<|end|>"), Spec::control_token("<|start|>"), Spec::literal("assistant")});
    const Spec analysis = Spec::sequence({channel, Spec::literal("analysis"), message, text, next});
    std::vector<Spec> ends;
    if (rules.tools.is_array()) {
        ends.push_back(Spec::sequence({channel, any_call(CallStyle::harmony, rules)}));
    }
    if (!rules.must_call) {
        ends.push_back(Spec::sequence({channel, Spec::literal("final"), message, content ? *content : text}));
    }
    return Spec::sequence({Spec::repeat(analysis, 0), Spec::one_of(std::move(ends))});
}

}  // namespace

GrammarSpec answer_grammar(const AnswerForm& form, const std::optional<GrammarSpec>& content,
                           const CallRules& rules) {
    if (form.is_harmony) return harmony_answer(form, content, rules);
    std::vector<Spec> bodies;
    if (content && !rules.must_call) bodies.push_back(*content);
    if (rules.tools.is_array()) {
        const bool alone = content || rules.must_call;
        bodies.push_back(alone ? calls_alone(form.style, rules) : text_with_calls(form.style, rules));
    }
    const Spec body = Spec::one_of(std::move(bodies));
    // Blank lines behind the mark are a matter of taste.
    const auto thinking = [](Spec end) { return Spec::sequence({std::move(end), Spec::regex("\\n{0,2}")}); };
    const Spec until = Spec::text_until({std::string(think_close)});
    if (form.starts_thinking) return Spec::sequence({thinking(until), body});
    if (!form.may_think) return body;
    return Spec::sequence(
        {optional(thinking(Spec::sequence({Spec::literal(std::string(think_open)), until}))), body});
}

}  // namespace smelt
