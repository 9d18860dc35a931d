// GPTQ's and AWQ's layouts, written: a matrix in Q4_Z becomes the tensors that those checkpoints have for it.
// How its numbers were chosen is the lab's business; packed_weights.h reads the same.
#pragma once

#include <string>
#include <vector>

#include "base/json.h"
#include "files/conversion.h"

namespace smelt {

enum class PackedLayout { gptq, awq };

struct PackedOptions {
    PackedLayout layout = PackedLayout::gptq;
    int64_t group_size = 128;  // weights of a row that share scale and zero point
};

// qweight, qzeros and scales, for GPTQ g_idx too. `tensor` is planned as Q4_Z from sources in Q4_Z. Throws
// Error naming the tensor: no matrix, sizes that words or groups do not divide, groups whose blocks differ.
std::vector<OutputTensor> pack_tensor(const OutputTensor& tensor, const PackedOptions& options);

// config.json's quantization_config.
Json packed_config(const PackedOptions& options);

}  // namespace smelt
