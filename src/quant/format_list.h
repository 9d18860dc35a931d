// The one list of number formats. Device-safe, and for the CPU's kernel files too.
#pragma once

#include "quant/block.h"
#include "quant/block_k.h"
#include "quant/block_mx.h"

namespace smelt {

// name, GGUF type id (-1: none), name users type, rounded by encode.cpp (others: by search, or never)
#define QUANT_FORMATS(X)                  \
    X(F32, 0, "f32", true)                \
    X(F16, 1, "f16", true)                \
    X(BF16, 30, "bf16", true)             \
    X(Q4_0, 2, "q4_0", true)              \
    X(Q4_1, 3, "q4_1", false)             \
    X(Q5_0, 6, "q5_0", false)             \
    X(Q5_1, 7, "q5_1", false)             \
    X(Q8_0, 8, "q8_0", true)              \
    X(Q8_G64, -1, "q8_g64", true)         \
    X(Q2_K, 10, "q2_k", false)            \
    X(Q3_K, 11, "q3_k", false)            \
    X(Q4_K, 12, "q4_k", false)            \
    X(Q5_K, 13, "q5_k", false)            \
    X(Q6_K, 14, "q6_k", false)            \
    X(Q8_K, 15, "q8_k", false)            \
    X(IQ4_NL, 20, "iq4_nl", false)        \
    X(IQ4_XS, 23, "iq4_xs", false)        \
    X(MXFP4, 39, "mxfp4", true)           \
    X(MXFP4_HF, -1, "mxfp4_hf", true)     \
    X(MXFP6_E2M3, -1, "mxfp6_e2m3", true) \
    X(MXFP6_E3M2, -1, "mxfp6_e3m2", true) \
    X(MXFP8_E4M3, -1, "mxfp8_e4m3", true) \
    X(MXFP8_E5M2, -1, "mxfp8_e5m2", true) \
    X(NVFP4, 40, "nvfp4", false)          \
    X(NVFP4_HF, -1, "nvfp4_hf", true)     \
    X(Q4_Z, -1, "q4_z", false)            \
    X(Q8_Z, -1, "q8_z", false)

enum class Format : uint8_t {
#define X(name, ...) name,
    QUANT_FORMATS(X)
#undef X
};

}  // namespace smelt
