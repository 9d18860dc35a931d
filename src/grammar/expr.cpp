// Sets of characters and nodes of the tree.
#include "grammar/expr.h"

#include <algorithm>

#include "grammar/char_dfa.h"

namespace smelt::grammar {

namespace {

constexpr char32_t last_char = 0x10ffff, first_surrogate = 0xd800, last_surrogate = 0xdfff;

ExprPtr make(Expr e) {
    e.has_assertions = e.kind == Expr::Kind::assertion ||
                       std::ranges::any_of(e.parts, [](const ExprPtr& p) { return p->has_assertions; });
    return std::make_shared<const Expr>(std::move(e));
}

uint32_t saturated(uint64_t n) {
    return n >= unlimited ? unlimited : static_cast<uint32_t>(n);
}

uint32_t times(uint32_t a, uint32_t b) {
    if (a == 0 || b == 0) return 0;
    return a == unlimited || b == unlimited ? unlimited : saturated(uint64_t{a} * b);
}

}  // namespace

CharSet::CharSet(std::initializer_list<Range> ranges) {
    for (const Range& r : ranges) add(r.lo, r.hi);
}

CharSet CharSet::all() {
    return {{0, first_surrogate - 1}, {last_surrogate + 1, last_char}};
}

void CharSet::add(char32_t lo, char32_t hi) {
    if (lo > hi) return;
    std::vector<Range> merged;
    merged.reserve(ranges_.size() + 1);
    for (const Range& r : ranges_) {
        if (r.hi + 1 < lo || hi + 1 < r.lo) {
            merged.push_back(r);
        } else {
            lo = std::min(lo, r.lo);
            hi = std::max(hi, r.hi);
        }
    }
    merged.insert(std::ranges::upper_bound(merged, Range{lo, hi}), {lo, hi});
    ranges_ = std::move(merged);
}

void CharSet::add(const CharSet& other) {
    for (const Range& r : other.ranges_) add(r.lo, r.hi);
}

CharSet CharSet::complement() const {
    CharSet result;
    char32_t next = 0;
    for (const Range& r : ranges_) {
        if (next < r.lo) result.ranges_.push_back({next, r.lo - 1});
        next = r.hi + 1;
    }
    if (next <= last_char) result.ranges_.push_back({next, last_char});
    return result.intersection(all());
}

CharSet CharSet::intersection(const CharSet& other) const {
    CharSet result;
    auto a = ranges_.begin(), b = other.ranges_.begin();
    while (a != ranges_.end() && b != other.ranges_.end()) {
        const char32_t lo = std::max(a->lo, b->lo), hi = std::min(a->hi, b->hi);
        if (lo <= hi) result.ranges_.push_back({lo, hi});
        (a->hi < b->hi ? a : b)++;
    }
    return result;
}

bool CharSet::contains(char32_t c) const {
    const auto after = std::ranges::upper_bound(ranges_, c, {}, &Range::lo);
    return after != ranges_.begin() && c <= std::prev(after)->hi;
}

ExprPtr bytes(std::string text) {
    return make({.kind = Expr::Kind::bytes, .bytes = std::move(text)});
}

ExprPtr chars(CharSet set) {
    return make({.kind = Expr::Kind::chars, .chars = std::move(set)});
}

ExprPtr literal(std::u32string_view text) {
    std::vector<ExprPtr> parts;
    for (const char32_t c : text) parts.push_back(chars(CharSet::one(c)));
    return sequence(std::move(parts));
}

ExprPtr sequence(std::vector<ExprPtr> parts) {
    if (parts.size() == 1) return parts[0];
    return make({.kind = Expr::Kind::sequence, .parts = std::move(parts)});
}

ExprPtr choice(std::vector<ExprPtr> parts) {
    if (parts.size() == 1) return parts[0];
    return make({.kind = Expr::Kind::choice, .parts = std::move(parts)});
}

ExprPtr repeat(ExprPtr part, uint32_t min, uint32_t max) {
    if (min == 1 && max == 1) return part;
    return make({.kind = Expr::Kind::repeat, .parts = {std::move(part)}, .min = min, .max = max});
}

ExprPtr optional(ExprPtr part) {
    return repeat(std::move(part), 0, 1);
}

ExprPtr call(int32_t rule) {
    return make({.kind = Expr::Kind::call, .rule = rule});
}

ExprPtr dfa(CharDfa d) {
    return make({.kind = Expr::Kind::dfa, .dfa = std::make_shared<const CharDfa>(std::move(d))});
}

ExprPtr counted_dfa(CharDfa d, LengthRange lengths) {
    return make({.kind = Expr::Kind::counted_dfa,
                 .min = lengths.min,
                 .max = lengths.max,
                 .dfa = std::make_shared<const CharDfa>(std::move(d))});
}

ExprPtr json_text(ExprPtr part) {
    return make({.kind = Expr::Kind::json_text, .parts = {std::move(part)}});
}

ExprPtr assertion(Expr::Assertion kind, ExprPtr part) {
    Expr e{.kind = Expr::Kind::assertion, .assertion = kind};
    if (part != nullptr) e.parts.push_back(std::move(part));
    return make(std::move(e));
}

LengthRange length_range(const Expr& e) {
    switch (e.kind) {
        case Expr::Kind::assertion:
            return {0, 0};
        case Expr::Kind::chars:
            return {1, 1};
        case Expr::Kind::sequence: {
            uint64_t min = 0, max = 0;
            for (const ExprPtr& p : e.parts) {
                const LengthRange r = length_range(*p);
                min += r.min;
                max += r.max;
            }
            return {saturated(min), saturated(max)};
        }
        case Expr::Kind::choice: {
            LengthRange all{unlimited, 0};
            for (const ExprPtr& p : e.parts) {
                const LengthRange r = length_range(*p);
                all = {std::min(all.min, r.min), std::max(all.max, r.max)};
            }
            return all;
        }
        case Expr::Kind::repeat: {
            const LengthRange r = length_range(*e.parts[0]);
            return {times(r.min, e.min), times(r.max, e.max)};
        }
        case Expr::Kind::bytes:
        case Expr::Kind::call:
        case Expr::Kind::dfa:
        case Expr::Kind::counted_dfa:
        case Expr::Kind::json_text:
            break;
    }
    return {0, unlimited};
}

std::u32string decode_text(std::string_view s) {
    std::u32string result;
    for (size_t i = 0; i < s.size();) {
        const auto b = static_cast<unsigned char>(s[i]);
        const int length = b < 0x80 ? 1 : b < 0xc2 ? 0 : b < 0xe0 ? 2 : b < 0xf0 ? 3 : b < 0xf5 ? 4 : 0;
        char32_t c = length == 1 ? b : b & (0xffu >> (length + 1));
        int n = 1;
        while (n < length && i + static_cast<size_t>(n) < s.size()) {
            const auto next = static_cast<unsigned char>(s[i + static_cast<size_t>(n)]);
            if ((next & 0xc0) != 0x80) break;
            c = c << 6 | (next & 0x3f);
            ++n;
        }
        constexpr char32_t first_of_length[] = {0, 0, 0x80, 0x800, 0x10000};
        const bool whole = length > 0 && n == length && c >= first_of_length[length] && c <= last_char &&
                           (c < first_surrogate || c > last_surrogate);
        result.push_back(whole ? c : 0xfffd);
        i += static_cast<size_t>(n);
    }
    return result;
}

}  // namespace smelt::grammar
