// out = x · wᵀ + bias for one row of x: decode, in the formats of Unpack. Half a simdgroup has n_rows rows of w, and a
// lane of it two neighbouring slices of them.
//
// The order of additions is that of matmul.metal: slice s, which lane s has there, is a chain over the units s, s + 32,
// s + 64, ...; here lane k has the slices 2k and 2k + 1, one block of 32 weights a step, and all 18 or 34 bytes of it are
// of use to the lane that loads them. The slices are added 16, 8, 4, 2 and 1 apart as there.
//
// A threadgroup puts the row of x into threadgroup memory, `depth` steps of it at a time: lanes that read 128
// bytes each would meet in the same banks of a cache. `depth` is also how many steps ahead weights are fetched.
//
// Bytes and bound: those of matmul.metal at one row.
#include <metal_stdlib>

#include "backend/metal/cursor.h"
#include "backend/metal/kernel_args.h"
#include "backend/metal/lanes.h"

using namespace metal;
#pragma clang fp contract(off)

namespace smelt {
using namespace gpu;

struct RowOfX {
    device const float* x;
    uint n;
    bool aligned;
};
inline float4 four_columns(thread const RowOfX& row, uint column) {
    if (row.aligned && column + 4 <= row.n) return *(device const float4*)(row.x + column);
    float4 v = float4(0.0f);
    for (uint i = 0; i < 4; ++i) {
        if (column + i < row.n) v[i] = row.x[column + i];
    }
    return v;
}

// sum + Σ 2^twos · scale · w_i · x_i in that order. A scale that is a power of two goes to the sum instead of each weight: the same
// number, as long as neither leaves the range of floats. Scales beyond 2^±40 stay with the weights.
template <int twos>
inline float unit_product(thread float* w, thread const float* x, float scale, float sum) {
    const uint bits = as_type<uint>(scale);
    if (twos != 0 && bits - (87u << 23) > (80u << 23)) {
        UNROLL for (int i = 0; i < 16; ++i) sum = fma(w[i] * float(1 << twos) * scale, x[i], sum);
        return sum;
    }
    if (twos != 0) sum *= as_type<float>(((254u - uint(twos)) << 23) - bits);
    UNROLL for (int i = 0; i < 16; ++i) sum = fma(w[i], x[i], sum);
    return twos != 0 ? sum * as_type<float>(bits + (uint(twos) << 23)) : sum;
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
    const int pitch = Geometry::row_pitch;  // floats from one block's columns to the next
    threadgroup float columns[2 * depth * 16 * pitch];
    const uint own_block = at.y * Geometry::matmul_simdgroups + simdgroup, block = min(own_block, a.n_blocks - 1);
    uint p = 0;
    while (p + 1 < a.n_products && block >= a.products[p + 1].first_block) ++p;
    const MatmulProduct m = a.products[p];
    device const uchar* w = p == 0 ? w0 : p == 1 ? w1 : w2;
    device const uchar* scales = p == 0 ? s0 : p == 1 ? s1 : s2;
    device const float* bias = p == 0 ? b0 : p == 1 ? b1 : b2;
    device float* out = p == 0 ? o0 : p == 1 ? o1 : o2;

    const uint first_row = ((block - m.first_block) * 2 + lane / 16) * n_rows, k = lane % 16;
    const uint n_blocks = a.n_units / 2;
    BlockCursor<sizeof(Block)> cursors[n_rows];
    UNROLL for (int r = 0; r < n_rows; ++r) {
        const uint row = min(first_row + uint(r), m.rows - 1);
        const WeightRow weights = {w, scales, m.w_offset + row * m.w_row_bytes, m.s_offset + row * m.s_row_bytes, a.cols, false};
        cursors[r].start(weights, k);
    }
    uint words[depth][n_rows][BlockCursor<sizeof(Block)>::n_words];
    UNROLL for (int d = 0; d < depth; ++d) {
        if (16 * uint(d) + k < n_blocks) {
            UNROLL for (int r = 0; r < n_rows; ++r) cursors[r].fetch(words[d][r]);
        }
    }
    const RowOfX row_of_x = {x, a.cols, a.x_aligned != 0};
    float4 fours[depth];
    UNROLL for (int d = 0; d < depth; ++d) fours[d] = four_columns(row_of_x, 4 * (thread_index + 128 * uint(d)));

    float sums[2 * n_rows];
    UNROLL for (int i = 0; i < 2 * n_rows; ++i) sums[i] = 0;
    uint to = 0;  // of the two halves of `columns`: while one is written, others may still read the other
    for (uint first = 0; first < n_blocks; first += 16 * depth) {
        UNROLL for (int d = 0; d < depth; ++d) {
            const uint four = thread_index + 128 * uint(d);
            *(threadgroup float4*)(columns + (to + four / 8 * pitch + four % 8 * 4)) = fours[d];
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        if (first + 16 * depth < n_blocks) {
            UNROLL for (int d = 0; d < depth; ++d) {
                fours[d] = four_columns(row_of_x, 32 * (first + 16 * depth) + 4 * (thread_index + 128 * uint(d)));
            }
        }
        UNROLL for (int d = 0; d < depth; ++d) {
            const uint b = first + 16 * uint(d) + k;
            if (b < n_blocks) {
                UNROLL for (int part = 0; part < 2; ++part) {
                    float values[16];
                    UNROLL for (int i = 0; i < 4; ++i) {
                        const float4 v = *(threadgroup const float4*)(
                            columns + (to + (16 * uint(d) + k) * pitch + 16 * uint(part) + 4 * uint(i)));
                        UNROLL for (int j = 0; j < 4; ++j) values[4 * i + j] = v[j];
                    }
                    UNROLL for (int r = 0; r < n_rows; ++r) {
                        float weights[16];
                        const uint shift = cursors[r].shift;
                        Unpack<Block>::unit(words[d][r], shift, part, weights);
                        sums[2 * r + part] = unit_product<Unpack<Block>::twos>(
                            weights, values, Unpack<Block>::scale(words[d][r], shift), sums[2 * r + part]);
                    }
                }
            }
            if (b + 16 * depth < n_blocks) {
                UNROLL for (int r = 0; r < n_rows; ++r) cursors[r].fetch(words[d][r]);
            }
        }
        to = depth * 16 * pitch - to;
    }
    // over the lanes of each half, where that of two slices of a row ends apart; then these two
    uint index = 0;
    LanesLevel<2 * n_rows, 8>::run(sums, lane, index);
    const float sum = sums[0] + simd_shuffle_xor(sums[0], ushort(8 / n_rows));
    const uint row = first_row + index / 2;
    if (lane % (16 / n_rows) == 0 && row < m.rows && own_block < a.n_blocks) {
        out[row] = m.has_bias != 0 ? sum + bias[row] : sum;
    }
}

#define X(name, text)                                                                        \
    template [[host_name("matmul_row_" text)]] kernel decltype(matmul_row<Block##name, 2, 3>) \
        matmul_row<Block##name, 2, 3>;
X(Q8_0, "q8_0")
X(Q4_0, "q4_0")
X(MXFP4, "mxfp4")
#undef X

}  // namespace smelt
