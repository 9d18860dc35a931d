// Norms over the last dimension, with the residual sum in front of them. A norm has one simdgroup up to 256 elements
// and eight above, whatever else is in the call: sums are made in one order. Bytes: x is read twice (the second time
// from cache) and out written; add_rms_norm moves 16 bytes an element, for a decoded token of 2560 elements 41 kB: the
// time is a launch's, and 16 bytes / 400 GB/s (M1, M2 Max; 546 GB/s: M4 Max) in prefill.
#include <metal_stdlib>

#include "backend/metal/kernel_args.h"
#include "backend/metal/lanes.h"

using namespace metal;
#pragma clang fp contract(off)

namespace smelt {
using namespace gpu;

// out = x / sqrt(mean(x²) + eps) * w. out may be x.
kernel void rms_norm(constant NormArgs& a [[buffer(0)]], device float* out [[buffer(1)]],
                     device const float* x [[buffer(2)]], device const float* w [[buffer(3)]],
                     uint2 at [[threadgroup_position_in_grid]], uint thread_index [[thread_index_in_threadgroup]],
                     uint lane [[thread_index_in_simdgroup]], uint simdgroup [[simdgroup_index_in_threadgroup]],
                     uint n_simdgroups [[simdgroups_per_threadgroup]]) {
    threadgroup float scratch[32];
    const uint n_threads = 32 * n_simdgroups;
    device const float* in = x + (ulong(at.y) * a.x_stride + ulong(at.x) * a.n);
    device float* to = out + (ulong(at.y) * a.out_stride + ulong(at.x) * a.n);
    float sum = 0;
    for (uint i = thread_index; i < a.n; i += n_threads) sum = fma(in[i], in[i], sum);
    sum = threads_sum(sum, scratch, lane, simdgroup, n_simdgroups);
    const float scale = 1.0f / sqrt(sum / float(a.n) + a.eps);
    for (uint i = thread_index; i < a.n; i += n_threads) to[i] = in[i] * scale * w[i];
}

// residual += x; out = its norm
kernel void add_rms_norm(constant NormArgs& a [[buffer(0)]], device float* out [[buffer(1)]],
                         device float* residual [[buffer(2)]], device const float* x [[buffer(3)]],
                         device const float* w [[buffer(4)]], uint2 at [[threadgroup_position_in_grid]],
                         uint thread_index [[thread_index_in_threadgroup]], uint lane [[thread_index_in_simdgroup]],
                         uint simdgroup [[simdgroup_index_in_threadgroup]],
                         uint n_simdgroups [[simdgroups_per_threadgroup]]) {
    threadgroup float scratch[32];
    const uint n_threads = 32 * n_simdgroups;
    device const float* in = x + ulong(at.y) * a.x_stride;
    device float* total = residual + ulong(at.y) * a.residual_stride;
    device float* to = out + ulong(at.y) * a.out_stride;
    float sum = 0;
    for (uint i = thread_index; i < a.n; i += n_threads) {
        const float v = total[i] + in[i];
        total[i] = v;
        sum = fma(v, v, sum);
    }
    sum = threads_sum(sum, scratch, lane, simdgroup, n_simdgroups);
    const float scale = 1.0f / sqrt(sum / float(a.n) + a.eps);
    for (uint i = thread_index; i < a.n; i += n_threads) to[i] = total[i] * scale * w[i];
}

// out = (x - mean) / sqrt(mean((x - mean)²) + eps) * w + bias. out may be x.
kernel void layer_norm(constant NormArgs& a [[buffer(0)]], device float* out [[buffer(1)]],
                       device const float* x [[buffer(2)]], device const float* w [[buffer(3)]],
                       device const float* bias [[buffer(4)]], uint2 at [[threadgroup_position_in_grid]],
                       uint thread_index [[thread_index_in_threadgroup]], uint lane [[thread_index_in_simdgroup]],
                       uint simdgroup [[simdgroup_index_in_threadgroup]],
                       uint n_simdgroups [[simdgroups_per_threadgroup]]) {
    threadgroup float scratch[32];
    const uint n_threads = 32 * n_simdgroups;
    device const float* in = x + (ulong(at.y) * a.x_stride + ulong(at.x) * a.n);
    device float* to = out + (ulong(at.y) * a.out_stride + ulong(at.x) * a.n);
    float sum = 0;
    for (uint i = thread_index; i < a.n; i += n_threads) sum += in[i];
    const float mean = threads_sum(sum, scratch, lane, simdgroup, n_simdgroups) / float(a.n);
    float squares = 0;
    for (uint i = thread_index; i < a.n; i += n_threads) {
        const float off = in[i] - mean;
        squares = fma(off, off, squares);
    }
    squares = threads_sum(squares, scratch, lane, simdgroup, n_simdgroups);
    const float scale = 1.0f / sqrt(squares / float(a.n) + a.eps);
    for (uint i = thread_index; i < a.n; i += n_threads) to[i] = (in[i] - mean) * scale * w[i] + bias[i];
}

}  // namespace smelt
