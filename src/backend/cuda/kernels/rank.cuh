// The order of logits in every selection: larger ones first, of equal ones the smaller id, and the best of a
// block's.
#pragma once

#include "backend/cuda/kernels/dialect.cuh"

namespace smelt::cuda {

// In the order of floats, with both zeros as one and NaN above all; 0 is no float's. By bits, because what a
// compiler makes of comparisons with NaN depends on its options.
INLINE uint32_t rank_of(float x) {
    const uint32_t bits = float_bits(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return 0xffffffffu;
    if ((bits & 0x7fffffffu) == 0) return 0x80000000u;
    return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}

struct Ranked {
    uint32_t rank, id;
};
INLINE bool is_before(Ranked a, Ranked b) {
    return a.rank > b.rank || (a.rank == b.rank && a.id < b.id);
}
INLINE Ranked no_rank() {
    return {0, 0xffffffffu};
}

// The first in order of what the threads have; in all of them. `scratch` holds two words a warp.
INLINE Ranked best_of_threads(Ranked own, uint32_t* scratch) {
    const uint32_t rank = lanes_max(own.rank), id = lanes_min(own.rank == rank ? own.id : 0xffffffffu);
    if (lane() == 0) {
        scratch[2 * warp()] = rank;
        scratch[2 * warp() + 1] = id;
    }
    __syncthreads();
    Ranked best = no_rank();
    for (uint32_t i = 0; i < blockDim.x / 32; ++i) {
        const Ranked other = {scratch[2 * i], scratch[2 * i + 1]};
        if (is_before(other, best)) best = other;
    }
    __syncthreads();
    return best;
}

}  // namespace smelt::cuda
