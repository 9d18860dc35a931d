// Selections over one row, which no instruction set has kernels for.
#pragma once

#include "backend/op.h"

namespace smelt::cpu {

// See TopK.
void top_k_row(const float* x, int64_t n, float* values, int32_t* ids, int64_t k);
// One token's experts; see Route.
void route_row(const float* logits, int64_t n_experts, const float* bias, const RouteParams& p, int32_t* ids,
               float* weights, int64_t n_used);

}  // namespace smelt::cpu
