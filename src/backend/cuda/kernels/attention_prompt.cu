// Attention of many tokens: a block has 64 query rows that share a head of k and v, and goes through all
// rounds that any of them sees. To the bit what attention.cu makes of them, from registers: a lane has four
// rows by two positions of the scores, then four rows by a part of the dimensions of the sums. Half-float
// caches with heads of 64 or 128.
//
// Operations: a multiply-add for each of row, position and dimension, twice, on the float units; the next
// round's k and v are on their way meanwhile.
#include "backend/cuda/kernels/attention_tile.cuh"

namespace smelt::cuda {

constexpr uint32_t prompt_lane_rows = 4, prompt_warp_rows = 8;
constexpr uint32_t prompt_score_pitch = attention_round + 4;

template <class Convert, int dim>
struct PromptShared {
    static constexpr uint32_t pitch = dim + 4;  // so that lanes meet different banks
    float queries[prompt_rows * pitch];
    float keys[attention_round * pitch], values[attention_round * pitch];
    float scores[prompt_rows * prompt_score_pitch];
};

// A thread's share of k and of v of a round: eight halves at a time, as the cache has them.
template <class Convert, int dim>
struct PromptRound {
    static constexpr uint32_t parts = dim / 8, each = attention_round * parts / prompt_threads;
    uint4 k[each], v[each];

    INLINE void load(const AttentionArgs& a, const AttentionTile& tile, uint32_t head,
                     uint32_t first_position) {
        UNROLL for (uint32_t i = 0; i < each; ++i) {
            const uint32_t at = threadIdx.x + i * prompt_threads, part = at % parts;
            const uint32_t position = first_position + at / parts;
            k[i] = v[i] = make_uint4(0, 0, 0, 0);
            if (position < tile.low || position > tile.high) continue;
            const uint64_t row = slot_of(a, tile.blocks, position) * a.k.n_heads + head;
            k[i] = load16_aligned(a.k.rows + row * a.k.row_bytes + 16 * part);
            v[i] = load16_aligned(a.v.rows + row * a.v.row_bytes + 16 * part);
        }
    }
    INLINE static void put(uint4 eight, float* to) {
        const uint32_t words[4] = {eight.x, eight.y, eight.z, eight.w};
        float x[8];
        UNROLL for (int j = 0; j < 4; ++j) {
            x[2 * j] = Convert{}(static_cast<uint16_t>(words[j] & 0xffffu));
            x[2 * j + 1] = Convert{}(static_cast<uint16_t>(words[j] >> 16));
        }
        reinterpret_cast<float4*>(to)[0] = {x[0], x[1], x[2], x[3]};
        reinterpret_cast<float4*>(to)[1] = {x[4], x[5], x[6], x[7]};
    }
    INLINE void store(PromptShared<Convert, dim>& s) const {
        UNROLL for (uint32_t i = 0; i < each; ++i) {
            const uint32_t at = threadIdx.x + i * prompt_threads;
            const uint32_t place = at / parts * s.pitch + 8 * (at % parts);
            put(k[i], s.keys + place);
            put(v[i], s.values + place);
        }
    }
};

// What a lane knows of one of its warp's rows, row lane / 4.
struct PromptRow {
    uint32_t token, head, low, high;
    SoftmaxSum sum, total;
};

// Scores of a warp's rows to `scores`: a lane has rows 4 * (lane / 16) + r, positions lane % 16 and 16 after.
template <int dim>
INLINE void prompt_scores(const float* queries, const float* keys, float* scores) {
    constexpr uint32_t pitch = dim + 4;
    const uint32_t first_row = prompt_lane_rows * (lane() / 16), position = lane() % 16;
    const float* q = queries + first_row * pitch;
    const float* k = keys + position * pitch;
    float sums[prompt_lane_rows][2] = {};
    UNROLL_BY(2) for (uint32_t d = 0; d < dim; d += 4) {
        const float4 k0 = *reinterpret_cast<const float4*>(k + d);
        const float4 k1 = *reinterpret_cast<const float4*>(k + 16 * pitch + d);
        UNROLL for (uint32_t r = 0; r < prompt_lane_rows; ++r) {
            const float4 x = *reinterpret_cast<const float4*>(q + r * pitch + d);
            sums[r][0] = fmaf(x.w, k0.w, fmaf(x.z, k0.z, fmaf(x.y, k0.y, fmaf(x.x, k0.x, sums[r][0]))));
            sums[r][1] = fmaf(x.w, k1.w, fmaf(x.z, k1.z, fmaf(x.y, k1.y, fmaf(x.x, k1.x, sums[r][1]))));
        }
    }
    UNROLL for (uint32_t r = 0; r < prompt_lane_rows; ++r) {
        scores[(first_row + r) * prompt_score_pitch + position] = sums[r][0];
        scores[(first_row + r) * prompt_score_pitch + position + 16] = sums[r][1];
    }
}

// Scores become weights; the lane's row shrinks by what is returned, and grows by its weights.
INLINE float prompt_weights(const AttentionArgs& a, float* scores, uint32_t first_position, bool all_visible,
                            PromptRow& row) {
    const uint32_t position = first_position + lane();
    float x[prompt_warp_rows], tops[prompt_warp_rows];
    UNROLL for (uint32_t r = 0; r < prompt_warp_rows; ++r) {
        float score = scores[r * prompt_score_pitch + lane()] * a.scale;
        if (a.soft_cap > 0) score = soft_capped(score, a.soft_cap);
        if (!all_visible) {
            const uint32_t low = __shfl_sync(0xffffffffu, row.low, static_cast<int>(4 * r)),
                           high = __shfl_sync(0xffffffffu, row.high, static_cast<int>(4 * r));
            if (position < low || position > high) score = -infinity;
        }
        x[r] = tops[r] = score;
    }
    lanes_maxima<prompt_warp_rows>(tops);
    const bool takes_part = row.low <= first_position + 31 && row.high >= first_position;
    const float top = takes_part ? fmaxf(row.sum.top, tops[0]) : row.sum.top,
                keep = takes_part ? expf(row.sum.top - top) : 1.0f;
    UNROLL for (uint32_t r = 0; r < prompt_warp_rows; ++r) {
        const float of_row = __shfl_sync(0xffffffffu, top, static_cast<int>(4 * r));
        // A row that takes no part has no position here.
        x[r] = x[r] == -infinity ? 0.0f : expf(x[r] - of_row);
        scores[r * prompt_score_pitch + lane()] = x[r];
    }
    lanes_sums<prompt_warp_rows>(x);
    if (takes_part) {
        row.sum.sum = row.sum.sum * keep + x[0];
        row.sum.top = top;
    }
    return keep;
}

template <int dim>
struct PromptSums {
    static constexpr uint32_t n_fours = dim / 64;
    float of[prompt_lane_rows][4 * n_fours];  // dimensions 64 * f + 4 * (lane % 16) + i

    INLINE void clear() {
        UNROLL for (uint32_t r = 0; r < prompt_lane_rows; ++r) {
            UNROLL for (uint32_t i = 0; i < 4 * n_fours; ++i) of[r][i] = 0;
        }
    }
    INLINE void add(const float* weights, const float* values, bool all_visible, uint32_t first_position,
                    const PromptRow& row) {
        constexpr uint32_t pitch = dim + 4;
        const uint32_t first_row = prompt_lane_rows * (lane() / 16);
        uint32_t low[prompt_lane_rows], high[prompt_lane_rows];
        UNROLL for (uint32_t r = 0; r < prompt_lane_rows; ++r) {
            low[r] = __shfl_sync(0xffffffffu, row.low, static_cast<int>(4 * (first_row + r)));
            high[r] = __shfl_sync(0xffffffffu, row.high, static_cast<int>(4 * (first_row + r)));
        }
        for (uint32_t p = 0; p < attention_round; p += 4) {
            float w[prompt_lane_rows][4];
            UNROLL for (uint32_t r = 0; r < prompt_lane_rows; ++r) {
                const float4 v =
                    *reinterpret_cast<const float4*>(weights + (first_row + r) * prompt_score_pitch + p);
                w[r][0] = v.x, w[r][1] = v.y, w[r][2] = v.z, w[r][3] = v.w;
            }
            UNROLL for (uint32_t j = 0; j < 4; ++j) {
                const uint32_t here = first_position + p + j;
                UNROLL for (uint32_t f = 0; f < n_fours; ++f) {
                    const float4 v = *reinterpret_cast<const float4*>(values + (p + j) * pitch + 64 * f +
                                                                      4 * (lane() % 16));
                    UNROLL for (uint32_t r = 0; r < prompt_lane_rows; ++r) {
                        if (!all_visible && (here < low[r] || here > high[r])) continue;
                        of[r][4 * f] = fmaf(w[r][j], v.x, of[r][4 * f]);
                        of[r][4 * f + 1] = fmaf(w[r][j], v.y, of[r][4 * f + 1]);
                        of[r][4 * f + 2] = fmaf(w[r][j], v.z, of[r][4 * f + 2]);
                        of[r][4 * f + 3] = fmaf(w[r][j], v.w, of[r][4 * f + 3]);
                    }
                }
            }
        }
    }
};

// Blocks: (tiles of prompt_rows, heads of k and v). Long tiles go first.
template <class Convert, int dim>
INLINE void attention_prompt(const AttentionArgs& a) {
    using S = PromptShared<Convert, dim>;
    using Sums = PromptSums<dim>;
    DYNAMIC_SHARED(uint4, all_shared);
    S& s = *reinterpret_cast<S*>(all_shared);
    AttentionTile tile;
    if (!find_tile(a, prompt_rows, a.n_tiles - 1 - blockIdx.x, tile)) return;
    const uint32_t kv_head = blockIdx.y;
    const uint32_t first_round = tile.low / attention_round, last_round = tile.high / attention_round;
    PromptRound<Convert, dim> next;
    next.load(a, tile, kv_head, first_round * attention_round);

    UNROLL_BY(4) for (uint32_t i = threadIdx.x; i < prompt_rows * (dim / 4); i += prompt_threads) {
        const uint32_t r = i / (dim / 4), row = least(tile.first_row + r, tile.last_row);
        const uint32_t token = tile.first_token + row / a.n_rep, head = kv_head * a.n_rep + row % a.n_rep;
        const float* q = a.q + static_cast<uint64_t>(token) * a.q_stride + head * dim + 4 * (i % (dim / 4));
        float* to = s.queries + r * S::pitch + 4 * (i % (dim / 4));
        to[0] = q[0], to[1] = q[1], to[2] = q[2], to[3] = q[3];
    }
    const uint32_t my_first = prompt_warp_rows * warp();
    PromptRow row;
    {
        const uint32_t at = least(tile.first_row + my_first + lane() / 4, tile.last_row);
        row.token = tile.first_token + at / a.n_rep;
        row.head = kv_head * a.n_rep + at % a.n_rep;
        row.high = static_cast<uint32_t>(a.positions[row.token]);
        row.low = first_seen(row.high, a.window);
        row.sum = row.total = {-infinity, 0};
    }
    const uint32_t lowest = lanes_min(row.low), low_of_all = lanes_max(row.low),
                   highest = lanes_max(row.high), high_of_all = lanes_min(row.high);
    float* scores = s.scores + my_first * prompt_score_pitch;
    Sums sums, totals;
    sums.clear();
    totals.clear();
    constexpr uint32_t span_rounds = attention_span / attention_round;
    for (uint32_t round = first_round; round <= last_round; ++round) {
        const uint32_t first_position = round * attention_round;
        __syncthreads();
        next.store(s);
        __syncthreads();
        if (round < last_round) next.load(a, tile, kv_head, first_position + attention_round);
        if (lowest <= first_position + 31 && highest >= first_position) {
            const bool all_visible = low_of_all <= first_position && high_of_all >= first_position + 31;
            prompt_scores<dim>(s.queries + my_first * S::pitch, s.keys, scores);
            __syncwarp();
            const float keep = prompt_weights(a, scores, first_position, all_visible, row);
            __syncwarp();
            UNROLL for (uint32_t r = 0; r < prompt_lane_rows; ++r) {
                const float of_row = __shfl_sync(
                    0xffffffffu, keep, static_cast<int>(4 * (prompt_lane_rows * (lane() / 16) + r)));
                UNROLL for (uint32_t i = 0; i < 4 * Sums::n_fours; ++i) sums.of[r][i] *= of_row;
            }
            sums.add(scores, s.values, all_visible, first_position, row);
        }
        if (round % span_rounds != span_rounds - 1 && round != last_round) continue;
        const bool saw = row.sum.sum != 0;
        MergeFactors f = {1, 0};
        if (saw) f = merge(row.total, row.sum);
        UNROLL for (uint32_t r = 0; r < prompt_lane_rows; ++r) {
            const int from = static_cast<int>(4 * (prompt_lane_rows * (lane() / 16) + r));
            const float keep = __shfl_sync(0xffffffffu, f.keep, from),
                        take = __shfl_sync(0xffffffffu, f.take, from);
            const bool any = __shfl_sync(0xffffffffu, saw ? 1u : 0u, from) != 0;
            UNROLL for (uint32_t i = 0; i < 4 * Sums::n_fours; ++i) {
                if (any) totals.of[r][i] = totals.of[r][i] * keep + sums.of[r][i] * take;
            }
        }
        sums.clear();
        row.sum = {-infinity, 0};
    }
    UNROLL for (uint32_t r = 0; r < prompt_lane_rows; ++r) {
        const uint32_t in_warp = prompt_lane_rows * (lane() / 16) + r;
        const int from = static_cast<int>(4 * in_warp);
        const SoftmaxSum total = {__shfl_sync(0xffffffffu, row.total.top, from),
                                  __shfl_sync(0xffffffffu, row.total.sum, from)};
        const uint32_t token = __shfl_sync(0xffffffffu, row.token, from),
                       head = __shfl_sync(0xffffffffu, row.head, from);
        if (tile.first_row + my_first + in_warp > tile.last_row) continue;
        float* to = a.out + static_cast<uint64_t>(token) * a.out_stride + head * dim;
        UNROLL for (uint32_t i = 0; i < 4 * Sums::n_fours; ++i) {
            to[64 * (i / 4) + 4 * (lane() % 16) + i % 4] =
                finish(totals.of[r][i], total, a.sinks == nullptr ? nullptr : a.sinks + head);
        }
    }
}

KERNEL_OF_TWO(attention_prompt_128_F16, AttentionArgs, 256) {
    attention_prompt<HalfToFloat, 128>(a);
}
KERNEL_OF_TWO(attention_prompt_64_F16, AttentionArgs, 256) {
    attention_prompt<HalfToFloat, 64>(a);
}
KERNEL_OF_TWO(attention_prompt_128_BF16, AttentionArgs, 256) {
    attention_prompt<BrainToFloat, 128>(a);
}
KERNEL_OF_TWO(attention_prompt_64_BF16, AttentionArgs, 256) {
    attention_prompt<BrainToFloat, 64>(a);
}

}  // namespace smelt::cuda
