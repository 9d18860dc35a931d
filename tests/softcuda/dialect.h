// CUDA's kernel language as C++, for kernels/*.cu on the software GPU: threads of a block are fibers of
// tests/softmetal, which give way at barriers and shuffles. Included by kernels/dialect.cuh.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "softmetal/launch.h"

#define __shared__ static  // one block runs at a time
#define __align__(n) __attribute__((aligned(n)))
#define INLINE inline
#define UNROLL
#define UNROLL_BY(n)

namespace softcuda {

struct Registered {
    const char* name;
    size_t args_bytes;
    unsigned most_threads;
    void (*run)(const void* args);
    size_t most_shared_bytes = 32 * 1024;  // a card has 48 KB, with 16 KB of static variables at most
    Registered(const char* name, size_t args_bytes, unsigned most_threads, void (*run)(const void*));
};

struct Index {
    uint32_t x = 0, y = 0, z = 0;
};
extern Index block_index, block_size, n_blocks;
inline Index thread_index() {
    const softmetal::Simdgroup& s = *softmetal::simdgroup;
    return {s.first + s.lane, 0, 0};
}
void* dynamic_shared();

}  // namespace softcuda

#define threadIdx (::softcuda::thread_index())
#define blockIdx (::softcuda::block_index)
#define blockDim (::softcuda::block_size)
#define gridDim (::softcuda::n_blocks)
#define SOFTCUDA_KERNEL(name, Args, threads)                                     \
    static void name##_body(const Args& a);                                      \
    static const ::softcuda::Registered name##_registered(                       \
        #name, sizeof(Args), threads,                                            \
        [](const void* args) { name##_body(*static_cast<const Args*>(args)); }); \
    static void name##_body(const Args& a)
#define KERNEL(name, Args, threads) SOFTCUDA_KERNEL(name, Args, threads)
#define KERNEL_OF_TWO(name, Args, threads) SOFTCUDA_KERNEL(name, Args, threads)
#define OVERLAPPING_KERNEL(name, Args, threads) SOFTCUDA_KERNEL(name, Args, threads)
#define DYNAMIC_SHARED(T, name) T* const name = static_cast<T*>(::softcuda::dynamic_shared())

struct alignas(8) uint2 {
    uint32_t x, y;
};
struct alignas(16) uint4 {
    uint32_t x, y, z, w;
};
struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
inline uint2 make_uint2(uint32_t x, uint32_t y) {
    return {x, y};
}
inline uint4 make_uint4(uint32_t x, uint32_t y, uint32_t z, uint32_t w) {
    return {x, y, z, w};
}

#define SOFTCUDA_PLACE const char *file = __builtin_FILE(), int line = __builtin_LINE()

inline void __syncthreads(SOFTCUDA_PLACE) {
    softmetal::threadgroup_barrier({file, line});
}
inline void __syncwarp(unsigned = 0xffffffffu, SOFTCUDA_PLACE) {
    softmetal::simdgroup_barrier({file, line});
}
inline void __threadfence() {}
// The value that the lane `from` has, all of the warp's lanes together.
template <class T>
T softcuda_shuffle(const char* function, T value, uint32_t from, const char* file, int line) {
    softmetal::Simdgroup& s = *softmetal::simdgroup;
    T* values = reinterpret_cast<T*>(s.slots[s.n_calls & 1]);
    values[s.lane] = value;
    if (from >= s.count) softmetal::report_index(function, from, s.count);
    softmetal::arrive(s, function, {file, line});
    return values[from];
}
template <class T>
T __shfl_xor_sync(unsigned, T value, int mask, SOFTCUDA_PLACE) {
    return softcuda_shuffle("__shfl_xor_sync", value,
                            softmetal::simdgroup->lane ^ static_cast<uint32_t>(mask), file, line);
}
template <class T>
T __shfl_sync(unsigned, T value, int from, SOFTCUDA_PLACE) {
    return softcuda_shuffle("__shfl_sync", value, static_cast<uint32_t>(from), file, line);
}
// In memory that a block has to itself.
template <class T>
T atomicAdd(T* to, T value) {
    const T before = *to;
    *to += value;
    return before;
}
