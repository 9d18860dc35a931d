// Rotation frequencies of a model, with the scaling that stretches its context.
#pragma once

#include <string>
#include <vector>

#include "files/model_file.h"

namespace smelt {

struct RopeFrequencies {
    std::vector<float> inv_freq;  // (n_dims / 2) radians per token
    float scale = 1;              // on cos and sin; YaRN's attention factor
};

// n_dims: rotated values per head. Throws Error naming the metadata key that is missing, out of range or of a
// kind that is not known.
RopeFrequencies read_rope(const ModelFile& file, const std::string& architecture, int64_t n_dims);

}  // namespace smelt
