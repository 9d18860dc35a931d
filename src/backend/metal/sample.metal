// A token for each row of logits: what src/sampling/sampler.cpp does on the CPU, stage by stage. One threadgroup a row.
//
// Weights are integers, 2^43 for the largest logit's, and their sums exact: neither the order of additions nor the
// number of threads changes a token. What weighs less than 2^-43 of the largest is never drawn.
//
// Every stage asks one question: in some order of the row's entries, at which one does a running sum pass a target?
// The order is of a key with some bits; find() settles four of them a pass over the row. Passes over a row of 150,000
// logits (600 kB, from cache after the first; ids have 20 bits): 1 for the largest logit, 6 more to draw, 14 more with
// top-p, 27 more with top-k, whose entries are drawn in order of rank; log-probabilities 1 more. A threadgroup reads
// what one core of the GPU can.
#include <metal_stdlib>

#include "backend/metal/kernel_args.h"
#include "backend/metal/rank.h"
#include "backend/metal/unroll.h"
#include "sampling/draw_row.h"

using namespace metal;
#pragma clang fp contract(off)

namespace smelt {
using namespace gpu;

// exp(x) for x <= 0; 0 below -87. The arithmetic of src/sampling/vocab_scan.cpp, so that weights are the CPU's.
inline float exp_negative(float x) {
    const uint magnitude = as_type<uint>(x) & 0x7fffffffu;
    if (magnitude > as_type<uint>(87.0f)) return 0.0f;
    const float clamped = -as_type<float>(magnitude);
    const int n = int(clamped * 1.44269504f - 0.5f);
    const float r = clamped - float(n) * 0.693359375f + float(n) * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    return p * as_type<float>((n + 127) << 23);
}

// The high word of a product.
inline ulong high_product(ulong a, ulong b) {
    const ulong a0 = a & 0xffffffffu, a1 = a >> 32, b0 = b & 0xffffffffu, b1 = b >> 32;
    const ulong middle = a1 * b0 + (a0 * b0 >> 32), other = a0 * b1 + (middle & 0xffffffffu);
    return a1 * b1 + (middle >> 32) + (other >> 32);
}

// --- Sums of 64 bits in threadgroup memory: 16 of them, two words each ---

inline void clear_sums(threadgroup atomic_uint* sums, uint thread_index) {
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (thread_index < 32) atomic_store_explicit(sums + thread_index, 0u, memory_order_relaxed);
    threadgroup_barrier(mem_flags::mem_threadgroup);
}
inline void add_to_sum(threadgroup atomic_uint* sums, uint i, ulong x) {
    const uint low = uint(x), before = atomic_fetch_add_explicit(sums + 2 * i, low, memory_order_relaxed);
    const uint carry = before + low < low ? 1 : 0;
    atomic_fetch_add_explicit(sums + 2 * i + 1, uint(x >> 32) + carry, memory_order_relaxed);
}
inline ulong read_sum(threadgroup atomic_uint* sums, uint i) {
    const ulong high = atomic_load_explicit(sums + 2 * i + 1, memory_order_relaxed);
    return high << 32 | atomic_load_explicit(sums + 2 * i, memory_order_relaxed);
}

// --- The entries of a row that the stages so far have left ---

struct Entries {
    device const float* logits;
    uint n, id_bits;
    float largest, inverse_temperature;
    ulong last_rank;  // key in order of rank: those after it are out
    float least;      // those with a smaller weight are out

    float weight(uint i) const { return exp_negative((logits[i] - largest) * inverse_temperature); }
    ulong rank_key(uint i) const { return ulong(~rank_of(logits[i])) << id_bits | i; }
    // What entry i adds to a sum: 0 where it is out, else one, or its weight.
    ulong share(uint i, bool counts) const {
        if (rank_key(i) > last_rank) return 0;
        if (counts) return 1;
        const float w = weight(i);
        return w < least ? 0 : ulong(w * 8796093022208.0f);  // 2^43
    }
};

inline ulong sum_of(thread const Entries& entries, threadgroup atomic_uint* sums, uint thread_index) {
    ulong own = 0;
    for (uint i = thread_index; i < entries.n; i += Geometry::sample_threads) own += entries.share(i, false);
    clear_sums(sums, thread_index);
    if (own != 0) add_to_sum(sums, 0, own);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    return read_sum(sums, 0);
}

// The key of the first entry, in order of rank or of ids, at which the running sum of shares is above `target`. Their
// whole sum is.
inline ulong find(thread const Entries& entries, bool by_rank, bool counts, ulong target,
                  threadgroup atomic_uint* sums, uint thread_index) {
    ulong found = 0;
    for (int shift = int(by_rank ? 32 + entries.id_bits : entries.id_bits) - 4; shift >= 0; shift -= 4) {
        // shares by the next four bits of the key
        ulong own[16];
        UNROLL for (int d = 0; d < 16; ++d) own[d] = 0;
        for (uint i = thread_index; i < entries.n; i += Geometry::sample_threads) {
            const ulong key = by_rank ? entries.rank_key(i) : i;
            if (key >> shift >> 4 != found) continue;
            const ulong share = entries.share(i, counts);
            const uint digit = uint(key >> shift) & 15;
            UNROLL for (uint d = 0; d < 16; ++d) own[d] += d == digit ? share : 0;
        }
        clear_sums(sums, thread_index);
        UNROLL for (uint d = 0; d < 16; ++d) {
            if (own[d] != 0) add_to_sum(sums, d, own[d]);
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        // those in which the target lies
        uint digit = 0;
        for (; digit < 15; ++digit) {
            const ulong sum = read_sum(sums, digit);
            if (target < sum) break;
            target -= sum;
        }
        found = found << 4 | digit;
    }
    return found;
}

// --- Edits ---

inline float edited(float x, LogitEdit e, DrawRow row) {
    x += e.bias;
    if (e.seen != 0) {
        x = x > 0 ? x / row.repetition_penalty : x * row.repetition_penalty;
        x -= float(e.n_generated) * row.frequency_penalty;
        if (e.n_generated > 0) x -= row.presence_penalty;
    }
    return e.banned != 0 ? -INFINITY : x;
}

inline Ranked best_of_row(device const float* logits, uint n, threadgroup uint* scratch, uint thread_index, uint lane,
                          uint simdgroup) {
    Ranked best = none();
    for (uint i = thread_index; i < n; i += Geometry::sample_threads) {
        const Ranked x = {rank_of(logits[i]), i};
        if (is_before(x, best)) best = x;
    }
    return best_of_threads(best, scratch, lane, simdgroup, Geometry::sample_threads / 32);
}

// `changed` has room for rows of a.n logits, where there are masks or edits. `drawn` is for the embedding of the step
// that follows.
kernel void sample(constant SampleArgs& a [[buffer(0)]], device int* tokens [[buffer(1)]],
                   device float* logprobs [[buffer(2)]], device float* log_sums [[buffer(3)]],
                   device int* drawn [[buffer(4)]], device const float* all_logits [[buffer(5)]],
                   device const DrawRow* rows [[buffer(6)]], device const LogitEdit* edits [[buffer(7)]],
                   device const uint* masks [[buffer(8)]], device float* changed [[buffer(9)]],
                   uint2 at [[threadgroup_position_in_grid]], uint thread_index [[thread_index_in_threadgroup]],
                   uint lane [[thread_index_in_simdgroup]], uint simdgroup [[simdgroup_index_in_threadgroup]]) {
    threadgroup uint scratch[2 * Geometry::sample_threads / 32];
    threadgroup atomic_uint sums[32];
    const DrawRow row = rows[at.y];
    if (row.draws == 0) {
        if (thread_index == 0) drawn[at.y] = -1;
        return;
    }
    device const float* logits = all_logits + ulong(at.y) * a.logits_stride;
    const uint rank_of_infinity = rank_of(INFINITY), rank_of_minus_infinity = rank_of(-INFINITY);

    // the raw row: what is wrong with it, and the sum of its exponentials
    Ranked best = best_of_row(logits, a.n, scratch, thread_index, lane, simdgroup);
    int problem = int(best.rank == 0xffffffffu                ? DrawProblem::nan
                      : best.rank == rank_of_infinity         ? DrawProblem::infinite
                      : best.rank == rank_of_minus_infinity ? DrawProblem::all_minus_infinity
                                                              : DrawProblem::none);
    const float raw_largest = problem == 0 ? logits[best.id] : 0.0f;
    float log_sum = 0;  // of exp(logit - largest)
    if (problem == 0 && row.logprob != 0) {
        const Entries all = {logits, a.n, a.id_bits, raw_largest, 1.0f, ~ulong(0), 0.0f};
        log_sum = log(float(sum_of(all, sums, thread_index)) * 1.13686838e-13f);  // 2^-43
    }

    // masks and edits, in a copy; a thread has the edits of its own entries, in order
    device const float* edited_logits = logits;
    if (problem == 0 && (row.masked != 0 || row.n_edits > 0)) {
        device float* copy = changed + ulong(at.y) * a.n;
        device const uint* mask = masks + ulong(at.y) * a.mask_words;
        for (uint i = thread_index; i < a.n; i += Geometry::sample_threads) {
            const bool allowed =
                row.masked == 0 || (i / 32 < a.mask_words && (mask[i / 32] >> (i % 32) & 1) != 0);
            copy[i] = allowed ? logits[i] : -INFINITY;
        }
        for (int e = row.first_edit; e < row.first_edit + row.n_edits; ++e) {
            const LogitEdit edit = edits[e];
            if (uint(edit.id) % Geometry::sample_threads == thread_index) copy[edit.id] = edited(copy[edit.id], edit, row);
        }
        threadgroup_barrier(mem_flags::mem_device);
        edited_logits = copy;
        best = best_of_row(edited_logits, a.n, scratch, thread_index, lane, simdgroup);
        problem = int(best.rank == rank_of_minus_infinity ? DrawProblem::all_banned
                      : best.rank == rank_of_infinity     ? DrawProblem::infinite_after_edits
                                                          : DrawProblem::none);
    }

    uint token = best.id;
    if (problem == 0 && row.temperature >= 1e-5f && row.top_k != 1) {
        Entries left = {edited_logits,  a.n, a.id_bits, edited_logits[best.id], 1.0f / row.temperature,
                        ~ulong(0), 0.0f};
        const bool has_top_k = row.top_k > 0 && uint(row.top_k) < a.n;
        if (has_top_k) left.last_rank = find(left, true, true, ulong(row.top_k - 1), sums, thread_index);
        if (row.top_p < 1) {
            // the first in rank that make this share of the sum or more
            const ulong sum = sum_of(left, sums, thread_index), share = ulong(row.top_p * 4294967296.0f) << 32;
            const ulong mass = high_product(sum, share), below = sum * share == 0 && mass > 0 ? mass - 1 : mass;
            left.last_rank = find(left, true, false, below, sums, thread_index);
        }
        left.least = row.min_p;
        // draw, in order of rank after top-k
        const ulong bits = ulong(row.random[1]) << 32 | row.random[0];
        const ulong target = high_product(sum_of(left, sums, thread_index), bits & ~ulong(2047));
        token = uint(find(left, has_top_k, false, target, sums, thread_index)) & ((1u << a.id_bits) - 1);
    }
    if (thread_index != 0) return;
    tokens[at.y] = problem != 0 ? problem : int(token);
    drawn[at.y] = tokens[at.y];
    if (problem == 0 && row.logprob != 0) {
        const float high = raw_largest + log_sum;
        log_sums[2 * at.y] = high;
        log_sums[2 * at.y + 1] = log_sum - (high - raw_largest);
        logprobs[at.y] = (logits[token] - raw_largest) - log_sum;
    }
}

}  // namespace smelt
