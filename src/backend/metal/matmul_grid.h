// What products with and without experts share on the host's side.
#pragma once

#include <span>

#include "backend/metal/kernel_args.h"
#include "backend/metal/step_encoder.h"

namespace smelt::metal {

constexpr int64_t unit = 16;  // weights that a lane has at a time

// Of rows of x by blocks of rows of w, so many of these in a threadgroup.
inline Grid matmul_grid(int64_t n_tiles, int64_t n_blocks, int64_t blocks_per_group) {
    return {size(n_tiles, divide_up(n_blocks, blocks_per_group)),
            size(gpu::Geometry::matmul_simdgroups * gpu::Geometry::simd_width)};
}

// Calls f with pieces of `items`, in order, that belong together and are no more than a dispatch takes.
template <class T, class Together, class F>
void in_batches(std::span<const T> items, Together together, F f) {
    for (size_t i = 0; i < items.size();) {
        size_t end = i + 1;
        while (end < items.size() && end - i < gpu::Geometry::max_products && together(items[i], items[end]))
            ++end;
        f(items.subspan(i, end - i));
        i = end;
    }
}

}  // namespace smelt::metal
