// The k largest of each row of logits, so that k of them come to the host and not a vocabulary. One threadgroup a
// row: each thread holds the best that is left of its own elements, and looks at these again when it was taken. Bytes:
// a row once, 600 kB of 150,000 logits, and 1/256 of it for each further one: from memory 1.5 us at 400 GB/s, in
// practice what one core of the GPU reads.
#include <metal_stdlib>

#include "backend/metal/kernel_args.h"

using namespace metal;

namespace smelt {
using namespace gpu;

// In the order of floats, with both zeros as one and NaN above all; 0 is no float's. By bits, because what a
// compiler makes of comparisons with NaN depends on its options.
inline uint rank_of(float x) {
    const uint bits = as_type<uint>(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return 0xffffffffu;
    if ((bits & 0x7fffffffu) == 0) return 0x80000000u;
    return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}

struct Ranked {
    uint rank, id;
};
inline bool is_before(Ranked a, Ranked b) {
    return a.rank > b.rank || (a.rank == b.rank && a.id < b.id);
}
inline Ranked none() {
    return {0, 0xffffffffu};
}

// Of a thread's elements the best one behind `last`.
inline Ranked best_behind(device const float* row, uint n, Ranked last, uint thread_index) {
    Ranked best = none();
    for (uint i = thread_index; i < n; i += Geometry::wide_threads) {
        const Ranked x = {rank_of(row[i]), i};
        if (is_before(last, x) && is_before(x, best)) best = x;
    }
    return best;
}

kernel void top_k(constant TopKArgs& a [[buffer(0)]], device float* values [[buffer(1)]],
                  device int* ids [[buffer(2)]], device const float* x [[buffer(3)]],
                  uint at [[threadgroup_position_in_grid]], uint thread_index [[thread_index_in_threadgroup]],
                  uint lane [[thread_index_in_simdgroup]], uint simdgroup [[simdgroup_index_in_threadgroup]]) {
    threadgroup uint ranks[Geometry::wide_threads / 32];
    threadgroup uint owners[Geometry::wide_threads / 32];
    device const float* row = x + ulong(at) * a.x_stride;
    const Ranked first = {0xffffffffu, 0};
    Ranked own = best_behind(row, a.n, first, thread_index);
    if (thread_index == 0 && rank_of(row[0]) == 0xffffffffu) own = first;  // NaN there is not behind itself
    for (uint i = 0; i < a.k; ++i) {
        const uint rank = simd_max(own.rank), id = simd_min(own.rank == rank ? own.id : 0xffffffffu);
        if (lane == 0) {
            ranks[simdgroup] = rank;
            owners[simdgroup] = id;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        Ranked best = none();
        for (int s = 0; s < Geometry::wide_threads / 32; ++s) {
            const Ranked other = {ranks[s], owners[s]};
            if (is_before(other, best)) best = other;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        if (best.id % Geometry::wide_threads == thread_index) {
            values[ulong(at) * a.values_stride + i] = row[best.id];
            ids[ulong(at) * a.ids_stride + i] = int(best.id);
            own = best_behind(row, a.n, best, thread_index);
        }
    }
}

}  // namespace smelt
