// Whether a value of the schema itself (of enum, const) is valid, and whether the branches of a oneOf exclude
// each other.
#include <algorithm>
#include <cmath>

#include "grammar/char_dfa.h"
#include "grammar/json_schema.h"
#include "grammar/refused.h"
#include "grammar/regex.h"

namespace smelt::grammar {

namespace {

constexpr int max_depth = 100;

uint32_t type_of(const Json& v) {
    if (v.is_null()) return j_null;
    if (v.is_boolean()) return j_boolean;
    if (v.is_string()) return j_string;
    if (v.is_array()) return j_array;
    if (v.is_object()) return j_object;
    const bool whole = v.is_number_integer() || v.get<double>() == std::floor(v.get<double>());
    return whole ? j_integer | j_number : j_number;
}

// 1 and 1.0 are one value, 1 and true are two; members have no order.
bool same_value(const Json& a, const Json& b) {
    if (a.is_number() && b.is_number()) return a == b;
    if (a.type() != b.type() || a.size() != b.size()) return false;
    if (a.is_array()) {
        return std::equal(a.begin(), a.end(), b.begin(), same_value);
    }
    if (!a.is_object()) return a == b;
    for (const auto& [key, value] : a.items()) {
        const auto other = b.find(key);
        if (other == b.end() || !same_value(value, *other)) return false;
    }
    return true;
}

bool requires_member(const std::vector<const Json*>& required, const std::string& name) {
    return std::ranges::any_of(
        required, [&](const Json* list) { return std::ranges::find(*list, Json(name)) != list->end(); });
}

}  // namespace

bool JsonSchema::matches_pattern(const std::string& pattern, const std::string& text) {
    auto& dfa = patterns_[pattern];
    if (dfa == nullptr) {
        dfa = std::make_shared<const CharDfa>(make_dfa(
            *parse_regex(pattern, RegexMatch::anywhere, options_.limits.max_depth), options_.limits));
    }
    return dfa->accepts(decode_text(text));
}

bool JsonSchema::validates(const Json& value, const Sub& s) {
    if (s.schema->is_boolean()) return s.schema->get<bool>();
    check_keywords(s);
    check_loop(s);
    if (++work_ > options_.limits.max_combinations * 100 || depth_ > max_depth)
        refuse(s.path, "", "too much to check");
    ++depth_;
    const auto branch = [&](const char* keyword, const Json& list, size_t i) {
        return validates(value, {&list[i], fmt::format("{}/{}/{}", s.path, keyword, i)});
    };
    const auto n_valid = [&](const char* keyword, size_t& n) {
        const Json* list = find_member(*s.schema, keyword);
        if (list == nullptr) return SIZE_MAX;
        size_t valid = 0;
        for (size_t i = 0; i < list->size(); ++i) valid += branch(keyword, *list, i);
        n = list->size();
        return valid;
    };
    size_t n = 0;
    bool valid = validates_plain(value, s);
    if (valid && s.schema->contains("$ref")) valid = validates(value, resolve(s));
    if (const size_t k = n_valid("allOf", n); k != SIZE_MAX) valid = valid && k == n;
    if (const size_t k = n_valid("anyOf", n); k != SIZE_MAX) valid = valid && k > 0;
    if (const size_t k = n_valid("oneOf", n); k != SIZE_MAX) valid = valid && k == 1;
    --depth_;
    return valid;
}

// By the keywords that stand for themselves.
bool JsonSchema::validates_plain(const Json& value, const Sub& s) {
    if (s.schema->is_boolean()) return s.schema->get<bool>();
    const Conjunction alone{.all = {s}, .path = s.path};
    const uint32_t type = type_of(value);
    if (s.schema->contains("type")) {
        const uint32_t types = types_of(alone);
        if ((types & type) == 0) return false;
    }
    if (const Json* values = find_member(*s.schema, "enum")) {
        if (std::ranges::none_of(*values, [&](const Json& v) { return same_value(v, value); })) return false;
    }
    if (const Json* constant = find_member(*s.schema, "const");
        constant != nullptr && !same_value(*constant, value))
        return false;
    if (value.is_number() && !number_bounds(alone).contain(value)) return false;
    if (value.is_string()) {
        const auto text = decode_text(value.get_ref<const std::string&>());
        const LengthRange lengths = string_lengths(alone);
        if (text.size() < lengths.min || text.size() > lengths.max) return false;
        for (const ExprPtr& p : string_patterns(alone)) {
            if (!make_dfa(*p, options_.limits).accepts(text)) return false;
        }
    }
    return value.is_array() ? validates_array(value, s) : !value.is_object() || validates_object(value, s);
}

bool JsonSchema::validates_array(const Json& value, const Sub& s) {
    if (value.size() < count_of(*s.schema, "minItems", 0, s.path)) return false;
    if (value.size() > count_of(*s.schema, "maxItems", unlimited, s.path)) return false;
    const Json* items = find_member(*s.schema, "items");
    const bool old = items != nullptr && items->is_array();
    const Json* prefix = old ? items : find_member(*s.schema, "prefixItems");
    const Json* rest = old ? find_member(*s.schema, "additionalItems") : items;
    for (size_t i = 0; i < value.size(); ++i) {
        const Json* item = prefix != nullptr && i < prefix->size() ? &(*prefix)[i] : rest;
        if (item != nullptr && !validates(value[i], {item, s.path + "/items"})) return false;
    }
    return true;
}

bool JsonSchema::validates_object(const Json& value, const Sub& s) {
    if (value.size() < count_of(*s.schema, "minProperties", 0, s.path)) return false;
    if (value.size() > count_of(*s.schema, "maxProperties", unlimited, s.path)) return false;
    if (const Json* required = find_member(*s.schema, "required")) {
        for (const Json& name : *required) {
            if (name.is_string() && !value.contains(name.get_ref<const std::string&>())) return false;
        }
    }
    const Json* properties = find_member(*s.schema, "properties");
    const Json* patterns = find_member(*s.schema, "patternProperties");
    const Json* additional = find_member(*s.schema, "additionalProperties");
    const Json* names = find_member(*s.schema, "propertyNames");
    for (const auto& member : value.items()) {
        const std::string& key = member.key();
        const Json& item = member.value();
        if (names != nullptr && !validates(Json(key), {names, s.path + "/propertyNames"})) return false;
        bool said = false;
        const auto valid = [&](const Json& schema) {
            said = true;
            return validates(item, {&schema, fmt::format("{}/properties/{}", s.path, pointer_part(key))});
        };
        if (properties != nullptr) {
            const Json* own = find_member(*properties, key.c_str());
            if (own != nullptr && !valid(*own)) return false;
        }
        if (patterns != nullptr) {
            for (const auto& [pattern, schema] : patterns->items()) {
                if (matches_pattern(pattern, key) && !valid(schema)) return false;
            }
        }
        if (!said && additional != nullptr && !valid(*additional)) return false;
    }
    return true;
}

// Refuses where a value that one branch makes could be valid in another.
void JsonSchema::check_exclusive(const Conjunction& base, const Conjunction::Choice& chosen) {
    const size_t n = chosen.branches->size();
    std::vector<Conjunction> made, valid;
    for (size_t i = 0; i < n; ++i) {
        const Sub s{&(*chosen.branches)[i], fmt::format("{}/{}", chosen.path, i)};
        made.push_back(base);
        flatten(s, made.back());
        valid.push_back(flatten(std::vector<Sub>{s}, s.path));
    }
    for (size_t i = 0; i < n; ++i) {
        for (size_t k = 0; k < n; ++k) {
            if (i == k || disjoint(made[i], valid[k])) continue;
            refuse(chosen.path, "oneOf",
                   fmt::format("a value could be valid in branches {} and {}; anyOf is supported",
                               std::min(i, k), std::max(i, k)));
        }
    }
}

// The values of an enum or const that is there.
const Json* JsonSchema::known_values(const Conjunction& c, Json& scratch) const {
    for (const Sub& s : c.all) {
        if (const Json* values = find_member(*s.schema, "enum")) return values;
        if (const Json* value = find_member(*s.schema, "const")) {
            scratch = Json::array({*value});
            return &scratch;
        }
    }
    return nullptr;
}

// What is made of `a` and what is valid in `b`; true only where that is certain.
bool JsonSchema::disjoint(const Conjunction& a, const Conjunction& b) {
    if (a.never || b.never) return true;
    if (++work_ > options_.limits.max_combinations * 100 || depth_ > max_depth) return false;
    uint32_t both = types_of(a), types_b = every_json_type;
    for (const Sub& s : b.all) {
        if (!s.schema->contains("type")) continue;
        types_b &= types_of({.all = {s}});
    }
    if ((both & j_number) != 0) both |= j_integer;
    if ((types_b & j_number) != 0) types_b |= j_integer;
    both &= types_b;
    if (both == 0) return true;

    const auto all_invalid = [&](const Json* values, const Conjunction& c) {
        return values != nullptr && values->is_array() && std::ranges::all_of(*values, [&](const Json& v) {
                   return std::ranges::any_of(c.all, [&](const Sub& s) { return !validates_plain(v, s); });
               });
    };
    Json scratch_a, scratch_b;
    if (all_invalid(known_values(a, scratch_a), b) || all_invalid(known_values(b, scratch_b), a)) return true;
    if ((both & ~uint32_t{j_integer | j_number}) == 0) {
        const NumberBounds x = number_bounds(a), y = number_bounds(b);
        const auto apart = [](const NumberBounds& low, const NumberBounds& high) {
            return low.max && high.min &&
                   (*low.max < *high.min ||
                    (*low.max == *high.min && (low.max_excluded || high.min_excluded)));
        };
        return apart(x, y) || apart(y, x);
    }
    return both == j_object && disjoint_objects(a, b);
}

bool JsonSchema::disjoint_objects(const Conjunction& a, const Conjunction& b) {
    std::vector<const Json*> required_a, required_b;
    for (const Sub& s : a.all) {
        if (const Json* r = find_member(*s.schema, "required")) required_a.push_back(r);
    }
    for (const Sub& s : b.all) {
        if (const Json* r = find_member(*s.schema, "required")) required_b.push_back(r);
    }
    const auto property = [&](const Conjunction& c, const std::string& name) {
        std::vector<Sub> subs;
        for (const Sub& s : c.all) {
            const Json* properties = find_member(*s.schema, "properties");
            const Json* own = properties == nullptr ? nullptr : find_member(*properties, name.c_str());
            if (own != nullptr)
                subs.push_back({own, fmt::format("{}/properties/{}", s.path, pointer_part(name))});
        }
        return subs;
    };
    std::vector<std::string> names = member_names(a);
    const bool closed = a.choices.empty() && !is_open(a);
    for (const std::string& name : member_names(b)) {
        if (std::ranges::find(names, name) != names.end()) continue;
        if (closed && requires_member(required_b, name)) return true;
    }
    for (const std::string& name : names) {
        const bool by_a = requires_member(required_a, name);
        if (!by_a && !requires_member(required_b, name)) continue;
        const std::vector<Sub> subs_a = property(a, name), subs_b = property(b, name);
        if (!subs_a.empty() && !subs_b.empty()) {
            ++depth_;
            const bool apart = disjoint(flatten(subs_a, a.path), flatten(subs_b, b.path));
            --depth_;
            if (apart) return true;
        }
        for (const Sub& s : b.all) {
            const Json* additional = find_member(*s.schema, "additionalProperties");
            const bool forbids =
                additional != nullptr && *additional == false && !s.schema->contains("patternProperties");
            const Json* properties = find_member(*s.schema, "properties");
            if (by_a && forbids && (properties == nullptr || !properties->contains(name))) return true;
        }
    }
    return false;
}

}  // namespace smelt::grammar
