// What `not`, `if`, `dependentRequired` and the like come to: alternatives of schemas that say the same
// without them. Where the opposite of a keyword cannot be said, it is refused by name.
#include <algorithm>

#include "grammar/json_schema.h"
#include "grammar/refused.h"

namespace smelt::grammar {

namespace {

// A pattern that the text alone matches.
std::string quoted(const std::string& text) {
    std::string pattern;
    for (const char c : text) {
        if (std::string_view("^$\\.*+?()[]{}|/-").find(c) != std::string_view::npos) pattern += '\\';
        pattern += c;
    }
    return pattern;
}

std::string matches_nowhere(const std::string& pattern) {
    return "^(?![\\s\\S]*(?:" + pattern + "))";
}

Json listed(const Json& type) {
    return type.is_array() ? type : Json::array({type});
}

Json typed(const char* type, const char* keyword, const Json& value) {
    return {{"type", type}, {keyword, value}};
}

// The next integer, for counts.
Json one_more(const Json& n, int step) {
    return n.get<double>() + step;
}

bool is_true(const Json& schema) {
    return schema == true || (schema.is_object() && schema.empty());
}

}  // namespace

JsonSchema::Sub JsonSchema::made(Json schema, const std::string& path) {
    budget_.spend(20);
    made_.push_back(std::move(schema));
    return {&made_.back(), path};
}

JsonSchema::Sub JsonSchema::link(const Alternatives& alternatives, const std::string& path) {
    if (alternatives.empty()) return made(false, path);
    Json list = Json::array();
    for (size_t i = 0; i < alternatives.size(); ++i) list.push_back(Json::object());
    const Sub all = made({{"anyOf", std::move(list)}}, path);
    const Json& branches = all.schema->at("anyOf");
    for (size_t i = 0; i < alternatives.size(); ++i) links_[&branches[i]] = alternatives[i];
    return all;
}

// What a made schema stands for; null: it says itself what it is.
const std::vector<JsonSchema::Sub>* JsonSchema::linked(const Json* schema) {
    if (const auto it = links_.find(schema); it != links_.end()) return &it->second;
    const auto it = negations_.find(schema);
    if (it == negations_.end()) return nullptr;
    const Sub of = it->second;
    const Sub all = link(alternatives_to(of), of.path);
    return &(links_[schema] = {all});
}

// Looked at when it is first needed: a schema may hold itself further down.
JsonSchema::Sub JsonSchema::negated(const Sub& s) {
    const auto [it, fresh] = negation_of_.try_emplace(s.schema);
    if (fresh) {
        it->second = made(Json::object(), s.path);
        negations_[it->second.schema] = s;
    }
    return it->second;
}

JsonSchema::Sub JsonSchema::absent(const std::string& name, const std::string& path) {
    return made({{"type", "object"}, {"properties", {{name, false}}}}, path);
}

JsonSchema::Alternatives JsonSchema::alternatives_to(const Sub& s) {
    if (s.schema->is_boolean()) {
        if (s.schema->get<bool>()) return {};
        return {{}};
    }
    check_keywords(s);
    check_loop(s);
    Alternatives out;
    if (const auto* parts = linked(s.schema)) {
        for (const Sub& part : *parts) out.push_back({negated(part)});
        return out;
    }
    for (const auto& [key, value] : s.schema->items()) {
        if (!value.is_null() || key == "const") not_keyword(s, key, value, out);
    }
    return out;
}

void JsonSchema::not_keyword(const Sub& s, const std::string& key, const Json& value, Alternatives& out) {
    const std::string path = fmt::format("{}/{}", s.path, key);
    const auto part = [&](size_t i) { return Sub{&value[i], fmt::format("{}/{}", path, i)}; };
    const auto add = [&](Json schema) { out.push_back({made(std::move(schema), s.path)}); };
    const auto flipped = [&](const char* type, const char* other) { add(typed(type, other, value)); };
    const auto count = [&](const char* type, const char* other, int step) {
        const uint32_t n = count_of(*s.schema, key.c_str(), 0, s.path);
        if (step > 0 || n > 0) add(typed(type, other, one_more(n, step)));
    };
    if (key == "$ref" || key == "$dynamicRef" || key == "$recursiveRef") {
        out.push_back({negated(resolve(s))});
    } else if (key == "type") {
        uint32_t types = types_of({.all = {made({{"type", value}}, s.path)}});
        if ((types & j_number) != 0) types |= j_integer;
        const Json* nullable = find_member(*s.schema, "nullable");
        if (nullable != nullptr && *nullable == true) types |= j_null;
        Json others = type_list(~types & every_json_type);
        // An integer is a number: what is a number and no integer cannot be said.
        if ((types & (j_integer | j_number)) == j_integer)
            std::erase(others.get_ref<Json::array_t&>(), "number");
        if (!others.empty()) add({{"type", others}});
    } else if (key == "enum") {
        not_values(listed(value), s.path, out);
    } else if (key == "const") {
        not_values(Json::array({value}), s.path, out);
    } else if (key == "allOf") {
        for (size_t i = 0; i < value.size(); ++i) out.push_back({negated(part(i))});
    } else if (key == "anyOf" || key == "oneOf") {
        std::vector<Sub> none;
        for (size_t i = 0; i < value.size(); ++i) none.push_back(negated(part(i)));
        out.push_back(std::move(none));
        for (size_t i = 0; key == "oneOf" && i < value.size(); ++i) {
            for (size_t k = i + 1; k < value.size(); ++k) out.push_back({part(i), part(k)});
        }
    } else if (key == "not") {
        out.push_back({{&value, path}});
    } else if (key == "if" || key == "dependentRequired" || key == "dependentSchemas" ||
               key == "dependencies") {
        for (const Sub& c : conditions(s)) {
            const auto again = [&](const auto& o) {
                return o.size() == 1 && o[0].schema == negated(c).schema;
            };
            if (std::ranges::none_of(out, again)) out.push_back({negated(c)});
        }
    } else if (key == "minimum" || key == "maximum") {
        const char* other = key == "minimum" ? "exclusiveMaximum" : "exclusiveMinimum";
        const Json* excluded =
            find_member(*s.schema, key == "minimum" ? "exclusiveMinimum" : "exclusiveMaximum");
        const bool draft_4 = excluded != nullptr && *excluded == true;
        flipped("number", draft_4 ? (key == "minimum" ? "maximum" : "minimum") : other);
    } else if (key == "exclusiveMinimum" || key == "exclusiveMaximum") {
        if (!value.is_boolean()) flipped("number", key == "exclusiveMinimum" ? "maximum" : "minimum");
    } else if (key == "minLength" || key == "minItems" || key == "minProperties") {
        count(key == "minLength"  ? "string"
              : key == "minItems" ? "array"
                                  : "object",
              key == "minLength"  ? "maxLength"
              : key == "minItems" ? "maxItems"
                                  : "maxProperties",
              -1);
    } else if (key == "maxLength" || key == "maxItems" || key == "maxProperties") {
        count(key == "maxLength"  ? "string"
              : key == "maxItems" ? "array"
                                  : "object",
              key == "maxLength"  ? "minLength"
              : key == "maxItems" ? "minItems"
                                  : "minProperties",
              1);
    } else if (key == "pattern" && value.is_string()) {
        add(typed("string", "pattern", matches_nowhere(value)));
    } else if (key == "required" && value.is_array()) {
        for (const Json& name : value) {
            if (name.is_string()) out.push_back({absent(name, s.path)});
        }
    } else if (key == "properties" && value.is_object()) {
        for (const auto& [name, schema] : value.items()) {
            if (is_true(schema)) continue;
            const Sub has = made(
                {{"type", "object"}, {"required", {name}}, {"properties", {{name, Json::object()}}}}, s.path);
            links_[&has.schema->at("properties").at(name)] = {
                negated({&schema, fmt::format("{}/{}", path, pointer_part(name))})};
            out.push_back({has});
        }
    } else {
        constexpr std::string_view restrict[] = {
            "format",           "multipleOf",      "items",
            "prefixItems",      "additionalItems", "patternProperties",
            "propertyNames",    "contains",        "additionalProperties",
            "unevaluatedItems", "uniqueItems",     "unevaluatedProperties"};
        if (std::ranges::find(restrict, key) != std::end(restrict) && !is_true(value) &&
            !(key == "uniqueItems" && value == false)) {
            refuse(s.path, "not", fmt::format("the opposite of {} cannot be enforced", key));
        }
    }
}

// All values of the types that have none here, and what is left of the others. Arrays and objects with
// something in them are left out altogether where one is excluded.
void JsonSchema::not_values(const Json& values, const std::string& path, Alternatives& out) {
    budget_.spend(20 * values.size());
    const auto any = [&](auto is) { return std::ranges::any_of(values, is); };
    const auto add = [&](Json schema) { out.push_back({made(std::move(schema), path)}); };
    Json free = Json::array();
    if (!any([](const Json& v) { return v.is_null(); })) free.push_back("null");
    for (const bool b : {false, true}) {
        if (!any([&](const Json& v) { return v == b; })) add({{"const", b}});
    }
    if (!any([](const Json& v) { return v.is_string(); })) free.push_back("string");
    if (!any([](const Json& v) { return v.is_number(); })) free.push_back("number");
    if (!any([](const Json& v) { return v.is_array(); })) free.push_back("array");
    if (!any([](const Json& v) { return v.is_object(); })) free.push_back("object");
    if (!free.empty()) add({{"type", free}});
    if (std::ranges::find(free, "array") == free.end() &&
        std::ranges::all_of(values, [](const Json& v) { return !v.is_array() || v.empty(); }))
        add(typed("array", "minItems", 1));
    if (std::ranges::find(free, "object") == free.end() &&
        std::ranges::all_of(values, [](const Json& v) { return !v.is_object() || v.empty(); }))
        add(typed("object", "minProperties", 1));
    if (std::ranges::find(free, "string") == free.end()) {
        std::string all;
        for (const Json& v : values) {
            if (v.is_string()) all += "(?!" + quoted(v) + "$)";
        }
        add(typed("string", "pattern", "^" + all));
    }
    if (std::ranges::find(free, "number") != free.end()) return;
    std::vector<Json> numbers;
    for (const Json& v : values) {
        if (v.is_number()) numbers.push_back(v);
    }
    std::ranges::sort(numbers);
    add(typed("number", "exclusiveMaximum", numbers.front()));
    for (size_t i = 0; i + 1 < numbers.size(); ++i) {
        if (numbers[i] == numbers[i + 1]) continue;
        add({{"type", "number"}, {"exclusiveMinimum", numbers[i]}, {"exclusiveMaximum", numbers[i + 1]}});
    }
    add(typed("number", "exclusiveMinimum", numbers.back()));
}

// if, then, else; what a member asks of others. One schema each.
const std::vector<JsonSchema::Sub>& JsonSchema::conditions(const Sub& s) {
    const auto [it, fresh] = conditions_.try_emplace(s.schema);
    if (!fresh) return it->second;
    std::vector<Sub> all;
    const auto member = [&](const char* keyword) { return find_member(*s.schema, keyword); };
    const auto at = [&](const char* keyword) { return fmt::format("{}/{}", s.path, keyword); };
    if (const Json* test = member("if")) {
        const Sub when{test, at("if")};
        const auto with = [&](Sub first, const char* keyword) {
            std::vector<Sub> both = {std::move(first)};
            if (const Json* part = member(keyword)) both.push_back({part, at(keyword)});
            return both;
        };
        if (member("then") != nullptr || member("else") != nullptr)
            all.push_back(link({with(when, "then"), with(negated(when), "else")}, s.path));
    }
    for (const char* keyword : {"dependentRequired", "dependentSchemas", "dependencies"}) {
        const Json* list = member(keyword);
        if (list == nullptr) continue;
        if (!list->is_object()) refuse(s.path, keyword, "expected an object");
        for (const auto& [name, asked] : list->items()) {
            const std::string path = fmt::format("{}/{}", at(keyword), pointer_part(name));
            const Sub then =
                asked.is_array() ? made(typed("object", "required", asked), path) : Sub{&asked, path};
            // What is no object has no members.
            const Sub other = made({{"type", {"null", "boolean", "number", "string", "array"}}}, path);
            const Sub present = made(typed("object", "required", Json::array({name})), path);
            all.push_back(link({{absent(name, path)}, {present, then}, {other}}, path));
        }
    }
    return conditions_[s.schema] = std::move(all);
}

}  // namespace smelt::grammar
