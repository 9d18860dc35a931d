// Bicubic resizing in integers: the weights of a pixel are scaled to int16 as PyTorch does it for bytes, so
// that every byte is the same.
#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "image/image.h"

namespace smelt {

namespace {

double cubic(double x) {
    constexpr double a = -0.5;
    x = std::fabs(x);
    if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
    if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
    return 0;
}

// What each output pixel is made of: input pixels from `first` on, with these weights.
struct Taps {
    std::vector<int> first, n;
    std::vector<int16_t> weights;  // (n_out, most)
    int most = 0, precision = 0;   // weights are scaled by 2^precision
};

Taps taps_of(int n_in, int n_out) {
    const double scale = static_cast<double>(n_in) / n_out, wide = std::max(scale, 1.0), support = 2 * wide;
    Taps taps;
    taps.most = static_cast<int>(std::ceil(support)) * 2 + 1;
    std::vector<double> weights(static_cast<size_t>(n_out) * static_cast<size_t>(taps.most));
    double largest = 0;
    for (int i = 0; i < n_out; ++i) {
        const double center = scale * (i + 0.5);
        const int first = std::max(static_cast<int>(center - support + 0.5), 0);
        const int n = std::min(static_cast<int>(center + support + 0.5), n_in) - first;
        double* w = weights.data() + static_cast<size_t>(i) * static_cast<size_t>(taps.most);
        double total = 0;
        for (int j = 0; j < n; ++j) total += w[j] = cubic((j + first - center + 0.5) / wide);
        for (int j = 0; j < n; ++j) largest = std::max(largest, w[j] /= total);
        taps.first.push_back(first);
        taps.n.push_back(n);
    }
    // The most bits with which the largest weight is an int16.
    while (taps.precision < 22 && 0.5 + largest * (1 << (taps.precision + 1)) < 1 << 15) ++taps.precision;
    for (const double w : weights) {
        const double scaled = w * (1 << taps.precision);
        taps.weights.push_back(static_cast<int16_t>(scaled + (w < 0 ? -0.5 : 0.5)));
    }
    return taps;
}

// One output byte of inputs that lie `step` bytes apart.
uint8_t weighted(const uint8_t* in, size_t step, const int16_t* w, int n, int precision) {
    int32_t sum = 1 << (precision - 1);
    for (int j = 0; j < n; ++j) sum += w[j] * in[static_cast<size_t>(j) * step];
    return static_cast<uint8_t>(std::clamp(sum >> precision, 0, 255));
}

}  // namespace

Image resize_bicubic(const Image& image, int width, int height) {
    CHECK(image.width > 0 && image.height > 0 && width > 0 && height > 0);
    const auto row = [](int w) { return 3 * static_cast<size_t>(w); };
    Image wide;
    if (width != image.width) {
        const Taps taps = taps_of(image.width, width);
        wide = {width, image.height, std::vector<uint8_t>(row(width) * static_cast<size_t>(image.height))};
        for (size_t y = 0; y < static_cast<size_t>(image.height); ++y) {
            for (size_t x = 0; x < static_cast<size_t>(width); ++x) {
                const uint8_t* in =
                    image.rgb.data() + y * row(image.width) + 3 * static_cast<size_t>(taps.first[x]);
                for (size_t c = 0; c < 3; ++c) {
                    wide.rgb[y * row(width) + 3 * x + c] =
                        weighted(in + c, 3, taps.weights.data() + x * static_cast<size_t>(taps.most),
                                 taps.n[x], taps.precision);
                }
            }
        }
    }
    const Image& whole = width == image.width ? image : wide;
    if (height == image.height) return whole;
    const Taps taps = taps_of(image.height, height);
    Image out{width, height, std::vector<uint8_t>(row(width) * static_cast<size_t>(height))};
    for (size_t y = 0; y < static_cast<size_t>(height); ++y) {
        const uint8_t* in = whole.rgb.data() + static_cast<size_t>(taps.first[y]) * row(width);
        for (size_t i = 0; i < row(width); ++i) {
            out.rgb[y * row(width) + i] =
                weighted(in + i, row(width), taps.weights.data() + y * static_cast<size_t>(taps.most),
                         taps.n[y], taps.precision);
        }
    }
    return out;
}

}  // namespace smelt
