// Marks functions that host, Metal and CUDA compile from the same text. In the CPU's kernel files they are
// inlined without fail: a copy of their own would have one instruction set and serve them all.
#pragma once

#if defined(__METAL_VERSION__)
#define DEVICE_FN
#elif defined(__CUDACC__)
#define DEVICE_FN __host__ __device__
#elif defined(SMELT_ISA)
#define DEVICE_FN __attribute__((always_inline))
#else
#define DEVICE_FN
#endif

// A constant in a struct.
#if defined(__METAL_VERSION__)
#define DEVICE_CONSTANT static constant constexpr const
#else
#define DEVICE_CONSTANT static constexpr
#endif
