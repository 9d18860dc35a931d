// Text of a format is put together here and taken apart by its parser: a test holds one to the other.
#include "chat/call_grammar.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "chat/argument_types.h"

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

// What a form cannot hold: refused for a tool that is strict, else said and left out.
class Unkept {
 public:
    explicit Unkept(bool lenient) : lenient_(lenient) {}

    void add(const std::string& where, const std::string& keyword) {
        std::string text = fmt::format(
            "{}: {} cannot be enforced in the form in which this model writes calls", where, keyword);
        if (!lenient_) throw Error("{}", text);
        warnings.push_back(std::move(text));
    }

    bool is_lenient() const { return lenient_; }
    std::vector<std::string> warnings = {};

 private:
    bool lenient_;
};

// A value as the style writes it: strings stand there as they are, others as JSON.
Spec marked_value(const std::string& key, const Json& parameters, const Json& schema, const std::string& end,
                  Unkept& unkept) {
    const auto text = bare_text(parameters, schema);
    if (!text) {
        // References lead into the whole.
        Json whole = schema;
        for (const char* shared : {"$defs", "definitions"}) {
            if (const Json* defs = find_member(parameters, shared); defs != nullptr && whole.is_object())
                whole[shared] = *defs;
        }
        return Spec::json_schema(std::move(whole), unkept.is_lenient());
    }
    for (const std::string& keyword : text->unkept) unkept.add(key, keyword);
    return text->is_free ? Spec::text_without({end}) : Spec::one_of_texts(text->texts);
}

// An object's members one by one, in the form of a style that has marks for them.
Spec marked_arguments(const Json& schema, const std::string& open, const std::string& middle,
                      const std::string& close, Unkept& unkept) {
    constexpr std::string_view beside[] = {"allOf",
                                           "anyOf",
                                           "oneOf",
                                           "$ref",
                                           "not",
                                           "if",
                                           "minProperties",
                                           "maxProperties",
                                           "propertyNames",
                                           "patternProperties",
                                           "enum",
                                           "const",
                                           "dependentRequired",
                                           "dependentSchemas",
                                           "dependencies"};
    for (const std::string_view keyword : beside) {
        if (find_member(schema, std::string(keyword).c_str()) != nullptr)
            unkept.add("parameters", std::string(keyword));
    }
    const Json* declared = find_member(schema, "properties");
    const Json* list = find_member(schema, "required");
    const Json properties = declared != nullptr && declared->is_object() ? *declared : Json::object();
    const Json required = list != nullptr && list->is_array() ? *list : Json::array();
    for (const Json& key : required) {
        if (!key.is_string() || !properties.contains(key.get<std::string>()))
            unkept.add("required", to_string(key));
    }
    std::vector<Spec> parts;
    for (const auto& [key, property] : properties.items()) {
        Spec argument =
            Spec::sequence({Spec::literal(open + key + middle),
                            marked_value(key, schema, property, close.substr(0, close.find('>') + 1), unkept),
                            Spec::literal(close)});
        const bool needed = std::ranges::find(required, Json(key)) != required.end();
        parts.push_back(needed ? std::move(argument) : optional(std::move(argument)));
    }
    return Spec::sequence(std::move(parts));
}

// A call as it stands between the marks of its style. Without `held` any JSON object will do as arguments.
Spec call(CallStyle style, const Json& tool, bool held) {
    const Json& function = tool.at("function");
    const std::string name = function.at("name");
    const Json* strict = find_member(function, "strict");
    const Json* parameters = find_member(function, "parameters");
    const bool has_schema = held && parameters != nullptr && !parameters->empty();
    const Json schema = has_schema ? *parameters : Json{{"type", "object"}};
    Unkept unkept(strict == nullptr || *strict != true);
    const auto arguments = [&] {
        return has_schema ? Spec::json_schema(schema, unkept.is_lenient()) : Spec::json_object();
    };
    const auto object = [&](const char* member) {
        return Spec::sequence(
            {Spec::literal("{\"name\": " + to_string(Json(name)) + ", \"" + member + "\": "), arguments(),
             Spec::literal("}")});
    };
    const auto noted = [&](Spec spec) {
        for (const std::string& w : unkept.warnings)
            spec.warnings.push_back(fmt::format("tool {}: {}", name, w));
        return spec;
    };
    switch (style) {
        case CallStyle::glm: {
            Spec marked =
                marked_arguments(schema, "<arg_key>", "</arg_key><arg_value>", "</arg_value>", unkept);
            return noted(Spec::sequence({Spec::literal(name), std::move(marked)}));
        }
        case CallStyle::coder: {
            Spec marked = marked_arguments(schema, "<parameter=", ">\n", "\n</parameter>\n", unkept);
            return noted(Spec::sequence({Spec::literal("\n<function=" + name + ">\n"), std::move(marked),
                                         Spec::literal("</function>\n")}));
        }
        case CallStyle::harmony:
            return Spec::sequence({Spec::literal("commentary to=functions." + name + " "),
                                   Spec::control_token("<|constrain|>"), Spec::literal("json"),
                                   Spec::control_token("<|message|>"), arguments()});
        case CallStyle::deepseek:
            return Spec::sequence({Spec::literal(fmt::format("{}{}{}", deepseek_call, name, deepseek_sep)),
                                   arguments(), Spec::literal(std::string(deepseek_call_end))});
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
        calls.push_back(call(style, tool, rules.all_held || (strict != nullptr && *strict == true)));
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
    if (style == CallStyle::deepseek) {
        return Spec::sequence({Spec::literal(std::string(deepseek_calls)), list(one, ""),
                               Spec::literal(std::string(deepseek_calls_end))});
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
    if (style == CallStyle::mistral || style == CallStyle::deepseek) {
        const std::string_view open = style == CallStyle::mistral ? mistral_calls : deepseek_calls;
        return Spec::sequence({Spec::text_without({std::string(open)}), optional(calls_alone(style, rules))});
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
