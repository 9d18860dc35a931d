// Arrays of a conjunction. What `contains` asks for comes first.
#include <algorithm>
#include <bit>
#include <cmath>

#include "grammar/json_schema.h"
#include "grammar/refused.h"

namespace smelt::grammar {

namespace {

constexpr int64_t most_in_range = 256;   // integers between bounds that are a set
constexpr size_t most_in_any_order = 8;  // values of a set: a state for each of the 2^n that were taken

const Json* prefix_of(const Json& schema, const std::string& path) {
    const Json* prefix = find_member(schema, "prefixItems");
    const Json* items = find_member(schema, "items");
    if (prefix == nullptr && items != nullptr && items->is_array()) prefix = items;  // draft 7
    if (prefix != nullptr && !prefix->is_array()) refuse(path, "prefixItems", "expected an array of schemas");
    return prefix;
}

const Json* rest_of(const Json& schema, const char*& keyword) {
    const Json* items = find_member(schema, "items");
    keyword = items != nullptr && items->is_array() ? "additionalItems" : "items";
    return find_member(schema, keyword);
}

}  // namespace

JsonSchema::ArrayShape JsonSchema::array_shape(const Conjunction& c) {
    ArrayShape a;
    bool says_rest = false, forbids_rest = false;
    size_t n_prefix = 0;
    const char* keyword = nullptr;
    for (const Sub& s : c.all) {
        budget_.spend(50);
        a.min = std::max(a.min, count_of(*s.schema, "minItems", 0, s.path));
        a.max = std::min(a.max, count_of(*s.schema, "maxItems", unlimited, s.path));
        const Json* prefix = prefix_of(*s.schema, s.path);
        if (prefix != nullptr) n_prefix = std::max(n_prefix, prefix->size());
        const Json* rest = rest_of(*s.schema, keyword);
        says_rest = says_rest || rest != nullptr;
        const Json* others = find_member(*s.schema, "unevaluatedItems");
        if (others != nullptr && rest == nullptr && *others == false) forbids_rest = true;
        const Json* unique = find_member(*s.schema, "uniqueItems");
        if (unique != nullptr && !unique->is_boolean())
            refuse(s.path, "uniqueItems", "expected true or false");
        a.unique = a.unique || (unique != nullptr && *unique == true);
        if (find_member(*s.schema, "contains") != nullptr) {
            const uint32_t n = count_of(*s.schema, "minContains", 1, s.path);
            a.min = std::max(a.min, n);
            a.n_first = std::max<size_t>(a.n_first, n);
            if (count_of(*s.schema, "maxContains", unlimited, s.path) < n) a.max = 0;
        }
    }
    a.n_first = std::max(a.n_first, n_prefix);
    // unevaluatedItems of one schema leaves what a sibling says about the rest.
    a.has_rest = says_rest || (!forbids_rest && (n_prefix == 0 || a.min > n_prefix));
    if (!a.has_rest) a.max = std::min<uint32_t>(a.max, static_cast<uint32_t>(n_prefix));
    return a;
}

// What holds for the item with this number.
std::vector<JsonSchema::Sub> JsonSchema::item_subs(const Conjunction& c, size_t i) {
    std::vector<Sub> subs;
    for (const Sub& s : c.all) {
        budget_.spend(20);
        const char* keyword = nullptr;
        const Json* prefix = prefix_of(*s.schema, s.path);
        const Json* rest = rest_of(*s.schema, keyword);
        if (prefix != nullptr && i < prefix->size()) {
            const char* where = find_member(*s.schema, "prefixItems") != nullptr ? "prefixItems" : "items";
            subs.push_back({&(*prefix)[i], fmt::format("{}/{}/{}", s.path, where, i)});
        } else if (rest != nullptr) {
            subs.push_back({rest, fmt::format("{}/{}", s.path, keyword)});
        } else if (const Json* others = find_member(*s.schema, "unevaluatedItems");
                   others != nullptr && others->is_object()) {
            subs.push_back({others, s.path + "/unevaluatedItems"});
        }
        if (const Json* contains = find_member(*s.schema, "contains")) {
            const Sub wanted{contains, s.path + "/contains"};
            if (i < count_of(*s.schema, "minContains", 1, s.path)) {
                subs.push_back(wanted);
            } else if (i >= count_of(*s.schema, "maxContains", unlimited, s.path)) {
                subs.push_back(negated(wanted));
            }
        }
    }
    return subs;
}

void JsonSchema::define_array(int32_t rule, const Conjunction& c) {
    ArrayShape a = array_shape(c);
    if (a.unique && a.max > 1) {
        if (define_set(rule, c, a)) return;
        drop(c.path, "uniqueItems",
             "is kept for items of enum, const, integers of a range of at most 256, booleans and null alone");
    }
    // Beyond maxContains another schema holds.
    for (const Sub& s : c.all) {
        const uint32_t most = count_of(*s.schema, "maxContains", unlimited, s.path);
        if (find_member(*s.schema, "contains") != nullptr && most != unlimited)
            a.n_first = std::max<size_t>(a.n_first, most);
    }
    const size_t n_first = std::min<size_t>(a.n_first, a.max);
    if (n_first > options_.limits.max_combinations) refuse(c.path, "contains", "too many items are counted");
    const auto item = [&](size_t i) { return rule_of(item_subs(c, i), fmt::format("{}/items", c.path)); };
    const auto [start, end] = builder_.open(rule);
    int32_t at = builder_.add_state();
    const int32_t close = builder_.add_state();
    builder_.add(*sequence({bytes("["), space_}), start, at);
    builder_.add(*sequence({space_, bytes("]")}), close, end);
    if (a.min == 0) builder_.add(*bytes("]"), at, end);
    for (size_t i = 0; i < n_first; ++i) {
        const int32_t next = builder_.add_state();
        // Not in one conditional: g++ 12 then destroys the list of the branch that was not taken.
        ExprPtr part = item(i);
        if (i > 0) part = sequence({comma_, part});
        builder_.add(*part, at, next);
        at = next;
        if (i + 1 >= a.min) builder_.skip(at, close);
    }
    if (a.max > n_first && a.has_rest) {
        const auto done = static_cast<uint32_t>(n_first);
        const ExprPtr rest = item(n_first), more = sequence({comma_, rest});
        const auto left = [&](uint32_t n) { return a.max == unlimited ? unlimited : a.max - n; };
        if (done == 0) {
            builder_.add(*sequence({rest, repeat(more, std::max(a.min, 1u) - 1, left(1))}), at, close);
        } else {
            builder_.add(*repeat(more, a.min > done ? a.min - done : 0, left(done)), at, close);
        }
    }
    builder_.close();
}

// All values that an item may have, and perhaps others that it may not; null: they are too many to list.
const Json* JsonSchema::finite_values(const Conjunction& item, Json& scratch) const {
    if (const Json* listed = known_values(item, scratch)) return listed->is_array() ? listed : nullptr;
    const uint32_t types = types_of(item);
    if ((types & ~uint32_t{j_null | j_boolean | j_integer}) != 0) return nullptr;
    scratch = Json::array();
    if ((types & j_null) != 0) scratch.push_back(nullptr);
    if ((types & j_boolean) != 0) scratch.insert(scratch.end(), {false, true});
    if ((types & j_integer) == 0) return &scratch;
    const NumberBounds bounds = number_bounds(item);
    if (!bounds.min || !bounds.max) return nullptr;
    const double min = std::ceil(bounds.min->get<double>()), max = std::floor(bounds.max->get<double>());
    if (!(std::abs(min) < 1e15 && std::abs(max) < 1e15 && max - min < static_cast<double>(most_in_range)))
        return nullptr;
    for (auto i = static_cast<int64_t>(min); i <= static_cast<int64_t>(max); ++i) scratch.push_back(i);
    return &scratch;
}

// Adds the values that can be made of `c`, each once. False: they are too many to list.
bool JsonSchema::list_values(const Conjunction& c, Json& values) {
    if (c.never) return true;
    if (!c.choices.empty()) {
        Conjunction rest = c;
        const Conjunction::Choice chosen = rest.choices.back();
        rest.choices.pop_back();
        const auto branch = [&](size_t i) {
            return Sub{&(*chosen.branches)[i], fmt::format("{}/{}", chosen.path, i), chosen.above};
        };
        for (size_t i = 0; i < chosen.branches->size(); ++i) {
            Conjunction one = rest;
            flatten(branch(i), one);
            Json own = Json::array();
            if (!list_values(one, own)) return false;
            for (const Json& v : own) {
                if (chosen.exclusive && v.is_structured()) return false;  // validates() may say no too often
                bool in_others = false;
                for (size_t k = 0; chosen.exclusive && k < chosen.branches->size(); ++k)
                    in_others = in_others || (k != i && validates(v, branch(k)));
                if (!in_others && !is_one_of(v, values)) values.push_back(v);
            }
        }
        return true;
    }
    Json scratch;
    const Json* listed = finite_values(c, scratch);
    if (listed == nullptr) return false;
    for (const Json& v : *listed) {
        const auto valid = [&](const Sub& s) { return validates_plain(v, s, listed); };
        if (std::ranges::all_of(c.all, valid) && !is_one_of(v, values)) values.push_back(v);
    }
    return true;
}

// An array of different values of a list: in any order where they are few, else in that of the list. False:
// the items are of no list.
bool JsonSchema::define_set(int32_t rule, const Conjunction& c, const ArrayShape& a) {
    if (a.n_first > 0) return false;
    Json listed = Json::array();
    if (!list_values(flatten(item_subs(c, 0), c.path + "/items"), listed)) return false;
    std::vector<ExprPtr> values;
    for (const Json& v : listed) values.push_back(literal_json(v));
    const size_t n = values.size();
    const auto [start, end] = builder_.open(rule);
    const int32_t open = builder_.add_state(), close = builder_.add_state();
    builder_.add(*sequence({bytes("["), space_}), start, open);
    builder_.add(*sequence({space_, bytes("]")}), close, end);
    if (a.min == 0) builder_.add(*bytes("]"), open, end);
    const auto add = [&](size_t i, bool first, int32_t from, int32_t to) {
        builder_.add(first ? *values[i] : *sequence({comma_, values[i]}), from, to);
    };
    if (n <= most_in_any_order) {
        std::vector<int32_t> taken = {open};  // by the set of those that were
        for (size_t set = 1; set < size_t{1} << n; ++set) taken.push_back(builder_.add_state());
        for (size_t set = 0; set < taken.size(); ++set) {
            const auto count = static_cast<uint32_t>(std::popcount(set));
            if (count >= std::max(a.min, 1u) && count <= a.max) builder_.skip(taken[set], close);
            for (size_t i = 0; i < n && count < a.max; ++i) {
                if ((set >> i & 1) == 0) add(i, set == 0, taken[set], taken[set | size_t{1} << i]);
            }
        }
    } else {
        // row[k]: before value i, with k taken, as far as k matters.
        const size_t most = a.max == unlimited ? std::max<size_t>(a.min, 1) : std::min<size_t>(a.max, n);
        const auto row_of = [&] {
            std::vector<int32_t> row;
            for (size_t k = 0; k <= most; ++k) row.push_back(builder_.add_state());
            return row;
        };
        std::vector<int32_t> row = row_of();
        builder_.skip(open, row[0]);
        for (size_t i = 0; i <= n; ++i) {
            const std::vector<int32_t> next = i < n ? row_of() : std::vector<int32_t>{};
            for (size_t k = 0; k <= most; ++k) {
                if (i == n) {
                    if (k >= std::max(a.min, 1u)) builder_.skip(row[k], close);
                    continue;
                }
                builder_.skip(row[k], next[k]);
                if (k < most) add(i, k == 0, row[k], next[k + 1]);
                if (k == most && a.max == unlimited) add(i, false, row[k], next[k]);
            }
            row = next;
        }
    }
    builder_.close();
    return true;
}

}  // namespace smelt::grammar
