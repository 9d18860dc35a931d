// Microscaling: every code of every element type and scale, and encoding against a search for the nearest.
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>

#include "quant/format.h"

namespace smelt {
namespace {

// An element type as OCP's tables give it.
struct Element {
    Format format;
    int exponent_bits, mantissa_bits;
    double largest;
    int emax;
};
constexpr std::array elements = {
    Element{Format::MXFP4, 2, 1, 6, 2},        Element{Format::MXFP4_HF, 2, 1, 6, 2},
    Element{Format::MXFP6_E2M3, 2, 3, 7.5, 2}, Element{Format::MXFP6_E3M2, 3, 2, 28, 4},
    Element{Format::MXFP8_E4M3, 4, 3, 448, 8}, Element{Format::MXFP8_E5M2, 5, 2, 57344, 15},
};

int n_codes(const Element& e) {
    return 1 << (1 + e.exponent_bits + e.mantissa_bits);
}

// The definition: (-1)^s 2^(e - bias) (1 + m / 2^M), without the one below the first binade.
double value_of(const Element& e, int code) {
    const int mantissa = code % (1 << e.mantissa_bits),
              exponent = (code >> e.mantissa_bits) % (1 << e.exponent_bits);
    const double sign = code >= n_codes(e) / 2 ? -1 : 1;
    const int bias = (1 << (e.exponent_bits - 1)) - 1;
    const double nan = std::numeric_limits<double>::quiet_NaN();
    if (e.format == Format::MXFP8_E4M3 && exponent == 15 && mantissa == 7) return nan;
    if (e.format == Format::MXFP8_E5M2 && exponent == 31) return mantissa == 0 ? sign / 0.0 : nan;
    const double fraction = mantissa / static_cast<double>(1 << e.mantissa_bits);
    return sign *
           (exponent == 0 ? std::ldexp(fraction, 1 - bias) : std::ldexp(1 + fraction, exponent - bias));
}

// A block of such codes, packed.
struct Block {
    std::vector<uint8_t> data;
    uint8_t scale;
};
Block pack(const Element& e, int scale, const std::array<int, 32>& codes) {
    Block b{{}, static_cast<uint8_t>(scale)};
    const int n_bits = 1 + e.exponent_bits + e.mantissa_bits;
    b.data.resize(static_cast<size_t>(4 * n_bits));
    for (size_t i = 0; i < 32; ++i) {
        // Where the element's lowest bit lies; formats but GGUF's are plain streams of bits.
        const size_t at =
            e.format == Format::MXFP4 ? i % 16 * 8 + i / 16 * 4 : i * static_cast<size_t>(n_bits);
        for (int k = 0; k < n_bits; ++k) {
            const size_t bit = at + static_cast<size_t>(k);
            b.data[bit / 8] = static_cast<uint8_t>(b.data[bit / 8] | ((codes[i] >> k) & 1) << (bit % 8));
        }
    }
    if (!format_info(e.format).planar) b.data.insert(b.data.begin(), b.scale);
    return b;
}

std::vector<float> decode(Format f, const Block& b) {
    EXPECT_EQ(static_cast<int>(b.data.size()), format_info(f).block_bytes);
    std::vector<float> out(32);
    decode_row({f, reinterpret_cast<const std::byte*>(b.data.data()),
                reinterpret_cast<const std::byte*>(&b.scale), 32},
               out);
    return out;
}

void expect_same(float got, double expected) {
    if (std::isnan(expected)) {
        EXPECT_TRUE(std::isnan(got));
    } else {
        EXPECT_EQ(got, static_cast<float>(expected));
        EXPECT_EQ(std::signbit(got), std::signbit(expected));
    }
}

TEST(QuantMx, EveryCodeAtEveryPlace) {
    for (const Element& e : elements) {
        for (int first = 0; first < n_codes(e); ++first) {
            SCOPED_TRACE(std::string(to_string(e.format)) + " from code " + std::to_string(first));
            std::array<int, 32> codes;
            for (int i = 0; i < 32; ++i) codes[static_cast<size_t>(i)] = (first + 7 * i) % n_codes(e);
            const std::vector<float> got = decode(e.format, pack(e, 125, codes));
            for (size_t i = 0; i < 32; ++i) expect_same(got[i], value_of(e, codes[i]) / 4);
        }
    }
}

TEST(QuantMx, PublishedValues) {
    constexpr std::array<double, 8> e2m1 = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
    for (int i = 0; i < 8; ++i) EXPECT_EQ(value_of(elements[0], i), e2m1[static_cast<size_t>(i)]);
    for (const Element& e : elements) {
        double largest = 0;
        for (int c = 0; c < n_codes(e); ++c) {
            if (std::isfinite(value_of(e, c))) largest = std::max(largest, value_of(e, c));
        }
        EXPECT_EQ(largest, e.largest);
        EXPECT_EQ(std::ilogb(largest), e.emax);
    }
}

TEST(QuantMx, EveryScale) {
    for (const Element& e : elements) {
        std::array<int, 32> codes{};
        for (int c = 0; c < 32; ++c) codes[static_cast<size_t>(c)] = c % std::min(n_codes(e), 16);
        for (int scale = 0; scale < 256; ++scale) {
            const std::vector<float> got = decode(e.format, pack(e, scale, codes));
            for (size_t i = 0; i < 32; ++i) {
                if (scale == 255) {
                    EXPECT_TRUE(std::isnan(got[i])) << "OCP: a block without numbers";
                } else {
                    expect_same(got[i], std::ldexp(value_of(e, codes[i]), scale - 127));
                }
            }
        }
    }
}

Block encode(Format f, const std::vector<float>& x) {
    Block b{std::vector<uint8_t>(data_bytes(f, 32)), 0};
    encode_row(f, x, reinterpret_cast<std::byte*>(b.data.data()), reinterpret_cast<std::byte*>(&b.scale));
    if (!format_info(f).planar) b.scale = b.data[0];
    return b;
}

// OCP MX v1.0, 6.3: the nearest number, of two the one with the even code, under the scale of the rule.
void expect_nearest(const Element& e, const std::vector<float>& x) {
    float largest = 0;
    for (const float v : x) largest = std::max(largest, std::fabs(v));
    const int exponent = largest == 0 ? -127 : std::clamp(std::ilogb(largest) - e.emax, -127, 127);
    const Block b = encode(e.format, x);
    ASSERT_EQ(b.scale, exponent + 127);
    std::array<int, 32> codes;
    for (size_t i = 0; i < 32; ++i) {
        const double v = std::ldexp(static_cast<double>(x[i]), -exponent);
        int best = std::signbit(v) ? n_codes(e) / 2 : 0;
        const int end = best + n_codes(e) / 2;
        for (int c = best; c < end && std::isfinite(value_of(e, c)); ++c) {
            const double before = std::fabs(v - value_of(e, best)), now = std::fabs(v - value_of(e, c));
            if (now < before || (now == before && c % 2 == 0)) best = c;
        }
        codes[i] = best;
    }
    EXPECT_EQ(b.data, pack(e, b.scale, codes).data) << to_string(e.format);
}

TEST(QuantMx, EncodingFindsTheNearest) {
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    for (const Element& e : elements) {
        for (int round = 0; round < 300; ++round) {
            std::vector<float> x(32);
            for (float& v : x) v = normal(random);
            // Ties: multiples of an eighth under a scale that makes steps of a power of two.
            if (round % 3 == 1) {
                for (float& v : x) v = std::nearbyint(v * 8) / 8;
            }
            if (round % 3 == 2) {
                for (float& v : x) v = std::ldexp(v, round % 200 - 100);
            }
            expect_nearest(e, x);
        }
        for (const float extreme : {0.0f, -0.0f, 0x1p-149f, 0x1p-126f, std::numeric_limits<float>::max()}) {
            std::vector<float> x(32, extreme);
            x[1] = -extreme / 3;
            expect_nearest(e, x);
        }
    }
}

}  // namespace
}  // namespace smelt
