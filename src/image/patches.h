// A picture as a vision tower takes it: resized to whole patches, normalised, cut up.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "image/image.h"

namespace smelt {

// What a model's image processor does.
struct PatchRules {
    int patch_size = 16;                                      // pixels of a side
    int merge = 2;                                            // patches of a side that become one token
    int frames = 2;                                           // a patch has the picture so many times
    int64_t min_pixels = 65536, max_pixels = 16777216;        // after resizing
    std::array<float, 3> mean = {0.5, 0.5, 0.5}, std = mean;  // of each colour, of 0 to 1

    int64_t patch_len() const { return int64_t{3} * frames * patch_size * patch_size; }
};

// Patches that become one token lie together, tokens row by row.
struct Patches {
    int rows = 0, cols = 0;  // patches
    int merge = 2;
    Image image;                          // resized
    std::array<uint32_t, 8> digest = {};  // SHA-256 of what it is made of

    int n() const { return rows * cols; }
    int n_tokens() const { return n() / (merge * merge); }
    // Row and column of the i-th patch.
    std::array<int, 2> at(int i) const;
};

// The size that a picture is resized to: multiples of patch_size * merge, near its own shape. Throws Error
// where a side is more than 200 times the other.
std::array<int, 2> patched_size(int width, int height, const PatchRules& rules);
Patches make_patches(const Image& image, const PatchRules& rules);
// Normalised, (rows * cols, patch_len); a patch is (colour, frame, y, x).
std::vector<float> pixel_values(const Patches& patches, const PatchRules& rules);

}  // namespace smelt
