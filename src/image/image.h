// A picture in memory, and how it gets out of a file's bytes. Knows nothing of models.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace smelt {

struct Image {
    int width = 0, height = 0;
    std::vector<uint8_t> rgb = {};  // (height, width, 3)
};

// What a file may ask for before it is decoded.
struct ImageLimits {
    int64_t max_side = 16384;         // pixels
    int64_t max_pixels = 64'000'000;  // 192 MB as RGB
};

// PPM (P6), PNG, JPEG, WebP and the first frame of a GIF, by content. What is transparent lies on white.
// Throws Error with what is wrong: `name` is how messages call the file.
Image decode_image(std::span<const std::byte> bytes, std::string_view name, const ImageLimits& limits = {});

// As transformers resizes with torchvision: bicubic (a = -0.5), wider where it shrinks, each of the two
// passes rounded to bytes.
Image resize_bicubic(const Image& image, int width, int height);

}  // namespace smelt
