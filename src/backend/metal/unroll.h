// Loops over arrays that must stay in registers, and rare ones that shall stay short. The compilers that make
// GPU code are told; on the software device it does not matter. For .metal files.
#pragma once

#if defined(__METAL_MACOS__) || defined(__CUDACC__)
#define UNROLL _Pragma("unroll")
#define ROLLED _Pragma("unroll 1")
#else
#define UNROLL
#define ROLLED
#endif
