// How far a device may be from the reference in each element of an op's results, derived from the op's
// inputs: float sums in any order, activations rounded to int8 where the weights are quantized.
#pragma once

#include <vector>

#include "backend/check/random_record.h"

namespace smelt {

// Memory of a record between two ops.
struct MemoryState {
    std::vector<std::vector<std::byte>> buffers;  // by number
    std::vector<std::byte> kv, states;
};

// Of the rows that the step has, row after row; 0: the same bits, infinite: anything.
struct OutputBound {
    Tensor tensor;
    std::vector<double> bound;
};
struct OpBounds {
    std::vector<OutputBound> outputs;
    // Of rows of the cache that the op stores, relative to values of about 1; other rows keep their bytes.
    double kv = 0;
    // Of every float of the states, absolute; empty: they keep their bits.
    std::vector<double> states;
};

// `made` is the reference's record, `before` what was in memory, `after` what the reference made of it.
OpBounds bounds_of(const AnyOp& op, const RandomRecord& made, const MemoryState& before,
                   const MemoryState& after);

}  // namespace smelt
