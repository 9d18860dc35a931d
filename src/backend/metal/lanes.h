// Sums over the 32 lanes of a simdgroup in one fixed order, so that a result has the same bits wherever it is
// computed: (lane, lane ^ 16), then ^ 8, ^ 4, ^ 2, ^ 1. simd_sum leaves its order open. For .metal files.
#pragma once

#include "backend/metal/unroll.h"

namespace smelt {

// In every lane.
inline float lanes_sum(float x) {
    x += simd_shuffle_xor(x, ushort(16));
    x += simd_shuffle_xor(x, ushort(8));
    x += simd_shuffle_xor(x, ushort(4));
    x += simd_shuffle_xor(x, ushort(2));
    x += simd_shuffle_xor(x, ushort(1));
    return x;
}

// One level of lanes_sums: with n sums to go, half of the lanes take over half of them.
template <int n, int bit>
struct LanesLevel {
    static void run(thread float* x, uint lane, thread uint& index) {
        const bool upper = (lane & bit) != 0;
        // four at a time are one exchange to the software device, and four to others
        UNROLL for (int i = 0; i + 4 <= n / 2; i += 4) {
            float4 keep, give;
            UNROLL for (int j = 0; j < 4; ++j) {
                keep[j] = upper ? x[i + j + n / 2] : x[i + j];
                give[j] = upper ? x[i + j] : x[i + j + n / 2];
            }
            const float4 sum = keep + simd_shuffle_xor(give, ushort(bit));
            UNROLL for (int j = 0; j < 4; ++j) x[i + j] = sum[j];
        }
        if (n == 4) {
            const float2 keep = upper ? float2(x[2], x[3]) : float2(x[0], x[1]);
            const float2 give = upper ? float2(x[0], x[1]) : float2(x[2], x[3]);
            const float2 sum = keep + simd_shuffle_xor(give, ushort(bit));
            x[0] = sum.x;
            x[1] = sum.y;
        }
        if (n == 2) {
            const float keep = upper ? x[1] : x[0], give = upper ? x[0] : x[1];
            x[0] = keep + simd_shuffle_xor(give, ushort(bit));
        }
        if (n == 1) x[0] += simd_shuffle_xor(x[0], ushort(bit));
        if (n > 1 && upper) index += n / 2;
        LanesLevel<(n > 1 ? n / 2 : 1), bit / 2>::run(x, lane, index);
    }
};
template <int n>
struct LanesLevel<n, 0> {
    static void run(thread float*, uint, thread uint&) {}
};

// n sums at once (a power of two up to 32) with n - 1 + log2(32 / n) shuffles: x[0] becomes the sum, over the
// lanes, of x[index]. Each index is held by 32 / n neighbours; the first of them has is_first.
template <int n>
inline uint lanes_sums(thread float* x, uint lane) {
    uint index = 0;
    LanesLevel<n, 16>::run(x, lane, index);
    return index;
}
template <int n>
inline bool is_first(uint lane) {
    return lane % (32 / n) == 0;
}

// Over all threads of a threadgroup: of each simdgroup, then of these by number. `scratch` holds 32.
inline float threads_sum(float x, threadgroup float* scratch, uint lane, uint simdgroup, uint n_simdgroups) {
    x = lanes_sum(x);
    if (n_simdgroups == 1) return x;
    if (lane == 0) scratch[simdgroup] = x;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    float total = 0;
    for (uint i = 0; i < n_simdgroups; ++i) total += scratch[i];
    threadgroup_barrier(mem_flags::mem_threadgroup);
    return total;
}

}  // namespace smelt
