// out = x · wᵀ + bias for many rows of x, with simdgroup matrices: a threadgroup has 16 rows of w and 16 of x.
//
// The order of additions is that of matmul.metal. The columns that lane l has there are slice l here: simdgroup g has
// the slices g, g + 4, ... g + 28 and for each of them sums of its own, which grow eight columns at a time. Metal does not say
// in which order a simdgroup matrix product adds; where it is a chain of fused multiply-adds by ascending column, an
// element has the same bits in both kernels. The backend tries that once on the device, and uses this kernel only
// then. The slices are added as lanes.h adds lanes: 16, 8 and 4 apart within a simdgroup, 2 and 1 apart between them.
//
// Bytes: a weight is read and unpacked once for 16 rows of x, so that a chunk of 512 tokens reads it 32 times, from cache
// but for the first. Bound: operations. A 4B model's 3.6e9 weights and 512 tokens are 3.7e12 operations: 0.35 s at M1
// Max's published 10.4 TFLOPS, 0.27 s at M2 Max's 13.6, 0.26 s at M3 Max's 14.2, 0.22 s at M4 Max's 17.
#include <metal_stdlib>

#include "backend/metal/kernel_args.h"
#include "backend/metal/unroll.h"
#include "backend/metal/weights.h"

using namespace metal;
#pragma clang fp contract(off)

namespace smelt {
using namespace gpu;

// x has whole tiles of 8 rows, and rows of whole units.
template <typename Block>
kernel void matmul_tiles(constant MatmulArgs& a [[buffer(0)]], device const float* x [[buffer(1)]],
                         device const uchar* w0 [[buffer(2)]], device const uchar* w1 [[buffer(3)]],
                         device const uchar* w2 [[buffer(4)]], device const uchar* s0 [[buffer(5)]],
                         device const uchar* s1 [[buffer(6)]], device const uchar* s2 [[buffer(7)]],
                         device const float* b0 [[buffer(8)]], device const float* b1 [[buffer(9)]],
                         device const float* b2 [[buffer(10)]], device float* o0 [[buffer(11)]],
                         device float* o1 [[buffer(12)]], device float* o2 [[buffer(13)]],
                         uint2 at [[threadgroup_position_in_grid]],
                         uint thread_index [[thread_index_in_threadgroup]],
                         uint lane [[thread_index_in_simdgroup]],
                         uint simdgroup [[simdgroup_index_in_threadgroup]]) {
    // of each simdgroup: four slices of 16 rows of 16 weights; at the end its sums
    threadgroup float unpacked[4 * 1024];
    uint p = 0;
    while (p + 1 < a.n_products && at.y >= a.products[p + 1].first_block) ++p;
    const MatmulProduct m = a.products[p];
    device const uchar* w = p == 0 ? w0 : p == 1 ? w1 : w2;
    device const uchar* scales = p == 0 ? s0 : p == 1 ? s1 : s2;
    device const float* bias = p == 0 ? b0 : p == 1 ? b1 : b2;
    device float* out = p == 0 ? o0 : p == 1 ? o1 : o2;
    const uint first_row = (at.y - m.first_block) * 16, first_token = at.x * 16;
    const bool both = first_token + 8 < a.n_tokens;

    threadgroup float* own = unpacked + 1024 * simdgroup;
    simdgroup_float8x8 sums[8][2][2];  // by slice, half of the rows, half of the tokens
    UNROLL for (int s = 0; s < 8; ++s) {
        UNROLL for (int i = 0; i < 2; ++i) {
            UNROLL for (int j = 0; j < 2; ++j) sums[s][i][j] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
        }
    }
    for (uint first_unit = 0; first_unit < a.n_units; first_unit += 32) {
        UNROLL for (uint half_of_slices = 0; half_of_slices < 2; ++half_of_slices) {
            // unpack; a lane has two of 4 x 16 units
            simdgroup_barrier(mem_flags::mem_threadgroup);
            UNROLL for (uint k = 0; k < 2; ++k) {
                const uint i = lane + 32 * k, s = i / 16, r = i % 16;
                const uint u = first_unit + simdgroup + 4 * (4 * half_of_slices + s);
                if (u < a.n_units) {
                    const uint row = min(first_row + r, m.rows - 1);
                    const WeightRow weight_row = {
                        w,      scales, m.w_offset + row * m.w_row_bytes, m.s_offset + row * m.s_row_bytes,
                        a.cols, a.w_aligned != 0};
                    float values[16];
                    WeightLoad<Block>::unit(weight_row, u, values);
                    UNROLL for (uint c = 0; c < 16; ++c) own[256 * s + 16 * r + c] = values[c];
                }
            }
            simdgroup_barrier(mem_flags::mem_threadgroup);
            // multiply
            UNROLL for (uint s = 0; s < 4; ++s) {
                const uint u = first_unit + simdgroup + 4 * (4 * half_of_slices + s);
                if (u >= a.n_units) continue;
                UNROLL for (uint eight = 0; eight < 2; ++eight) {
                    simdgroup_float8x8 rows[2], tokens[2];
                    UNROLL for (int i = 0; i < 2; ++i) {
                        simdgroup_load(rows[i], own + (256 * s + 128 * i + 8 * eight), 16);
                    }
                    UNROLL for (int j = 0; j < 2; ++j) {
                        if (j == 1 && !both) continue;
                        device const float* from = x + (ulong(first_token + 8 * j) * a.x_stride + 16 * u + 8 * eight);
                        simdgroup_load(tokens[j], from, a.x_stride, ulong2(0, 0), true);
                        UNROLL for (int i = 0; i < 2; ++i) {
                            simdgroup_multiply_accumulate(sums[4 * half_of_slices + s][i][j], rows[i], tokens[j],
                                                          sums[4 * half_of_slices + s][i][j]);
                        }
                    }
                }
            }
        }
    }
    // add up the slices
    UNROLL for (int apart = 4; apart >= 1; apart /= 2) {
        UNROLL for (int s = 0; s < apart; ++s) {
            UNROLL for (int i = 0; i < 2; ++i) {
                UNROLL for (int j = 0; j < 2; ++j) {
                    sums[s][i][j].thread_elements()[0] += sums[s + apart][i][j].thread_elements()[0];
                    sums[s][i][j].thread_elements()[1] += sums[s + apart][i][j].thread_elements()[1];
                }
            }
        }
    }
    simdgroup_barrier(mem_flags::mem_threadgroup);
    UNROLL for (int i = 0; i < 2; ++i) {
        UNROLL for (int j = 0; j < 2; ++j) simdgroup_store(sums[0][i][j], own + (128 * i + 8 * j), 16);
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (uint i = thread_index; i < 256; i += 128) {
        const uint row = first_row + i % 16, token = first_token + i / 16, e = i % 16 * 16 + i / 16;
        if (row >= m.rows || token >= a.n_tokens) continue;
        const float sum = (unpacked[e] + unpacked[2048 + e]) + (unpacked[1024 + e] + unpacked[3072 + e]);
        out[ulong(token) * m.out_stride + row] = m.has_bias != 0 ? sum + bias[row] : sum;
    }
}
#define X(name, id, text, encodes) \
    template [[host_name("matmul_tiles_" text)]] kernel decltype(matmul_tiles<Block##name>) matmul_tiles<Block##name>;
QUANT_FORMATS(X)
#undef X

}  // namespace smelt
