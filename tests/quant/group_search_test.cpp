// Blocks as groups: packing to the bit, and searches that do better than the nearest round scale.
#include "quant/group_search.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <random>

#include "base/half.h"

namespace smelt {
namespace {

std::vector<Format> group_formats() {
    std::vector<Format> list;
    for (const FormatInfo& info : all_formats()) {
        if (group_layout(info.format)) list.push_back(info.format);
    }
    return list;
}

class EveryGroupFormat : public testing::TestWithParam<Format> {};

// Random whole numbers of every kind, and d of a half: what is packed comes back, and decodes as the layout
// says.
TEST_P(EveryGroupFormat, PacksAndDecodesAsTheLayoutSays) {
    const Format f = GetParam();
    const GroupLayout l = *group_layout(f);
    const auto n = static_cast<size_t>(l.block_len);
    std::mt19937 random(5);
    const auto between = [&](int low, int high) {
        return low + static_cast<int>(random() % static_cast<unsigned>(high - low + 1));
    };
    for (int round = 0; round < 50; ++round) {
        GroupCodes c;
        c.d = F16::from(0.01f * static_cast<float>(between(1, 100)));
        c.dmin = l.has_min() ? static_cast<float>(F16::from(0.02f * static_cast<float>(between(1, 100)))) : 0;
        for (int g = 0; g < l.n_groups(); ++g) {
            c.scale[static_cast<size_t>(g)] = static_cast<int16_t>(between(l.scale_low, l.scale_high));
            const int min = l.min_high == 1 ? 1 : between(0, l.min_high);
            c.min[static_cast<size_t>(g)] = static_cast<int16_t>(min);
        }
        for (size_t i = 0; i < n; ++i) {
            c.code[i] = static_cast<uint8_t>(between(0, static_cast<int>(l.levels.size()) - 1));
        }
        std::vector<std::byte> block(static_cast<size_t>(format_info(f).block_bytes));
        pack_block(f, c, block.data());
        const GroupCodes back = unpack_block(f, block.data());
        EXPECT_EQ(back.d, c.d);
        EXPECT_EQ(back.dmin, c.dmin);
        EXPECT_EQ(back.scale, c.scale);
        EXPECT_EQ(back.min, c.min);
        EXPECT_EQ(back.code, c.code);
        std::vector<float> decoded(n), said(n);
        decode_row({f, block.data(), nullptr, l.block_len}, decoded);
        values_of(l, c, said);
        for (size_t i = 0; i < n; ++i) EXPECT_NEAR(decoded[i], said[i], 1e-5 * (1 + std::fabs(said[i])));
    }
}

double error(const std::vector<float>& x, const std::vector<float>& w, const std::vector<float>& y) {
    double sum = 0;
    for (size_t i = 0; i < x.size(); ++i) {
        sum += static_cast<double>(w[i]) * std::pow(static_cast<double>(x[i]) - static_cast<double>(y[i]), 2);
    }
    return sum;
}

std::vector<float> through(Format f, const std::vector<float>& x, const std::vector<float>& importance) {
    std::vector<std::byte> bytes(data_bytes(f, static_cast<int64_t>(x.size())));
    encode_weighted(f, x, importance, bytes.data());
    std::vector<float> y(x.size());
    decode_row({f, bytes.data(), nullptr, static_cast<int64_t>(x.size())}, y);
    return y;
}

// Signal to noise on normals, in units of the mean square: what llama.cpp's encoders reach, less a little.
TEST_P(EveryGroupFormat, ErrorOnNormalsIsThatOfItsBits) {
    const Format f = GetParam();
    std::mt19937 random(11);
    std::normal_distribution<float> normal(0, 0.05f);
    std::vector<float> x(256 * 64), ones(x.size(), 1.0f);
    for (float& v : x) v = normal(random);
    const double relative =
        error(x, ones, through(f, x, ones)) / error(x, ones, std::vector<float>(x.size()));
    const std::map<Format, double> bounds = {
        {Format::Q2_K, 0.072},   {Format::Q3_K, 0.028},    {Format::Q4_K, 0.0062},   {Format::Q5_K, 0.0016},
        {Format::Q6_K, 0.00050}, {Format::IQ4_XS, 0.0070}, {Format::IQ4_NL, 0.0068}, {Format::Q4_0, 0.0080},
        {Format::Q4_1, 0.0066},  {Format::Q5_0, 0.0022},   {Format::Q5_1, 0.0017},   {Format::Q8_0, 0.00004}};
    EXPECT_LT(relative, bounds.at(f)) << to_string(f);
    EXPECT_GT(relative, bounds.at(f) / 2) << to_string(f) << ": a bound that means something";
}

// Where some columns count a thousand times as much, their error is smaller than without being told.
TEST_P(EveryGroupFormat, ImportanceIsHeard) {
    const Format f = GetParam();
    std::mt19937 random(12);
    std::normal_distribution<float> normal(0, 0.05f);
    std::vector<float> x(256 * 16), ones(x.size(), 1.0f), some(x.size(), 1.0f);
    for (float& v : x) v = normal(random);
    for (size_t i = 0; i < x.size(); i += 8) some[i] = 1000;
    EXPECT_LT(error(x, some, through(f, x, some)), error(x, some, through(f, x, ones)));
}

INSTANTIATE_TEST_SUITE_P(Quant, EveryGroupFormat, testing::ValuesIn(group_formats()),
                         [](const auto& test) { return std::string(to_string(test.param)); });

}  // namespace
}  // namespace smelt
