// Kernels for the tests of the software Metal device: each does one thing, some of them wrongly.
#include <metal_stdlib>
using namespace metal;

constant float scale_table[4] = {1.0, 2.0, 4.0, 8.0};
constant bool negate [[function_constant(0)]];
constant uint extra [[function_constant(1)]];

struct Args {
    uint n;
    float factor;
};

kernel void scale(device float* out [[buffer(0)]], device const float* x [[buffer(1)]], constant Args& args [[buffer(2)]],
                  uint i [[thread_position_in_grid]]) {
    if (i >= args.n) return;
    const float y = x[i] * args.factor * scale_table[i % 4] + (is_function_constant_defined(extra) ? float(extra) : 0.0);
    out[i] = negate ? -y : y;
}

kernel void group_sum(device float* out [[buffer(0)]], device const float* x [[buffer(1)]],
                      threadgroup float* partial [[threadgroup(0)]], uint2 group [[threadgroup_position_in_grid]],
                      uint i [[thread_index_in_threadgroup]], uint n [[threads_per_threadgroup]],
                      uint simdgroup [[simdgroup_index_in_threadgroup]], uint lane [[thread_index_in_simdgroup]],
                      uint n_simdgroups [[simdgroups_per_threadgroup]]) {
    const float sum = simd_sum(x[group.x * n + i]);
    if (lane == 0) partial[simdgroup] = sum;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (i == 0) {
        float total = 0;
        for (uint s = 0; s < n_simdgroups; ++s) total += partial[s];
        out[group.x] = total;
    }
}

// Reverses each threadgroup's numbers through an array of its own.
template <typename T>
kernel void reverse(device T* x [[buffer(0)]], uint group [[threadgroup_position_in_grid]],
                    uint i [[thread_index_in_threadgroup]], uint n [[threads_per_threadgroup]]) {
    threadgroup T tile[256];
    threadgroup T rows[4][64];
    device T* mine = x + group * n;
    tile[i] = mine[i];
    threadgroup_barrier(mem_flags::mem_threadgroup);
    rows[i / 64][i % 64] = tile[n - 1 - i];
    threadgroup_barrier(mem_flags::mem_threadgroup);
    mine[i] = rows[i / 64][i % 64];
}
#define REVERSE(T) template [[host_name("reverse_" #T)]] kernel decltype(reverse<T>) reverse<T>;
REVERSE(float)
REVERSE(half)
REVERSE(int)

kernel void read_as_uint4(device uint* out [[buffer(0)]], device const uchar* bytes [[buffer(1)]], constant uint& at [[buffer(2)]]) {
    const uint4 v = *(device const uint4*)(bytes + at);
    out[0] = v.x + v.w;
}
