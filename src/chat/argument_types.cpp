// Follows references, unions and enums of a schema as far as the kind of a value depends on them.
#include "chat/argument_types.h"

#include <algorithm>
#include <optional>

#include "base/ascii.h"
#include "base/error.h"
#include "chat/answer_parser.h"
#include "chat/lenient_json.h"

namespace smelt {

namespace {

constexpr JsonLimits value_limits{.max_bytes = size_t{4} << 20, .max_values = 100'000};
constexpr int max_nesting = 16;  // of references and unions

enum Kind : unsigned { text = 1, null = 2, boolean = 4, number = 8, array = 16, object = 32, any = 63 };

const Json* find_member(const Json& from, std::string_view key) {
    if (!from.is_object()) return nullptr;
    const auto it = from.find(std::string(key));
    return it == from.end() || it->is_null() ? nullptr : &*it;
}

Kind kind_of(const Json& v) {
    switch (v.type()) {
        case Json::value_t::null:
            return null;
        case Json::value_t::boolean:
            return boolean;
        case Json::value_t::string:
            return text;
        case Json::value_t::array:
            return array;
        case Json::value_t::object:
            return object;
        default:
            return number;
    }
}

unsigned kind_named(const Json& name) {
    if (name == "string") return text;
    if (name == "null") return null;
    if (name == "boolean") return boolean;
    if (name == "integer" || name == "number") return number;
    if (name == "array") return array;
    if (name == "object") return object;
    // What templates and people write beside JSON Schema's names.
    if (name == "str" || name == "text") return text;
    if (name == "int" || name == "float") return number;
    if (name == "bool") return boolean;
    if (name == "list") return array;
    if (name == "dict") return object;
    return any;
}

class Schema {
 public:
    explicit Schema(const Json& parameters) : root_(parameters) {}

    // Where a reference within the schema leads; null: nowhere.
    const Json* resolved(const Json& schema, int depth = 0) const {
        const Json* ref = find_member(schema, "$ref");
        if (ref == nullptr) return &schema;
        if (!ref->is_string() || depth > max_nesting) return nullptr;
        const std::string& path = ref->get_ref<const std::string&>();
        if (!path.starts_with('#')) return nullptr;
        const Json* at = &root_;
        for (size_t i = 1; i < path.size();) {
            const size_t end = std::min(path.find('/', i + 1), path.size());
            at = find_member(*at, path.substr(i + 1, end - i - 1));
            if (at == nullptr) return nullptr;
            i = end;
        }
        return resolved(*at, depth + 1);
    }

    // Which kinds of values a schema allows, as far as its types, constants and unions say.
    unsigned kinds(const Json& given, int depth = 0) const {
        const Json* schema = resolved(given);
        if (schema == nullptr || !schema->is_object() || depth > max_nesting) return any;
        unsigned all = any;
        if (const Json* type = find_member(*schema, "type")) {
            unsigned named = 0;
            for (const Json& name : type->is_array() ? *type : Json::array({*type}))
                named |= kind_named(name);
            if (const Json* nullable = find_member(*schema, "nullable");
                nullable != nullptr && *nullable == true)
                named |= null;
            all &= named;
        }
        if (const Json* values = find_member(*schema, "enum"); values != nullptr && values->is_array()) {
            unsigned listed = 0;
            for (const Json& v : *values) listed |= kind_of(v);
            all &= listed;
        }
        if (const auto constant = schema->find("const"); constant != schema->end()) all &= kind_of(*constant);
        for (const char* keyword : {"anyOf", "oneOf"}) {
            const Json* branches = find_member(*schema, keyword);
            if (branches == nullptr || !branches->is_array() || branches->empty()) continue;
            unsigned one = 0;
            for (const Json& b : *branches) one |= kinds(b, depth + 1);
            all &= one;
        }
        if (const Json* parts = find_member(*schema, "allOf"); parts != nullptr && parts->is_array()) {
            for (const Json& p : *parts) all &= kinds(p, depth + 1);
        }
        if (find_member(*schema, "properties") != nullptr && find_member(*schema, "type") == nullptr)
            all &= unsigned{object};
        return all;
    }

    // The schema of a member; null: none says.
    const Json* member(const Json& given, std::string_view key, int depth = 0) const {
        const Json* schema = resolved(given);
        if (schema == nullptr || !schema->is_object() || depth > max_nesting) return nullptr;
        const Json* properties = find_member(*schema, "properties");
        if (const Json* own = properties == nullptr ? nullptr : find_member(*properties, key)) return own;
        for (const char* keyword : {"allOf", "anyOf", "oneOf"}) {
            const Json* parts = find_member(*schema, keyword);
            if (parts == nullptr || !parts->is_array()) continue;
            for (const Json& p : *parts) {
                if (const Json* found = member(p, key, depth + 1)) return found;
            }
        }
        const Json* others = find_member(*schema, "additionalProperties");
        return others != nullptr && others->is_object() ? others : nullptr;
    }

    // What the branches that allow strings say of them.
    void collect(const Json& given, BareText& all, int depth = 0) const {
        const Json* schema = resolved(given);
        if (schema == nullptr || !schema->is_object() || depth > max_nesting) {
            all.is_free = true;
            return;
        }
        if ((kinds(*schema) & null) != 0 && kinds(*schema) != any) all.texts.push_back("null");
        if ((kinds(*schema) & text) == 0) return;
        for (const char* keyword : {"pattern", "format", "minLength", "maxLength", "not", "if", "allOf"}) {
            if (find_member(*schema, keyword) != nullptr) all.unkept.push_back(keyword);
        }
        const Json* values = find_member(*schema, "enum");
        const auto constant = schema->find("const");
        if (values != nullptr || constant != schema->end()) {
            for (const Json& v : values != nullptr ? *values : Json::array({*constant})) {
                if (v.is_string()) all.texts.push_back(v);
            }
            return;
        }
        bool in_branches = false;
        for (const char* keyword : {"anyOf", "oneOf"}) {
            const Json* branches = find_member(*schema, keyword);
            if (branches == nullptr || !branches->is_array()) continue;
            in_branches = true;
            for (const Json& b : *branches) collect(b, all, depth + 1);
        }
        all.is_free = all.is_free || !in_branches;
    }

    // The values of an enum that the schema comes down to; null: none.
    const Json* values(const Json& given) const {
        const Json* schema = resolved(given);
        const Json* list = schema == nullptr ? nullptr : find_member(*schema, "enum");
        return list != nullptr && list->is_array() ? list : nullptr;
    }

 private:
    const Json& root_;
};

const Json* function_of(const Json& tool) {
    const Json* inner = find_member(tool, "function");
    return inner == nullptr ? &tool : inner;
}

const Json* tool_named(const Json& tools, std::string_view name) {
    if (!tools.is_array()) return nullptr;
    for (const Json& tool : tools) {
        const Json* function = function_of(tool);
        const Json* own = find_member(*function, "name");
        if (own != nullptr && *own == name) return function;
    }
    return nullptr;
}

const Json* parameters_of(const Json& tools, std::string_view function) {
    const Json* tool = tool_named(tools, function);
    return tool == nullptr ? nullptr : find_member(*tool, "parameters");
}

std::optional<Json> strict(std::string_view s) {
    try {
        return parse_json(s, "argument", value_limits);
    } catch (const Error&) {
        return std::nullopt;
    }
}

// As JSON, or as Python writes it.
std::optional<Json> read(std::string_view s) {
    if (auto value = strict(s)) return value;
    std::string_view rest = trimmed(s);
    auto value = take_lenient_json(rest, false);
    return value && trimmed(rest).empty() ? value : std::nullopt;
}

bool same_word(std::string_view a, std::string_view b) {
    const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; };
    return std::ranges::equal(a, b, {}, lower, lower);
}

std::optional<Json> word(std::string_view s, unsigned kinds) {
    if ((kinds & boolean) != 0 && same_word(s, "true")) return true;
    if ((kinds & boolean) != 0 && same_word(s, "false")) return false;
    if ((kinds & null) != 0 && (same_word(s, "null") || same_word(s, "none"))) return Json();
    return std::nullopt;
}

}  // namespace

bool is_tool(const Json& tools, std::string_view name) {
    return tool_named(tools, name) != nullptr;
}

std::optional<BareText> bare_text(const Json& parameters, const Json& schema) {
    const Schema root(parameters);
    const unsigned kinds = root.kinds(schema);
    if (kinds == any || (kinds & text) == 0) return std::nullopt;
    BareText all;
    root.collect(schema, all);
    return all;
}

bool is_parameter(const Json& tools, std::string_view function, std::string_view key) {
    const Json* parameters = parameters_of(tools, function);
    return parameters != nullptr && Schema(*parameters).member(*parameters, key) != nullptr;
}

Json argument_value(const Json& tools, std::string_view function, std::string_view key, std::string_view s) {
    const Json* parameters = parameters_of(tools, function);
    const Json nothing = Json::object();
    const Schema schema(parameters == nullptr ? nothing : *parameters);
    const Json* declared = parameters == nullptr ? nullptr : schema.member(*parameters, key);
    if (declared == nullptr) {
        const auto value = read(s);
        return value ? *value : Json(s);
    }
    const unsigned kinds = schema.kinds(*declared);
    if (const Json* values = schema.values(*declared)) {
        if (std::ranges::find(*values, Json(s)) != values->end()) return s;
        const auto value = read(s);
        if (value && std::ranges::find(*values, *value) != values->end()) return *value;
    }
    if (kinds == any) {  // the text alone says what it is
        const auto value = strict(s);
        return value ? *value : Json(s);
    }
    if ((kinds & text) != 0) {
        const auto value = (kinds & null) != 0 ? word(trimmed(s), null) : std::nullopt;
        return value ? *value : Json(s);
    }
    if (const auto value = word(trimmed(s), kinds)) return *value;
    const auto value = read(s);
    if (value && (kind_of(*value) & kinds) != 0) return *value;
    // A string in quotes where none was asked for may hold what was.
    if (value && value->is_string()) {
        const auto inner = read(value->get<std::string>());
        if (inner && (kind_of(*inner) & kinds) != 0) return *inner;
    }
    return value && !value->is_string() ? *value : Json(s);
}

}  // namespace smelt
