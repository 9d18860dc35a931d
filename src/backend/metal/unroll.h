// Loops over arrays that must stay in registers. The compilers that make GPU code are told; on the software
// device it does not matter. For .metal files.
#pragma once

#if defined(__METAL_MACOS__) || defined(__CUDACC__)
#define UNROLL _Pragma("unroll")
#else
#define UNROLL
#endif
