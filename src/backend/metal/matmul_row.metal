// out = x · wᵀ + bias for one row of x: decode, in the formats of Unpack. A quarter of a simdgroup has n_rows rows of
// w, and a lane of it four neighbouring slices of them.
//
// The order of additions is that of matmul.metal: slice s, which lane s has there, is a chain over the units s, s + 32,
// s + 64, ...; here lane k has the slices 4k to 4k + 3, which are a pair of blocks of 32 weights a step. The slices are
// added 16, 8, 4, 2 and 1 apart as there.
//
// A threadgroup puts the row of x into threadgroup memory, some thousand columns at a time: lanes that read 256 bytes
// each would meet in the same banks of a cache. Weights are fetched `depth` steps ahead. Two rows share what x costs;
// one row, further ahead, is for products that have too few rows to keep a device busy.
//
// Bytes and bound: those of matmul.metal at one row. In its loop an NVIDIA GPU takes 4.1, 3.9 and 4.3 instructions a
// weight in Q8_0, Q4_0 and MXFP4.
#include <metal_stdlib>

#include "backend/metal/cursor.h"
#include "backend/metal/kernel_args.h"
#include "backend/metal/lanes.h"

using namespace metal;
#pragma clang fp contract(off)

namespace smelt {
using namespace gpu;

// One slice of a row, as matmul.metal has it.
template <class Block>
inline float slice_sum(thread const WeightRow& w, device const float* x, uint slice, uint n_units) {
    float sum = 0;
    for (uint u = slice; u < n_units; u += 32) {
        float weights[16], values[16];
        WeightLoad<Block>::unit(w, u, weights);
        load_activations(x, u, w.n, true, values);
        UNROLL for (int i = 0; i < 16; ++i) sum = fma(weights[i], values[i], sum);
    }
    return sum;
}

// A lane's rows of w, fetched `depth` steps ahead, and four slices' sums of each. Where scales are powers of two, the
// sums of a block's slices are in units of its last scale instead of multiplying each weight: the same numbers, as long
// as they do not leave the range of floats. Rows with a scale far from one are added once more as matmul.metal does.
template <class Block, int n_rows, int depth>
struct LaneRows {
    typedef PairCursor<2 * sizeof(Block), n_rows> Cursor;
    enum { twos = Unpack<Block>::twos, one = 127 << 23 };
    Cursor cursor;
    uint2 loaded[depth][n_rows][Cursor::n_loads];
    float sums[n_rows][4];
    uint units[n_rows][2];  // as the bits of floats
    uint unusual;           // has one of the upper three bits once a scale was not between 2^-31 and 2^32

    // A lane beyond the end has an earlier pair again, and zeros of x.
    void start(thread const WeightRow* w, uint n_pairs, uint k) {
        cursor.start(w, min(k, n_pairs - 1));
        UNROLL for (int d = 0; d < depth; ++d) {
            UNROLL for (int r = 0; r < n_rows; ++r) {
                cursor.fetch(r, 8 * uint(d) + k < n_pairs ? uint(d) : 0u, loaded[d][r]);
            }
        }
        UNROLL for (int r = 0; r < n_rows; ++r) {
            UNROLL for (int u = 0; u < 4; ++u) sums[r][u] = 0;
            UNROLL for (int b = 0; b < 2; ++b) units[r][b] = one;
        }
        unusual = 0;
    }
    // The pairs with the columns of x that belong to them. As soon as a row is unpacked, the pair that lies `ahead`
    // steps further takes its place, where there are more.
    void add(int place, threadgroup const float4* x, bool more, uint ahead) {
        UNROLL for (int b = 0; b < 2; ++b) {
            uint words[n_rows][Cursor::n_words];
            UNROLL for (int r = 0; r < n_rows; ++r) cursor.words(loaded[place][r], b, words[r]);
            if (twos != 0) {
                UNROLL for (int r = 0; r < n_rows; ++r) {
                    set_unit(r, b, Unpack<Block>::exponent(words[r], cursor.shift, b));
                }
            }
            UNROLL for (int part = 0; part < 2; ++part) {
                float values[16];
                UNROLL for (int i = 0; i < 4; ++i) {
                    const float4 v = x[8 * b + 4 * part + i];
                    UNROLL for (int j = 0; j < 4; ++j) values[4 * i + j] = v[j];
                }
                UNROLL for (int r = 0; r < n_rows; ++r) {
                    float weights[16];
                    Unpack<Block>::unit(words[r], cursor.shift, b, part, weights);
                    if (b == 1 && part == 1 && more) cursor.fetch(r, ahead, loaded[place][r]);
                    UNROLL for (int i = 0; i < 16; ++i) {
                        sums[r][2 * b + part] = fma(weights[i], values[i], sums[r][2 * b + part]);
                    }
                }
            }
        }
    }
    void set_unit(int r, int block, uint unit) {
        const float change = as_type<float>(units[r][block] + one - unit);
        UNROLL for (int part = 0; part < 2; ++part) sums[r][2 * block + part] *= change;
        units[r][block] = unit;
        unusual |= unit - (96u << 23);
    }
    // Over all steps: of row r and slice 4k + u at 4r + u.
    void totals(thread const WeightRow* w, device const float* x, uint n_units, uint k, thread float* to) const {
        UNROLL for (int i = 0; i < 4 * n_rows; ++i) {
            const float sum = sums[i / 4][i % 4];
            to[i] = twos == 0 ? sum : sum * as_type<float>(units[i / 4][i % 4 / 2] + (uint(twos) << 23));
        }
        if (twos == 0 || unusual >> 29 == 0) return;
        ROLLED for (int i = 0; i < 4 * n_rows; ++i) {
            const WeightRow row = i < 4 ? w[0] : w[n_rows - 1];
            const float sum = slice_sum<Block>(row, x, 4 * k + uint(i % 4), n_units);
            UNROLL for (int j = 0; j < 4 * n_rows; ++j) to[j] = j == i ? sum : to[j];
        }
    }
};

// Columns of x from `first` on to threadgroup memory, zeros beyond their end.
inline void stage(device const float* x, uint first, uint n_columns, uint thread_index, threadgroup float4* columns) {
    const int n_threads = Geometry::matmul_simdgroups * Geometry::simd_width;
    const int n = Geometry::row_steps * 128 / n_threads, pitch = Geometry::row_pitch;
    device const float4* from = (device const float4*)(x + first) + thread_index;
    threadgroup float4* to = columns + (thread_index / 16 * pitch + thread_index % 16);
    const int left = int(n_columns - first) - 4 * int(thread_index);
    float4 fours[n];
    UNROLL for (int i = 0; i < n; ++i) {
        fours[i] = float4(0.0f);
        if (left > 4 * n_threads * i) fours[i] = from[n_threads * i];
    }
    UNROLL for (int i = 0; i < n; ++i) to[n_threads / 16 * pitch * i] = fours[i];
    threadgroup_barrier(mem_flags::mem_threadgroup);
}

template <typename Block, int n_rows, int depth>
kernel void matmul_row(constant MatmulArgs& a [[buffer(0)]], device const float* x [[buffer(1)]],
                       device const uchar* w0 [[buffer(2)]], device const uchar* w1 [[buffer(3)]],
                       device const uchar* w2 [[buffer(4)]], device const uchar* s0 [[buffer(5)]],
                       device const uchar* s1 [[buffer(6)]], device const uchar* s2 [[buffer(7)]],
                       device const float* b0 [[buffer(8)]], device const float* b1 [[buffer(9)]],
                       device const float* b2 [[buffer(10)]], device float* o0 [[buffer(11)]],
                       device float* o1 [[buffer(12)]], device float* o2 [[buffer(13)]],
                       uint2 at [[threadgroup_position_in_grid]], uint thread_index [[thread_index_in_threadgroup]],
                       uint lane [[thread_index_in_simdgroup]],
                       uint simdgroup [[simdgroup_index_in_threadgroup]]) {
    const int staged = Geometry::row_steps;  // steps whose columns are in threadgroup memory together
    const int pitch = Geometry::row_pitch;   // float4s from one pair's columns to the next
    threadgroup float4 columns[staged * 8 * pitch];
    const uint own_block = at.y * Geometry::matmul_simdgroups + simdgroup, block = min(own_block, a.n_blocks - 1);
    uint p = 0;
    while (p + 1 < a.n_products && block >= a.products[p + 1].first_block) ++p;
    const MatmulProduct m = a.products[p];
    device const uchar* w = p == 0 ? w0 : p == 1 ? w1 : w2;
    device const float* bias = p == 0 ? b0 : p == 1 ? b1 : b2;
    device float* out = p == 0 ? o0 : p == 1 ? o1 : o2;

    const uint n_pairs = a.n_units / 4, n_steps = (n_pairs + 7) / 8, k = lane % 8;
    const uint first_row = ((block - m.first_block) * 4 + lane / 8) * n_rows;
    WeightRow weight_rows[n_rows];
    UNROLL for (int r = 0; r < n_rows; ++r) {
        const ulong row = min(first_row + uint(r), m.rows - 1);
        const WeightRow weight_row = {w, w, m.w_offset + row * uint(m.w_row_bytes), 0, a.cols, false};
        weight_rows[r] = weight_row;
    }
    LaneRows<Block, n_rows, depth> rows;
    rows.start(weight_rows, n_pairs, k);
    for (uint first = 0; first < n_steps; first += staged) {
        if (first != 0) threadgroup_barrier(mem_flags::mem_threadgroup);
        stage(x, 512 * first, a.cols, thread_index, columns);
        threadgroup const float4* own = columns + k * pitch;
        const uint end = min(n_steps, first + staged);
        for (uint step = first; step < end; step += depth) {
            UNROLL for (int d = 0; d < depth; ++d) {
                if (d > 0 && step + uint(d) >= end) break;
                rows.add(d, own + 8 * pitch * d, 8 * (step + uint(d + depth)) + k < n_pairs, uint(d + depth));
            }
            rows.cursor.advance(depth);
            own += 8 * pitch * depth;
        }
    }
    // over the lanes of each quarter, where that of four slices of a row ends apart; then these
    float totals[4 * n_rows];
    rows.totals(weight_rows, x, a.n_units, k, totals);
    uint index = 0;
    LanesLevel<4 * n_rows, 4>::run(totals, lane, index);
    float sum = totals[0] + simd_shuffle_xor(totals[0], ushort(4 / n_rows));
    sum += simd_shuffle_xor(sum, ushort(2 / n_rows));
    const uint row = first_row + index / 4;
    if (lane % (8 / n_rows) == 0 && row < m.rows && own_block < a.n_blocks) {
        out[row] = m.has_bias != 0 ? sum + bias[row] : sum;
    }
}

#define ONE(kind, name, text, n_rows, depth)                                                           \
    template [[host_name(kind "_" text)]] kernel decltype(matmul_row<Block##name, n_rows, depth>) \
        matmul_row<Block##name, n_rows, depth>;
#define X(name, text)                      \
    ONE("matmul_row", name, text, 2, 1) \
    ONE("matmul_few_rows", name, text, 1, 2)
X(Q8_0, "q8_0")
X(Q4_0, "q4_0")
X(MXFP4, "mxfp4")
#undef X
#undef ONE

}  // namespace smelt
