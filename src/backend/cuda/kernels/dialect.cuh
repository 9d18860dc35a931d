// What kernels are written in: a kernel's declaration, lanes of a warp, loads, half floats. Compiled by nvcc,
// by NVRTC without any header of CUDA's, and for tests as C++ (softcuda/dialect.h).
#pragma once

#ifdef SMELT_SOFTCUDA
#include "softcuda/dialect.h"
#else

// A kernel whose argument is `a`, and of so many threads at most; its name is known to the host as it is
// here. It begins when the kernel before it has ended, and lets the one after it be set up: a launch costs
// less where the host allows kernels to overlap. An overlapping kernel does that where it wants to.
#define KERNEL_OF(name, Args, threads, blocks)                                                           \
    static __device__ __forceinline__ void name##_body(const Args& a);                                   \
    extern "C" __global__ void __launch_bounds__(threads, blocks) name(const __grid_constant__ Args a) { \
        ::smelt::cuda::let_next_start();                                                                 \
        ::smelt::cuda::wait_for_previous();                                                              \
        name##_body(a);                                                                                  \
    }                                                                                                    \
    static __device__ __forceinline__ void name##_body(const Args& a)
#define KERNEL(name, Args, threads) KERNEL_OF(name, Args, threads, 1)
// Of which a multiprocessor has two blocks at least.
#define KERNEL_OF_TWO(name, Args, threads) KERNEL_OF(name, Args, threads, 2)
#define OVERLAPPING_KERNEL(name, Args, threads) \
    extern "C" __global__ void __launch_bounds__(threads, 1) name(const __grid_constant__ Args a)
#define INLINE __device__ __forceinline__
#define UNROLL _Pragma("unroll")
#define PRAGMA(text) _Pragma(#text)
#define UNROLL_BY(n) PRAGMA(unroll n)
// Shared memory whose size the launch says.
#define DYNAMIC_SHARED(T, name) extern __shared__ T name[]

#endif

#include "backend/cuda/kernel_args.h"
#include "base/half.h"

#define SMELT_JOIN2(a, b) a##_##b
#define SMELT_JOIN(a, b) SMELT_JOIN2(a, b)
// A kernel for the format that a file is compiled for: matmul_1_Q8_0.
#define KERNEL_NAMED(name, Args, threads) KERNEL(name, Args, threads)
#define OVERLAPPING_KERNEL_NAMED(name, Args, threads) OVERLAPPING_KERNEL(name, Args, threads)
#define FORMAT_KERNEL(name, Args, threads) KERNEL_NAMED(SMELT_JOIN(name, SMELT_FORMAT), Args, threads)
#define OVERLAPPING_FORMAT_KERNEL(name, Args, threads) \
    OVERLAPPING_KERNEL_NAMED(SMELT_JOIN(name, SMELT_FORMAT), Args, threads)
#define SMELT_BLOCK2(name) Block##name
#define SMELT_BLOCK(name) SMELT_BLOCK2(name)

namespace smelt::cuda {

constexpr float infinity = bit_cast_to<float>(0x7f800000u);

// The kernel after this one may be set up, up to where it waits.
INLINE void let_next_start() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}
// Until the kernel before this one has ended and its results are there.
INLINE void wait_for_previous() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

INLINE uint32_t lane() {
    return threadIdx.x & 31u;
}
INLINE uint32_t warp() {
    return threadIdx.x >> 5;
}
INLINE uint32_t least(uint32_t a, uint32_t b) {
    return a < b ? a : b;
}
INLINE float bits_as_float(uint32_t bits) {
    return bit_cast_to<float>(bits);
}
INLINE uint32_t float_bits(float x) {
    return bit_cast_to<uint32_t>(x);
}

// --- Over the lanes of a warp, in every lane ---

INLINE float shuffle_xor(float x, int mask) {
    return __shfl_xor_sync(0xffffffffu, x, mask);
}
// In one order: 16, 8, 4, 2 and 1 apart.
INLINE float lanes_sum(float x) {
    UNROLL for (int apart = 16; apart > 0; apart /= 2) x += shuffle_xor(x, apart);
    return x;
}
INLINE float lanes_max(float x) {
    UNROLL for (int apart = 16; apart > 0; apart /= 2) x = fmaxf(x, shuffle_xor(x, apart));
    return x;
}
INLINE uint32_t lanes_max(uint32_t x) {
    UNROLL for (int apart = 16; apart > 0; apart /= 2) {
        const uint32_t other = __shfl_xor_sync(0xffffffffu, x, apart);
        x = other > x ? other : x;
    }
    return x;
}
INLINE uint32_t lanes_min(uint32_t x) {
    UNROLL for (int apart = 16; apart > 0; apart /= 2) x = least(x, __shfl_xor_sync(0xffffffffu, x, apart));
    return x;
}

struct Plus {
    INLINE static float of(float a, float b) { return a + b; }
};
struct Larger {
    INLINE static float of(float a, float b) { return fmaxf(a, b); }
};
// One level of lanes_sums: with n values to go, half of the lanes take over half of them.
template <class Op, int n, int bit>
struct LanesLevel {
    INLINE static void run(float* x, uint32_t at, uint32_t& index) {
        const bool upper = (at & bit) != 0;
        if constexpr (n > 1) {
            UNROLL for (int i = 0; i < n / 2; ++i) {
                const float keep = upper ? x[i + n / 2] : x[i], give = upper ? x[i] : x[i + n / 2];
                x[i] = Op::of(keep, shuffle_xor(give, bit));
            }
            if (upper) index += n / 2;
        } else {
            x[0] = Op::of(x[0], shuffle_xor(x[0], bit));
        }
        if constexpr (bit > 1) LanesLevel<Op, (n > 1 ? n / 2 : 1), bit / 2>::run(x, at, index);
    }
};
// n sums at once (a power of two up to 32), each with the bits of lanes_sum: x[0] becomes the sum, over the
// lanes, of x[index]. Each index is held by 32 / n neighbours, lane * n / 32; the first of them has is_first.
template <int n>
INLINE uint32_t lanes_sums(float* x) {
    uint32_t index = 0;
    LanesLevel<Plus, n, 16>::run(x, lane(), index);
    return index;
}
// The same of maxima.
template <int n>
INLINE void lanes_maxima(float* x) {
    uint32_t index = 0;
    LanesLevel<Larger, n, 16>::run(x, lane(), index);
}
template <int n>
INLINE bool is_first() {
    return lane() % (32 / n) == 0;
}

// Over all threads of a block: of each warp, then of these by number. `scratch` holds 32.
INLINE float threads_sum(float x, float* scratch) {
    const uint32_t n_warps = (blockDim.x + 31) / 32;
    x = lanes_sum(x);
    if (n_warps == 1) return x;
    if (lane() == 0) scratch[warp()] = x;
    __syncthreads();
    float total = 0;
    for (uint32_t i = 0; i < n_warps; ++i) total += scratch[i];
    __syncthreads();
    return total;
}

// --- Memory ---

INLINE float half_to_float(uint16_t bits) {
#ifdef __CUDA_ARCH__
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
    return value;
#else
    return f16_to_f32(bits);
#endif
}
INLINE uint16_t float_to_half(float value) {
#ifdef __CUDA_ARCH__
    uint16_t bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
#else
    return f32_to_f16(value);
#endif
}
// From an even address.
INLINE float half_at(const uint8_t* at) {
    return half_to_float(*reinterpret_cast<const uint16_t*>(at));
}

// The word at bit `shift` of high:low; shift is at most 31.
INLINE uint32_t joined(uint32_t low, uint32_t high, uint32_t shift) {
#ifdef __CUDA_ARCH__
    return __funnelshift_r(low, high, shift);
#else
    return shift == 0 ? low : low >> shift | high << (32 - shift);
#endif
}
// 16 bytes from anywhere: aligned words, and where they begin within one, the next word's share.
INLINE uint4 load16(const uint8_t* at) {
    const auto address = reinterpret_cast<uintptr_t>(at);
    const auto* p = reinterpret_cast<const uint32_t*>(address & ~uintptr_t{3});
    const uint32_t shift = static_cast<uint32_t>(address & 3) * 8;
    const uint32_t x = p[0], y = p[1], z = p[2], w = p[3];
    if (shift == 0) return make_uint4(x, y, z, w);
    const uint32_t next = p[4];
    return make_uint4(joined(x, y, shift), joined(y, z, shift), joined(z, w, shift), joined(w, next, shift));
}
INLINE uint2 load8(const uint8_t* at) {
    const auto address = reinterpret_cast<uintptr_t>(at);
    const auto* p = reinterpret_cast<const uint32_t*>(address & ~uintptr_t{3});
    const uint32_t shift = static_cast<uint32_t>(address & 3) * 8;
    const uint32_t x = p[0], y = p[1];
    if (shift == 0) return make_uint2(x, y);
    return make_uint2(joined(x, y, shift), joined(y, p[2], shift));
}
// 16 aligned bytes to shared memory, there after wait_for_copies() for the thread and a barrier for others.
INLINE void copy16_async(void* to, const uint8_t* from) {
#if defined(__CUDA_ARCH__)
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(
                     static_cast<uint32_t>(__cvta_generic_to_shared(to))),
                 "l"(from)
                 : "memory");
#else
    *reinterpret_cast<uint4*>(to) = *reinterpret_cast<const uint4*>(from);
#endif
}
INLINE void wait_for_copies() {
#if defined(__CUDA_ARCH__)
    asm volatile("cp.async.wait_all;" ::: "memory");
#endif
}
// Ends a group of copies; wait_for_all_but_last() waits for those of the groups before the last that was
// ended.
INLINE void end_copies() {
#if defined(__CUDA_ARCH__)
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}
INLINE void wait_for_all_but_last() {
#if defined(__CUDA_ARCH__)
    asm volatile("cp.async.wait_group 1;" ::: "memory");
#endif
}
// Where every row begins at a multiple of 16.
INLINE uint4 load16_aligned(const uint8_t* at) {
    return *reinterpret_cast<const uint4*>(at);
}

}  // namespace smelt::cuda
