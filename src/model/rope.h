// Rotation frequencies of a model, with the scaling that stretches its context.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "files/model_file.h"

namespace smelt {

struct RopeFrequencies {
    std::vector<float> inv_freq;       // (n_dims / 2) radians per token
    float scale = 1;                   // on cos and sin; YaRN's attention factor
    std::vector<float> inv_freq_long;  // in their place for contexts beyond short_context; empty: the same
    int64_t short_context = 0;
};

// n_dims: rotated values per head. Throws Error naming the metadata key that is missing, out of range or of a
// kind that is not known.
RopeFrequencies read_rope(const ModelFile& file, const std::string& architecture, int64_t n_dims);

// Of windowed layers, which have a base of their own and no scaling.
std::vector<float> read_local_rope(const ModelFile& file, const std::string& architecture, int64_t n_dims);

// The file with another scaling than its own: "yarn,factor=4,original=32768", "linear,factor=2" or "none";
// empty: the file as it is. The context grows to factor times the original length. Throws Error naming the
// part of `scaling` that is wrong.
std::shared_ptr<const ModelFile> override_rope_scaling(std::shared_ptr<const ModelFile> file,
                                                       std::string_view scaling);

}  // namespace smelt
