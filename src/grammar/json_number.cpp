// Digit by digit: what may follow depends on whether the digits so far are those of a bound.
#include "grammar/json_number.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "grammar/budget.h"
#include "grammar/char_dfa.h"

namespace smelt::grammar {

namespace {

constexpr int most_digits = 15;      // which a double keeps
constexpr int default_fraction = 6;  // digits behind the point of numbers with bounds
constexpr int64_t most_integer = 999'999'999'999'999;
constexpr int64_t largest_bound = 999'999'999'999'999'999;
constexpr int64_t most_remainders = 2000;

ExprPtr digit(char lo, char hi) {
    return chars({{static_cast<char32_t>(lo), static_cast<char32_t>(hi)}});
}
ExprPtr digits(int min, int max) {
    return repeat(digit('0', '9'), static_cast<uint32_t>(min), static_cast<uint32_t>(max));
}
ExprPtr one(char c) {
    return digit(c, c);
}
ExprPtr nothing() {
    return choice({});
}
ExprPtr text(const std::string& s) {
    return literal(std::u32string(s.begin(), s.end()));
}

// A bound in decimals: value = sign, integer, fraction without zeros at its end.
struct Decimal {
    bool negative = false;
    int64_t integer = 0;
    std::string fraction = {};
    bool zero() const { return integer == 0 && fraction.empty(); }
};

Decimal decimal_of(const Json& number, const char* keyword) {
    const std::string s = number.dump();
    Decimal d;
    std::string digits_of;
    size_t i = 0;
    int point = -1, exponent = 0;
    if (s[i] == '-') {
        d.negative = true;
        ++i;
    }
    for (; i < s.size() && (s[i] == '.' || (s[i] >= '0' && s[i] <= '9')); ++i) {
        if (s[i] == '.') {
            point = static_cast<int>(digits_of.size());
        } else {
            digits_of += s[i];
        }
    }
    if (i < s.size()) exponent = std::stoi(s.substr(i + 1));
    if (point < 0) point = static_cast<int>(digits_of.size());
    point += exponent;
    if (point > 18) refuse("", keyword, fmt::format("expected a number below 1e18, found {}", s));
    if (point < -most_digits) {
        refuse("", keyword,
               fmt::format("expected a number that {} digits behind the point can tell from 0, found {}",
                           most_digits, s));
    }
    while (point < 0) {
        digits_of.insert(digits_of.begin(), '0');
        ++point;
    }
    while (static_cast<int>(digits_of.size()) < point) digits_of += '0';
    for (int k = 0; k < point; ++k) d.integer = d.integer * 10 + (digits_of[static_cast<size_t>(k)] - '0');
    d.fraction = digits_of.substr(static_cast<size_t>(point));
    while (d.fraction.ends_with('0')) d.fraction.pop_back();
    if (d.zero()) d.negative = false;
    return d;
}

// --- Integers of a range. ---

// Strings of digits, as long as the bound, that are at least (at most) it.
ExprPtr digits_from(std::string_view s) {
    if (s.empty()) return sequence({});
    const int rest = static_cast<int>(s.size()) - 1;
    std::vector<ExprPtr> parts = {sequence({one(s[0]), digits_from(s.substr(1))})};
    if (s[0] < '9') parts.push_back(sequence({digit(static_cast<char>(s[0] + 1), '9'), digits(rest, rest)}));
    return choice(std::move(parts));
}
ExprPtr digits_to(std::string_view s) {
    if (s.empty()) return sequence({});
    const int rest = static_cast<int>(s.size()) - 1;
    std::vector<ExprPtr> parts = {sequence({one(s[0]), digits_to(s.substr(1))})};
    if (s[0] > '0') parts.push_back(sequence({digit('0', static_cast<char>(s[0] - 1)), digits(rest, rest)}));
    return choice(std::move(parts));
}
ExprPtr digits_between(std::string_view lo, std::string_view hi) {
    if (lo.empty()) return sequence({});
    if (lo[0] == hi[0]) return sequence({one(lo[0]), digits_between(lo.substr(1), hi.substr(1))});
    const int rest = static_cast<int>(lo.size()) - 1;
    std::vector<ExprPtr> parts = {sequence({one(lo[0]), digits_from(lo.substr(1))}),
                                  sequence({one(hi[0]), digits_to(hi.substr(1))})};
    if (lo[0] + 1 < hi[0]) {
        parts.push_back(sequence(
            {digit(static_cast<char>(lo[0] + 1), static_cast<char>(hi[0] - 1)), digits(rest, rest)}));
    }
    return choice(std::move(parts));
}

// 0 <= lo
ExprPtr natural_range(int64_t lo, int64_t hi) {
    std::vector<ExprPtr> parts;
    int64_t first = 0, last = 9;
    constexpr int most_digits = 18;  // of which every number fits
    for (int n = 1; n <= most_digits && first <= hi; ++n) {
        const int64_t from = std::max(lo, first), to = std::min(hi, last);
        if (n > 1 && from == first && to == last) {
            parts.push_back(sequence({digit('1', '9'), digits(n - 1, n - 1)}));
        } else if (from <= to) {
            parts.push_back(digits_between(std::to_string(from), std::to_string(to)));
        }
        first = last + 1;
        if (n < most_digits) last = last * 10 + 9;
    }
    return choice(std::move(parts));
}

ExprPtr integer_range(int64_t lo, int64_t hi) {
    std::vector<ExprPtr> parts;
    if (lo < 0) parts.push_back(sequence({one('-'), natural_range(std::max<int64_t>(1, -hi), -lo)}));
    if (hi >= 0) parts.push_back(natural_range(std::max<int64_t>(0, lo), hi));
    return choice(std::move(parts));
}

// p / 10^k
struct Divisor {
    int64_t p = 1;
    int k = 0;
    bool whole() const { return k == 0; }
};

Divisor divisor_of(const Json& number) {
    const Decimal d = decimal_of(number, "multipleOf");
    Divisor divisor{.p = d.integer, .k = static_cast<int>(d.fraction.size())};
    const auto refuse_it = [&] {
        refuse("", "multipleOf",
               fmt::format("expected a number whose digits are at most {} without the point, found {}",
                           most_remainders, number.dump()));
    };
    for (const char c : d.fraction) {
        if (divisor.p > most_remainders) refuse_it();
        divisor.p = divisor.p * 10 + (c - '0');
    }
    if (divisor.p > most_remainders || divisor.p < 1) refuse_it();
    return divisor;
}

// What an integer must be a multiple of, to be one of the divisor.
int64_t integer_part(const Divisor& d) {
    int64_t p = d.p;
    for (int i = 0; i < d.k; ++i) p /= std::gcd(p, int64_t{10});
    return p;
}

// Digits, perhaps with a point and at most k digits behind it, whose number is a multiple; the sign does not
// matter. A state for each remainder of the digits so far, in a layer for each number of them behind the
// point.
CharDfa multiples(const Divisor& divisor) {
    const int64_t p = divisor.p;
    const int n_layers = divisor.k == 0 ? 1 : divisor.k + 2;  // no point; a point with 0 to k digits
    CharDfa d;
    d.states.resize(static_cast<size_t>(1 + n_layers * p));
    d.states[0].edges.push_back({'-', '-', 0});
    const auto at = [&](int layer, int64_t remainder) {
        return static_cast<int32_t>(1 + layer * p + remainder);
    };
    const auto add_digits = [&](CharDfa::State& s, int to_layer, int64_t remainder) {
        for (int64_t n = 0; n < 10; ++n) {
            const auto c = static_cast<char32_t>('0' + n);
            s.edges.push_back({c, c, at(to_layer, (remainder * 10 + n) % p)});
        }
    };
    add_digits(d.states[0], 0, 0);
    for (int layer = 0; layer < n_layers; ++layer) {
        const int n_behind = std::max(0, layer - 1);
        for (int64_t r = 0; r < p; ++r) {
            CharDfa::State& s = d.states[static_cast<size_t>(at(layer, r))];
            int64_t scaled = r;
            for (int i = n_behind; i < divisor.k; ++i) scaled = scaled * 10 % p;
            s.final = scaled == 0;
            if (layer == 0 && n_layers > 1) s.edges.push_back({'.', '.', at(1, r)});
            if (layer == 0 || layer + 1 < n_layers) add_digits(s, layer == 0 ? 0 : layer + 1, r);
        }
    }
    return d;
}

// --- Fractions: at most `room` digits, compared with a bound's. Null: there are none. ---

ExprPtr fraction_from(std::string_view bound, int room, bool excluded) {
    if (!bound.empty()) {
        if (room == 0) return nullptr;
        std::vector<ExprPtr> parts;
        if (bound[0] < '9')
            parts.push_back(sequence({digit(static_cast<char>(bound[0] + 1), '9'), digits(0, room - 1)}));
        if (const ExprPtr rest = fraction_from(bound.substr(1), room - 1, excluded)) {
            parts.push_back(sequence({one(bound[0]), rest}));
        }
        return parts.empty() ? nullptr : choice(std::move(parts));
    }
    if (!excluded) return digits(0, room);
    if (room == 0) return nullptr;
    std::vector<ExprPtr> parts = {sequence({digit('1', '9'), digits(0, room - 1)})};
    if (const ExprPtr rest = fraction_from(bound, room - 1, true))
        parts.push_back(sequence({one('0'), rest}));
    return choice(std::move(parts));
}

ExprPtr fraction_to(std::string_view bound, int room, bool excluded) {
    if (bound.empty()) return excluded ? nullptr : repeat(one('0'), 0, static_cast<uint32_t>(room));
    std::vector<ExprPtr> parts = {sequence({})};
    if (room > 0) {
        if (bound[0] > '0')
            parts.push_back(sequence({digit('0', static_cast<char>(bound[0] - 1)), digits(0, room - 1)}));
        if (const ExprPtr rest = fraction_to(bound.substr(1), room - 1, excluded))
            parts.push_back(sequence({one(bound[0]), rest}));
    }
    return choice(std::move(parts));
}

// "" and "." with digits from a tree that says which digits may come.
CharDfa with_point(const ExprPtr& fraction, int room, Budget& budget) {
    const CharDfa shape = make_dfa(*optional(sequence({one('.'), digits(1, room)})), budget);
    if (fraction == nullptr) return make_dfa(*nothing(), budget);
    // A number without a point has the empty fraction.
    const ExprPtr pointed = choice({fraction, sequence({one('.'), fraction})});
    return intersection(shape, make_dfa(*pointed, budget), budget);
}

struct Bound {
    int64_t integer;
    std::string fraction;
    bool excluded;
};

// Numbers without a sign.
ExprPtr natural_decimals(const Bound& lo, const Bound& hi, Budget& budget) {
    if (lo.integer > hi.integer) return nothing();
    const int n_digits = static_cast<int>(std::to_string(hi.integer).size());
    const auto longest = static_cast<int>(std::max(lo.fraction.size(), hi.fraction.size()));
    const int room = std::min(std::max(default_fraction, longest + 1), std::max(0, most_digits - n_digits));
    if (room < longest) {
        refuse("", "minimum", fmt::format("bounds of more than {} digits cannot be kept", most_digits));
    }
    const auto with_integer = [&](int64_t n, CharDfa fraction) {
        return sequence({text(std::to_string(n)), dfa(std::move(fraction))});
    };
    const auto from = [&] { return with_point(fraction_from(lo.fraction, room, lo.excluded), room, budget); };
    const auto to = [&] { return with_point(fraction_to(hi.fraction, room, hi.excluded), room, budget); };
    if (room == 0) {
        const int64_t first = lo.integer + lo.excluded, last = hi.integer - hi.excluded;
        return first <= last ? natural_range(first, last) : nothing();
    }
    if (lo.integer == hi.integer) return with_integer(lo.integer, intersection(from(), to(), budget));
    std::vector<ExprPtr> parts = {with_integer(lo.integer, from()), with_integer(hi.integer, to())};
    if (lo.integer + 1 < hi.integer) {
        parts.push_back(sequence({natural_range(lo.integer + 1, hi.integer - 1),
                                  optional(sequence({one('.'), digits(1, room)}))}));
    }
    return choice(std::move(parts));
}

// The other bound where there is only one: leaves digits for the fraction.
Decimal far_from(const Decimal& bound, bool negative) {
    const int n_digits = std::min(9, most_digits - 1 - static_cast<int>(bound.fraction.size()));
    Decimal far{.negative = negative, .integer = 9};
    for (int i = 1; i < n_digits; ++i) far.integer = far.integer * 10 + 9;
    while (far.integer <= bound.integer && far.integer < largest_bound) far.integer = far.integer * 10 + 9;
    return far;
}

// Generators write the range of a type as bounds. Beyond what is written anyway they bind nothing, and go.
// True: one did.
bool drop_far_bounds(NumberBounds& b) {
    const auto beyond = [](const std::optional<Json>& n, int sign) {
        return n && (sign > 0 ? *n >= Json(1e18) : *n <= Json(-1e18));
    };
    if (beyond(b.min, 1) || beyond(b.max, -1)) return false;  // refused by its keyword
    const bool low = beyond(b.min, -1), high = beyond(b.max, 1);
    if (low) b.min.reset();
    if (high) b.max.reset();
    b.min_excluded = b.min_excluded && !low;
    b.max_excluded = b.max_excluded && !high;
    return low || high;
}

ExprPtr decimal_expr(const NumberBounds& b, Budget& budget) {
    Decimal lo, hi;
    if (b.min) lo = decimal_of(*b.min, "minimum");
    if (b.max) hi = decimal_of(*b.max, "maximum");
    if (!b.min) lo = far_from(hi, true);
    if (!b.max) hi = far_from(lo, false);
    const Bound low{lo.integer, lo.fraction, b.min_excluded && b.min},
        high{hi.integer, hi.fraction, b.max_excluded && b.max};
    const Bound zero{0, "", false};
    std::vector<ExprPtr> parts;
    if (lo.negative) {
        // Mirrored. -0 is as good as 0.
        const bool both = !hi.negative && !(hi.zero() && high.excluded);
        const Bound near = hi.negative ? high : Bound{0, "", !both};
        parts.push_back(sequence({one('-'), natural_decimals(near, low, budget)}));
    }
    if (!hi.negative) parts.push_back(natural_decimals(lo.negative ? zero : low, high, budget));
    return choice(std::move(parts));
}

ExprPtr integer_expr(const NumberBounds& b, Budget& budget) {
    int64_t lo = -most_integer, hi = most_integer;
    const auto whole = [](const Json& bound, const char* keyword, bool excluded, bool up) {
        const Decimal d = decimal_of(bound, keyword);
        int64_t n = d.negative ? -d.integer : d.integer;
        if (!d.fraction.empty()) {
            if (up && !d.negative) ++n;
            if (!up && d.negative) --n;
        } else if (excluded) {
            n += up ? 1 : -1;
        }
        return n;
    };
    if (b.min) lo = whole(*b.min, "minimum", b.min_excluded, true);
    if (b.max) hi = whole(*b.max, "maximum", b.max_excluded, false);
    if (!b.max && lo > most_integer / 10) hi = largest_bound;
    if (!b.min && hi < -most_integer / 10) lo = -largest_bound;
    if (lo > hi) return nothing();
    CharDfa range =
        make_dfa(*integer_range(std::max(lo, -largest_bound), std::min(hi, largest_bound)), budget);
    for (const Json& m : b.multiples_of) {
        const int64_t p = integer_part(divisor_of(m));
        if (p > 1) range = intersection(range, multiples({.p = p}), budget);
    }
    return dfa(std::move(range));
}

// Numbers with a point that are multiples: those of the bounds, or of usual length.
ExprPtr multiples_expr(const NumberBounds& b, const ExprPtr& plain, Budget& budget) {
    CharDfa found = make_dfa(*(b.min || b.max ? decimal_expr(b, budget) : plain), budget);
    for (const Json& m : b.multiples_of) found = intersection(found, multiples(divisor_of(m)), budget);
    return dfa(std::move(found));
}

// Exactly, in decimals; both have at most 18 digits before the point and few behind it.
bool is_multiple(const Json& n, const Json& of) {
    const Decimal a = decimal_of(n, "multipleOf"), b = decimal_of(of, "multipleOf");
    const size_t k = std::max(a.fraction.size(), b.fraction.size());
    if (k > most_digits) return std::remainder(n.get<double>(), of.get<double>()) == 0;
    const auto scaled = [k](const Decimal& d) {
        __int128 v = d.integer;
        for (size_t i = 0; i < k; ++i) v = v * 10 + (i < d.fraction.size() ? d.fraction[i] - '0' : 0);
        return v;
    };
    return scaled(a) % scaled(b) == 0;
}

}  // namespace

void NumberBounds::at_least(const Json& bound, bool excluded) {
    if (min && (*min > bound || (*min == bound && min_excluded))) return;
    min = bound;
    min_excluded = excluded;
}

void NumberBounds::at_most(const Json& bound, bool excluded) {
    if (max && (*max < bound || (*max == bound && max_excluded))) return;
    max = bound;
    max_excluded = excluded;
}

bool NumberBounds::contain(const Json& n) const {
    if (integer && !n.is_number_integer() && n.get<double>() != std::floor(n.get<double>())) return false;
    if (min && (n < *min || (min_excluded && n == *min))) return false;
    if (max && (n > *max || (max_excluded && n == *max))) return false;
    return std::ranges::all_of(multiples_of, [&](const Json& m) { return is_multiple(n, m); });
}

ExprPtr number_expr(const NumberBounds& given, Budget& budget) {
    NumberBounds b = given;
    const bool is_bounded = drop_far_bounds(b);
    const bool whole =
        std::ranges::any_of(b.multiples_of, [](const Json& m) { return divisor_of(m).whole(); });
    if (b.integer || whole) return integer_expr(b, budget);
    if (b.multiples_of.empty() && (b.min || b.max)) return decimal_expr(b, budget);
    const ExprPtr natural = choice({one('0'), sequence({digit('1', '9'), digits(0, most_digits - 1)})});
    const ExprPtr sign = optional(chars({{'+', '+'}, {'-', '-'}}));
    const ExprPtr plain =
        sequence({optional(one('-')), natural, optional(sequence({one('.'), digits(1, most_digits)}))});
    if (!b.multiples_of.empty()) return multiples_expr(b, plain, budget);
    if (is_bounded) return plain;
    return sequence({plain, optional(sequence({chars({{'E', 'E'}, {'e', 'e'}}), sign, digits(1, 2)}))});
}

}  // namespace smelt::grammar
