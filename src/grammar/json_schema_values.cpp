// Numbers, strings, arrays and objects of a conjunction.
#include <algorithm>

#include "grammar/char_dfa.h"
#include "grammar/json_format.h"
#include "grammar/json_schema.h"
#include "grammar/refused.h"
#include "grammar/regex.h"

namespace smelt::grammar {

namespace {

constexpr size_t most_counted = 128;  // members whose number is counted
constexpr size_t most_patterns = 5;   // of members: 2^n kinds of names

const CharSet json_escaped = {{0, 0x1f}, {'"', '"'}, {'\\', '\\'}};

// What a string without a pattern has between its quotes: as it is, or as any escape of JSON.
ExprPtr free_char() {
    const CharSet hex = {{'0', '9'}, {'A', 'F'}, {'a', 'f'}};
    const ExprPtr two = sequence({chars(hex), chars(hex)});
    const CharSet d = {{'D', 'D'}, {'d', 'd'}};
    const ExprPtr unit = choice({sequence({chars(hex.intersection(d.complement())), chars(hex), two}),
                                 sequence({chars(d), chars({{'0', '7'}}), two})});
    const ExprPtr pair = sequence({chars(d), chars({{'8', '9'}, {'A', 'B'}, {'a', 'b'}}), two, bytes("\\u"),
                                   chars(d), chars({{'C', 'F'}, {'c', 'f'}}), two});
    CharSet shorts;
    for (const char c : std::string_view("\"\\/bfnrt"))
        shorts.add(static_cast<char32_t>(c), static_cast<char32_t>(c));
    return choice(
        {chars(json_escaped.complement()),
         sequence({bytes("\\"), choice({chars(shorts), sequence({bytes("u"), choice({unit, pair})})})})});
}

const Json* prefix_of(const Json& schema) {
    if (const Json* prefix = find_member(schema, "prefixItems")) return prefix;
    const Json* items = find_member(schema, "items");
    return items != nullptr && items->is_array() ? items : nullptr;  // draft 7
}

const char* rest_keyword(const Json& schema) {
    const Json* items = find_member(schema, "items");
    return items != nullptr && items->is_array() ? "additionalItems" : "items";
}

const Json& object_at(const Json& schema, const char* keyword, const std::string& path) {
    static const Json none = Json::object();
    const Json* value = find_member(schema, keyword);
    if (value == nullptr) return none;
    if (!value->is_object()) refuse(path, keyword, "expected an object of schemas");
    return *value;
}

}  // namespace

NumberBounds JsonSchema::number_bounds(const Conjunction& c) const {
    NumberBounds bounds;
    for (const Sub& s : c.all) {
        const auto number = [&](const char* keyword) {
            const Json* n = find_member(*s.schema, keyword);
            if (n != nullptr && !n->is_number() && !n->is_boolean())
                refuse(s.path, keyword, "expected a number");
            return n;
        };
        // Draft 4 says with true or false whether minimum and maximum belong to the range.
        const Json *min = number("minimum"), *above = number("exclusiveMinimum");
        const Json *max = number("maximum"), *below = number("exclusiveMaximum");
        if (min != nullptr) bounds.at_least(*min, above != nullptr && *above == true);
        if (max != nullptr) bounds.at_most(*max, below != nullptr && *below == true);
        if (above != nullptr && above->is_number()) bounds.at_least(*above, true);
        if (below != nullptr && below->is_number()) bounds.at_most(*below, true);
        if (const Json* m = number("multipleOf")) {
            if (!m->is_number() || *m <= 0 || *m > 1e15)
                refuse(s.path, "multipleOf", fmt::format("expected a number above 0, found {}", m->dump()));
            bounds.multiples_of.push_back(*m);
        }
    }
    return bounds;
}

LengthRange JsonSchema::string_lengths(const Conjunction& c) const {
    LengthRange r{0, unlimited};
    for (const Sub& s : c.all) {
        r.min = std::max(r.min, count_of(*s.schema, "minLength", 0, s.path));
        r.max = std::min(r.max, count_of(*s.schema, "maxLength", unlimited, s.path));
    }
    return r;
}

std::vector<ExprPtr> JsonSchema::string_patterns(const Conjunction& c) const {
    std::vector<ExprPtr> patterns;
    for (const Sub& s : c.all) {
        if (const Json* pattern = find_member(*s.schema, "pattern")) {
            if (!pattern->is_string()) refuse(s.path, "pattern", "expected a string");
            try {
                patterns.push_back(parse_regex(pattern->get_ref<const std::string&>(), RegexMatch::anywhere,
                                               options_.limits.max_depth));
            } catch (Refused& r) {
                r.error.path = s.path;
                throw;
            }
        }
        if (const Json* format = find_member(*s.schema, "format")) {
            if (!format->is_string()) refuse(s.path, "format", "expected a string");
            const std::string& name = format->get_ref<const std::string&>();
            if (name == "password" || name == "binary") continue;
            ExprPtr e = format_expr(name);
            if (e == nullptr) refuse(s.path, "format", fmt::format("\"{}\" is not supported", name));
            patterns.push_back(std::move(e));
        }
    }
    return patterns;
}

ExprPtr JsonSchema::string_chars(const Conjunction& c) {
    const LengthRange lengths = string_lengths(c);
    std::vector<ExprPtr> patterns = string_patterns(c);
    if (lengths.min > lengths.max) return choice({});
    bool measure = lengths.min > 0 || lengths.max != unlimited;
    if (patterns.size() == 1 && measure) {
        const LengthRange own = length_range(*patterns[0]);
        measure = own.min < lengths.min || own.max > lengths.max;
    }
    if (patterns.empty()) return repeat(chars(CharSet::all()), lengths.min, lengths.max);
    if (patterns.size() == 1 && !measure) return patterns[0];
    try {
        CharDfa all = make_dfa(*patterns[0], options_.limits);
        for (size_t i = 1; i < patterns.size(); ++i) {
            all = intersection(all, make_dfa(*patterns[i], options_.limits), options_.limits);
        }
        if (!measure) return dfa(std::move(all));
        if (all.shortest() > lengths.max) return choice({});
        // To stop at `max` keeps every text that can become long enough.
        if (lengths.min == 0 || all.grows()) return counted_dfa(std::move(all), lengths);
        const CharDfa any =
            make_dfa(*repeat(chars(CharSet::all()), lengths.min, lengths.max), options_.limits);
        return dfa(intersection(all, any, options_.limits));
    } catch (Refused& r) {
        r.error.path = c.path;
        throw;
    }
}

ExprPtr JsonSchema::any_string() {
    if (any_string_ == nullptr) {
        const int32_t body = builder_.add_rule(*free_char());
        any_string_ = call(builder_.add_rule(*sequence({bytes("\""), repeat(call(body), 0), bytes("\"")})));
    }
    return any_string_;
}

ExprPtr JsonSchema::string_value(const Conjunction& c) {
    const LengthRange lengths = string_lengths(c);
    if (!string_patterns(c).empty()) return sequence({bytes("\""), json_text(string_chars(c)), bytes("\"")});
    if (lengths.min > lengths.max) return choice({});
    if (lengths.min == 0 && lengths.max == unlimited) return any_string();
    return sequence({bytes("\""), repeat(free_char(), lengths.min, lengths.max), bytes("\"")});
}

// --- Arrays. ---

void JsonSchema::define_array(int32_t rule, const Conjunction& c) {
    uint32_t min = 0, max = unlimited;
    size_t n_prefix = 0;
    bool says_rest = false;
    for (const Sub& s : c.all) {
        min = std::max(min, count_of(*s.schema, "minItems", 0, s.path));
        max = std::min(max, count_of(*s.schema, "maxItems", unlimited, s.path));
        const Json* prefix = prefix_of(*s.schema);
        if (prefix != nullptr && !prefix->is_array())
            refuse(s.path, "prefixItems", "expected an array of schemas");
        if (prefix != nullptr) n_prefix = std::max(n_prefix, prefix->size());
        says_rest = says_rest || s.schema->contains(rest_keyword(*s.schema));
    }
    const auto item = [&](size_t i) {
        std::vector<Sub> subs;
        for (const Sub& s : c.all) {
            const Json* prefix = prefix_of(*s.schema);
            if (prefix != nullptr && i < prefix->size()) {
                const char* keyword = s.schema->contains("prefixItems") ? "prefixItems" : "items";
                subs.push_back({&(*prefix)[i], fmt::format("{}/{}/{}", s.path, keyword, i)});
            } else if (const Json* rest = find_member(*s.schema, rest_keyword(*s.schema))) {
                subs.push_back({rest, fmt::format("{}/{}", s.path, rest_keyword(*s.schema))});
            }
        }
        return rule_of(subs, fmt::format("{}/items", c.path));
    };
    const auto [start, end] = builder_.open(rule);
    int32_t at = builder_.add_state();
    const int32_t close = builder_.add_state();
    builder_.add(*sequence({bytes("["), space_}), start, at);
    builder_.add(*sequence({space_, bytes("]")}), close, end);
    if (min == 0) builder_.add(*bytes("]"), at, end);
    for (size_t i = 0; i < std::min<size_t>(n_prefix, max); ++i) {
        const int32_t next = builder_.add_state();
        builder_.add(*(i == 0 ? item(i) : sequence({comma_, item(i)})), at, next);
        at = next;
        if (i + 1 >= min) builder_.skip(at, close);
    }
    if (max > n_prefix && (says_rest || n_prefix == 0 || min > n_prefix)) {
        const auto done = static_cast<uint32_t>(n_prefix);
        const ExprPtr rest = item(n_prefix), more = sequence({comma_, rest});
        const auto left = [&](uint32_t n) { return max == unlimited ? unlimited : max - n; };
        if (done == 0) {
            builder_.add(*sequence({rest, repeat(more, std::max(min, 1u) - 1, left(1))}), at, close);
        } else {
            builder_.add(*repeat(more, min > done ? min - done : 0, left(done)), at, close);
        }
    }
    builder_.close();
}

// --- Objects. ---

ExprPtr JsonSchema::member(ExprPtr key, ExprPtr value) const {
    return sequence({std::move(key), colon_, std::move(value)});
}

std::vector<std::string> JsonSchema::member_names(const Conjunction& c) const {
    std::vector<std::string> names;
    std::set<std::string> known;
    const auto add = [&](const std::string& name) {
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
    return names;
}

// Objects keep to the members that the schema names, unless it says what others are, or names none.
bool JsonSchema::is_open(const Conjunction& c) const {
    bool open = true, says = false;
    for (const Sub& s : c.all) {
        const Json* additional = find_member(*s.schema, "additionalProperties");
        const bool forbids = additional != nullptr && *additional == false;
        const bool patterns = s.schema->contains("patternProperties");
        if (forbids && !patterns) open = false;
        if ((additional != nullptr && !forbids) || patterns) says = true;
    }
    return open && (says || member_names(c).empty());
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
            if (p.subs.empty()) {
                try {
                    p.dfa = make_dfa(*parse_regex(pattern, RegexMatch::anywhere, options_.limits.max_depth),
                                     options_.limits);
                } catch (Refused& r) {
                    r.error.path = s.path;
                    r.error.keyword = "patternProperties";
                    throw;
                }
            }
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
    const Conjunction name_rules = flatten(name_subs, c.path + "/propertyNames");
    if (name_rules.never || (types_of(name_rules) & j_string) == 0) return {};
    CharDfa allowed = all_but(taken, options_.limits);
    bool any_name = names.empty() && patterns.empty();
    if (!name_rules.all.empty()) {
        any_name = false;
        for (const Sub& s : name_rules.all) {
            if (s.schema->contains("enum") || s.schema->contains("const"))
                refuse(s.path, "enum", "is not supported for names that are not listed");
        }
        if (!name_rules.choices.empty()) refuse(c.path, "propertyNames", "expected no alternatives");
        const ExprPtr e = string_chars(name_rules);
        allowed = intersection(allowed, make_dfa(*e, options_.limits), options_.limits);
    }
    std::vector<Free> kinds;
    for (size_t set = 0; set < size_t{1} << patterns.size(); ++set) {
        CharDfa key = allowed;
        std::vector<Sub> subs;
        std::set<const Sub*> matched;
        size_t bit = 1;
        for (const auto& [text, p] : patterns) {
            key = intersection(key, (set & bit) != 0 ? p.dfa : complement(p.dfa), options_.limits);
            for (const auto& [whose, what] : p.subs) {
                if ((set & bit) == 0) continue;
                subs.push_back(what);
                matched.insert(whose);
            }
            bit <<= 1;
        }
        bool says = set != 0 || names.empty();
        for (const Sub& s : c.all) {
            const Json* additional = find_member(*s.schema, "additionalProperties");
            if (additional == nullptr || matched.contains(&s)) continue;
            subs.push_back({additional, s.path + "/additionalProperties"});
            says = true;
        }
        if (!says || key.empty()) continue;
        const ExprPtr text =
            any_name ? any_string() : sequence({bytes("\""), json_text(dfa(std::move(key))), bytes("\"")});
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
                if (name.is_string()) required.insert(name.get<std::string>());
            }
        }
    }
    const std::vector<std::string> names = member_names(c);
    const size_t n = names.size();
    std::vector<ExprPtr> members;
    for (const std::string& name : names)
        members.push_back(
            call(builder_.add_rule(*member(bytes(to_string(Json(name))), named_value(c, name)))));
    ExprPtr free = nullptr;
    if (is_open(c)) {
        std::vector<ExprPtr> kinds;
        for (Free& f : free_members(c, names)) {
            kinds.push_back(member(std::move(f.key), rule_of(f.subs, c.path + "/additionalProperties")));
        }
        if (!kinds.empty()) free = call(builder_.add_rule(*choice(std::move(kinds))));
    }
    if (free != nullptr && min > n + 1) {
        refuse(c.path, "minProperties",
               fmt::format("names that are not listed may come twice: expected at most {}, found {}", n + 1,
                           min));
    }
    const bool counting = min > required.size() || max < n || (free != nullptr && max != unlimited);
    if (counting && n > most_counted) {
        refuse(c.path, "minProperties",
               fmt::format("expected at most {} properties beside it, found {}", most_counted, n));
    }

    // before[k], behind[k]: at the current name with k members written, before a comma or behind it. Without
    // counting, k is 0 or 1: none or some.
    const size_t most = counting ? n : 1;
    const auto [start, end] = builder_.open(rule);
    const auto row = [&] {
        std::vector<int32_t> states;
        for (size_t k = 0; k <= most; ++k) states.push_back(builder_.add_state());
        return states;
    };
    std::vector<int32_t> before = row(), behind = row();
    builder_.add(*sequence({bytes("{"), space_}), start, before[0]);
    const auto fits = [&](size_t k) { return !counting || k < max; };
    for (size_t i = 0; i < n; ++i) {
        const std::vector<int32_t> next_before = row(), next_behind = row();
        for (size_t k = 0; k <= most; ++k) {
            if (!required.contains(names[i])) {
                builder_.skip(before[k], next_before[k]);
                builder_.skip(behind[k], next_behind[k]);
            }
            if (!fits(k)) continue;
            if (k == 0) {
                builder_.skip(before[k], behind[k]);
            } else {
                builder_.add(*comma_, before[k], behind[k]);
            }
            builder_.add(*members[i], behind[k], next_before[std::min(k + 1, most)]);
        }
        before = next_before;
        behind = next_behind;
    }
    for (size_t k = 0; k <= most; ++k) {
        if (!counting || k >= min)
            builder_.add(*(k == 0 ? bytes("}") : sequence({space_, bytes("}")})), before[k], end);
        if (free == nullptr || !fits(k) || (counting && k + 1 < min)) continue;
        if (k == 0) {
            builder_.skip(before[k], behind[k]);
        } else {
            builder_.add(*comma_, before[k], behind[k]);
        }
        const uint32_t left = max == unlimited ? unlimited : max - static_cast<uint32_t>(k) - 1;
        builder_.add(*sequence({free, repeat(sequence({comma_, free}), 0, left), space_, bytes("}")}),
                     behind[k], end);
    }
    builder_.close();
}

// The value of a member that is listed.
ExprPtr JsonSchema::named_value(const Conjunction& c, const std::string& name) {
    std::vector<Sub> subs;
    for (const Sub& s : c.all) {
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
    }
    return rule_of(subs, fmt::format("{}/properties/{}", c.path, pointer_part(name)));
}

}  // namespace smelt::grammar
