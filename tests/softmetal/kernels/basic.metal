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

// c = a * b for matrices of 16 x 16, a simdgroup for each tile of 8 x 8.
kernel void matmul_16(device float* c [[buffer(0)]], device const half* a [[buffer(1)]], device const float* b [[buffer(2)]],
                      uint tile [[simdgroup_index_in_threadgroup]]) {
    const uint row = tile / 2 * 8, column = tile % 2 * 8;
    simdgroup_float8x8 sum = make_filled_simdgroup_matrix<float, 8, 8>(0.0);
    for (uint k = 0; k < 16; k += 8) {
        simdgroup_half8x8 left;
        simdgroup_float8x8 right;
        simdgroup_load(left, a + row * 16 + k, 16);
        simdgroup_load(right, b, 16, ulong2(k, column), true);  // b is transposed
        simdgroup_multiply_accumulate(sum, left, right, sum);
    }
    simdgroup_store(sum, c, 16, ulong2(column, row));
}

kernel void simd_functions(device uint* out [[buffer(0)]], device const uint* x [[buffer(1)]], uint lane [[thread_index_in_simdgroup]],
                           uint i [[thread_position_in_grid]]) {
    const uint v = x[i];
    device uint* o = out + i * 16;
    o[0] = simd_sum(v);
    o[1] = simd_max(v);
    o[2] = simd_min(v);
    o[3] = simd_prefix_inclusive_sum(v);
    o[4] = simd_prefix_exclusive_sum(v);
    o[5] = simd_shuffle(v, 31 - lane);
    o[6] = simd_shuffle_xor(v, 1);
    o[7] = simd_shuffle_down(v, 1);
    o[8] = simd_shuffle_up(v, 1);
    o[9] = simd_broadcast(v, 3);
    o[10] = simd_broadcast_first(v);
    o[11] = uint(ulong(simd_ballot(v % 3 == 0)));
    o[12] = simd_all(v < 1000) ? 1 : 0;
    o[13] = simd_any(v == 5) ? 1 : 0;
    o[14] = simd_or(1u << (v % 32));
    o[15] = uint(simd_sum(float(v)));
}

// Each writes what it found in another's place: right with both barriers, a race without.
kernel void neighbours(device uint* out [[buffer(0)]], constant uint& with_barrier [[buffer(1)]], uint i [[thread_index_in_threadgroup]],
                       uint n [[threads_per_threadgroup]]) {
    threadgroup uint shared[64];
    shared[i] = i * i;
    if (with_barrier != 0) threadgroup_barrier(mem_flags::mem_threadgroup);
    out[i] = shared[(i + 1) % n];
}

// mode 0: half of the threads miss the barrier; 1: they returned before; 2: two different barriers; 3: half of a
// simdgroup misses a sum; 4: half of it returned before the sum.
kernel void diverge(device uint* out [[buffer(0)]], constant uint& mode [[buffer(1)]], uint i [[thread_index_in_threadgroup]]) {
    const bool odd = i % 2 == 1;
    if (mode == 0 && odd) threadgroup_barrier(mem_flags::mem_threadgroup);
    if (mode == 1) {
        if (odd) return;
        threadgroup_barrier(mem_flags::mem_threadgroup);
    }
    if (mode == 2) {
        if (odd)
            threadgroup_barrier(mem_flags::mem_threadgroup);
        else
            threadgroup_barrier(mem_flags::mem_threadgroup);
    }
    if (mode == 3 && odd) out[0] = simd_sum(i);
    if (mode == 4) {
        if (odd) return;
        out[0] = simd_sum(i);
    }
}

kernel void write_at(device float* out [[buffer(0)]], constant int& index [[buffer(1)]]) {
    out[index] = 1;
}

kernel void write_shared_at(device float* out [[buffer(0)]], constant int& index [[buffer(1)]]) {
    threadgroup float numbers[8];
    numbers[index] = 1;
    out[0] = numbers[index];
}

kernel void read_unwritten(device float* out [[buffer(0)]]) {
    threadgroup float numbers[8];
    out[0] = numbers[3];
}

kernel void too_much_memory(device float* out [[buffer(0)]], uint i [[thread_index_in_threadgroup]]) {
    threadgroup float numbers[8193];
    numbers[i] = 1;
    out[i] = numbers[i];
}

kernel void small_floats(device half* h [[buffer(0)]], device bfloat* b [[buffer(1)]], device float* out [[buffer(2)]]) {
    const half big = 2048.0h;
    out[0] = big + half(1.0h);          // rounded to half: 2048
    out[1] = float(big) + 1;            // 2049
    out[2] = float(bfloat(1.00390625f));  // halfway: to even, 1
    out[3] = half2(h[0], h[1]).y * 2;
    out[4] = as_type<half2>(0x3c004000u).x;  // 2
    const half4 v = *(device const half4*)(h);
    out[5] = dot(float4(v), float4(1, 10, 100, 1000));
    const float4 f = float4(v.xy, 7, 9);
    const float2 last = f.zw;
    const float4 turned = f.wzyx;
    out[6] = last.y + turned.x;
    out[7] = float(b[0] + b[1]);
    h[0] = half(65519.0f);
    h[1] = half(65520.0f);  // infinity
    b[0] = bfloat(3.14159274f);
    char4 c = as_type<char4>(0xff80017fu);
    out[8] = float(c.x) + 2 * float(c.w);
    out[9] = float(uchar(200)) + float(extract_bits(0xabcdu, 4, 8));
    int4 shifted = int4(uchar4(0x12, 0x34, 0x56, 0x78) & uchar4(0x0f)) - 8;
    out[10] = float(shifted.x + shifted.w);
    out[11] = select(1.0f, 2.0f, any(float2(1, 2) > 1.5f));
}

kernel void count(device atomic_uint* counters [[buffer(0)]], device const uint* x [[buffer(1)]], uint i [[thread_position_in_grid]]) {
    threadgroup atomic_uint local;
    if (i % 64 == 0) atomic_store_explicit(&local, 0, memory_order_relaxed);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    atomic_fetch_add_explicit(&local, 1, memory_order_relaxed);
    atomic_fetch_max_explicit(counters + 1, x[i], memory_order_relaxed);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (i % 64 == 0) atomic_fetch_add_explicit(counters, atomic_load_explicit(&local, memory_order_relaxed), memory_order_relaxed);
}

kernel void position_2d(device uint* out [[buffer(0)]], uint2 at [[thread_position_in_grid]], uint2 grid [[threads_per_grid]],
                        ushort2 in_group [[thread_position_in_threadgroup]], uint2 group [[threadgroup_position_in_grid]],
                        uint2 size [[threads_per_threadgroup]]) {
    out[at.y * grid.x + at.x] = group.y * 1000000 + group.x * 10000 + in_group.y * 100 + in_group.x * 10 + size.x;
}
