// Brings weights into the tiles of kernels/tiles.cuh, on the card.
#pragma once

#include "backend/cuda/memory.h"
#include "backend/cuda/tile_args.h"

namespace smelt::cuda {

// Rows of a matrix as the file has them, on the card.
struct WeightRows {
    const uint8_t *data, *scales;  // scales: planar formats only
    size_t row_bytes, scale_row_bytes;
};

inline bool has_tiles(Format format) {
    return tile_shape(format).bytes > 0;
}
// Starts the kernel that makes the tiles; the stream orders it before what is launched later.
WeightBytes make_tiles(Gpu& gpu, WeightMemory& memory, Format format, int64_t rows, int64_t cols,
                       const WeightRows& from);

}  // namespace smelt::cuda
