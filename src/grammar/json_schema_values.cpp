// Numbers, strings and arrays of a conjunction.
#include <algorithm>

#include "grammar/char_dfa.h"
#include "grammar/json_format.h"
#include "grammar/json_schema.h"
#include "grammar/refused.h"
#include "grammar/regex.h"

namespace smelt::grammar {

namespace {

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
            ExprPtr e = format_expr(name, string_lengths(c));
            if (e == nullptr) refuse(s.path, "format", fmt::format("\"{}\" is not supported", name));
            patterns.push_back(std::move(e));
        }
    }
    return patterns;
}

ExprPtr JsonSchema::string_chars(const Conjunction& c) {
    const LengthRange lengths = string_lengths(c);
    const std::vector<ExprPtr> patterns = string_patterns(c);
    if (lengths.min > lengths.max) return choice({});
    if (patterns.empty()) return repeat(chars(CharSet::all()), lengths.min, lengths.max);
    if (patterns.size() == 1) {
        const LengthRange own = length_range(*patterns[0]);
        if (own.min >= lengths.min && own.max <= lengths.max) return patterns[0];
    }
    try {
        CharDfa all = make_dfa(*patterns[0], options_.limits);
        for (size_t i = 1; i < patterns.size(); ++i) {
            all = intersection(all, make_dfa(*patterns[i], options_.limits), options_.limits);
        }
        return of_lengths(std::move(all), lengths);
    } catch (Refused& r) {
        r.error.path = c.path;
        throw;
    }
}

ExprPtr JsonSchema::of_lengths(CharDfa d, const LengthRange& lengths) const {
    if (lengths.min == 0 && lengths.max == unlimited) return dfa(std::move(d));
    if (d.shortest() > lengths.max) return choice({});
    // Counting keeps every text that can end before it is too long: where texts of all lengths follow, it can
    // also become long enough.
    if (lengths.min == 0 || d.grows()) return counted_dfa(std::move(d), lengths);
    const ExprPtr any = repeat(chars(CharSet::all()), lengths.min, lengths.max);
    return dfa(intersection(d, make_dfa(*any, options_.limits), options_.limits));
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
        // Not in one conditional: g++ 12 then destroys the list of the branch that was not taken.
        ExprPtr part = item(i);
        if (i > 0) part = sequence({comma_, part});
        builder_.add(*part, at, next);
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

}  // namespace smelt::grammar
