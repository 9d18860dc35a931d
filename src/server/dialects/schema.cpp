// Checks and descriptions per field type.
#include "server/dialects/schema.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cmath>

#include "base/edit_distance.h"
#include "server/dialects/schema_checks.h"

namespace smelt {

namespace {

constexpr std::string_view priority_words[] = {"speed", "quality", "balanced", "interactive", "background"};

void check_ids(const std::string& param, const Json& v) {
    for (size_t i = 0; i < v.size(); ++i) {
        check_integer(fmt::format("{}[{}]", param, i), v[i], 0, std::numeric_limits<int32_t>::max());
    }
}

void check_prompt(const std::string& param, const Json& v, size_t max_n) {
    if (v.is_string()) return;
    if (!v.is_array()) wrong_type(param, "a string, an array of strings or token ids", v);
    if (v.empty()) wrong_value(param, "something in the array", v);
    if (v[0].is_number()) return check_ids(param, v);
    if (v.size() > max_n) wrong_value(param, fmt::format("at most {} of them", max_n), v);
    for (size_t i = 0; i < v.size(); ++i) {
        const std::string at = fmt::format("{}[{}]", param, i);
        if (v[i].is_string() && v[0].is_string()) continue;
        if (!v[i].is_array() || !v[0].is_array()) {
            wrong_type(at,
                       v[0].is_string()  ? "a string"
                       : v[0].is_array() ? "an array of token ids"
                                         : "a string or an array of token ids",
                       v[i]);
        }
        check_ids(at, v[i]);
    }
}

void check_stop(const std::string& param, const Json& v) {
    if (v.is_string()) return check_string(param, v, max_stop_bytes);
    if (!v.is_array()) wrong_type(param, "a string or an array of strings", v);
    if (v.size() > max_stops) wrong_value(param, fmt::format("at most {} strings", max_stops), v);
    for (size_t i = 0; i < v.size(); ++i) check_string(fmt::format("{}[{}]", param, i), v[i], max_stop_bytes);
}

void check_logit_bias(const std::string& param, const Json& v) {
    if (!v.is_object()) wrong_type(param, "an object {\"token id\": bias}", v);
    if (v.size() > max_logit_bias) wrong_value(param, fmt::format("at most {} entries", max_logit_bias), v);
    for (const auto& [key, bias] : v.items()) {
        const std::string at = fmt::format("{}.{}", param, key.size() > 40 ? "..." : key);
        const bool digits =
            !key.empty() && key.size() <= 9 && key.find_first_not_of("0123456789") == std::string::npos;
        if (!digits) throw bad_request("invalid_value", at, "{}: expected a token id as the key", at);
        check_number(at, bias, -100, 100);
    }
}

void check_stream_options(const std::string& param, const Json& v) {
    if (!v.is_object()) wrong_type(param, "an object", v);
    const auto usage = v.find("include_usage");
    if (usage != v.end() && !usage->is_null() && !usage->is_boolean()) {
        wrong_type(param + ".include_usage", "true or false", *usage);
    }
}

void check_template_kwargs(const std::string& param, const Json& v) {
    if (!v.is_object()) wrong_type(param, "an object", v);
    for (const char* reserved : {"messages", "tools", "add_generation_prompt", "bos_token", "eos_token"}) {
        if (v.contains(reserved)) {
            throw bad_request("invalid_value", fmt::format("{}.{}", param, reserved),
                              "{}.{}: the server sets this variable itself", param, reserved);
        }
    }
    const auto thinking = v.find("enable_thinking");
    if (thinking != v.end() && !thinking->is_boolean()) {
        wrong_type(param + ".enable_thinking", "true or false", *thinking);
    }
}

void check_priority(const std::string& param, const Json& v) {
    const auto* word = v.get_ptr<const std::string*>();
    if (word != nullptr && std::ranges::find(priority_words, *word) != std::end(priority_words)) return;
    if (word != nullptr)
        wrong_value(param, fmt::format("{} or an integer", fmt::join(priority_words, ", ")), v);
    check_integer(param, v, -100, 100);
}

void check_field(const std::string& param, const Field& f, const Json& v) {
    switch (f.type) {
        case FieldType::boolean:
            return check_boolean(param, v);
        case FieldType::integer:
            if (f.or_minus_one && v.is_number() && v == -1) return;
            return check_integer(param, v, f.min, f.max);
        case FieldType::number:
            return check_number(param, v, f.low, f.high);
        case FieldType::string:
            if (f.choices.empty()) return check_string(param, v, f.max_length);
            return check_choice(param, v, f.choices);
        case FieldType::prompt:
            return check_prompt(param, v, max_prompts);
        case FieldType::texts:
            return check_prompt(param, v, max_texts);
        case FieldType::stop:
            return check_stop(param, v);
        case FieldType::logit_bias:
            return check_logit_bias(param, v);
        case FieldType::stream_options:
            return check_stream_options(param, v);
        case FieldType::template_kwargs:
            return check_template_kwargs(param, v);
        case FieldType::token_ids:
            if (!v.is_array()) wrong_type(param, "an array of token ids", v);
            return check_ids(param, v);
        case FieldType::priority:
            return check_priority(param, v);
        case FieldType::compound:
            if (f.compound->check != nullptr) f.compound->check(param, v);
            return;
        case FieldType::unsupported:
            if (v.is_array() && v.empty()) return;
            for (const std::string_view allowed : f.choices) {
                if (to_string(v) == allowed) return;
            }
            throw bad_request("not_supported", param, "{} is not supported here: {}", param, f.doc);
    }
}

}  // namespace

std::string found(const Json& v) {
    if (v.is_string()) {
        const std::string& text = v.get_ref<const std::string&>();
        if (text.size() > 60) return fmt::format("a string of {} bytes", text.size());
    } else if (v.is_array()) {
        return fmt::format("an array of {}", v.size());
    } else if (v.is_object()) {
        return "an object";
    }
    return to_string(v);
}

void wrong_type(const std::string& param, std::string_view expected, const Json& v) {
    throw bad_request("invalid_type", param, "{}: expected {}, found {}", param, expected, found(v));
}

void wrong_value(const std::string& param, std::string_view expected, const Json& v) {
    throw bad_request("invalid_value", param, "{}: expected {}, found {}", param, expected, found(v));
}

void check_string(const std::string& param, const Json& v, size_t max_length) {
    if (!v.is_string()) wrong_type(param, "a string", v);
    if (v.get_ref<const std::string&>().size() > max_length) {
        wrong_value(param, fmt::format("at most {} bytes", max_length), v);
    }
}

// 5.0 is as good as 5; 1.5 and 1e30 are not.
void check_integer(const std::string& param, const Json& v, int64_t min, int64_t max) {
    if (!v.is_number()) wrong_type(param, "an integer", v);
    bool inside = false;
    if (v.is_number_float()) {
        const double d = v.get<double>();
        if (std::trunc(d) != d) wrong_type(param, "an integer", v);
        inside = d >= static_cast<double>(min) && d <= static_cast<double>(max) && std::fabs(d) < 9e18;
    } else if (v.is_number_unsigned()) {
        inside = v.get<uint64_t>() <= static_cast<uint64_t>(max < 0 ? 0 : max) &&
                 static_cast<int64_t>(v.get<uint64_t>()) >= min;
    } else {
        inside = v.get<int64_t>() >= min && v.get<int64_t>() <= max;
    }
    if (!inside) wrong_value(param, fmt::format("{} to {}", min, max), v);
}

void check_number(const std::string& param, const Json& v, double min, double max) {
    if (!v.is_number()) wrong_type(param, "a number", v);
    const double d = v.get<double>();
    if (!(d >= min && d <= max)) wrong_value(param, fmt::format("{} to {}", min, max), v);
}

void missing(const std::string& param) {
    throw bad_request("missing_required_parameter", param, "{} is missing", param);
}

void check_choice(const std::string& param, const Json& v, std::span<const std::string_view> choices) {
    check_string(param, v, 100);
    if (std::ranges::find(choices, v.get_ref<const std::string&>()) == choices.end()) {
        wrong_value(param, fmt::format("one of {}", fmt::join(choices, ", ")), v);
    }
}

void check_boolean(const std::string& param, const Json& v) {
    if (!v.is_boolean()) wrong_type(param, "true or false", v);
}

void check_object(const std::string& param, const Json& v) {
    if (!v.is_object()) wrong_type(param, "an object", v);
}

const Json* find_member(const Json& object, const char* name) {
    const auto it = object.find(name);
    return it == object.end() || it->is_null() ? nullptr : &*it;
}

const Json& need_member(const std::string& param, const Json& object, const char* name) {
    const Json* member = find_member(object, name);
    if (member == nullptr) missing(fmt::format("{}.{}", param, name));
    return *member;
}

const std::string& need_string(const std::string& param, const Json& object, const char* name) {
    const Json& member = need_member(param, object, name);
    if (!member.is_string()) wrong_type(fmt::format("{}.{}", param, name), "a string", member);
    return member.get_ref<const std::string&>();
}

const CompoundType any_object = {
    .description = "object", .check = check_object, .openapi = R"({"type": "object"})"};

void check_fields(const std::string& prefix, const Json& object, std::span<const Field> fields) {
    for (const Field& f : fields) {
        const auto it = object.find(std::string(f.name));
        const std::string param = prefix + std::string(f.name);
        if (it != object.end() && !it->is_null()) {
            check_field(param, f, *it);
        } else if (f.required) {
            if (it != object.end()) wrong_type(param, describe_type(f), *it);
            missing(param);
        }
    }
}

namespace {

// Without what people write otherwise: "maxTokens" is "max_tokens".
std::string plain_name(std::string_view name) {
    std::string plain;
    for (const char c : name) {
        if (c == '_' || c == '-') continue;
        plain += c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
    }
    return plain;
}

// Fields of other servers that only look like a slip.
constexpr std::string_view known_elsewhere[] = {"top_a"};

}  // namespace

std::string_view near_field(std::string_view name, std::span<const Field> fields) {
    constexpr size_t long_enough = 4;  // shorter names are near too many others
    if (std::ranges::find(known_elsewhere, name) != std::end(known_elsewhere)) return "";
    for (const Field& f : fields) {
        if (f.name.size() < long_enough || f.name == name) continue;
        if (edit_distance(name, f.name, 1) == 1 || plain_name(name) == plain_name(f.name)) return f.name;
    }
    return "";
}

std::vector<std::string> unknown_fields(const std::string& prefix, const Json& object,
                                        std::span<const Field> fields) {
    std::vector<std::string> unknown;
    for (const auto& [key, value] : object.items()) {
        if (std::ranges::find(fields, key, &Field::name) != fields.end()) continue;
        const std::string name = prefix + key.substr(0, 100);
        if (const std::string_view near = near_field(key, fields); !near.empty()) {
            throw bad_request("unknown_parameter", name, "{}: no such parameter; did you mean {}{}?", name,
                              prefix, near);
        }
        unknown.push_back(name);
    }
    return unknown;
}

std::vector<std::string> check_body(const Json& body, const RequestSchema& schema, bool strict) {
    constexpr size_t max_warnings = 32;
    if (!body.is_object()) {
        throw bad_request("invalid_json", "", "expected a JSON object as the request body, found {}",
                          found(body));
    }
    check_fields("", body, schema.fields);
    std::vector<std::string> warnings;
    for (const std::string& name : unknown_fields("", body, schema.fields)) {
        if (strict) throw bad_request("unknown_parameter", name, "{}: no such parameter", name);
        if (warnings.size() < max_warnings) warnings.push_back(name + ": no such parameter, ignored");
    }
    return warnings;
}

std::string describe_type(const Field& f) {
    switch (f.type) {
        case FieldType::boolean:
            return "true or false";
        case FieldType::integer:
            if (f.max == std::numeric_limits<int64_t>::max()) return "integer";
            return fmt::format("integer, {} to {}{}", f.min, f.max, f.or_minus_one ? ", or -1" : "");
        case FieldType::number:
            return fmt::format("number, {} to {}", f.low, f.high);
        case FieldType::string:
            return f.choices.empty() ? "string" : fmt::format("{}", fmt::join(f.choices, ", "));
        case FieldType::prompt:
        case FieldType::texts:
            return "string, strings, token ids, or arrays of token ids";
        case FieldType::stop:
            return fmt::format("string, or up to {} strings", max_stops);
        case FieldType::logit_bias:
            return "object {\"token id\": -100 to 100}";
        case FieldType::stream_options:
            return "object {include_usage}";
        case FieldType::template_kwargs:
            return "object";
        case FieldType::token_ids:
            return "array of token ids";
        case FieldType::priority:
            return fmt::format("{}, or integer, -100 to 100", fmt::join(priority_words, ", "));
        case FieldType::compound:
            return std::string(f.compound->description);
        case FieldType::unsupported:
            return "not supported yet";
    }
    return "";
}

namespace {

Json openapi_type(const Field& f) {
    const Json text = {{"type", "string"}},
               ids = {{"type", "array"}, {"items", {{"type", "integer"}, {"minimum", 0}}}};
    const Json texts = {{"type", "array"}, {"items", text}};
    switch (f.type) {
        case FieldType::boolean:
            return {{"type", "boolean"}};
        case FieldType::integer:
            return {{"type", "integer"}, {"minimum", f.or_minus_one ? -1 : f.min}, {"maximum", f.max}};
        case FieldType::number:
            return {{"type", "number"}, {"minimum", f.low}, {"maximum", f.high}};
        case FieldType::string: {
            Json type = text;
            for (const std::string_view c : f.choices) type["enum"].push_back(c);
            return type;
        }
        case FieldType::prompt:
        case FieldType::texts:
            return {{"oneOf", Json::array({text, texts, ids, {{"type", "array"}, {"items", ids}}})}};
        case FieldType::stop:
            return {{"oneOf", Json::array({text, texts})}};
        case FieldType::logit_bias:
            return {{"type", "object"},
                    {"additionalProperties", {{"type", "number"}, {"minimum", -100}, {"maximum", 100}}}};
        case FieldType::stream_options:
            return {{"type", "object"}, {"properties", {{"include_usage", {{"type", "boolean"}}}}}};
        case FieldType::template_kwargs:
            return {{"type", "object"}};
        case FieldType::token_ids:
            return ids;
        case FieldType::priority:
            return {{"oneOf", Json::array({{{"type", "string"}, {"enum", priority_words}},
                                           {{"type", "integer"}, {"minimum", -100}, {"maximum", 100}}})}};
        case FieldType::compound:
            return Json::parse(f.compound->openapi);
        case FieldType::unsupported:
            return {{"description", "not supported yet"}};
    }
    return {};
}

}  // namespace

Json openapi_schema(const RequestSchema& schema) {
    Json properties = Json::object(), required = Json::array();
    for (const Field& f : schema.fields) {
        Json type = openapi_type(f);
        type["description"] = f.doc;
        if (!f.fallback.empty()) type["default"] = Json::parse(f.fallback);
        properties[std::string(f.name)] = std::move(type);
        if (f.required) required.push_back(f.name);
    }
    Json result = {{"type", "object"}, {"properties", std::move(properties)}};
    if (!required.empty()) result["required"] = std::move(required);
    result["example"] = Json::parse(schema.example);
    return result;
}

}  // namespace smelt
