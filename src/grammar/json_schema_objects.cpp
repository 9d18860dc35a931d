// Objects of a conjunction.
#include <algorithm>
#include <functional>

#include "grammar/char_dfa.h"
#include "grammar/json_schema.h"
#include "grammar/refused.h"

namespace smelt::grammar {

namespace {

constexpr size_t most_counted = 128;  // members whose number is counted
constexpr size_t most_patterns = 5;   // of members: 2^n kinds of names

const Json& object_at(const Json& schema, const char* keyword, const std::string& path) {
    static const Json none = Json::object();
    const Json* value = find_member(schema, keyword);
    if (value == nullptr) return none;
    if (!value->is_object()) refuse(path, keyword, "expected an object of schemas");
    return *value;
}

}  // namespace

// Of propertyNames those that are listed there: as good as names of `properties`.
std::vector<std::string> JsonSchema::member_names(const Conjunction& c) {
    std::vector<std::string> names;
    std::set<std::string> known;
    const auto add = [&](const std::string& name) {
        budget_.spend(20);
        if (known.insert(name).second) names.push_back(name);
    };
    for (const Sub& s : c.all) {
        for (const auto& [name, value] : object_at(*s.schema, "properties", s.path).items()) add(name);
    }
    for (const Sub& s : c.all) {
        const Json* required = find_member(*s.schema, "required");
        if (required == nullptr) continue;
        if (!required->is_array()) refuse(s.path, "required", "expected an array of names");
        for (const Json& name : *required) {
            if (!name.is_string()) refuse(s.path, "required", "expected an array of names");
            add(name);
        }
    }
    for (const Sub& s : c.all) {
        const Json* rule = find_member(*s.schema, "propertyNames");
        if (rule == nullptr) continue;
        const Conjunction listed = flatten(std::vector<Sub>{{rule, s.path + "/propertyNames"}}, s.path);
        Json scratch;
        const Json* values = listed.never ? nullptr : known_values(listed, scratch);
        if (values == nullptr || !values->is_array()) continue;
        for (const Json& name : *values) {
            if (name.is_string()) add(name);
        }
    }
    return names;
}

// Members that are not to be there name nothing.
bool JsonSchema::names_members(const Conjunction& c) {
    return std::ranges::any_of(c.all, [](const Sub& s) {
        const Json* required = find_member(*s.schema, "required");
        if (required != nullptr && !required->empty()) return true;
        const Json* properties = find_member(*s.schema, "properties");
        return properties != nullptr &&
               std::ranges::any_of(*properties, [](const Json& schema) { return schema != false; });
    });
}

// Objects keep to the members that the schema names, unless it says what others are, or names none.
bool JsonSchema::is_open(const Conjunction& c) {
    bool open = true, says = false;
    for (const Sub& s : c.all) {
        const Json* additional = find_member(*s.schema, "additionalProperties");
        const bool forbids = additional != nullptr && *additional == false;
        const bool patterns = find_member(*s.schema, "patternProperties") != nullptr;
        if (forbids && !patterns) open = false;
        if ((additional != nullptr && !forbids) || patterns) says = true;
        const Json* others = find_member(*s.schema, "unevaluatedProperties");
        if (others == nullptr) continue;
        if (*others != false) {
            says = true;
            continue;
        }
        // What a part of the schema takes is evaluated; else nothing comes beside the names.
        const bool taken = std::ranges::any_of(c.all, [&](const Sub& t) {
            const bool part = t.schema == s.schema || std::ranges::find(t.above, s.schema) != t.above.end();
            const Json* a = find_member(*t.schema, "additionalProperties");
            return part &&
                   ((a != nullptr && *a != false) || find_member(*t.schema, "patternProperties") != nullptr);
        });
        open = open && taken;
    }
    return open && (says || !names_members(c));
}

// Whether `by` or a part of it says what the member is.
bool JsonSchema::is_evaluated(const Conjunction& c, const Sub& by, const std::string& name) {
    return std::ranges::any_of(c.all, [&](const Sub& t) {
        budget_.spend(20);
        if (t.schema != by.schema && std::ranges::find(t.above, by.schema) == t.above.end()) return false;
        if (object_at(*t.schema, "properties", t.path).contains(name)) return true;
        if (find_member(*t.schema, "additionalProperties") != nullptr) return true;
        const Json& patterns = object_at(*t.schema, "patternProperties", t.path);
        for (const auto& [pattern, value] : patterns.items()) {
            if (matches_pattern(pattern, name)) return true;
        }
        return false;
    });
}

// The names that keep to the rules, but for `lengths` where they may have any.
CharDfa JsonSchema::names_dfa(const Conjunction& c, LengthRange& lengths) {
    lengths = {0, unlimited};
    if (c.never || (types_of(c) & j_string) == 0) return make_dfa(*choice({}), budget_);
    if (!c.choices.empty()) {
        Conjunction rest = c;
        const Conjunction::Choice chosen = rest.choices.back();
        rest.choices.pop_back();
        if (chosen.exclusive) refuse(chosen.path, "oneOf", "is not supported for names; anyOf is");
        std::vector<ExprPtr> parts;
        for (size_t i = 0; i < chosen.branches->size(); ++i) {
            Conjunction one = rest;
            flatten({&(*chosen.branches)[i], fmt::format("{}/{}", chosen.path, i)}, one);
            LengthRange of_branch{};
            CharDfa names = names_dfa(one, of_branch);
            parts.push_back(of_lengths(std::move(names), of_branch));
        }
        return make_dfa(*choice(std::move(parts)), budget_);
    }
    const LengthRange own = string_lengths(c);
    if (own.min > own.max) return make_dfa(*choice({}), budget_);
    Json scratch;
    if (const Json* values = known_values(c, scratch)) {
        std::vector<ExprPtr> texts;
        for (const Json& v : *values) {
            const auto valid = [&](const Sub& s) { return validates_plain(v, s, values); };
            if (v.is_string() && std::ranges::all_of(c.all, valid))
                texts.push_back(literal(decode_text(v.get_ref<const std::string&>())));
        }
        return make_dfa(*choice(std::move(texts)), budget_);
    }
    CharDfa all = make_dfa(*repeat(chars(CharSet::all()), 0), budget_);
    for (const ExprPtr& e : string_patterns(c)) all = intersection(all, dfa_of(e), budget_);
    lengths = own;
    return all;
}

// Members whose names the schema does not list: a kind for each set of patterns that a name can match.
std::vector<JsonSchema::Free> JsonSchema::free_members(const Conjunction& c,
                                                       const std::vector<std::string>& names) {
    struct Pattern {
        CharDfa dfa;
        std::vector<std::pair<const Sub*, Sub>> subs;  // whose, what
    };
    std::map<std::string, Pattern> patterns;
    std::vector<Sub> name_subs;
    for (const Sub& s : c.all) {
        for (const auto& [pattern, value] : object_at(*s.schema, "patternProperties", s.path).items()) {
            Pattern& p = patterns[pattern];
            if (p.subs.empty()) p.dfa = dfa_of(pattern_expr(pattern, s.path, "patternProperties"));
            p.subs.emplace_back(
                &s, Sub{&value, fmt::format("{}/patternProperties/{}", s.path, pointer_part(pattern))});
        }
        if (const Json* name_schema = find_member(*s.schema, "propertyNames"))
            name_subs.push_back({name_schema, s.path + "/propertyNames"});
    }
    if (patterns.size() > most_patterns) {
        refuse(c.path, "patternProperties",
               fmt::format("expected at most {} patterns for one object, found {}", most_patterns,
                           patterns.size()));
    }
    std::vector<std::u32string> taken;
    for (const std::string& n : names) taken.push_back(decode_text(n));
    const Conjunction rules = flatten(name_subs, c.path + "/propertyNames");
    const bool any_name =
        names.empty() && patterns.empty() && !rules.never && rules.all.empty() && rules.choices.empty();
    CharDfa allowed = all_but(taken, budget_);
    LengthRange lengths{0, unlimited};
    if (!any_name) allowed = intersection(allowed, names_dfa(rules, lengths), budget_);
    std::vector<Free> kinds;
    for (size_t set = 0; set < size_t{1} << patterns.size(); ++set) {
        CharDfa key = allowed;
        std::vector<Sub> subs;
        std::set<const Sub*> matched;
        size_t bit = 1;
        for (const auto& [text, p] : patterns) {
            key = intersection(key, (set & bit) != 0 ? p.dfa : complement(p.dfa, budget_), budget_);
            for (const auto& [whose, what] : p.subs) {
                if ((set & bit) == 0) continue;
                subs.push_back(what);
                matched.insert(whose);
            }
            bit <<= 1;
        }
        bool says = set != 0 || !names_members(c);
        for (const Sub& s : c.all) {
            const Json* additional = find_member(*s.schema, "additionalProperties");
            if (additional == nullptr || matched.contains(&s)) continue;
            subs.push_back({additional, s.path + "/additionalProperties"});
            says = true;
        }
        for (const Sub& s : c.all) {
            const Json* others = find_member(*s.schema, "unevaluatedProperties");
            const auto takes = [&](const Sub& t) {
                const bool part =
                    t.schema == s.schema || std::ranges::find(t.above, s.schema) != t.above.end();
                return part &&
                       (find_member(*t.schema, "additionalProperties") != nullptr || matched.contains(&t));
            };
            if (others == nullptr || std::ranges::any_of(c.all, takes)) continue;
            subs.push_back({others, s.path + "/unevaluatedProperties"});
            says = true;
        }
        if (!says || key.empty()) continue;
        ExprPtr text = any_string();
        if (!any_name) {
            text = sequence({bytes("\""), json_text(of_lengths(std::move(key), lengths)), bytes("\"")});
        }
        kinds.push_back({text, std::move(subs)});
    }
    return kinds;
}

void JsonSchema::define_object(int32_t rule, const Conjunction& c) {
    uint32_t min = 0, max = unlimited;
    std::set<std::string> required;
    for (const Sub& s : c.all) {
        min = std::max(min, count_of(*s.schema, "minProperties", 0, s.path));
        max = std::min(max, count_of(*s.schema, "maxProperties", unlimited, s.path));
        if (const Json* list = find_member(*s.schema, "required")) {
            if (!list->is_array()) refuse(s.path, "required", "expected an array of names");
            for (const Json& name : *list) {
                budget_.spend(10);
                if (name.is_string()) required.insert(name.get<std::string>());
            }
        }
    }
    Members m;
    const std::vector<std::string> names = member_names(c);
    for (const std::string& name : names) {
        m.names.push_back(bytes(to_string(Json(name))));
        m.values.push_back(named_value(c, name));
        m.required.push_back(required.contains(name));
    }
    if (is_open(c)) {
        std::vector<ExprPtr> kinds;
        for (Free& f : free_members(c, names)) {
            kinds.push_back(sequence({f.key, colon_, rule_of(f.subs, c.path + "/additionalProperties")}));
        }
        if (!kinds.empty()) m.free = call(builder_.add_rule(*choice(std::move(kinds))));
    }
    const size_t n = m.names.size();
    if (m.free != nullptr && min > n + 1) {
        refuse(c.path, "minProperties",
               fmt::format("names that are not listed may come twice: expected at most {}, found {}", n + 1,
                           min));
    }
    const bool counting = min > required.size() || max < n || (m.free != nullptr && max != unlimited);
    if (!counting) return define_members(rule, m);
    if (n > most_counted) {
        refuse(c.path, "minProperties",
               fmt::format("expected at most {} properties beside it, found {}", most_counted, n));
    }
    define_counted_members(rule, m, min, max);
}

// Behind member i comes one of those from i + 1 to the next that is required. Such a range is a few of the
// blocks that halving makes of all members, each a rule: the names of a block as a tree of bytes, at its
// leaves what is behind the names up to the end of the object. So a hundred members that may come next are as
// cheap as a few.
void JsonSchema::define_members(int32_t rule, const Members& m) {
    const size_t n = m.names.size();
    std::vector<size_t> next_required(n + 1, n);
    for (size_t i = n; i-- > 0;) next_required[i] = m.required[i] ? i : next_required[i + 1];
    std::vector<int32_t> behind_name;
    for (size_t i = 0; i < n; ++i) behind_name.push_back(builder_.new_rule());

    std::map<std::pair<size_t, size_t>, int32_t> blocks;  // [first, second)
    const auto block_rule = [&](size_t lo, size_t hi) {
        const auto [it, fresh] = blocks.try_emplace({lo, hi}, -1);
        if (!fresh) return it->second;
        it->second = builder_.new_rule();
        const auto [start, end] = builder_.open(it->second);
        std::vector<std::string_view> names;
        for (size_t i = lo; i < hi; ++i) names.push_back(m.names[i]->bytes);
        const std::vector<int32_t> behind = builder_.add_texts(start, names);
        for (size_t i = lo; i < hi; ++i) builder_.add(*call(behind_name[i]), behind[i - lo], end);
        builder_.close();
        return it->second;
    };
    const auto cover = [&](size_t lo, size_t hi, size_t from, size_t to, std::vector<ExprPtr>& parts,
                           auto& self) -> void {
        if (from >= hi || to <= lo) return;
        if (from <= lo && hi <= to) return parts.push_back(call(block_rule(lo, hi)));
        const size_t middle = lo + (hi - lo) / 2;
        self(lo, middle, from, to, parts, self);
        self(middle, hi, from, to, parts, self);
    };
    ExprPtr others = nullptr;
    if (m.free != nullptr) {
        others = call(builder_.add_rule(
            *sequence({m.free, repeat(sequence({comma_, m.free}), 0), space_, bytes("}")})));
    }
    // From member i on, with at least one.
    const auto rest = [&](size_t i) {
        std::vector<ExprPtr> parts;
        cover(0, n, i, std::min(next_required[i] + 1, n), parts, cover);
        if (next_required[i] == n && others != nullptr) parts.push_back(others);
        return choice(std::move(parts));
    };
    for (size_t i = 0; i < n; ++i) {
        std::vector<ExprPtr> next = {sequence({comma_, rest(i + 1)})};
        if (next_required[i + 1] == n) next.push_back(sequence({space_, bytes("}")}));
        builder_.define(behind_name[i], *sequence({colon_, m.values[i], choice(std::move(next))}));
    }
    std::vector<ExprPtr> first = {rest(0)};
    if (next_required[0] == n) first.push_back(bytes("}"));
    builder_.define(rule, *sequence({bytes("{"), space_, choice(std::move(first))}));
}

// before[k], behind[k]: at the current name with k members written, before a comma or behind it.
void JsonSchema::define_counted_members(int32_t rule, const Members& m, uint32_t min, uint32_t max) {
    const size_t n = m.names.size();
    std::vector<ExprPtr> members;
    for (size_t i = 0; i < n; ++i)
        members.push_back(call(builder_.add_rule(*sequence({m.names[i], colon_, m.values[i]}))));
    const auto [start, end] = builder_.open(rule);
    const auto row = [&] {
        std::vector<int32_t> states;
        for (size_t k = 0; k <= n; ++k) states.push_back(builder_.add_state());
        return states;
    };
    std::vector<int32_t> before = row(), behind = row();
    const std::vector<int32_t> last = row();
    builder_.add(*sequence({bytes("{"), space_}), start, before[0]);
    const auto next = [&](size_t k) { return k == 0 ? sequence({}) : comma_; };
    for (size_t i = 0; i <= n; ++i) {
        const bool may_end =
            std::none_of(m.required.begin() + static_cast<ptrdiff_t>(i), m.required.end(), std::identity());
        const std::vector<int32_t> next_before = row(), next_behind = row();
        for (size_t k = 0; k <= std::min(i, n); ++k) {
            if (may_end) builder_.skip(before[k], last[k]);
            if (k >= max) continue;
            builder_.add(*next(k), before[k], behind[k]);
            if (i == n) continue;
            if (!m.required[i]) builder_.skip(behind[k], next_behind[k]);
            builder_.add(*members[i], behind[k], next_before[k + 1]);
        }
        if (i == n) break;
        before = next_before;
        behind = next_behind;
    }
    const ExprPtr bare = bytes("}"), spaced = sequence({space_, bare});
    for (size_t k = 0; k <= n; ++k) {
        if (k >= min) builder_.add(k == 0 ? *bare : *spaced, last[k], end);
        if (m.free == nullptr || k >= max || k + 1 < min) continue;
        const uint32_t left = max == unlimited ? unlimited : max - static_cast<uint32_t>(k) - 1;
        builder_.add(*sequence({m.free, repeat(sequence({comma_, m.free}), 0, left), space_, bytes("}")}),
                     behind[k], end);
    }
    builder_.close();
}

// The value of a member that is listed.
ExprPtr JsonSchema::named_value(const Conjunction& c, const std::string& name) {
    std::vector<Sub> subs;
    for (const Sub& s : c.all) {
        budget_.spend(50);
        if (const Json* names = find_member(*s.schema, "propertyNames")) {
            if (!validates(Json(name), {names, s.path + "/propertyNames"})) return choice({});
        }
        bool said = false;
        const Json& properties = object_at(*s.schema, "properties", s.path);
        if (const Json* own = find_member(properties, name.c_str())) {
            subs.push_back({own, fmt::format("{}/properties/{}", s.path, pointer_part(name))});
            said = true;
        }
        for (const auto& [pattern, value] : object_at(*s.schema, "patternProperties", s.path).items()) {
            if (!matches_pattern(pattern, name)) continue;
            subs.push_back({&value, fmt::format("{}/patternProperties/{}", s.path, pointer_part(pattern))});
            said = true;
        }
        const Json* additional = find_member(*s.schema, "additionalProperties");
        if (!said && additional != nullptr) subs.push_back({additional, s.path + "/additionalProperties"});
        const Json* others = find_member(*s.schema, "unevaluatedProperties");
        if (others != nullptr && !is_evaluated(c, s, name))
            subs.push_back({others, s.path + "/unevaluatedProperties"});
    }
    return rule_of(subs, fmt::format("{}/properties/{}", c.path, pointer_part(name)));
}

}  // namespace smelt::grammar
