// The list of families. Each is a table and a function that loads it, in the file of its architecture.
#pragma once

#include "files/family.h"

// In the order of docs/MODELS.md.
// clang-format off
#define FAMILIES(X)  \
    X(qwen3)         \
    X(qwen3_moe)     \
    X(qwen2)         \
    X(llama)         \
    X(mixtral)       \
    X(gpt_oss)       \
    X(glm4_moe_lite) \
    X(gpt2)          \
    X(mistral)       \
    X(phi3)          \
    X(smollm3)       \
    X(glm4_moe)      \
    X(deepseek_v3)   \
    X(gemma2)        \
    X(gemma3)        \
    X(qwen3_next)    \
    X(qwen3_5)       \
    X(qwen3_5_moe)   \
    X(qwen3_vl)      \
    X(qwen3_vl_moe)
// clang-format on

namespace smelt::families {

#define X(name) extern const Family name;
FAMILIES(X)
#undef X
extern const Family qwen3_vision;  // the tower of Qwen3-VL and Qwen3.5, no model of its own

}  // namespace smelt::families
