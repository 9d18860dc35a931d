// Which keywords there are, where references lead, and that no schema needs itself for the same value.
#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "base/number.h"
#include "grammar/json_schema.h"
#include "grammar/refused.h"

namespace smelt::grammar {

namespace {

// Of validation, in any draft, and not enforced. What no draft knows is an annotation (JSON Schema,
// core, 6.5).
constexpr std::string_view unsupported[] = {"divisibleBy", "disallow", "extends"};

constexpr int max_in_place = 200;  // of references to references

std::string unescaped(const std::string& part) {
    std::string name;
    for (size_t i = 0; i < part.size(); ++i) {
        const bool code = part[i] == '~' && i + 1 < part.size() && (part[i + 1] == '0' || part[i + 1] == '1');
        name += !code ? part[i] : part[++i] == '0' ? '~' : '/';
    }
    return name;
}

// A pointer in a URI's fragment is percent-encoded (RFC 6901, 6).
std::string percent_decoded(const std::string& text) {
    const auto digit = [](char c) {
        if (c >= '0' && c <= '9') return c - '0';
        const int letter = (c | 0x20) - 'a';
        return letter >= 0 && letter < 6 ? letter + 10 : -1;
    };
    std::string decoded;
    for (size_t i = 0; i < text.size(); ++i) {
        const bool code =
            text[i] == '%' && i + 2 < text.size() && digit(text[i + 1]) >= 0 && digit(text[i + 2]) >= 0;
        decoded += code ? static_cast<char>(digit(text[i + 1]) * 16 + digit(text[i + 2])) : text[i];
        if (code) i += 2;
    }
    return decoded;
}

const Json* child(const Json& at, const std::string& key) {
    if (at.is_object()) {
        const auto it = at.find(key);
        return it == at.end() ? nullptr : &*it;
    }
    const bool index = at.is_array() && !key.empty() && key.size() < 9 &&
                       key.find_first_not_of("0123456789") == std::string::npos;
    if (!index || *parse_integer<size_t>(key) >= at.size()) return nullptr;
    return &at[*parse_integer<size_t>(key)];
}

}  // namespace

// Refuses, or with `lenient` remembers.
void JsonSchema::drop(const std::string& path, const std::string& keyword, const std::string& why) {
    if (!lenient_) refuse(path, keyword, why);
    constexpr size_t enough = 20;
    const std::string text = GrammarError{path, keyword, why}.message();
    if (warnings_.size() < enough && std::ranges::find(warnings_, text) == warnings_.end())
        warnings_.push_back(text);
}

void JsonSchema::check_keywords(const Sub& s) {
    if (!s.schema->is_object())
        refuse(s.path, "", fmt::format("expected a schema, found {}", s.schema->dump().substr(0, 40)));
    if (!checked_.insert(s.schema).second) return;
    budget_.spend(10 * (1 + s.schema->size()));
    for (const char* key :
         {"not", "if", "then", "else", "contains", "unevaluatedItems", "unevaluatedProperties"}) {
        const Json* part = find_member(*s.schema, key);
        if (part == nullptr || part->is_object() || part->is_boolean()) continue;
        refuse(s.path, key, fmt::format("expected a schema, found {}", part->dump().substr(0, 40)));
    }
    for (const std::string_view key : unsupported) {
        if (s.schema->contains(std::string(key)))
            drop(s.path, std::string(key), "this keyword is not supported");
    }
}

// A dynamic reference leads where a plain one does, as long as the schema stands in one document.
const Json* JsonSchema::reference(const Json& schema) const {
    for (const char* keyword : {"$ref", "$dynamicRef", "$recursiveRef"}) {
        if (const Json* ref = find_member(schema, keyword)) return ref;
    }
    return nullptr;
}

void JsonSchema::find_names(const Json& at) {
    budget_.spend(10);
    if (at.is_object()) {
        for (const char* keyword : {"$anchor", "$dynamicAnchor"}) {
            if (const Json* name = find_member(at, keyword); name != nullptr && name->is_string())
                names_.try_emplace(fmt::format("#{}", name->get<std::string>()), &at);
        }
        for (const char* keyword : {"$id", "id"}) {
            if (const Json* name = find_member(at, keyword); name != nullptr && name->is_string()) {
                std::string id = name->get<std::string>();
                if (id.ends_with('#') && id.size() > 1) id.pop_back();
                names_.try_emplace(std::move(id), &at);
            }
        }
    }
    if (!at.is_structured()) return;
    for (const Json& part : at) find_names(part);
}

// The schema that calls itself so; null: none does.
const Json* JsonSchema::resource(const std::string& name, const std::string&) {
    if (name.empty()) return &root_;
    if (!std::exchange(names_found_, true)) find_names(root_);
    const auto it = names_.find(name);
    return it == names_.end() ? nullptr : it->second;
}

JsonSchema::Sub JsonSchema::resolve(const Sub& s) {
    const Json& ref = *reference(*s.schema);
    if (!ref.is_string()) refuse(s.path, "$ref", "expected a string");
    const std::string& text = ref.get_ref<const std::string&>();
    budget_.spend(10 + text.size());
    const size_t hash = std::min(text.find('#'), text.size());
    const std::string fragment = percent_decoded(text.substr(std::min(hash + 1, text.size())));
    const bool by_name = !fragment.empty() && fragment[0] != '/';
    const Json* at = resource(by_name ? fmt::format("#{}", fragment) : text.substr(0, hash), s.path);
    if (at == nullptr || (by_name && hash != 0 && resource(text.substr(0, hash), s.path) == nullptr)) {
        refuse(s.path, "$ref", fmt::format("expected a reference within the schema, found {}", text));
    }
    if (by_name) return {at, fmt::format("#{}", fragment)};
    for (size_t i = 0; i < fragment.size();) {
        const size_t end = std::min(fragment.find('/', i + 1), fragment.size());
        at = child(*at, unescaped(fragment.substr(i + 1, end - i - 1)));
        if (at == nullptr) refuse(s.path, "$ref", fmt::format("{} is not there", text));
        i = end;
    }
    return {at, fragment};
}

// A value cannot be valid because it is valid.
void JsonSchema::check_loop(const Sub& s) {
    constexpr int open = 1, done = 2;
    int& mark = loop_marks_[s.schema];
    if (mark == done || !s.schema->is_object()) return;
    budget_.spend(20);
    if (mark == open) refuse(s.path, "$ref", "the schema refers to itself for the same value");
    mark = open;
    if (++depth_ > max_in_place) refuse(s.path, "$ref", "too many references to references");
    if (reference(*s.schema) != nullptr) check_loop(resolve(s));
    for (const char* keyword : {"not", "if", "then", "else"}) {
        if (const Json* part = find_member(*s.schema, keyword))
            check_loop({part, fmt::format("{}/{}", s.path, keyword)});
    }
    for (const char* keyword : {"dependentSchemas", "dependencies"}) {
        const Json* parts = find_member(*s.schema, keyword);
        if (parts == nullptr) continue;
        if (!parts->is_object()) refuse(s.path, keyword, "expected an object");
        for (const auto& [name, part] : parts->items()) {
            if (!part.is_array())
                check_loop({&part, fmt::format("{}/{}/{}", s.path, keyword, pointer_part(name))});
        }
    }
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

}  // namespace smelt::grammar
