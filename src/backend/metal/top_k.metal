// The k largest of each row of logits, so that k of them come to the host and not a vocabulary. One threadgroup a
// row: each thread holds the best that is left of its own elements, and looks at these again when it was taken. Bytes:
// a row once, 600 kB of 150,000 logits, and 1/256 of it for each further one: from memory 1.5 us at 400 GB/s, in
// practice what one core of the GPU reads.
#include <metal_stdlib>

#include "backend/metal/kernel_args.h"
#include "backend/metal/rank.h"

using namespace metal;

namespace smelt {
using namespace gpu;

// The best of a thread's elements that comes after `last`.
inline Ranked best_after(device const float* row, uint n, Ranked last, uint thread_index) {
    Ranked best = none();
    for (uint i = thread_index; i < n; i += Geometry::wide_threads) {
        const Ranked x = {rank_of(row[i]), i};
        if (is_before(last, x) && is_before(x, best)) best = x;
    }
    return best;
}

kernel void top_k(constant TopKArgs& a [[buffer(0)]], device float* values [[buffer(1)]],
                  device int* ids [[buffer(2)]], device const float* x [[buffer(3)]],
                  uint2 at [[threadgroup_position_in_grid]], uint thread_index [[thread_index_in_threadgroup]],
                  uint lane [[thread_index_in_simdgroup]], uint simdgroup [[simdgroup_index_in_threadgroup]]) {
    threadgroup uint scratch[2 * Geometry::wide_threads / 32];
    device const float* row = x + ulong(at.y) * a.x_stride;
    const Ranked first = {0xffffffffu, 0};
    Ranked own = best_after(row, a.n, first, thread_index);
    if (thread_index == 0 && rank_of(row[0]) == 0xffffffffu) own = first;  // NaN there does not come after itself
    for (uint i = 0; i < a.k; ++i) {
        const Ranked best = best_of_threads(own, scratch, lane, simdgroup, Geometry::wide_threads / 32);
        if (best.id % Geometry::wide_threads == thread_index) {
            values[ulong(at.y) * a.values_stride + i] = row[best.id];
            ids[ulong(at.y) * a.ids_stride + i] = int(best.id);
            own = best_after(row, a.n, best, thread_index);
        }
    }
}

}  // namespace smelt
