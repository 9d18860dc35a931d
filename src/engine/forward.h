// One causal forward pass of one sequence, without scheduling: what goldens and the verb `logits` compare.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/model.h"

namespace smelt {

// Logits of all positions, (ids.size(), vocab_size). `chunk` tokens are fed at a time; 0: all at once. Throws
// Error naming the id that is not in the vocabulary, or the length when there are none or too many.
std::vector<float> forward_logits(const Model& model, Backend& backend, std::span<const int32_t> ids,
                                  int chunk = 0, DType kv_type = DType::F32);

}  // namespace smelt
