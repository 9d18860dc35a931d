// The bytes of a weight that one partner of tensor parallelism has. Knows formats and their blocks, no
// devices.
#pragma once

#include <cstddef>
#include <optional>
#include <vector>

#include "backend/split.h"
#include "backend/tensor.h"

namespace smelt {

// How n partners share a weight that may be cut so; nothing: all have all of it. Columns are cut at whole
// blocks of the format, so that their units may be larger than the cut's. With fewer units than partners,
// rows are shared where every unit has the same number of partners, columns never, because each may be summed
// once alone. Throws Error where the cut does not divide the weight.
std::optional<Split> split_of(const WeightView& view, const Cut& cut, int n_partners);

struct CutWeight {
    WeightView view;
    std::vector<std::byte> data, scales;  // what the view looks at where that is not the original's
};
// One run of rows is a view of the original; everything else is copied.
CutWeight cut_weight(const WeightView& view, CutBy by, const Split& split, int partner, int n_partners);

}  // namespace smelt
