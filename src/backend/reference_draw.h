// What Sample means for one row of logits, in double: see op.h.
#pragma once

#include <cstdint>
#include <limits>
#include <vector>

#include "sampling/draw_row.h"

namespace smelt::reference {

inline constexpr double minus_infinity = -std::numeric_limits<double>::infinity();

// What keeps any token from being drawn; none where nothing does.
DrawProblem problem_of(const std::vector<double>& logits);
void edit(std::vector<double>& logits, const LogitEdit& e, const DrawRow& row);
// Temperature, top-k, top-p, min-p, draw: in the order of rank with top-k, else in that of ids. Some logit is
// finite.
int32_t draw(const std::vector<double>& logits, const DrawRow& row);

}  // namespace smelt::reference
