// How a camera was held, as JPEG files note it (Exif).
#pragma once

#include <cstdint>
#include <span>

#include "image/image.h"

namespace smelt {

// 1 to 8 as Exif numbers them, of a marker APP1's bytes; 1, upright, where they say nothing that can be read.
int read_orientation(std::span<const uint8_t> exif);
Image upright(Image image, int orientation);

}  // namespace smelt
