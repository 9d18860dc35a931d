// Ops over the elements of rows. One thread an element; each element is read and written once, so that they
// take bytes / bandwidth: 12 bytes an element of add and of the gated activations, 8 of copy and gelu. At 4096 elements
// (a decoded token of a 4B model) that is far below the time of a launch; prefill's 512 x 9728 gate and up, 60 MB,
// take 150 µs at M1 or M2 Max's published 400 GB/s, 200 at M3 Max's 300 (of 30 cores), 110 at M4 Max's 546.
#include <metal_stdlib>

#include "backend/metal/kernel_args.h"
#include "backend/metal/soft_cap.h"

using namespace metal;
#pragma clang fp contract(off)

namespace smelt {
using namespace gpu;

kernel void add(constant RowsArgs& a [[buffer(0)]], device float* out [[buffer(1)]], device const float* y [[buffer(2)]],
                uint2 at [[thread_position_in_grid]]) {
    if (at.x < a.row_len) out[ulong(at.y) * a.out_stride + at.x] += y[ulong(at.y) * a.y_stride + at.x];
}

kernel void copy(constant RowsArgs& a [[buffer(0)]], device float* out [[buffer(1)]],
                 device const float* x [[buffer(2)]], uint2 at [[thread_position_in_grid]]) {
    if (at.x < a.row_len) out[ulong(at.y) * a.out_stride + at.x] = x[ulong(at.y) * a.x_stride + at.x];
}

// g / (1 + e^-g)
inline float silu(float g, float alpha) {
    return g / (1.0f + exp(-alpha * g));
}

// x and out may be the same memory.
kernel void silu_mul(constant RowsArgs& a [[buffer(0)]], device float* out [[buffer(1)]],
                     device const float* x [[buffer(2)]], device const float* y [[buffer(3)]],
                     uint2 at [[thread_position_in_grid]]) {
    if (at.x >= a.row_len) return;
    const float g = x[ulong(at.y) * a.x_stride + at.x];
    out[ulong(at.y) * a.out_stride + at.x] = silu(g, 1.0f) * y[ulong(at.y) * a.y_stride + at.x];
}

kernel void clamped_silu_mul(constant RowsArgs& a [[buffer(0)]], device float* out [[buffer(1)]],
                             device const float* x [[buffer(2)]], device const float* y [[buffer(3)]],
                             uint2 at [[thread_position_in_grid]]) {
    if (at.x >= a.row_len) return;
    const float g = min(x[ulong(at.y) * a.x_stride + at.x], a.limit);
    const float up = clamp(y[ulong(at.y) * a.y_stride + at.x], -a.limit, a.limit);
    out[ulong(at.y) * a.out_stride + at.x] = silu(g, a.alpha) * (up + 1.0f);
}

inline float gelu_of(float v) {
    // (1 + tanh(u)) / 2 = 1 / (1 + e^-2u), without the cancellation of the former
    const float u = 0.7978845608f * (v + 0.044715f * v * v * v);
    return v / (1.0f + exp(-2.0f * u));
}

// Half of erfc(z), z >= 0, to 1.2e-7 of itself: W. H. Press et al., Numerical Recipes, 6.2.
inline float half_erfc(float z) {
    const float t = 1.0f / (1.0f + 0.5f * z);
    float p = 0.17087277f;
    p = p * t - 0.82215223f;
    p = p * t + 1.48851587f;
    p = p * t - 1.13520398f;
    p = p * t + 0.27886807f;
    p = p * t - 0.18628806f;
    p = p * t + 0.09678418f;
    p = p * t + 0.37409196f;
    p = p * t + 1.00002368f;
    p = p * t - 1.26551223f;
    return 0.5f * t * exp(p - z * z);
}
inline float exact_gelu_of(float v) {
    const float half_tail = half_erfc(abs(v) * 0.7071067812f);
    return v * (v < 0 ? half_tail : 1.0f - half_tail);
}

kernel void exact_gelu(constant RowsArgs& a [[buffer(0)]], device float* out [[buffer(1)]],
                       device const float* x [[buffer(2)]], uint2 at [[thread_position_in_grid]]) {
    if (at.x >= a.row_len) return;
    out[ulong(at.y) * a.out_stride + at.x] = exact_gelu_of(x[ulong(at.y) * a.x_stride + at.x]);
}

kernel void gelu(constant RowsArgs& a [[buffer(0)]], device float* out [[buffer(1)]],
                 device const float* x [[buffer(2)]], uint2 at [[thread_position_in_grid]]) {
    if (at.x >= a.row_len) return;
    out[ulong(at.y) * a.out_stride + at.x] = gelu_of(x[ulong(at.y) * a.x_stride + at.x]);
}

kernel void gelu_mul(constant RowsArgs& a [[buffer(0)]], device float* out [[buffer(1)]],
                     device const float* x [[buffer(2)]], device const float* y [[buffer(3)]],
                     uint2 at [[thread_position_in_grid]]) {
    if (at.x >= a.row_len) return;
    out[ulong(at.y) * a.out_stride + at.x] =
        gelu_of(x[ulong(at.y) * a.x_stride + at.x]) * y[ulong(at.y) * a.y_stride + at.x];
}

// x is the gate; limit 0: one for the whole row.
kernel void sigmoid_mul(constant RowsArgs& a [[buffer(0)]], device float* out [[buffer(1)]],
                        device const float* x [[buffer(2)]], device const float* y [[buffer(3)]],
                        uint2 at [[thread_position_in_grid]]) {
    if (at.x >= a.row_len) return;
    const float gate = x[ulong(at.y) * a.x_stride + (a.limit > 0 ? at.x : 0)];
    out[ulong(at.y) * a.out_stride + at.x] = y[ulong(at.y) * a.y_stride + at.x] / (1.0f + exp(-gate));
}

kernel void scale(constant RowsArgs& a [[buffer(0)]], device float* out [[buffer(1)]],
                  uint2 at [[thread_position_in_grid]]) {
    if (at.x < a.row_len) out[ulong(at.y) * a.out_stride + at.x] *= a.alpha;
}

kernel void soft_cap(constant RowsArgs& a [[buffer(0)]], device float* out [[buffer(1)]],
                     uint2 at [[thread_position_in_grid]]) {
    if (at.x >= a.row_len) return;
    out[ulong(at.y) * a.out_stride + at.x] = soft_capped(out[ulong(at.y) * a.out_stride + at.x], a.limit);
}

// out[i] = x[rows[i]]; a row that x does not have would be a bug of the caller and shows as NaN.
kernel void gather_rows(constant RowsArgs& a [[buffer(0)]], device float* out [[buffer(1)]],
                        device const float* x [[buffer(2)]], device const int* rows [[buffer(3)]],
                        uint2 at [[thread_position_in_grid]]) {
    if (at.x >= a.row_len) return;
    const uint row = uint(rows[at.y]);
    out[ulong(at.y) * a.out_stride + at.x] = row < a.n_rows ? x[ulong(row) * a.x_stride + at.x] : NAN;
}

}  // namespace smelt
