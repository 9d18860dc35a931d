// Whether a JSON value is a schema at all: the types of its keywords' values, as the meta-schemas have them.
// Whether it can be enforced is another question.
#include <algorithm>

#include "grammar/grammar.h"
#include "grammar/json_schema.h"
#include "grammar/refused.h"

namespace smelt {

namespace grammar {

namespace {

enum class Holds {
    schema,
    schema_or_boolean_list,
    schemas,
    members,
    dependencies,
    count,
    number,
    bound,
    text,
    flag,
    names,
    values,
    type
};

constexpr struct {
    std::string_view keyword;
    Holds holds;
} keywords[] = {{"not", Holds::schema},
                {"if", Holds::schema},
                {"then", Holds::schema},
                {"else", Holds::schema},
                {"contains", Holds::schema},
                {"propertyNames", Holds::schema},
                {"additionalProperties", Holds::schema},
                {"additionalItems", Holds::schema},
                {"unevaluatedItems", Holds::schema},
                {"unevaluatedProperties", Holds::schema},
                {"items", Holds::schema_or_boolean_list},
                {"prefixItems", Holds::schemas},
                {"allOf", Holds::schemas},
                {"anyOf", Holds::schemas},
                {"oneOf", Holds::schemas},
                {"properties", Holds::members},
                {"patternProperties", Holds::members},
                {"dependentSchemas", Holds::members},
                {"$defs", Holds::members},
                {"definitions", Holds::members},
                {"dependencies", Holds::dependencies},
                {"minLength", Holds::count},
                {"maxLength", Holds::count},
                {"minItems", Holds::count},
                {"maxItems", Holds::count},
                {"minContains", Holds::count},
                {"maxContains", Holds::count},
                {"minProperties", Holds::count},
                {"maxProperties", Holds::count},
                {"minimum", Holds::number},
                {"maximum", Holds::number},
                {"multipleOf", Holds::number},
                {"exclusiveMinimum", Holds::bound},
                {"exclusiveMaximum", Holds::bound},
                {"pattern", Holds::text},
                {"format", Holds::text},
                {"$ref", Holds::text},
                {"uniqueItems", Holds::flag},
                {"required", Holds::names},
                {"enum", Holds::values},
                {"type", Holds::type}};

constexpr int max_nesting = 200;

class Shape {
 public:
    void check(const Json& schema, const std::string& path) {
        if (schema.is_boolean()) return;
        if (!schema.is_object())
            refuse(path, "", fmt::format("expected a schema, found {}", schema.dump().substr(0, 40)));
        if (++depth_ > max_nesting) refuse(path, "", "nested too deeply");
        for (const auto& [keyword, holds] : keywords) {
            const Json* value = find_member(schema, std::string(keyword).c_str());
            if (value != nullptr) check_value(schema, std::string(keyword), *value, holds, path);
        }
        --depth_;
    }

 private:
    [[noreturn]] static void fail(const std::string& path, const std::string& keyword, const char* expected,
                                  const Json& found) {
        refuse(path, keyword, fmt::format("expected {}, found {}", expected, found.dump().substr(0, 40)));
    }

    void check_list(const std::string& at, const Json& list) {
        for (size_t i = 0; i < list.size(); ++i) check(list[i], fmt::format("{}/{}", at, i));
    }

    void check_value(const Json& schema, const std::string& keyword, const Json& v, Holds holds,
                     const std::string& path) {
        const std::string at = fmt::format("{}/{}", path, keyword);
        switch (holds) {
            case Holds::schema:
                return check(v, at);
            case Holds::schema_or_boolean_list:
                return v.is_array() ? check_list(at, v) : check(v, at);
            case Holds::schemas:
                if (!v.is_array() || v.empty()) fail(path, keyword, "an array of schemas", v);
                return check_list(at, v);
            case Holds::members:
            case Holds::dependencies:
                if (!v.is_object()) fail(path, keyword, "an object of schemas", v);
                for (const auto& [name, part] : v.items()) {
                    if (holds == Holds::dependencies && part.is_array()) continue;
                    check(part, fmt::format("{}/{}", at, pointer_part(name)));
                }
                return;
            case Holds::count:
                count_of(schema, keyword.c_str(), 0, path);
                return;
            case Holds::number:
                if (!v.is_number()) fail(path, keyword, "a number", v);
                return;
            case Holds::bound:
                if (!v.is_number() && !v.is_boolean()) fail(path, keyword, "a number", v);
                return;
            case Holds::text:
                if (!v.is_string()) fail(path, keyword, "a string", v);
                return;
            case Holds::flag:
                if (!v.is_boolean()) fail(path, keyword, "true or false", v);
                return;
            case Holds::names:
                if (!v.is_array() || !std::ranges::all_of(v, [](const Json& n) { return n.is_string(); }))
                    fail(path, keyword, "an array of names", v);
                return;
            case Holds::values:
                if (!v.is_array() || v.empty()) fail(path, keyword, "an array of values", v);
                return;
            case Holds::type:
                if (!v.is_string() && !v.is_array()) fail(path, keyword, "a name or an array of names", v);
                for (const Json& name : v.is_array() ? v : Json::array({v})) {
                    if (!name.is_string()) fail(path, keyword, "names of types", v);
                    type_named(name, path);
                }
        }
    }

    int depth_ = 0;
};

}  // namespace

}  // namespace grammar

std::optional<GrammarError> check_schema(const Json& schema) {
    try {
        grammar::Shape().check(schema, "");
    } catch (const grammar::Refused& refused) {
        return refused.error;
    }
    return std::nullopt;
}

}  // namespace smelt
