// Marks functions that host, Metal and CUDA compile from the same text.
#pragma once

#if defined(__CUDACC__)
#define DEVICE_FN __host__ __device__
#else
#define DEVICE_FN
#endif
