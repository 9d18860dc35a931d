// The list of families. Each is a table and a function that loads it, in the file of its architecture.
#pragma once

#include "files/family.h"

// In the order of docs/MODELS.md.
#define FAMILIES(X) X(qwen3) X(qwen3_moe) X(qwen2) X(llama) X(mixtral) X(gpt_oss) X(glm4_moe_lite) X(gpt2)

namespace smelt::families {

#define X(name) extern const Family name;
FAMILIES(X)
#undef X

}  // namespace smelt::families
