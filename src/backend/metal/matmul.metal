// out = x · wᵀ + bias for few rows of x: decode, and the rows of a small batch. A simdgroup has n_rows rows of w and n_tokens
// rows of x; its lanes share the columns.
//
// The order of additions, of which every product of this backend is made: columns are taken in units of 16; lane l adds
// those of units l, l + 32, l + 64, ... into one sum by fused multiply-adds in ascending order; the lanes' sums are
// added as lanes.h says. It depends on nothing but the number of columns, so that an element has the same bits
// whatever rows are beside it. matmul_tiles.metal and matmul_row.metal keep to the same order.
//
// Bytes: each weight is read from memory once a call, as its file has it; x comes from cache, shared by the rows of a
// simdgroup. 2 operations a weight and row of x beside about 3 to unpack it. Bound for one token of a 4B model's
// 3.6e9 weights in Q8_0 (3.9 GB): 9.6 ms at 400 GB/s (M1, M2 Max, M3 Max of 40 cores), 7.0 ms at 546 GB/s (M4 Max); in
// Q4_0 (2.1 GB): 5.1 and 3.7 ms. At 8 rows 16 + 3 operations a weight are still below what 10 TFLOPS do in that time
// in Q8_0.
#include <metal_stdlib>

#include "backend/metal/kernel_args.h"
#include "backend/metal/lanes.h"
#include "backend/metal/unroll.h"
#include "backend/metal/weights.h"

using namespace metal;
#pragma clang fp contract(off)

namespace smelt {
using namespace gpu;

// sums[r * n_tokens + t] = this lane's part of w_r · x_t
template <typename Block, int n_tokens, int n_rows>
inline void lane_products(thread const WeightRow* w, device const float* x, uint x_stride, uint first_token,
                          uint last_token, uint n_units, bool x_aligned, uint lane, thread float* sums) {
    UNROLL for (int i = 0; i < n_rows * n_tokens; ++i) sums[i] = 0;
    for (uint u = lane; u < n_units; u += 32) {
        float weights[n_rows][16];
        UNROLL for (int r = 0; r < n_rows; ++r) WeightLoad<Block>::unit(w[r], u, weights[r]);
        UNROLL for (int t = 0; t < n_tokens; ++t) {
            const uint token = min(first_token + uint(t), last_token);
            float values[16];
            load_activations(x + ulong(token) * x_stride, u, w[0].n, x_aligned, values);
            UNROLL for (int r = 0; r < n_rows; ++r) {
                float sum = sums[r * n_tokens + t];
                UNROLL for (int i = 0; i < 16; ++i) sum = fma(weights[r][i], values[i], sum);
                sums[r * n_tokens + t] = sum;
            }
        }
    }
}

template <typename Block, int n_tokens, int n_rows>
kernel void matmul(constant MatmulArgs& a [[buffer(0)]], device const float* x [[buffer(1)]],
                   device const uchar* w0 [[buffer(2)]], device const uchar* w1 [[buffer(3)]],
                   device const uchar* w2 [[buffer(4)]], device const uchar* s0 [[buffer(5)]],
                   device const uchar* s1 [[buffer(6)]], device const uchar* s2 [[buffer(7)]],
                   device const float* b0 [[buffer(8)]], device const float* b1 [[buffer(9)]],
                   device const float* b2 [[buffer(10)]], device float* o0 [[buffer(11)]],
                   device float* o1 [[buffer(12)]], device float* o2 [[buffer(13)]],
                   uint2 at [[threadgroup_position_in_grid]], uint lane [[thread_index_in_simdgroup]],
                   uint simdgroup [[simdgroup_index_in_threadgroup]]) {
    const uint block = at.y * Geometry::matmul_simdgroups + simdgroup;
    if (block >= a.n_blocks) return;
    uint p = 0;
    while (p + 1 < a.n_products && block >= a.products[p + 1].first_block) ++p;
    const MatmulProduct m = a.products[p];
    device const uchar* w = p == 0 ? w0 : p == 1 ? w1 : w2;
    device const uchar* scales = p == 0 ? s0 : p == 1 ? s1 : s2;
    device const float* bias = p == 0 ? b0 : p == 1 ? b1 : b2;
    device float* out = p == 0 ? o0 : p == 1 ? o1 : o2;

    const uint first_row = (block - m.first_block) * n_rows, first_token = at.x * n_tokens;
    WeightRow rows[n_rows];
    UNROLL for (int r = 0; r < n_rows; ++r) {
        const uint row = min(first_row + uint(r), m.rows - 1);
        rows[r].data = w;
        rows[r].scales = scales;
        rows[r].offset = m.w_offset + row * m.w_row_bytes;
        rows[r].scales_offset = m.s_offset + row * m.s_row_bytes;
        rows[r].n = a.cols;
        rows[r].aligned = a.w_aligned != 0;
    }
    float sums[n_rows * n_tokens];
    lane_products<Block, n_tokens, n_rows>(rows, x, a.x_stride, first_token, a.n_tokens - 1, a.n_units,
                                           a.x_aligned != 0, lane, sums);
    const uint i = lanes_sums<n_rows * n_tokens>(sums, lane);
    const uint row = first_row + i / n_tokens, token = first_token + i % n_tokens;
    if (is_first<n_rows * n_tokens>(lane) && row < m.rows && token < a.n_tokens) {
        out[ulong(token) * m.out_stride + row] = m.has_bias != 0 ? sums[0] + bias[row] : sums[0];
    }
}

// The pair of token and expert that is number i of a tile.
inline uint pair_at(constant ExpertsArgs& a, ExpertTile tile, uint i, device const uint* pairs) {
    if (a.pairing == Pairing::heads) return (tile.first + i) * a.n_experts + tile.expert;
    return a.pairing == Pairing::single ? tile.first + i : pairs[tile.first + i];
}

// The same with an expert's weights: a threadgroup's tokens are the pairs of a tile, see experts.metal.
template <typename Block, int n_tokens, int n_rows>
kernel void matmul_experts(constant ExpertsArgs& a [[buffer(0)]], device const float* x [[buffer(1)]],
                           device const uchar* w0 [[buffer(2)]], device const uchar* w1 [[buffer(3)]],
                           device const uchar* w2 [[buffer(4)]], device const uchar* s0 [[buffer(5)]],
                           device const uchar* s1 [[buffer(6)]], device const uchar* s2 [[buffer(7)]],
                           device const float* b0 [[buffer(8)]], device const float* b1 [[buffer(9)]],
                           device const float* b2 [[buffer(10)]], device float* o0 [[buffer(11)]],
                           device float* o1 [[buffer(12)]], device float* o2 [[buffer(13)]],
                           device const ExpertPlace* places0 [[buffer(14)]],
                           device const ExpertPlace* places1 [[buffer(15)]],
                           device const ExpertPlace* places2 [[buffer(16)]],
                           device const int* ids [[buffer(17)]], device const ExpertTile* tiles [[buffer(18)]],
                           device const uint* pairs [[buffer(19)]],
                           uint2 at [[threadgroup_position_in_grid]], uint lane [[thread_index_in_simdgroup]],
                           uint simdgroup [[simdgroup_index_in_threadgroup]]) {
    const uint block = at.y * Geometry::matmul_simdgroups + simdgroup;
    if (block >= a.n_blocks) return;
    uint p = 0;
    while (p + 1 < a.n_products && block >= a.products[p + 1].first_block) ++p;
    const ExpertProduct m = a.products[p];
    ExpertTile tile = {0, at.x, 1};
    if (a.pairing == Pairing::single) {
        tile.expert = uint(ids[at.x]);
    } else if (a.pairing == Pairing::heads) {
        const uint tiles_each = (a.n_tokens + n_tokens - 1) / n_tokens;
        tile.expert = at.x / tiles_each;
        tile.first = at.x % tiles_each * n_tokens;  // token
        tile.count = min(uint(n_tokens), a.n_tokens - tile.first);
    } else {
        tile = tiles[at.x];
    }
    if (tile.count == 0 || tile.expert >= a.n_experts) return;
    const ExpertPlace place = p == 0 ? places0[tile.expert] : p == 1 ? places1[tile.expert] : places2[tile.expert];
    if (place.w_offset == AbsentExpert::offset) return;
    device const uchar* w = p == 0 ? w0 : p == 1 ? w1 : w2;
    device const uchar* scales = p == 0 ? s0 : p == 1 ? s1 : s2;
    device const float* bias = p == 0 ? b0 : p == 1 ? b1 : b2;
    device float* out = p == 0 ? o0 : p == 1 ? o1 : o2;

    const uint first_row = (block - m.first_block) * n_rows;
    WeightRow rows[n_rows];
    UNROLL for (int r = 0; r < n_rows; ++r) {
        const uint row = min(first_row + uint(r), m.rows - 1);
        rows[r].data = w;
        rows[r].scales = scales;
        rows[r].offset = place.w_offset + row * m.w_row_bytes;
        rows[r].scales_offset = place.s_offset + row * m.s_row_bytes;
        rows[r].n = a.cols;
        rows[r].aligned = a.w_aligned != 0;
    }
    // sums of each pair's row of x; the same order as lane_products
    float sums[n_rows * n_tokens];
    UNROLL for (int i = 0; i < n_rows * n_tokens; ++i) sums[i] = 0;
    for (uint u = lane; u < a.n_units; u += 32) {
        float weights[n_rows][16];
        UNROLL for (int r = 0; r < n_rows; ++r) WeightLoad<Block>::unit(rows[r], u, weights[r]);
        UNROLL for (int t = 0; t < n_tokens; ++t) {
            const uint pair = pair_at(a, tile, min(uint(t), tile.count - 1), pairs);
            const uint token = pair / a.n_used;
            device const float* row_of_x =
                x + (ulong(token) * a.x_stride + (a.own_rows != 0 ? (pair - token * a.n_used) * a.cols : 0));
            float values[16];
            load_activations(row_of_x, u, a.cols, a.x_aligned != 0, values);
            UNROLL for (int r = 0; r < n_rows; ++r) {
                float sum = sums[r * n_tokens + t];
                UNROLL for (int i = 0; i < 16; ++i) sum = fma(weights[r][i], values[i], sum);
                sums[r * n_tokens + t] = sum;
            }
        }
    }
    const uint i = lanes_sums<n_rows * n_tokens>(sums, lane);
    const uint row = first_row + i / n_tokens, t = i % n_tokens;
    if (is_first<n_rows * n_tokens>(lane) && row < m.rows && t < tile.count) {
        const uint pair = pair_at(a, tile, t, pairs);
        const uint token = pair / a.n_used, used = pair - token * a.n_used;
        const float result = m.has_bias != 0 ? sums[0] + bias[ulong(tile.expert) * m.rows + row] : sums[0];
        out[ulong(token) * m.out_stride + used * m.rows + row] = result;
    }
}

#define ONE(kind, block, text, n_tokens, n_rows)                                                     \
    template [[host_name(#kind "_" text "_" #n_tokens)]] kernel decltype(kind<block, n_tokens, n_rows>) \
        kind<block, n_tokens, n_rows>;
#define X(name, id, text, encodes)           \
    ONE(matmul, Block##name, text, 1, 2)         \
    ONE(matmul, Block##name, text, 4, 2)         \
    ONE(matmul, Block##name, text, 8, 4)         \
    ONE(matmul_experts, Block##name, text, 1, 2) \
    ONE(matmul_experts, Block##name, text, 8, 4)
QUANT_FORMATS(X)
#undef X
#undef ONE

}  // namespace smelt
