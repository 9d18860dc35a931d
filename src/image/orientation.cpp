// The one entry that matters of a TIFF directory, and mirrors and turns.
#include "image/orientation.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace smelt {

int read_orientation(std::span<const uint8_t> exif) {
    constexpr char head[] = "Exif\0";
    constexpr size_t head_len = 6, entry_len = 12;
    if (exif.size() < head_len + 8 || std::memcmp(exif.data(), head, head_len) != 0) return 1;
    const std::span<const uint8_t> tiff = exif.subspan(head_len);
    const bool little = tiff[0] == 'I';
    const auto number = [&](size_t at, size_t n) {
        uint32_t value = 0;
        for (size_t i = 0; i < n; ++i) value = value << 8 | tiff[at + (little ? n - 1 - i : i)];
        return value;
    };
    const size_t directory = number(4, 4);
    if (directory > tiff.size() - 2) return 1;
    const size_t n = number(directory, 2);
    for (size_t i = 0; i < n; ++i) {
        const size_t at = directory + 2 + i * entry_len;
        if (at + entry_len > tiff.size()) return 1;
        if (number(at, 2) != 0x0112) continue;
        const uint32_t value = number(at + 8, 2);
        return value >= 1 && value <= 8 ? static_cast<int>(value) : 1;
    }
    return 1;
}

// 2: mirrored, 3: upside down, 4: both; from 5 on rows are columns.
Image upright(Image image, int orientation) {
    if (orientation <= 1) return image;
    const bool turned = orientation >= 5;
    const bool mirror_x = orientation == 2 || orientation == 3 || orientation == 6 || orientation == 7;
    const bool mirror_y = orientation == 3 || orientation == 4 || orientation == 7 || orientation == 8;
    Image out{turned ? image.height : image.width, turned ? image.width : image.height, {}};
    out.rgb.resize(image.rgb.size());
    for (int y = 0; y < out.height; ++y) {
        for (int x = 0; x < out.width; ++x) {
            const int from_x = mirror_x ? out.width - 1 - x : x, from_y = mirror_y ? out.height - 1 - y : y;
            const auto [sx, sy] = turned ? std::pair(from_y, from_x) : std::pair(from_x, from_y);
            const auto at = [](int px, int py, int width) {
                return 3 * (static_cast<size_t>(py) * static_cast<size_t>(width) + static_cast<size_t>(px));
            };
            std::copy_n(&image.rgb[at(sx, sy, image.width)], 3, &out.rgb[at(x, y, out.width)]);
        }
    }
    return out;
}

}  // namespace smelt
