// The arithmetic of transformers' Qwen2-VL image processor.
#include "image/patches.h"

#include <charconv>
#include <cmath>
#include <cstring>
#include <string_view>

#include "base/digest.h"
#include "base/error.h"

namespace smelt {

namespace {

// Sides of a picture are at most so many times the other.
constexpr int max_ratio = 200;

std::array<uint32_t, 8> digest_of(const Image& image, const PatchRules& rules) {
    Digest digest(Digest::Kind::sha256);
    const std::string text = fmt::format("{}x{} {} {} {} {}", image.width, image.height, rules.patch_size,
                                         rules.merge, rules.min_pixels, rules.max_pixels);
    digest.add(text);
    digest.add({reinterpret_cast<const char*>(image.rgb.data()), image.rgb.size()});
    const std::string hex = digest.hex();
    std::array<uint32_t, 8> words{};
    for (size_t i = 0; i < words.size(); ++i)
        std::from_chars(hex.data() + 8 * i, hex.data() + 8 * (i + 1), words[i], 16);
    return words;
}

}  // namespace

std::array<int, 2> Patches::at(int i) const {
    const int per_row = cols / merge, in = i % (merge * merge), token = i / (merge * merge);
    return {token / per_row * merge + in / merge, token % per_row * merge + in % merge};
}

std::array<int, 2> patched_size(int width, int height, const PatchRules& rules) {
    if (width < 1 || height < 1 || std::max(width, height) / std::min(width, height) > max_ratio) {
        throw Error("picture: expected sides of at most {} times each other, found {} x {} pixels", max_ratio,
                    width, height);
    }
    const double factor = rules.patch_size * rules.merge, w = width, h = height;
    // Halves go to the even number, as Python rounds.
    double new_h = std::nearbyint(h / factor) * factor, new_w = std::nearbyint(w / factor) * factor;
    if (new_h * new_w > static_cast<double>(rules.max_pixels)) {
        const double beta = std::sqrt(h * w / static_cast<double>(rules.max_pixels));
        new_h = std::max(factor, std::floor(h / beta / factor) * factor);
        new_w = std::max(factor, std::floor(w / beta / factor) * factor);
    } else if (new_h * new_w < static_cast<double>(rules.min_pixels)) {
        const double beta = std::sqrt(static_cast<double>(rules.min_pixels) / (h * w));
        new_h = std::ceil(h * beta / factor) * factor;
        new_w = std::ceil(w * beta / factor) * factor;
    }
    return {static_cast<int>(new_w), static_cast<int>(new_h)};
}

Patches make_patches(const Image& image, const PatchRules& rules) {
    const auto [width, height] = patched_size(image.width, image.height, rules);
    return {.rows = height / rules.patch_size,
            .cols = width / rules.patch_size,
            .merge = rules.merge,
            .image = resize_bicubic(image, width, height),
            .digest = digest_of(image, rules)};
}

std::vector<float> pixel_values(const Patches& p, const PatchRules& rules) {
    const int size = rules.patch_size;
    std::vector<float> values(static_cast<size_t>(p.n()) * static_cast<size_t>(rules.patch_len()));
    // The scale of bytes is part of mean and deviation, as in the reference.
    std::array<float, 3> mean{}, deviation{};
    for (size_t c = 0; c < 3; ++c) {
        mean[c] = rules.mean[c] * 255;
        deviation[c] = rules.std[c] * 255;
    }
    float* to = values.data();
    for (int i = 0; i < p.n(); ++i) {
        const auto [row, col] = p.at(i);
        for (size_t c = 0; c < 3; ++c) {
            for (int frame = 0; frame < rules.frames; ++frame) {
                for (int y = 0; y < size; ++y) {
                    const auto first =
                        static_cast<size_t>(row * size + y) * static_cast<size_t>(p.image.width) +
                        static_cast<size_t>(col * size);
                    for (int x = 0; x < size; ++x) {
                        const float byte = p.image.rgb[3 * (first + static_cast<size_t>(x)) + c];
                        *to++ = (byte - mean[c]) / deviation[c];
                    }
                }
            }
        }
    }
    return values;
}

}  // namespace smelt
