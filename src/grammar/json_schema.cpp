// From schemas to conjunctions, from conjunctions to alternatives of one type each.
#include "grammar/json_schema.h"

#include <algorithm>
#include <string_view>

#include "base/number.h"
#include "grammar/refused.h"

namespace smelt::grammar {

namespace {

// What says nothing about the value, and what stands where schemas are kept.
constexpr std::string_view annotations[] = {"$schema",
                                            "$id",
                                            "$comment",
                                            "$defs",
                                            "definitions",
                                            "title",
                                            "description",
                                            "default",
                                            "example",
                                            "examples",
                                            "deprecated",
                                            "readOnly",
                                            "writeOnly",
                                            "contentMediaType",
                                            "contentEncoding",
                                            "$anchor",
                                            "id",
                                            "propertyOrdering",
                                            "$vocabulary"};
constexpr std::string_view enforced[] = {"type",
                                         "enum",
                                         "const",
                                         "nullable",
                                         "allOf",
                                         "anyOf",
                                         "oneOf",
                                         "$ref",
                                         "minimum",
                                         "maximum",
                                         "exclusiveMinimum",
                                         "exclusiveMaximum",
                                         "multipleOf",
                                         "minLength",
                                         "maxLength",
                                         "pattern",
                                         "format",
                                         "items",
                                         "prefixItems",
                                         "additionalItems",
                                         "minItems",
                                         "maxItems",
                                         "properties",
                                         "required",
                                         "additionalProperties",
                                         "patternProperties",
                                         "propertyNames",
                                         "minProperties",
                                         "maxProperties"};

constexpr struct {
    const char* keyword;
    uint32_t type;
} implied_types[] = {{"minimum", j_number},
                     {"maximum", j_number},
                     {"exclusiveMinimum", j_number},
                     {"exclusiveMaximum", j_number},
                     {"multipleOf", j_number},
                     {"minLength", j_string},
                     {"maxLength", j_string},
                     {"pattern", j_string},
                     {"format", j_string},
                     {"items", j_array},
                     {"prefixItems", j_array},
                     {"minItems", j_array},
                     {"maxItems", j_array},
                     {"properties", j_object},
                     {"required", j_object},
                     {"additionalProperties", j_object},
                     {"patternProperties", j_object},
                     {"propertyNames", j_object},
                     {"minProperties", j_object},
                     {"maxProperties", j_object}};

constexpr int max_in_place = 200;  // of references to references

uint32_t type_named(const std::string& name, const std::string& path) {
    constexpr struct {
        std::string_view name;
        uint32_t type;
    } names[] = {{"null", j_null},     {"boolean", j_boolean}, {"integer", j_integer}, {"number", j_number},
                 {"string", j_string}, {"array", j_array},     {"object", j_object}};
    for (const auto& n : names) {
        if (n.name == name) return n.type;
    }
    refuse(
        path, "type",
        fmt::format("expected null, boolean, integer, number, string, array or object, found \"{}\"", name));
}

std::string unescaped(const std::string& part) {
    std::string name;
    for (size_t i = 0; i < part.size(); ++i) {
        const bool code = part[i] == '~' && i + 1 < part.size() && (part[i + 1] == '0' || part[i + 1] == '1');
        name += !code ? part[i] : part[++i] == '0' ? '~' : '/';
    }
    return name;
}

}  // namespace

std::string pointer_part(const std::string& name) {
    std::string part;
    for (const char c : name) {
        part += c == '~' ? "~0" : c == '/' ? "~1" : std::string(1, c);
    }
    return part;
}

const Json* find_member(const Json& object, const char* name) {
    if (!object.is_object()) return nullptr;
    const auto it = object.find(name);
    return it == object.end() ? nullptr : &*it;
}

uint32_t count_of(const Json& schema, const char* keyword, uint32_t fallback, const std::string& path) {
    const Json* n = find_member(schema, keyword);
    if (n == nullptr) return fallback;
    const bool whole = n->is_number_integer() ||
                       (n->is_number_float() && *n >= 0 && *n < 1e15 &&
                        n->get<double>() == static_cast<double>(static_cast<int64_t>(n->get<double>())));
    if (!whole || *n < 0)
        refuse(path, keyword, fmt::format("expected an integer of 0 or more, found {}", n->dump()));
    // No answer is as long as that.
    return *n >= unlimited ? unlimited : n->get<uint32_t>();
}

JsonSchema::JsonSchema(const Json& root, Builder& builder, const GrammarOptions& options)
    : root_(root), builder_(builder), options_(options) {
    const ExprPtr blanks = repeat(chars({{'\t', '\t'}, {' ', ' '}}), 0, 20);
    space_ = sequence({});
    if (!options.compact) {
        const ExprPtr lines = sequence({bytes("\n"), optional(bytes("\n")), blanks});
        space_ = call(builder.add_rule(*choice({space_, bytes(" "), lines})));
    }
    comma_ = sequence({bytes(","), space_});
    colon_ = sequence({bytes(":"), space_});
}

ExprPtr JsonSchema::value() {
    const ExprPtr root = rule_of({{&root_, ""}}, "");
    while (!to_define_.empty()) {
        const auto [rule, c] = std::move(to_define_.front());
        to_define_.pop_front();
        define(rule, c);
    }
    return root;
}

void JsonSchema::check_keywords(const Sub& s) {
    if (!s.schema->is_object())
        refuse(s.path, "", fmt::format("expected a schema, found {}", s.schema->dump().substr(0, 40)));
    if (!checked_.insert(s.schema).second) return;
    for (const auto& [key, value] : s.schema->items()) {
        if (std::ranges::find(enforced, key) != std::end(enforced)) continue;
        if (std::ranges::find(annotations, key) != std::end(annotations) || key.starts_with("x-")) continue;
        // Says what the absence of other keywords says.
        if (key == "unevaluatedProperties" && value == false && !s.schema->contains("additionalProperties"))
            continue;
        if (key == "uniqueItems" && value == false) continue;
        refuse(s.path, key, "this keyword is not supported");
    }
}

JsonSchema::Sub JsonSchema::resolve(const Sub& s) const {
    const Json& ref = s.schema->at("$ref");
    if (!ref.is_string()) refuse(s.path, "$ref", "expected a string");
    const std::string& text = ref.get_ref<const std::string&>();
    if (text.empty() || text[0] != '#')
        refuse(s.path, "$ref", fmt::format("expected a reference within the schema (#/...), found {}", text));
    const Json* at = &root_;
    for (size_t i = 1; i < text.size();) {
        if (text[i] != '/') refuse(s.path, "$ref", fmt::format("expected a JSON pointer, found {}", text));
        const size_t end = std::min(text.find('/', i + 1), text.size());
        const std::string key = unescaped(text.substr(i + 1, end - i - 1));
        const Json* next = nullptr;
        if (at->is_object()) next = find_member(*at, key.c_str());
        if (at->is_array() && !key.empty() && key.size() < 9 &&
            key.find_first_not_of("0123456789") == std::string::npos) {
            const size_t index = *parse_integer<size_t>(key);
            if (index < at->size()) next = &(*at)[index];
        }
        if (next == nullptr) refuse(s.path, "$ref", fmt::format("{} is not there", text));
        at = next;
        i = end;
    }
    return {at, text.substr(1)};
}

// A value cannot be valid because it is valid.
void JsonSchema::check_loop(const Sub& s) {
    constexpr int open = 1, done = 2;
    int& mark = loop_marks_[s.schema];
    if (mark == done || !s.schema->is_object()) return;
    if (mark == open) refuse(s.path, "$ref", "the schema refers to itself for the same value");
    mark = open;
    if (++depth_ > max_in_place) refuse(s.path, "$ref", "too many references to references");
    if (s.schema->contains("$ref")) check_loop(resolve(s));
    for (const char* keyword : {"allOf", "anyOf", "oneOf"}) {
        const Json* list = find_member(*s.schema, keyword);
        if (list == nullptr) continue;
        if (!list->is_array() || list->empty()) refuse(s.path, keyword, "expected an array of schemas");
        for (size_t i = 0; i < list->size(); ++i)
            check_loop({&(*list)[i], fmt::format("{}/{}/{}", s.path, keyword, i)});
    }
    --depth_;
    loop_marks_[s.schema] = done;
}

void JsonSchema::flatten(const Sub& s, Conjunction& c) {
    if (++work_ > options_.limits.max_combinations * 100)
        refuse(s.path, "", "too many combinations of subschemas");
    if (s.schema->is_boolean()) {
        c.never = c.never || !s.schema->get<bool>();
        return;
    }
    check_keywords(s);
    check_loop(s);
    const auto same = [&](const Sub& other) { return other.schema == s.schema; };
    if (std::ranges::any_of(c.all, same)) return;
    c.all.push_back(s);
    if (s.schema->contains("$ref")) flatten(resolve(s), c);
    if (const Json* list = find_member(*s.schema, "allOf")) {
        for (size_t i = 0; i < list->size(); ++i)
            flatten({&(*list)[i], fmt::format("{}/allOf/{}", s.path, i)}, c);
    }
    for (const char* keyword : {"anyOf", "oneOf"}) {
        if (const Json* list = find_member(*s.schema, keyword)) {
            c.choices.push_back(
                {list, fmt::format("{}/{}", s.path, keyword), std::string_view(keyword) == "oneOf"});
        }
    }
}

JsonSchema::Conjunction JsonSchema::flatten(const std::vector<Sub>& subs, const std::string& path) {
    Conjunction c{.path = path};
    for (const Sub& s : subs) flatten(s, c);
    return c;
}

ExprPtr JsonSchema::rule_of(const std::vector<Sub>& subs, const std::string& path) {
    return rule_of(flatten(subs, path));
}

ExprPtr JsonSchema::rule_of(Conjunction c) {
    if (c.never) return choice({});
    std::vector<const void*> key;
    for (const Sub& s : c.all) key.push_back(first_equal(s.schema));
    std::ranges::sort(key);
    key.push_back(nullptr);
    for (const auto& x : c.choices) key.push_back(x.branches);
    const auto [it, fresh] = rules_.try_emplace(std::move(key), -1);
    if (fresh) {
        if (rules_.size() > options_.limits.max_combinations)
            refuse(c.path, "", "too many combinations of subschemas");
        it->second = builder_.new_rule();
        to_define_.emplace_back(it->second, std::move(c));
    }
    return call(it->second);
}

// The first schema that says the same, so that a hundred integers are one rule. Of those without parts, which
// are cheap to compare.
const Json* JsonSchema::first_equal(const Json* schema) {
    for (const auto& [key, value] : schema->items()) {
        if (value.is_object() || (value.is_array() && std::ranges::any_of(value, &Json::is_structured)))
            return schema;
    }
    return flat_schemas_.try_emplace(to_string(*schema), schema).first->second;
}

uint32_t JsonSchema::types_of(const Conjunction& c) const {
    uint32_t types = every_json_type, implied = 0;
    bool declared = false;
    for (const Sub& s : c.all) {
        uint32_t own = 0;
        if (const Json* type = find_member(*s.schema, "type")) {
            if (type->is_string()) {
                own = type_named(*type, s.path);
            } else if (type->is_array()) {
                for (const Json& t : *type) {
                    if (!t.is_string()) refuse(s.path, "type", "expected names of types");
                    own |= type_named(t, s.path);
                }
            } else {
                refuse(s.path, "type", "expected a name or an array of names");
            }
            if ((own & j_number) != 0) own |= j_integer;
            if (const Json* nullable = find_member(*s.schema, "nullable");
                nullable != nullptr && *nullable == true)
                own |= j_null;
            types &= own;
            declared = true;
        }
        for (const auto& i : implied_types) {
            if (s.schema->contains(i.keyword)) implied |= i.type;
        }
    }
    if ((implied & j_number) != 0) implied |= j_integer;
    if (!declared && implied != 0) types = implied;
    // Integers are numbers.
    return (types & j_number) != 0 ? types & ~uint32_t{j_integer} : types;
}

void JsonSchema::define(int32_t rule, const Conjunction& c) {
    if (!c.choices.empty()) return builder_.define(rule, *branches(c));
    for (const Sub& s : c.all) {
        const Json* values = find_member(*s.schema, "enum");
        if (values != nullptr && (!values->is_array() || values->empty()))
            refuse(s.path, "enum", "expected an array of values");
        if (values != nullptr) return builder_.define(rule, *enumerated(c, *values));
        if (const Json* value = find_member(*s.schema, "const"))
            return builder_.define(rule, *enumerated(c, Json::array({*value})));
    }
    const uint32_t types = types_of(c);
    std::vector<ExprPtr> parts;
    if ((types & j_null) != 0) parts.push_back(bytes("null"));
    if ((types & j_boolean) != 0) parts.push_back(choice({bytes("true"), bytes("false")}));
    if ((types & (j_integer | j_number)) != 0) {
        NumberBounds bounds = number_bounds(c);
        bounds.integer = (types & j_number) == 0;
        try {
            parts.push_back(number_expr(bounds, options_.limits));
        } catch (Refused& r) {
            if (r.error.path.empty()) r.error.path = c.path;
            throw;
        }
    }
    if ((types & j_string) != 0) parts.push_back(string_value(c));
    if ((types & j_array) != 0) {
        const int32_t array = builder_.new_rule();
        define_array(array, c);
        parts.push_back(call(array));
    }
    if ((types & j_object) != 0) {
        const int32_t object = builder_.new_rule();
        define_object(object, c);
        parts.push_back(call(object));
    }
    builder_.define(rule, *choice(std::move(parts)));
}

ExprPtr JsonSchema::branches(const Conjunction& c) {
    Conjunction rest = c;
    const Conjunction::Choice chosen = rest.choices.back();
    rest.choices.pop_back();
    if (chosen.exclusive) check_exclusive(rest, chosen);
    std::vector<ExprPtr> parts;
    for (size_t i = 0; i < chosen.branches->size(); ++i) {
        Conjunction branch = rest;
        branch.path = fmt::format("{}/{}", chosen.path, i);
        flatten({&(*chosen.branches)[i], branch.path}, branch);
        parts.push_back(rule_of(std::move(branch)));
    }
    return choice(std::move(parts));
}

ExprPtr JsonSchema::enumerated(const Conjunction& c, const Json& values) {
    std::vector<ExprPtr> parts;
    const uint32_t types = types_of(c);
    for (const Json& v : values) {
        bool valid = types != 0;
        for (const Sub& s : c.all) valid = valid && validates_plain(v, s);
        if (valid) parts.push_back(literal_json(v));
    }
    return choice(std::move(parts));
}

ExprPtr JsonSchema::literal_json(const Json& value) const {
    if (!value.is_structured()) return bytes(to_string(value));
    std::vector<ExprPtr> parts = {bytes(value.is_array() ? "[" : "{"), space_};
    bool first = true;
    for (const auto& [key, item] : value.items()) {
        if (!first) parts.push_back(comma_);
        first = false;
        if (value.is_object()) {
            parts.push_back(bytes(to_string(Json(key))));
            parts.push_back(colon_);
        }
        parts.push_back(literal_json(item));
    }
    if (!first) parts.push_back(space_);
    parts.push_back(bytes(value.is_array() ? "]" : "}"));
    return sequence(std::move(parts));
}

}  // namespace smelt::grammar
