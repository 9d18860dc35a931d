// From schemas to conjunctions, from conjunctions to alternatives of one type each.
#include "grammar/json_schema.h"

#include <algorithm>
#include <string_view>

#include "base/number.h"
#include "grammar/refused.h"

namespace smelt::grammar {

namespace {

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
                     {"uniqueItems", j_array},
                     {"contains", j_array},
                     {"unevaluatedItems", j_array},
                     {"properties", j_object},
                     {"required", j_object},
                     {"additionalProperties", j_object},
                     {"patternProperties", j_object},
                     {"propertyNames", j_object},
                     {"unevaluatedProperties", j_object},
                     {"minProperties", j_object},
                     {"maxProperties", j_object}};

}  // namespace

namespace {

// By their bits.
constexpr std::string_view type_names[] = {"null",   "boolean", "integer", "number",
                                           "string", "array",   "object"};

}  // namespace

uint32_t type_named(const std::string& name, const std::string& path) {
    for (size_t i = 0; i < std::size(type_names); ++i) {
        if (type_names[i] == name) return 1u << i;
    }
    refuse(
        path, "type",
        fmt::format("expected null, boolean, integer, number, string, array or object, found \"{}\"", name));
}

Json type_list(uint32_t types) {
    Json names = Json::array();
    for (size_t i = 0; i < std::size(type_names); ++i) {
        if ((types & (1u << i)) != 0) names.push_back(type_names[i]);
    }
    return names;
}

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
    return it == object.end() || it->is_null() ? nullptr : &*it;
}

const Json* constant_of(const Json& schema) {
    const auto it = schema.find("const");
    return it == schema.end() ? nullptr : &*it;
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

JsonSchema::JsonSchema(const Json& root, Builder& builder, const GrammarOptions& options, bool lenient)
    : root_(root), lenient_(lenient), builder_(builder), budget_(builder.budget()), options_(options) {
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

void JsonSchema::flatten(const Sub& s, Conjunction& c) {
    budget_.spend(20);
    if (s.schema->is_boolean()) {
        c.never = c.never || !s.schema->get<bool>();
        return;
    }
    check_keywords(s);
    check_loop(s);
    if (const auto* parts = linked(s.schema)) {
        for (const Sub& part : *parts) flatten_part(part, s, c);
        return;
    }
    budget_.spend(c.all.size());
    const auto same = [&](const Sub& other) { return other.schema == s.schema; };
    if (std::ranges::any_of(c.all, same)) return;
    c.all.push_back(s);
    if (reference(*s.schema) != nullptr) flatten_part(resolve(s), s, c);
    if (const Json* list = find_member(*s.schema, "allOf")) {
        for (size_t i = 0; i < list->size(); ++i)
            flatten_part({&(*list)[i], fmt::format("{}/allOf/{}", s.path, i)}, s, c);
    }
    if (const Json* schema = find_member(*s.schema, "not")) {
        const std::string path = s.path + "/not";
        const int depth = depth_;
        try {
            Conjunction with = c;
            flatten(negated({schema, path}), with);
            c = std::move(with);
        } catch (const Refused& r) {
            if (r.error.reason == GrammarError::Reason::cost) throw;
            depth_ = depth;
            drop(r.error.path, r.error.keyword, r.error.text);
        }
    }
    for (const Sub& condition : conditions(s)) flatten_part(condition, s, c);
    for (const char* keyword : {"anyOf", "oneOf"}) {
        if (const Json* list = find_member(*s.schema, keyword)) {
            std::vector<const Json*> above = s.above;
            above.push_back(s.schema);
            c.choices.push_back({list, fmt::format("{}/{}", s.path, keyword),
                                 std::string_view(keyword) == "oneOf", std::move(above)});
        }
    }
}

// What holds for the same value because `of` does.
void JsonSchema::flatten_part(Sub part, const Sub& of, Conjunction& c) {
    part.above = of.above;
    part.above.push_back(of.schema);
    flatten(part, c);
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
    budget_.spend(20 + 10 * (c.all.size() + c.choices.size()));
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
    const auto [it, fresh] = first_equal_.try_emplace(schema, schema);
    if (!fresh) return it->second;
    budget_.spend(10 * (1 + schema->size()));
    for (const auto& [key, value] : schema->items()) {
        if (value.is_object() || (value.is_array() && std::ranges::any_of(value, &Json::is_structured)))
            return schema;
    }
    std::string text = to_string(*schema);
    budget_.spend(text.size());
    return it->second = flat_schemas_.try_emplace(std::move(text), schema).first->second;
}

uint32_t JsonSchema::types_of(const Conjunction& c) const {
    uint32_t types = every_json_type, implied = 0;
    bool declared = false;
    for (const Sub& s : c.all) {
        budget_.spend(std::size(implied_types) * 5);
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
            if (find_member(*s.schema, i.keyword) != nullptr) implied |= i.type;
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
        if (const Json* value = constant_of(*s.schema))
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
            parts.push_back(number_expr(bounds, budget_));
        } catch (Refused& r) {
            if (r.error.path.empty()) r.error.path = c.path;
            if (r.error.reason == GrammarError::Reason::cost) throw;
            drop(r.error.path, r.error.keyword, r.error.text);
            parts.push_back(number_expr({.integer = bounds.integer}, budget_));
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

// A branch of a oneOf whose values could be valid in others as well is one without them.
ExprPtr JsonSchema::branches(const Conjunction& c) {
    Conjunction rest = c;
    const Conjunction::Choice chosen = rest.choices.back();
    rest.choices.pop_back();
    const auto branch = [&](size_t i) {
        return Sub{&(*chosen.branches)[i], fmt::format("{}/{}", chosen.path, i), chosen.above};
    };
    std::vector<std::vector<size_t>> others(chosen.branches->size());
    if (chosen.exclusive) others = overlaps(rest, chosen);
    std::vector<ExprPtr> parts;
    for (size_t i = 0; i < chosen.branches->size(); ++i) {
        Conjunction one = rest;
        one.path = branch(i).path;
        flatten(branch(i), one);
        const int depth = depth_;
        try {
            Conjunction without = one;
            // Of the types that its own keywords imply, which those of what is excluded would widen.
            if (!others[i].empty()) flatten(made({{"type", type_list(types_of(one))}}, one.path), without);
            for (const size_t k : others[i]) flatten(negated(branch(k)), without);
            one = std::move(without);
        } catch (const Refused& r) {
            if (r.error.reason == GrammarError::Reason::cost) throw;
            depth_ = depth;
            drop(chosen.path, "oneOf",
                 fmt::format("a value could be valid in branches {} and {}, and {}; anyOf is supported",
                             std::min(i, others[i][0]), std::max(i, others[i][0]), r.error.text));
        }
        parts.push_back(rule_of(std::move(one)));
    }
    return choice(std::move(parts));
}

ExprPtr JsonSchema::enumerated(const Conjunction& c, const Json& values) {
    std::vector<ExprPtr> parts;
    const uint32_t types = types_of(c);
    for (const Json& v : values) {
        bool valid = types != 0;
        for (const Sub& s : c.all) valid = valid && validates_plain(v, s, &values);
        if (valid) parts.push_back(literal_json(v));
    }
    return choice(std::move(parts));
}

ExprPtr JsonSchema::literal_json(const Json& value) const {
    budget_.spend(10);
    if (!value.is_structured()) {
        std::string text = to_string(value);
        budget_.spend(text.size());
        return bytes(std::move(text));
    }
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
