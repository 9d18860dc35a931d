// Whether a value of the schema itself (of enum, const) is valid, and whether the branches of a oneOf exclude
// each other.
#include <algorithm>
#include <cmath>

#include "grammar/char_dfa.h"
#include "grammar/json_schema.h"
#include "grammar/refused.h"

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
bool same_value(const Json& a, const Json& b, Budget& budget) {
    budget.spend(4);
    if (a.is_number() && b.is_number()) return a == b;
    if (a.type() != b.type() || a.size() != b.size()) return false;
    if (a.is_array()) {
        return std::equal(a.begin(), a.end(), b.begin(),
                          [&](const Json& x, const Json& y) { return same_value(x, y, budget); });
    }
    if (!a.is_object()) return a == b;
    for (const auto& [key, value] : a.items()) {
        const auto other = b.find(key);
        if (other == b.end() || !same_value(value, *other, budget)) return false;
    }
    return true;
}

bool requires_member(const std::vector<const Json*>& required, const std::string& name, Budget& budget) {
    return std::ranges::any_of(required, [&](const Json* list) {
        budget.spend(2 * list->size());
        return std::ranges::find(*list, Json(name)) != list->end();
    });
}

}  // namespace

bool JsonSchema::matches_pattern(const std::string& pattern, const std::string& text) {
    budget_.spend(10 + text.size());
    return dfa_of(pattern_expr(pattern, "", "pattern")).accepts(decode_text(text));
}

bool JsonSchema::validates(const Json& value, const Sub& s) {
    if (s.schema->is_boolean()) return s.schema->get<bool>();
    check_keywords(s);
    check_loop(s);
    budget_.spend(20);
    if (depth_ > max_depth) refuse(s.path, "", "too much to check");
    if (const auto* parts = linked(s.schema))
        return std::ranges::all_of(*parts, [&](const Sub& part) { return validates(value, part); });
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
    if (valid && reference(*s.schema) != nullptr) valid = validates(value, resolve(s));
    if (const size_t k = n_valid("allOf", n); k != SIZE_MAX) valid = valid && k == n;
    if (const size_t k = n_valid("anyOf", n); k != SIZE_MAX) valid = valid && k > 0;
    if (const size_t k = n_valid("oneOf", n); k != SIZE_MAX) valid = valid && k == 1;
    if (const Json* schema = find_member(*s.schema, "not"))
        valid = valid && !validates(value, {schema, s.path + "/not"});
    valid = valid && validates_conditions(value, s);
    --depth_;
    return valid;
}

bool JsonSchema::validates_conditions(const Json& value, const Sub& s) {
    return std::ranges::all_of(conditions(s), [&](const Sub& c) { return validates(value, c); });
}

bool JsonSchema::is_one_of(const Json& value, const Json& values) {
    return std::ranges::any_of(values, [&](const Json& v) { return same_value(v, value, budget_); });
}

// By the keywords that stand for themselves.
bool JsonSchema::validates_plain(const Json& value, const Sub& s, const Json* known) {
    if (s.schema->is_boolean()) return s.schema->get<bool>();
    budget_.spend(20);
    const Conjunction alone{.all = {s}, .path = s.path};
    const uint32_t type = type_of(value);
    if (find_member(*s.schema, "type") != nullptr) {
        const uint32_t types = types_of(alone);
        if ((types & type) == 0) return false;
    }
    const Json* values = find_member(*s.schema, "enum");
    if (values != nullptr && values != known && !is_one_of(value, *values)) return false;
    if (const Json* constant = constant_of(*s.schema);
        constant != nullptr && !same_value(*constant, value, budget_))
        return false;
    if (value.is_number() && !number_bounds(alone).contain(value)) return false;
    if (value.is_string()) {
        const auto text = decode_text(value.get_ref<const std::string&>());
        budget_.spend(text.size());
        const LengthRange lengths = string_lengths(alone);
        if (text.size() < lengths.min || text.size() > lengths.max) return false;
        for (const ExprPtr& p : string_patterns(alone)) {
            if (!dfa_of(p).accepts(text)) return false;
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
    if (prefix != nullptr && !prefix->is_array())
        refuse(s.path, "prefixItems", "expected an array of schemas");
    const Json* rest = old ? find_member(*s.schema, "additionalItems") : items;
    if (rest == nullptr) rest = find_member(*s.schema, "unevaluatedItems");
    for (size_t i = 0; i < value.size(); ++i) {
        const Json* item = prefix != nullptr && i < prefix->size() ? &(*prefix)[i] : rest;
        if (item != nullptr && !validates(value[i], {item, s.path + "/items"})) return false;
    }
    if (const Json* unique = find_member(*s.schema, "uniqueItems"); unique != nullptr && *unique == true) {
        for (size_t i = 0; i < value.size(); ++i) {
            for (size_t k = 0; k < i; ++k) {
                budget_.spend(10);
                if (same_value(value[i], value[k], budget_)) return false;
            }
        }
    }
    const Json* contains = find_member(*s.schema, "contains");
    if (contains == nullptr) return true;
    uint32_t n = 0;
    for (const Json& item : value) n += validates(item, {contains, s.path + "/contains"});
    return n >= count_of(*s.schema, "minContains", 1, s.path) &&
           n <= count_of(*s.schema, "maxContains", unlimited, s.path);
}

bool JsonSchema::validates_object(const Json& value, const Sub& s) {
    if (value.size() < count_of(*s.schema, "minProperties", 0, s.path)) return false;
    if (value.size() > count_of(*s.schema, "maxProperties", unlimited, s.path)) return false;
    if (const Json* required = find_member(*s.schema, "required")) {
        for (const Json& name : *required) {
            budget_.spend(10);
            if (name.is_string() && !value.contains(name.get_ref<const std::string&>())) return false;
        }
    }
    return validates_members(value, s);
}

bool JsonSchema::validates_members(const Json& value, const Sub& s) {
    const Json* properties = find_member(*s.schema, "properties");
    const Json* patterns = find_member(*s.schema, "patternProperties");
    const Json* additional = find_member(*s.schema, "additionalProperties");
    if (additional == nullptr) additional = find_member(*s.schema, "unevaluatedProperties");
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

std::vector<std::vector<size_t>> JsonSchema::overlaps(const Conjunction& base,
                                                      const Conjunction::Choice& chosen) {
    const size_t n = chosen.branches->size();
    std::vector<Conjunction> all, valid;
    for (size_t i = 0; i < n; ++i) {
        const Sub s{&(*chosen.branches)[i], fmt::format("{}/{}", chosen.path, i)};
        budget_.spend(20 * (1 + base.all.size() + base.choices.size()));
        all.push_back(base);
        flatten(s, all.back());
        valid.push_back(flatten(std::vector<Sub>{s}, s.path));
    }
    std::vector<std::vector<size_t>> with(n);
    for (size_t i = 0; i < n; ++i) {
        for (size_t k = 0; k < n; ++k) {
            if (i != k && !disjoint(all[i], valid[k])) with[i].push_back(k);
        }
    }
    return with;
}

// The values of an enum or const that is there.
const Json* JsonSchema::known_values(const Conjunction& c, Json& scratch) const {
    for (const Sub& s : c.all) {
        if (const Json* values = find_member(*s.schema, "enum")) return values;
        if (const Json* value = constant_of(*s.schema)) {
            scratch = Json::array({*value});
            return &scratch;
        }
    }
    return nullptr;
}

// What is made of `a` and what is valid in `b`; true only where that is certain.
bool JsonSchema::disjoint(const Conjunction& a, const Conjunction& b) {
    if (a.never || b.never) return true;
    budget_.spend(50);
    if (depth_ > max_depth) return false;
    const auto all_invalid = [&](const Json* values, const Conjunction& c) {
        return values != nullptr && values->is_array() && std::ranges::all_of(*values, [&](const Json& v) {
                   return std::ranges::any_of(c.all, [&](const Sub& s) { return !validates_plain(v, s); });
               });
    };
    Json scratch_a, scratch_b;
    // What is listed is made whatever the other keywords say of types.
    if (const Json* values = known_values(a, scratch_a)) return all_invalid(values, b);
    uint32_t both = types_of(a), types_b = every_json_type;
    for (const Sub& s : b.all) {
        if (find_member(*s.schema, "type") == nullptr) continue;
        types_b &= types_of({.all = {s}});
    }
    if ((both & j_number) != 0) both |= j_integer;
    if ((types_b & j_number) != 0) types_b |= j_integer;
    both &= types_b;
    if (both == 0) return true;
    if (all_invalid(known_values(b, scratch_b), a)) return true;
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
        budget_.spend(names.size());
        if (std::ranges::find(names, name) != names.end()) continue;
        if (closed && requires_member(required_b, name, budget_)) return true;
    }
    for (const std::string& name : names) {
        budget_.spend(20);
        const bool by_a = requires_member(required_a, name, budget_);
        if (!by_a && !requires_member(required_b, name, budget_)) continue;
        const std::vector<Sub> subs_a = property(a, name), subs_b = property(b, name);
        if (!subs_a.empty() && !subs_b.empty()) {
            ++depth_;
            const bool apart = disjoint(flatten(subs_a, a.path), flatten(subs_b, b.path));
            --depth_;
            if (apart) return true;
        }
        for (const Sub& s : b.all) {
            const Json* additional = find_member(*s.schema, "additionalProperties");
            const bool forbids = additional != nullptr && *additional == false &&
                                 find_member(*s.schema, "patternProperties") == nullptr;
            const Json* properties = find_member(*s.schema, "properties");
            if (by_a && forbids && (properties == nullptr || !properties->contains(name))) return true;
        }
    }
    return false;
}

}  // namespace smelt::grammar
