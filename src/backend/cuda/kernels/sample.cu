// A token for each row of logits: what src/sampling/sampler.cpp does on the CPU, stage by stage. One block a
// row.
//
// Weights are integers, 2^43 for the largest logit's, and their sums exact: neither the order of additions
// nor the number of threads changes a token. What weighs less than 2^-43 of the largest is never drawn.
//
// Every stage asks one question: in some order of the row's entries, at which one does a running sum pass a
// target? The order is of a key with some bits; find() settles four of them a pass over the row. Passes over
// a row of 150,000 logits (600 kB, from cache after the first; ids have 20 bits): 1 for the largest logit, 6
// more to draw, 14 more with top-p, 27 more with top-k, whose entries are drawn in order of rank;
// log-probabilities 1 more.
#include "backend/cuda/kernels/rank.cuh"
#include "sampling/draw_row.h"

namespace smelt::cuda {

// exp(x) for x <= 0; 0 below -87. The arithmetic of src/sampling/vocab_scan.cpp, so that weights are the
// CPU's.
INLINE float exp_negative(float x) {
    const uint32_t magnitude = float_bits(x) & 0x7fffffffu;
    if (magnitude > float_bits(87.0f)) return 0.0f;
    const float clamped = -bits_as_float(magnitude);
    const int n = static_cast<int>(clamped * 1.44269504f - 0.5f);
    const float r = clamped - static_cast<float>(n) * 0.693359375f + static_cast<float>(n) * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    return p * bits_as_float(static_cast<uint32_t>(n + 127) << 23);
}

// The high word of a product.
INLINE uint64_t high_product(uint64_t a, uint64_t b) {
    const uint64_t a0 = a & 0xffffffffu, a1 = a >> 32, b0 = b & 0xffffffffu, b1 = b >> 32;
    const uint64_t middle = a1 * b0 + (a0 * b0 >> 32), other = a0 * b1 + (middle & 0xffffffffu);
    return a1 * b1 + (middle >> 32) + (other >> 32);
}

// --- Sixteen sums of 64 bits in shared memory ---

INLINE void clear_sums(unsigned long long* sums) {
    __syncthreads();
    if (threadIdx.x < 16) sums[threadIdx.x] = 0;
    __syncthreads();
}

// --- The entries of a row that the stages so far have left ---

struct Entries {
    const float* logits;
    uint32_t n, id_bits;
    float largest, inverse_temperature;
    uint64_t last_rank;  // key in order of rank: those after it are out
    float least;         // those with a smaller weight are out

    INLINE float weight(uint32_t i) const {
        return exp_negative((logits[i] - largest) * inverse_temperature);
    }
    INLINE uint64_t rank_key(uint32_t i) const {
        return static_cast<uint64_t>(~rank_of(logits[i])) << id_bits | i;
    }
    // What entry i adds to a sum: 0 where it is out, else one, or its weight.
    INLINE uint64_t share(uint32_t i, bool counts) const {
        if (rank_key(i) > last_rank) return 0;
        if (counts) return 1;
        const float w = weight(i);
        return w < least ? 0 : static_cast<uint64_t>(w * 8796093022208.0f);  // 2^43
    }
};

INLINE uint64_t sum_of(const Entries& entries, unsigned long long* sums) {
    unsigned long long own = 0;
    UNROLL_BY(4)
    for (uint32_t i = threadIdx.x; i < entries.n; i += blockDim.x) own += entries.share(i, false);
    clear_sums(sums);
    if (own != 0) atomicAdd(sums, own);
    __syncthreads();
    return sums[0];
}

// The key of the first entry, in order of rank or of ids, at which the running sum of shares is above
// `target`. Their whole sum is.
INLINE uint64_t find(const Entries& entries, bool by_rank, bool counts, uint64_t target,
                     unsigned long long* sums) {
    uint64_t found = 0;
    for (int shift = static_cast<int>(by_rank ? 32 + entries.id_bits : entries.id_bits) - 4; shift >= 0;
         shift -= 4) {
        // shares by the next four bits of the key
        unsigned long long own[16];
        UNROLL for (int d = 0; d < 16; ++d) own[d] = 0;
        for (uint32_t i = threadIdx.x; i < entries.n; i += blockDim.x) {
            const uint64_t key = by_rank ? entries.rank_key(i) : i;
            if (key >> shift >> 4 != found) continue;
            const uint64_t share = entries.share(i, counts);
            const uint32_t digit = static_cast<uint32_t>(key >> shift) & 15;
            UNROLL for (uint32_t d = 0; d < 16; ++d) own[d] += d == digit ? share : 0;
        }
        clear_sums(sums);
        UNROLL for (int d = 0; d < 16; ++d) {
            if (own[d] != 0) atomicAdd(sums + d, own[d]);
        }
        __syncthreads();
        // those in which the target lies
        uint32_t digit = 0;
        for (; digit < 15; ++digit) {
            const uint64_t sum = sums[digit];
            if (target < sum) break;
            target -= sum;
        }
        found = found << 4 | digit;
    }
    return found;
}

// --- Edits ---

INLINE float edited(float x, const LogitEdit& e, const DrawRow& row) {
    x += e.bias;
    if (e.seen != 0) {
        x = x > 0 ? x / row.repetition_penalty : x * row.repetition_penalty;
        x -= static_cast<float>(e.n_generated) * row.frequency_penalty;
        if (e.n_generated > 0) x -= row.presence_penalty;
    }
    return e.banned != 0 ? -infinity : x;
}

// Of the entries from `first` on, by the block's threads.
INLINE Ranked best_of_row(const float* logits, uint32_t first, uint32_t end, uint32_t* scratch) {
    Ranked best = no_rank();
    UNROLL_BY(8) for (uint32_t i = first + threadIdx.x; i < end; i += blockDim.x) {
        const Ranked x = {rank_of(logits[i]), i};
        if (is_before(x, best)) best = x;
    }
    return best_of_threads(best, scratch);
}

// The best of each part of a row, for what comes next. Blocks: (rows, parts).
KERNEL(best_of_parts, SampleArgs, 256) {
    __shared__ uint32_t scratch[2 * 256 / 32];
    const uint32_t r = blockIdx.x, part = (a.n + sample_parts - 1) / sample_parts;
    if (r >= rows_of(a.rows)) return;
    const uint32_t first = least(blockIdx.y * part, a.n), end = least(first + part, a.n);
    const Ranked best =
        best_of_row(a.logits + static_cast<uint64_t>(r) * a.logits_stride, first, end, scratch);
    if (threadIdx.x == 0) {
        a.parts[2 * (r * sample_parts + blockIdx.y)] = best.rank;
        a.parts[2 * (r * sample_parts + blockIdx.y) + 1] = best.id;
    }
}

KERNEL(sample, SampleArgs, 1024) {
    __shared__ uint32_t scratch[2 * sample_threads / 32];
    __shared__ unsigned long long sums[16];
    const uint32_t r = blockIdx.x;
    if (r >= rows_of(a.rows)) return;
    const DrawRow row = static_cast<const DrawRow*>(a.draw_rows)[r];
    if (row.draws == 0) {
        if (threadIdx.x == 0) a.drawn[r] = -1;
        return;
    }
    const float* logits = a.logits + static_cast<uint64_t>(r) * a.logits_stride;
    const uint32_t rank_of_infinity = rank_of(infinity), rank_of_minus_infinity = rank_of(-infinity);

    // the raw row: what is wrong with it, and the sum of its exponentials
    Ranked best = no_rank();
    if (threadIdx.x < sample_parts) {
        const uint32_t* of = a.parts + 2 * (r * sample_parts + threadIdx.x);
        best = {of[0], of[1]};
    }
    best = best_of_threads(best, scratch);
    DrawProblem problem = best.rank == 0xffffffffu              ? DrawProblem::nan
                          : best.rank == rank_of_infinity       ? DrawProblem::infinite
                          : best.rank == rank_of_minus_infinity ? DrawProblem::all_minus_infinity
                                                                : DrawProblem::none;
    const float raw_largest = problem == DrawProblem::none ? logits[best.id] : 0.0f;
    float log_sum = 0;  // of exp(logit - largest)
    if (problem == DrawProblem::none && row.logprob != 0) {
        const Entries all = {logits, a.n, a.id_bits, raw_largest, 1.0f, ~uint64_t{0}, 0.0f};
        log_sum = logf(static_cast<float>(sum_of(all, sums)) * 1.13686838e-13f);  // 2^-43
    }

    // masks and edits, in a copy; a thread has the edits of its own entries, in order
    const float* edited_logits = logits;
    if (problem == DrawProblem::none && (row.masked != 0 || row.n_edits > 0)) {
        float* copy = a.changed + static_cast<uint64_t>(r) * a.n;
        const uint32_t* mask = a.masks + static_cast<uint64_t>(r) * a.mask_words;
        for (uint32_t i = threadIdx.x; i < a.n; i += blockDim.x) {
            const bool allowed =
                row.masked == 0 || (i / 32 < a.mask_words && (mask[i / 32] >> (i % 32) & 1) != 0);
            copy[i] = allowed ? logits[i] : -infinity;
        }
        const auto* edits = static_cast<const LogitEdit*>(a.edits);
        for (int32_t e = row.first_edit; e < row.first_edit + row.n_edits; ++e) {
            const LogitEdit edit = edits[e];
            if (static_cast<uint32_t>(edit.id) % blockDim.x == threadIdx.x)
                copy[edit.id] = edited(copy[edit.id], edit, row);
        }
        __syncthreads();
        edited_logits = copy;
        best = best_of_row(edited_logits, 0, a.n, scratch);
        problem = best.rank == rank_of_minus_infinity ? DrawProblem::all_banned
                  : best.rank == rank_of_infinity     ? DrawProblem::infinite_after_edits
                                                      : DrawProblem::none;
    }

    uint32_t token = best.id;
    if (problem == DrawProblem::none && row.temperature >= 1e-5f && row.top_k != 1) {
        Entries left = {edited_logits,          a.n,          a.id_bits, edited_logits[best.id],
                        1.0f / row.temperature, ~uint64_t{0}, 0.0f};
        const bool has_top_k = row.top_k > 0 && static_cast<uint32_t>(row.top_k) < a.n;
        if (has_top_k) left.last_rank = find(left, true, true, static_cast<uint64_t>(row.top_k - 1), sums);
        if (row.top_p < 1) {
            // the first in rank that make this share of the sum or more
            const uint64_t sum = sum_of(left, sums), share = static_cast<uint64_t>(row.top_p * 4294967296.0f)
                                                             << 32;
            const uint64_t mass = high_product(sum, share),
                           below = sum * share == 0 && mass > 0 ? mass - 1 : mass;
            left.last_rank = find(left, true, false, below, sums);
        }
        left.least = row.min_p;
        // draw, in order of rank after top-k
        const uint64_t bits = static_cast<uint64_t>(row.random[1]) << 32 | row.random[0];
        const uint64_t target = high_product(sum_of(left, sums), bits & ~uint64_t{2047});
        token = static_cast<uint32_t>(find(left, has_top_k, false, target, sums)) & ((1u << a.id_bits) - 1);
    }
    if (threadIdx.x != 0) return;
    a.tokens[r] = problem != DrawProblem::none ? static_cast<int32_t>(problem) : static_cast<int32_t>(token);
    a.drawn[r] = a.tokens[r];
    if (problem == DrawProblem::none && row.logprob != 0 && a.logprobs != nullptr) {
        const float high = raw_largest + log_sum;
        a.log_sums[2 * r] = high;
        a.log_sums[2 * r + 1] = log_sum - (high - raw_largest);
        a.logprobs[r] = (logits[token] - raw_largest) - log_sum;
    }
}

}  // namespace smelt::cuda
