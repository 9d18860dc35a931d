// Attention over the paged cache with an online softmax: flash-style for prompts, with positions split over
// threadgroups for decode, from the same text and so to the same bits.
//
// The order of operations depends on absolute positions alone. A round has 32 positions, beginning at a multiple of 32;
// a row takes part in those that hold a position it sees. 512 positions are a span with a maximum, a sum and a sum of v
// of its own; spans are merged one after another. Whether a threadgroup goes through all spans (n_spans 0) or one each
// (attention_merge then merges) does not change an operation.
//
// Bytes: k and v of a position are read once for all query heads that share them, up to rows_of_tile() rows at a time.
// A decoded token of a 4B model (8 heads of 128, F16, 36 layers) reads 147 kB a position of context: 4096 positions
// 604 MB, 1.5 ms at 400 GB/s (M1, M2 Max; 1.1 ms at M4 Max's 546 GB/s). Operations: 4 a value of k and v and query row.
#include <metal_stdlib>

#include "backend/metal/kernel_args.h"
#include "backend/metal/lanes.h"
#include "backend/metal/soft_cap.h"
#include "backend/metal/unroll.h"
#include "backend/metal/weights.h"

using namespace metal;
#pragma clang fp contract(off)

namespace smelt {
using namespace gpu;

constant int k_format [[function_constant(0)]];
constant int v_format [[function_constant(1)]];

// --- Merging of spans, in both kernels ---

struct SoftmaxSum {
    float top, sum;  // largest score, and sum of exp(score - top)
};
// What the sums so far and those of the next span are multiplied by.
struct MergeFactors {
    float keep, take;
};
inline MergeFactors merge(thread SoftmaxSum& total, SoftmaxSum span) {
    const float top = max(total.top, span.top);
    MergeFactors f = {exp(total.top - top), exp(span.top - top)};
    total.sum = total.sum * f.keep + span.sum * f.take;
    total.top = top;
    return f;
}
inline float finish(float v_sum, SoftmaxSum total, bool has_sink, float sink) {
    if (!has_sink) return v_sum / total.sum;
    const float top = max(total.top, sink), keep = exp(total.top - top);
    return v_sum * keep / (total.sum * keep + exp(sink - top));
}

// --- One threadgroup: a tile of query rows that share a head of k and v ---

inline void load_cache(int format, thread const WeightRow& row, uint u, thread float* values) {
    if (format == int(Format::F32)) {
        WeightLoad<BlockF32>::unit(row, u, values);
    } else if (format == int(Format::F16)) {
        WeightLoad<BlockF16>::unit(row, u, values);
    } else if (format == int(Format::BF16)) {
        WeightLoad<BlockBF16>::unit(row, u, values);
    } else if (format == int(Format::Q8_0)) {
        WeightLoad<BlockQ8_0>::unit(row, u, values);
    } else if (format == int(Format::Q4_0)) {
        WeightLoad<BlockQ4_0>::unit(row, u, values);
    } else {
        WeightLoad<BlockMXFP8_E4M3>::unit(row, u, values);
    }
}

// Values [first_dim, first_dim + 128) of the positions of a round, as floats; zeros where there is none.
inline void load_tile(threadgroup float* tile, device const uchar* cache, device const int* blocks, uint block_len,
                      constant KvArgs& kv, int format, uint head, uint first_position, uint low, uint high,
                      uint first_dim, uint thread_index) {
    const uint n_units = min(uint(Geometry::attention_dims) / 16, (kv.dim - first_dim + 15) / 16);
    for (uint i = thread_index; i < 32 * n_units; i += Geometry::attention_threads) {
        const uint in_round = i / n_units, u = i % n_units, position = first_position + in_round;
        float values[16];
        if (position >= low && position <= high) {
            const ulong slot = ulong(blocks[position / block_len]) * block_len + position % block_len;
            const bool aligned = kv.dim % 16 == 0 && kv.row_bytes % 16 == 0;
            const WeightRow row = {cache, cache, (slot * kv.n_heads + head) * kv.row_bytes, 0, kv.dim, aligned};
            load_cache(format, row, first_dim / 16 + u, values);
        } else {
            for (int j = 0; j < 16; ++j) values[j] = 0;
        }
        UNROLL for (uint j = 0; j < 16; ++j) tile[in_round * Geometry::attention_pitch + 16 * u + j] = values[j];
    }
}

// A simdgroup has max_rows rows of the tile, a lane every 32nd value of each row's sum over v.
template <int max_rows, int max_chunks>
kernel void attention(constant AttentionArgs& a [[buffer(0)]], device float* out [[buffer(1)]],
                      device const float* q [[buffer(2)]], device const uchar* k_cache [[buffer(3)]],
                      device const uchar* v_cache [[buffer(4)]], device const int* positions [[buffer(5)]],
                      device const int* seq_start [[buffer(6)]], device const int* block_table [[buffer(7)]],
                      device const float* sinks [[buffer(8)]], device float* partial [[buffer(9)]],
                      uint3 at [[threadgroup_position_in_grid]], uint thread_index [[thread_index_in_threadgroup]],
                      uint lane [[thread_index_in_simdgroup]], uint simdgroup [[simdgroup_index_in_threadgroup]]) {
    threadgroup float tile[32 * Geometry::attention_pitch];
    threadgroup float weights[max_rows * Geometry::attention_simdgroups * 32];

    // which sequence and rows: a row is a query head of a token
    uint tile_index = at.x, seq = 0, first_token = 0, n_rows = 0;
    for (; seq < a.n_seqs; ++seq) {
        first_token = uint(seq_start[seq]);
        n_rows = (uint(seq_start[seq + 1]) - first_token) * a.n_rep;
        const uint n_tiles = (n_rows + max_rows * Geometry::attention_simdgroups - 1) / (max_rows * Geometry::attention_simdgroups);
        if (tile_index < n_tiles) break;
        tile_index -= n_tiles;
    }
    if (seq == a.n_seqs) return;
    const uint first_row = tile_index * max_rows * Geometry::attention_simdgroups;
    const uint last_row = min(first_row + max_rows * Geometry::attention_simdgroups, n_rows) - 1;
    const uint kv_head = at.y;
    device const int* blocks = block_table + ulong(seq) * a.max_blocks;

    // what each row sees
    uint row_token[max_rows], row_head[max_rows], low[max_rows], high[max_rows];
    ulong row_of_q[max_rows];
    uint my_rows = 0;
    UNROLL for (uint r = 0; r < uint(max_rows); ++r) {
        const uint row = first_row + r * Geometry::attention_simdgroups + simdgroup;
        if (row <= last_row) my_rows = r + 1;
        const uint safe = min(row, last_row);
        row_token[r] = first_token + safe / a.n_rep;
        row_head[r] = kv_head * a.n_rep + safe % a.n_rep;
        row_of_q[r] = ulong(row_token[r]) * a.q_stride + row_head[r] * a.k.dim;
        high[r] = uint(positions[row_token[r]]);
        low[r] = a.window > 0 && high[r] + 1 > a.window ? high[r] + 1 - a.window : 0;
    }
    // positions ascend within a sequence
    const uint first_high = uint(positions[first_token + first_row / a.n_rep]);
    const uint tile_low = a.window > 0 && first_high + 1 > a.window ? first_high + 1 - a.window : 0;
    const uint tile_high = uint(positions[first_token + last_row / a.n_rep]);

    const uint span_rounds = Geometry::attention_span / 32;
    uint first_span = tile_low / Geometry::attention_span, last_span = tile_high / Geometry::attention_span;
    if (a.n_spans > 0) {
        first_span = at.z;
        last_span = at.z;
    }
    SoftmaxSum total[max_rows];
    float total_v[max_rows][max_chunks];
    UNROLL for (int r = 0; r < max_rows; ++r) {
        total[r].top = -INFINITY;
        total[r].sum = 0;
        UNROLL for (int c = 0; c < max_chunks; ++c) total_v[r][c] = 0;
    }
    for (uint span = first_span; span <= last_span; ++span) {
        SoftmaxSum sum[max_rows];
        float v_sum[max_rows][max_chunks];
        UNROLL for (int r = 0; r < max_rows; ++r) {
            sum[r].top = -INFINITY;
            sum[r].sum = 0;
            UNROLL for (int c = 0; c < max_chunks; ++c) v_sum[r][c] = 0;
        }
        const uint first_round = max(span * span_rounds, tile_low / 32);
        const uint end_round = min((span + 1) * span_rounds, tile_high / 32 + 1);
        for (uint round = first_round; round < end_round; ++round) {
            const uint first_position = round * 32, position = first_position + lane;
            // scores = q·k * scale; a lane has a position
            float scores[max_rows];
            UNROLL for (int r = 0; r < max_rows; ++r) scores[r] = 0;
            for (uint d0 = 0; d0 < a.k.dim; d0 += uint(Geometry::attention_dims)) {
                threadgroup_barrier(mem_flags::mem_threadgroup);
                load_tile(tile, k_cache, blocks, a.block_len, a.k, k_format, kv_head, first_position, tile_low,
                          tile_high, d0, thread_index);
                threadgroup_barrier(mem_flags::mem_threadgroup);
                const uint n_dims = min(uint(Geometry::attention_dims), a.k.dim - d0);
                threadgroup const float* key = tile + lane * Geometry::attention_pitch;
                for (uint d = 0; d < n_dims; ++d) {
                    const float value = key[d];
                    UNROLL for (uint r = 0; r < uint(max_rows); ++r) {
                        if (r < my_rows) scores[r] = fma(q[row_of_q[r] + d0 + d], value, scores[r]);
                    }
                }
            }
            // weights = exp(score - largest so far); what was summed up before shrinks with it
            bool all_visible = true;
            UNROLL for (uint r = 0; r < uint(max_rows); ++r) {
                if (r >= my_rows) continue;
                const bool takes_part = low[r] <= first_position + 31 && high[r] >= first_position;
                all_visible = all_visible && low[r] <= first_position && high[r] >= first_position + 31;
                float weight = 0;
                if (takes_part) {
                    const bool visible = position >= low[r] && position <= high[r];
                    float score = scores[r] * a.scale;
                    if (a.soft_cap > 0) score = soft_capped(score, a.soft_cap);
                    if (!visible) score = -INFINITY;
                    const float top = max(sum[r].top, simd_max(score));
                    const float keep = exp(sum[r].top - top);
                    weight = exp(score - top);
                    sum[r].sum = sum[r].sum * keep + lanes_sum(weight);
                    sum[r].top = top;
                    UNROLL for (int c = 0; c < max_chunks; ++c) v_sum[r][c] *= keep;
                }
                weights[(r * Geometry::attention_simdgroups + simdgroup) * 32 + lane] = weight;
            }
            // sum over positions of weight * v; a lane has every 32nd value
            UNROLL for (uint c0 = 0; c0 < uint(max_chunks); c0 += 4) {
                if (32 * c0 >= a.v.dim) continue;
                threadgroup_barrier(mem_flags::mem_threadgroup);
                load_tile(tile, v_cache, blocks, a.block_len, a.v, v_format, kv_head, first_position, tile_low,
                          tile_high, 32 * c0, thread_index);
                threadgroup_barrier(mem_flags::mem_threadgroup);
                for (uint p = 0; p < 32; ++p) {
                    // values of positions that a row does not see may be anything
                    const uint here = first_position + p;
                    UNROLL for (uint r = 0; r < uint(max_rows); ++r) {
                        if (r >= my_rows) continue;
                        if (!all_visible && (here < low[r] || here > high[r])) continue;
                        const float weight = weights[(r * Geometry::attention_simdgroups + simdgroup) * 32 + p];
                        UNROLL for (uint c = 0; c < 4; ++c) {
                            v_sum[r][c0 + c] = fma(weight, tile[p * Geometry::attention_pitch + 32 * c + lane], v_sum[r][c0 + c]);
                        }
                    }
                }
            }
        }
        if (a.n_spans > 0) {
            UNROLL for (uint r = 0; r < uint(max_rows); ++r) {
                if (r >= my_rows) continue;
                device float* to =
                    partial + ((ulong(row_token[r]) * a.n_heads + row_head[r]) * a.n_spans + span) * (a.v.dim + 2);
                UNROLL for (uint c = 0; c < uint(max_chunks); ++c) {
                    if (32 * c + lane < a.v.dim) to[32 * c + lane] = v_sum[r][c];
                }
                if (lane == 0) {
                    to[a.v.dim] = sum[r].top;
                    to[a.v.dim + 1] = sum[r].sum;
                }
            }
            return;
        }
        UNROLL for (uint r = 0; r < uint(max_rows); ++r) {
            if (r >= my_rows || sum[r].sum == 0) continue;  // saw nothing of this span
            const MergeFactors f = merge(total[r], sum[r]);
            UNROLL for (int c = 0; c < max_chunks; ++c) total_v[r][c] = total_v[r][c] * f.keep + v_sum[r][c] * f.take;
        }
    }
    UNROLL for (uint r = 0; r < uint(max_rows); ++r) {
        if (r >= my_rows) continue;
        device float* to = out + (ulong(row_token[r]) * a.out_stride + row_head[r] * a.v.dim);
        const float sink = a.has_sinks != 0 ? sinks[row_head[r]] : 0.0f;
        UNROLL for (uint c = 0; c < uint(max_chunks); ++c) {
            if (32 * c + lane < a.v.dim) {
                to[32 * c + lane] = finish(total_v[r][c], total[r], a.has_sinks != 0, sink);
            }
        }
    }
}
#define ATTENTION(rows, chunks)                                                                   \
    template [[host_name("attention_" #chunks)]] kernel decltype(attention<rows, chunks>) attention<rows, chunks>;
ATTENTION(8, 4)
ATTENTION(4, 8)
ATTENTION(2, 16)
ATTENTION(1, 32)
#undef ATTENTION

// A threadgroup has one row; a thread every n-th value.
kernel void attention_merge(constant AttentionArgs& a [[buffer(0)]], device float* out [[buffer(1)]],
                            device const float* partial [[buffer(2)]], device const float* sinks [[buffer(3)]],
                            uint2 at [[threadgroup_position_in_grid]],
                            uint thread_index [[thread_index_in_threadgroup]],
                            uint n_threads [[threads_per_threadgroup]]) {
    const uint token = at.y, head = at.x, stride = a.v.dim + 2;
    device const float* spans = partial + (ulong(token) * a.n_heads + head) * a.n_spans * stride;
    device float* to = out + (ulong(token) * a.out_stride + head * a.v.dim);
    const float sink = a.has_sinks != 0 ? sinks[head] : 0.0f;
    for (uint i = thread_index; i < a.v.dim; i += n_threads) {
        SoftmaxSum total = {-INFINITY, 0};
        float v_sum = 0;
        for (uint s = 0; s < a.n_spans; ++s) {
            const SoftmaxSum sum = {spans[s * stride + a.v.dim], spans[s * stride + a.v.dim + 1]};
            if (sum.sum == 0) continue;
            const MergeFactors f = merge(total, sum);
            v_sum = v_sum * f.keep + spans[s * stride + i] * f.take;
        }
        to[i] = finish(v_sum, total, a.has_sinks != 0, sink);
    }
}

}  // namespace smelt
