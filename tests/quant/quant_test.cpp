#include "quant/format.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>

#include "quant/group_codes.h"
#include "quant/random_weights.h"

namespace smelt {
namespace {

struct Encoded {
    std::vector<std::byte> data, scales;
};

Encoded encode(Format f, std::span<const float> x) {
    const auto n = static_cast<int64_t>(x.size());
    Encoded e{std::vector<std::byte>(data_bytes(f, n)), std::vector<std::byte>(scale_bytes(f, n))};
    encode_row(f, x, e.data.data(), e.scales.data());
    return e;
}

std::vector<float> decode(Format f, const Encoded& e, size_t n) {
    std::vector<float> out(n);
    decode_row({f, e.data.data(), e.scales.data(), static_cast<int64_t>(n)}, out);
    return out;
}

// Largest |decode(encode(x)) - x| as a part of the block's largest magnitude.
double error_bound(Format f) {
    switch (f) {
        case Format::F32:
            return 0;
        case Format::F16:
            return 0x1p-11;
        case Format::BF16:
            return 0x1p-8;
        case Format::Q8_0:
            return 0.5 / 127 + 0x1p-11;
        case Format::Q4_0:
            return 1.0 / 8 + 0x1p-10;  // the far end of the range has only 7 steps
        case Format::Q8_G64:
            return 0.5 / 127 + 0x1p-20;
        // Of the last binade: half a step at its start, or what is cut off at its end.
        case Format::MXFP4:
        case Format::MXFP4_HF:
            return 1.0 / 4;
        case Format::NVFP4_HF:
            return 1.0 / 6;
        case Format::MXFP6_E2M3:
            return 1.0 / 16;
        case Format::MXFP6_E3M2:
        case Format::MXFP8_E4M3:
        case Format::MXFP8_E5M2:
            return 1.0 / 8;
        // Found by search, which gives up the largest weight where the others gain: half a step, and as much
        // again for scales that are rounded and for weights that are cut off.
        case Format::Q4_1:
            return 1.5 / 15;
        case Format::Q5_0:
            return 1.5 / 16;
        case Format::Q5_1:
            return 1.5 / 31;
        case Format::Q2_K:
            return 0.6;
        case Format::Q3_K:
            return 0.3;
        case Format::Q4_K:
            return 0.15;
        case Format::Q5_K:
            return 0.07;
        case Format::Q6_K:
            return 0.04;
        case Format::IQ4_NL:
        case Format::IQ4_XS:
            return 0.2;
        default:
            return 0;
    }
}

// Formats whose encoder searches: the same weights may be written in several ways.
bool is_searched(Format f) {
    return group_layout(f).has_value() && f != Format::Q8_0 && f != Format::Q4_0;
}

class EveryFormat : public testing::TestWithParam<Format> {};
class EveryEncoder : public testing::TestWithParam<Format> {};

TEST_P(EveryEncoder, RoundTripStaysWithinTheBound) {
    const Format f = GetParam();
    std::mt19937 random(7);
    std::normal_distribution<float> normal(0, 0.02f);
    std::vector<float> x(4096);
    for (float& v : x) v = normal(random);
    const std::vector<float> y = decode(f, encode(f, x), x.size());
    const auto block = static_cast<size_t>(format_info(f).block_len);
    for (size_t first = 0; first < x.size(); first += block) {
        double largest = 0;
        for (size_t i = first; i < first + block; ++i)
            largest = std::max(largest, std::fabs(static_cast<double>(x[i])));
        for (size_t i = first; i < first + block; ++i) {
            // 2^-25: half a step of F16's subnormals.
            ASSERT_LE(std::fabs(static_cast<double>(y[i]) - static_cast<double>(x[i])),
                      error_bound(f) * largest + 0x1p-25)
                << i;
        }
    }
    const std::vector<float> again = decode(f, encode(f, y), y.size());
    if (!is_searched(f)) {
        EXPECT_EQ(again, y) << "a second round must not move anything";
    }
    const auto distance = [&](const std::vector<float>& a, const std::vector<float>& b) {
        double sum = 0;
        for (size_t i = 0; i < a.size(); ++i) {
            sum += std::pow(static_cast<double>(a[i]) - static_cast<double>(b[i]), 2);
        }
        return sum;
    };
    EXPECT_LE(distance(again, y), 0.25 * distance(x, y)) << "what is on the grid stays near it";
}

TEST_P(EveryEncoder, ZeroIsExactAndPowersOfTwoScale) {
    const Format f = GetParam();
    constexpr size_t n = 256;
    const std::vector<float> zeros(n, 0.0f);
    EXPECT_EQ(decode(f, encode(f, zeros), n), zeros);
    std::vector<float> x(n), doubled(n);
    for (size_t i = 0; i < n; ++i) {
        x[i] = std::sin(static_cast<float>(i) * 1.7f);
        doubled[i] = x[i] * 4;
    }
    const std::vector<float> a = decode(f, encode(f, x), n), b = decode(f, encode(f, doubled), n);
    for (size_t i = 0; i < n; ++i) EXPECT_EQ(a[i] * 4, b[i]);
}

TEST_P(EveryFormat, NameAndIdLeadBack) {
    const FormatInfo& info = format_info(GetParam());
    EXPECT_EQ(format_from_name(info.name), GetParam());
    if (info.gguf_id >= 0) {
        EXPECT_EQ(format_from_gguf(static_cast<uint32_t>(info.gguf_id)), GetParam());
    }
}

TEST_P(EveryFormat, RandomRowsHaveTheDeviationAskedFor) {
    const Format f = GetParam();
    constexpr int64_t n = 64 * 256;
    const auto row = [&](uint64_t seed) {
        Encoded e{std::vector<std::byte>(data_bytes(f, n)), std::vector<std::byte>(scale_bytes(f, n))};
        random_row(f, n, seed, 0.02f, e.data.data(), e.scales.data());
        return decode(f, e, n);
    };
    const std::vector<float> x = row(1);
    double sum = 0, squares = 0;
    for (const float v : x) {
        ASSERT_TRUE(std::isfinite(v));
        sum += static_cast<double>(v);
        squares += static_cast<double>(v) * static_cast<double>(v);
    }
    EXPECT_NEAR(sum / n, 0, 0.002);
    EXPECT_NEAR(std::sqrt(squares / n), 0.02, 0.002);
    EXPECT_EQ(row(1), x);
    EXPECT_NE(row(2), x);
}

std::vector<Format> formats(bool encodable_only) {
    std::vector<Format> result;
    for (const FormatInfo& info : all_formats()) {
        if (info.can_encode || !encodable_only) result.push_back(info.format);
    }
    return result;
}
INSTANTIATE_TEST_SUITE_P(Quant, EveryEncoder, testing::ValuesIn(formats(true)),
                         [](const auto& test) { return std::string(to_string(test.param)); });
INSTANTIATE_TEST_SUITE_P(Quant, EveryFormat, testing::ValuesIn(formats(false)),
                         [](const auto& test) { return std::string(to_string(test.param)); });

TEST(Quant, PublishedLayouts) {
    // Q4_0: d = 0.5, low nibbles 0..15 are weights 0..15, high nibbles weights 16..31.
    BlockQ4_0 q4{F16::from(0.5f), {}};
    for (int i = 0; i < 16; ++i) q4.qs[i] = static_cast<uint8_t>(i | ((15 - i) << 4));
    std::vector<float> out(32);
    decode_row({Format::Q4_0, reinterpret_cast<const std::byte*>(&q4), nullptr, 32}, out);
    for (int i = 0; i < 16; ++i) {
        EXPECT_EQ(out[static_cast<size_t>(i)], 0.5f * static_cast<float>(i - 8));
        EXPECT_EQ(out[static_cast<size_t>(i) + 16], 0.5f * static_cast<float>(7 - i));
    }
    BlockQ8_0 q8{F16::from(2.0f), {}};
    q8.qs[31] = -127;
    decode_row({Format::Q8_0, reinterpret_cast<const std::byte*>(&q8), nullptr, 32}, out);
    EXPECT_EQ(out[31], -254.0f);
}

}  // namespace
}  // namespace smelt
