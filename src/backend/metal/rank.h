// The order of logits in every selection: larger ones first, of equal ones the smaller id, and the best of a
// threadgroup's. For .metal files.
#pragma once

namespace smelt {

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

// The first in order of what the threads have; in all of them. `scratch` holds two words a simdgroup.
inline Ranked best_of_threads(Ranked own, threadgroup uint* scratch, uint lane, uint simdgroup,
                              uint n_simdgroups) {
    const uint rank = simd_max(own.rank), id = simd_min(own.rank == rank ? own.id : 0xffffffffu);
    if (lane == 0) {
        scratch[2 * simdgroup] = rank;
        scratch[2 * simdgroup + 1] = id;
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    Ranked best = none();
    for (uint s = 0; s < n_simdgroups; ++s) {
        const Ranked other = {scratch[2 * s], scratch[2 * s + 1]};
        if (is_before(other, best)) best = other;
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    return best;
}

}  // namespace smelt
