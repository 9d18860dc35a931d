// What comes before attention: norm of the heads of q and k, rotation, and k and v into the cache, one simdgroup a
// head. A decoded token of a 4B model (32 + 8 + 8 heads of 128) reads 24 kB and writes 20 kB: a launch's time. Fused,
// because five launches would be five such times.
#include <metal_stdlib>

#include "backend/metal/kernel_args.h"
#include "backend/metal/lanes.h"
#include "backend/metal/rope.h"
#include "quant/format_list.h"

using namespace metal;
#pragma clang fp contract(off)

namespace smelt {
using namespace gpu;

constant int k_format [[function_constant(0)]];
constant int v_format [[function_constant(1)]];

// --- A head's values into a row of the cache: the bytes that quant/encode.cpp makes. A lane has one of 32 values. ---

inline void put_half(device uchar* to, float value) {
    *(device half*)to = half(value);
}

// Below the smallest normal number it would be infinite, see quant/encode.cpp.
inline float inverse_of(float d) {
    return abs(d) < 1.17549435e-38f ? 0.0f : 1.0f / d;
}

// The quants are made with the unrounded scale.
inline void encode_q8_0(threadgroup const float* x, device uchar* block, uint lane) {
    const float d = simd_max(abs(x[lane])) / 127.0f;
    const float inverse = inverse_of(d);
    if (lane == 0) put_half(block, d);
    block[2 + lane] = uchar(int(round(x[lane] * inverse)));
}

// The first value of largest magnitude maps to -8.
inline void encode_q4_0(threadgroup const float* x, device uchar* block, uint lane) {
    const float largest = simd_max(abs(x[lane]));
    const uint first = simd_min(abs(x[lane]) == largest ? lane : 31u);
    const float d = x[first] / -8.0f;
    const float inverse = inverse_of(d);
    if (lane == 0) put_half(block, d);
    if (lane < 16) {
        const int low = min(15, int(x[lane] * inverse + 8.5f)), high = min(15, int(x[lane + 16] * inverse + 8.5f));
        block[2 + lane] = uchar(low | high << 4);
    }
}

// The power of two that brings the largest magnitude into the element's last binade; elements round to even.
inline void encode_mxfp8(threadgroup const float* x, device uchar* block, uint lane) {
    const float largest = simd_max(abs(x[lane]));
    const int exponent = (as_type<int>(largest) >> 23) - E4M3::largest_exponent;
    const int biased = largest == 0.0f ? 0 : clamp(exponent, 0, 254);
    if (lane == 0) block[0] = uchar(biased);
    // 2^(127 - biased) in two factors, neither of which leaves the range
    const int half_way = (127 - biased) / 2;
    const float v = x[lane] * as_type<float>((127 + half_way) << 23) * as_type<float>((254 - biased - half_way) << 23);
    const float magnitude = abs(v);
    const uint bits = as_type<uint>(magnitude);
    const float magic = 16384.0f;  // its last place is 2^-9, the step of subnormals
    const uint code = magnitude < 0.015625f ? as_type<uint>(magnitude + magic) - as_type<uint>(magic)
                                            : ((bits + 0x7ffffu + ((bits >> 20) & 1)) >> 20) - (120 << 3);
    block[1 + lane] = uchar(min(code, uint(E4M3::largest_code)) | (as_type<uint>(v) >> 24 & 0x80u));
}

inline uint bf16_bits(float value) {
    const uint bits = as_type<uint>(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (bits >> 16) | 0x40u;  // NaN
    return (bits + 0x7fffu + ((bits >> 16) & 1)) >> 16;
}

inline void store_head(threadgroup const float* x, device uchar* row, uint dim, int format, uint lane) {
    if (format == int(Format::F32)) {
        for (uint i = lane; i < dim; i += 32) ((device float*)row)[i] = x[i];
    } else if (format == int(Format::F16)) {
        for (uint i = lane; i < dim; i += 32) ((device half*)row)[i] = half(x[i]);
    } else if (format == int(Format::BF16)) {
        for (uint i = lane; i < dim; i += 32) ((device ushort*)row)[i] = ushort(bf16_bits(x[i]));
    } else if (format == int(Format::Q8_0)) {
        for (uint b = 0; b < dim / 32; ++b) encode_q8_0(x + 32 * b, row + b * sizeof(BlockQ8_0), lane);
    } else if (format == int(Format::Q4_0)) {
        for (uint b = 0; b < dim / 32; ++b) encode_q4_0(x + 32 * b, row + b * sizeof(BlockQ4_0), lane);
    } else {
        for (uint b = 0; b < dim / 32; ++b) encode_mxfp8(x + 32 * b, row + b * sizeof(BlockMXFP8_E4M3), lane);
    }
}

// `head` holds a head's values, as many as k's or v's dim. q is changed in place; k and v only go to the cache.
kernel void prepare_heads(constant PrepareArgs& a [[buffer(0)]], device float* q [[buffer(1)]],
                          device const float* k [[buffer(2)]], device const float* v [[buffer(3)]],
                          device const float* table [[buffer(4)]], device const int* slots [[buffer(5)]],
                          device const float* q_norm [[buffer(6)]], device const float* k_norm [[buffer(7)]],
                          device uchar* k_cache [[buffer(8)]], device uchar* v_cache [[buffer(9)]],
                          threadgroup float* head [[threadgroup(0)]],
                          uint2 at [[threadgroup_position_in_grid]], uint lane [[thread_index_in_simdgroup]]) {
    const uint token = at.y;
    const bool is_q = at.x < a.n_q_heads, is_k = !is_q && at.x < a.n_q_heads + a.n_k_heads;
    if (!is_q && !is_k) {
        const uint h = at.x - a.n_q_heads - a.n_k_heads;
        device const float* from = v + (ulong(token) * a.v_stride + h * a.v.dim);
        for (uint i = lane; i < a.v.dim; i += 32) head[i] = from[i];
        simdgroup_barrier(mem_flags::mem_threadgroup);
        const ulong row = ulong(slots[token]) * a.v.n_heads + h;
        store_head(head, v_cache + row * a.v.row_bytes, a.v.dim, v_format, lane);
        return;
    }
    const uint dim = a.k.dim, h = is_q ? at.x : at.x - a.n_q_heads;
    device const float* from = is_q ? (device const float*)q + (ulong(token) * a.q_stride + h * dim)
                                    : k + (ulong(token) * a.k_stride + h * dim);
    // norm over the head
    float scale = 1;
    const bool normed = is_q ? a.q_norm != 0 : a.k_norm != 0;
    device const float* w = is_q ? q_norm : k_norm;
    if (normed) {
        float sum = 0;
        for (uint i = lane; i < dim; i += 32) sum = fma(from[i], from[i], sum);
        scale = 1.0f / sqrt(lanes_sum(sum) / float(dim) + a.eps);
    }
    for (uint i = lane; i < dim; i += 32) head[i] = normed ? from[i] * scale * w[i] : from[i];
    simdgroup_barrier(mem_flags::mem_threadgroup);
    // rotation
    device const float* angles = table + ulong(token) * a.table_stride;
    for (uint i = lane; i < a.n_pairs; i += 32) {
        const uint x0 = a.first + pair_at(i, a.interleaved != 0), x1 = x0 + pair_step(a.n_pairs, a.interleaved != 0);
        const float2 turned = rotate(float2(head[x0], head[x1]), float2(angles[2 * i], angles[2 * i + 1]));
        head[x0] = turned.x;
        head[x1] = turned.y;
    }
    simdgroup_barrier(mem_flags::mem_threadgroup);
    if (is_q) {
        device float* to = q + (ulong(token) * a.q_stride + h * dim);
        for (uint i = lane; i < dim; i += 32) to[i] = head[i];
        return;
    }
    const ulong row = ulong(slots[token]) * a.k.n_heads + h;
    store_head(head, k_cache + row * a.k.row_bytes, dim, k_format, lane);
}

// table[t][i] = (cos, sin)(positions[t] * inv_freq[i]) * scale, once a step.
kernel void rope_table(constant RopeTableArgs& a [[buffer(0)]], device float* table [[buffer(1)]],
                       device const int* positions [[buffer(2)]], device const float* inv_freq [[buffer(3)]],
                       uint2 at [[thread_position_in_grid]]) {
    if (at.x >= a.n_pairs) return;
    const CosSin turn = cos_sin(float(positions[at.y]) * inv_freq[at.x]);
    device float* to = table + (ulong(at.y) * a.stride + 2 * at.x);
    to[0] = turn.cos * a.scale;
    to[1] = turn.sin * a.scale;
}

// In place; a thread has one pair of one head.
kernel void rope(constant RopeArgs& a [[buffer(0)]], device float* x [[buffer(1)]],
                 device const float* table [[buffer(2)]], uint2 at [[thread_position_in_grid]]) {
    const uint h = at.x / a.n_pairs, pair = at.x % a.n_pairs;
    if (h >= a.n_heads) return;
    device float* head = x + (ulong(at.y) * a.x_stride + h * a.head_dim + a.first);
    device const float* angles = table + (ulong(at.y) * a.table_stride + 2 * pair);
    const uint x0 = pair_at(pair, a.interleaved != 0), x1 = x0 + pair_step(a.n_pairs, a.interleaved != 0);
    const float2 turned = rotate(float2(head[x0], head[x1]), float2(angles[0], angles[1]));
    head[x0] = turned.x;
    head[x1] = turned.y;
}

}  // namespace smelt
