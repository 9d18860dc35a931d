// Whether a drawn token is beyond doubt: no decision on the way to it lies within the rounding of weights.
#pragma once

#include <cstdint>
#include <span>

#include "sampling/draw_row.h"

namespace smelt {

// The largest relative error of one rounding to float.
inline constexpr double float_eps = 0x1p-24;

// A weight exp((x - max) / T) in float is off by 8 eps and 4 eps * |x - max| / T of itself. False where
// top-p, min-p or the draw itself may fall differently for that; such a row's token is not compared. `edits`
// is the list of the whole step, `mask` null where the row has none.
bool draw_is_clear(std::span<const float> logits, const DrawRow& row, const LogitEdit* edits,
                   const uint64_t* mask);

}  // namespace smelt
