// Numbers and strings of a conjunction.
#include <algorithm>

#include "grammar/char_dfa.h"
#include "grammar/json_format.h"
#include "grammar/json_schema.h"
#include "grammar/refused.h"
#include "grammar/regex.h"

namespace smelt::grammar {

namespace {

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

}  // namespace

NumberBounds JsonSchema::number_bounds(const Conjunction& c) const {
    NumberBounds bounds;
    for (const Sub& s : c.all) {
        budget_.spend(50);
        const auto number = [&](const char* keyword) {
            const Json* n = find_member(*s.schema, keyword);
            const bool draft_4 = std::string_view(keyword).starts_with("exclusive");
            if (n != nullptr && !n->is_number() && !(draft_4 && n->is_boolean()))
                refuse(s.path, keyword, fmt::format("expected a number, found {}", n->dump().substr(0, 40)));
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

ExprPtr JsonSchema::pattern_expr(const std::string& pattern, const std::string& path, const char* keyword) {
    ExprPtr& e = patterns_[pattern];
    if (e != nullptr) return e;
    try {
        return e = parse_regex(pattern, RegexMatch::anywhere, budget_);
    } catch (Refused& r) {
        r.error.path = path;
        r.error.keyword = keyword;
        throw;
    }
}

const CharDfa& JsonSchema::dfa_of(const ExprPtr& e) {
    auto& made = dfas_[e];
    if (made == nullptr) made = std::make_shared<const CharDfa>(make_dfa(*e, budget_));
    return *made;
}

// Formats that no draft has defined, and those that everything matches, say nothing (JSON Schema 2020-12,
// validation, 7.2.3).
std::vector<ExprPtr> JsonSchema::string_patterns(const Conjunction& c) {
    std::vector<ExprPtr> patterns;
    for (const Sub& s : c.all) {
        budget_.spend(10);
        if (const Json* pattern = find_member(*s.schema, "pattern")) {
            if (!pattern->is_string()) refuse(s.path, "pattern", "expected a string");
            try {
                patterns.push_back(pattern_expr(pattern->get_ref<const std::string&>(), s.path, "pattern"));
            } catch (const Refused& r) {
                if (r.error.reason == GrammarError::Reason::cost) throw;
                drop(r.error.path, r.error.keyword, r.error.text);
            }
        }
        if (const Json* format = find_member(*s.schema, "format")) {
            if (!format->is_string()) refuse(s.path, "format", "expected a string");
            const std::string& name = format->get_ref<const std::string&>();
            const LengthRange lengths = string_lengths(c);
            const std::string key = fmt::format("{} {} {}", lengths.min, lengths.max, name);
            const auto [it, fresh] = formats_.try_emplace(key);
            if (fresh) it->second = format_expr(name, lengths, budget_);
            if (it->second != nullptr) patterns.push_back(it->second);
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
        CharDfa all = dfa_of(patterns[0]);
        for (size_t i = 1; i < patterns.size(); ++i) all = intersection(all, dfa_of(patterns[i]), budget_);
        return of_lengths(std::move(all), lengths);
    } catch (Refused& r) {
        r.error.path = c.path;
        throw;
    }
}

ExprPtr JsonSchema::of_lengths(CharDfa d, const LengthRange& lengths) {
    if (lengths.min == 0 && lengths.max == unlimited) return dfa(std::move(d));
    if (d.shortest() > lengths.max) return choice({});
    // Counting keeps every text that can end before it is too long: where texts of all lengths follow, it can
    // also become long enough.
    if (lengths.min == 0 || d.grows()) return counted_dfa(std::move(d), lengths);
    const ExprPtr any = repeat(chars(CharSet::all()), lengths.min, lengths.max);
    return dfa(intersection(d, make_dfa(*any, budget_), budget_));
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

}  // namespace smelt::grammar
