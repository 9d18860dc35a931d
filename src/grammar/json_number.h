// Numbers within bounds, as JSON writes them.
#pragma once

#include <cstdint>
#include <optional>

#include "base/json.h"
#include "grammar/expr.h"

namespace smelt::grammar {

class Budget;

struct NumberBounds {
    bool integer = false;
    // JSON numbers, the tightest of those that hold.
    std::optional<Json> min = {}, max = {};
    bool min_excluded = false, max_excluded = false;
    std::vector<Json> multiples_of = {};

    void at_least(const Json& bound, bool excluded);
    void at_most(const Json& bound, bool excluded);
    bool contain(const Json& number) const;
};

// Throws Refused where the bounds cannot be kept exactly. Where no bound says otherwise, a number has at most
// 15 digits before the point and 15 behind it, so that reading it loses nothing.
ExprPtr number_expr(const NumberBounds& bounds, Budget& budget);

}  // namespace smelt::grammar
