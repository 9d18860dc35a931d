// GGUF's integer formats against their published layouts: quants, scales and mins are packed here byte by
// byte, the way that encoders write them, and decoded values compared with w = d * scale * q - dmin * min.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <fstream>
#include <random>

#include "quant/format.h"
#include "quant/group_codes.h"

namespace smelt {
namespace {

using Bytes = std::vector<uint8_t>;

void put_half(Bytes& b, size_t at, float value) {
    const uint16_t bits = F16::from(value).bits;
    b[at] = static_cast<uint8_t>(bits & 255);
    b[at + 1] = static_cast<uint8_t>(bits >> 8);
}
void merge(uint8_t& byte, int bits) {
    byte = static_cast<uint8_t>(byte | bits);
}

std::vector<float> decode(Format f, const Bytes& b) {
    const FormatInfo& info = format_info(f);
    EXPECT_EQ(static_cast<int>(b.size()), info.block_bytes);
    std::vector<float> out(static_cast<size_t>(info.block_len));
    decode_row({f, reinterpret_cast<const std::byte*>(b.data()), nullptr, info.block_len}, out);
    return out;
}

// What a block says, before it is packed. Scales below are powers of two: products are exact in float.
struct Content {
    std::vector<int> q, scale, min;
};
Content random_content(std::mt19937& random, int n, int n_groups, int q_end, int scale_end, int min_end) {
    const auto list = [&](int count, int end) {
        std::vector<int> v(static_cast<size_t>(count));
        for (int& x : v) x = static_cast<int>(random() % static_cast<unsigned>(end));
        return v;
    };
    return {list(n, q_end), list(n_groups, scale_end), list(n_groups, min_end)};
}

constexpr float d = 0.5f, dmin = 0.25f;

// Expected: d * (scale - scale_zero) * (q - q_zero) - dmin * min.
void expect_values(const std::vector<float>& got, const Content& c, int scale_zero, int q_zero) {
    const size_t group = c.q.size() / c.scale.size();
    for (size_t i = 0; i < c.q.size(); ++i) {
        const auto scale = static_cast<float>(c.scale[i / group] - scale_zero),
                   q = static_cast<float>(c.q[i] - q_zero), min = static_cast<float>(c.min[i / group]);
        ASSERT_EQ(got[i], d * scale * q - dmin * min) << "weight " << i;
    }
}

// 32 weights: nibbles, and the fifth bits as a 32-bit number.
Bytes pack_32(const Content& c, size_t header, bool fifth) {
    Bytes b(header + (fifth ? 4 : 0) + 16);
    uint32_t high = 0;
    for (size_t i = 0; i < 32; ++i) {
        high |= static_cast<uint32_t>(c.q[i] >> 4) << i;
        merge(b[b.size() - 16 + i % 16], (c.q[i] & 15) << (i / 16 * 4));
    }
    if (fifth) std::memcpy(b.data() + header, &high, 4);
    return b;
}

TEST(QuantLayout, OffsetsAreThoseOfTheMembers) {
    EXPECT_EQ(BlockQ8_0::quants_offset, offsetof(BlockQ8_0, qs));
    EXPECT_EQ(BlockQ4_0::quants_offset, offsetof(BlockQ4_0, qs));
    EXPECT_EQ(BlockQ4_1::min_offset, offsetof(BlockQ4_1, m));
    EXPECT_EQ(BlockQ4_1::quants_offset, offsetof(BlockQ4_1, qs));
    EXPECT_EQ(BlockQ5_0::high_offset, offsetof(BlockQ5_0, qh));
    EXPECT_EQ(BlockQ5_0::quants_offset, offsetof(BlockQ5_0, qs));
    EXPECT_EQ(BlockQ5_1::min_offset, offsetof(BlockQ5_1, m));
    EXPECT_EQ(BlockQ5_1::high_offset, offsetof(BlockQ5_1, qh));
    EXPECT_EQ(BlockQ5_1::quants_offset, offsetof(BlockQ5_1, qs));
    EXPECT_EQ(BlockQ4_Z::zero_offset, offsetof(BlockQ4_Z, z));
    EXPECT_EQ(BlockQ4_Z::quants_offset, offsetof(BlockQ4_Z, qs));
    EXPECT_EQ(BlockQ8_Z::zero_offset, offsetof(BlockQ8_Z, z));
    EXPECT_EQ(BlockQ8_Z::quants_offset, offsetof(BlockQ8_Z, qs));
    EXPECT_EQ(BlockQ2_K::quants_offset, offsetof(BlockQ2_K, qs));
    EXPECT_EQ(BlockQ2_K::d_offset, offsetof(BlockQ2_K, d));
    EXPECT_EQ(BlockQ3_K::quants_offset, offsetof(BlockQ3_K, qs));
    EXPECT_EQ(BlockQ3_K::scales_offset, offsetof(BlockQ3_K, scales));
    EXPECT_EQ(BlockQ3_K::d_offset, offsetof(BlockQ3_K, d));
    EXPECT_EQ(BlockQ4_K::min_offset, offsetof(BlockQ4_K, dmin));
    EXPECT_EQ(BlockQ4_K::scales_offset, offsetof(BlockQ4_K, scales));
    EXPECT_EQ(BlockQ4_K::quants_offset, offsetof(BlockQ4_K, qs));
    EXPECT_EQ(BlockQ5_K::min_offset, offsetof(BlockQ5_K, dmin));
    EXPECT_EQ(BlockQ5_K::scales_offset, offsetof(BlockQ5_K, scales));
    EXPECT_EQ(BlockQ5_K::high_offset, offsetof(BlockQ5_K, qh));
    EXPECT_EQ(BlockQ5_K::quants_offset, offsetof(BlockQ5_K, qs));
    EXPECT_EQ(BlockQ6_K::high_offset, offsetof(BlockQ6_K, qh));
    EXPECT_EQ(BlockQ6_K::scales_offset, offsetof(BlockQ6_K, scales));
    EXPECT_EQ(BlockQ6_K::d_offset, offsetof(BlockQ6_K, d));
    EXPECT_EQ(BlockQ8_K::quants_offset, offsetof(BlockQ8_K, qs));
    EXPECT_EQ(BlockIQ4_NL::quants_offset, offsetof(BlockIQ4_NL, qs));
    EXPECT_EQ(BlockIQ4_XS::high_offset, offsetof(BlockIQ4_XS, scales_h));
    EXPECT_EQ(BlockIQ4_XS::scales_offset, offsetof(BlockIQ4_XS, scales_l));
    EXPECT_EQ(BlockIQ4_XS::quants_offset, offsetof(BlockIQ4_XS, qs));
    EXPECT_EQ(BlockMXFP4::quants_offset, offsetof(BlockMXFP4, qs));
    EXPECT_EQ(BlockMXFP8_E4M3::quants_offset, offsetof(BlockMXFP8_E4M3, qs));
    EXPECT_EQ(BlockNVFP4::quants_offset, offsetof(BlockNVFP4, qs));
}

TEST(QuantLayout, Q4_1Q5_0Q5_1) {
    std::mt19937 random(1);
    for (int round = 0; round < 200; ++round) {
        Content c = random_content(random, 32, 1, 16, 1, 1);
        c.scale = {1};
        Bytes b = pack_32(c, 4, false);
        put_half(b, 0, d);
        put_half(b, 2, -0.25f);
        c.min = {1};
        expect_values(decode(Format::Q4_1, b), c, 0, 0);

        c = random_content(random, 32, 1, 32, 1, 1);
        c.scale = {1};
        b = pack_32(c, 2, true);
        put_half(b, 0, d);
        expect_values(decode(Format::Q5_0, b), c, 0, 16);

        b = pack_32(c, 4, true);
        put_half(b, 0, d);
        put_half(b, 2, -0.25f);
        c.min = {1};
        expect_values(decode(Format::Q5_1, b), c, 0, 0);
    }
}

// Two bits of each of 256 weights, from byte `at` on.
void pack_2bit(Bytes& b, size_t at, const std::vector<int>& q, int shift) {
    for (size_t j = 0; j < 256; j += 128) {
        for (size_t l = 0; l < 32; ++l) {
            for (size_t k = 0; k < 4; ++k) {
                merge(b[at + j / 4 + l], ((q[j + l + 32 * k] >> shift) & 3) << (2 * k));
            }
        }
    }
}

TEST(QuantLayout, Q2_K) {
    std::mt19937 random(2);
    for (int round = 0; round < 256; ++round) {
        Content c = random_content(random, 256, 16, 4, 16, 16);
        c.scale[static_cast<size_t>(round % 16)] = round & 15;  // every byte in some round
        c.min[static_cast<size_t>(round % 16)] = round >> 4;
        Bytes b(84);
        for (size_t g = 0; g < 16; ++g) b[g] = static_cast<uint8_t>(c.scale[g] | (c.min[g] << 4));
        pack_2bit(b, 16, c.q, 0);
        put_half(b, 80, d);
        put_half(b, 82, dmin);
        expect_values(decode(Format::Q2_K, b), c, 0, 0);
    }
}

Bytes pack_q3_k(const Content& c) {
    Bytes b(110);
    for (size_t i = 0; i < 256; ++i) merge(b[i % 32], (c.q[i] >> 2) << (i / 32));
    pack_2bit(b, 32, c.q, 0);
    for (size_t g = 0; g < 16; ++g) {
        merge(b[96 + g % 8], (c.scale[g] & 15) << (g / 8 * 4));
        merge(b[96 + 8 + g % 4], (c.scale[g] >> 4) << (g / 4 * 2));
    }
    put_half(b, 108, d);
    return b;
}

TEST(QuantLayout, Q3_K) {
    std::mt19937 random(3);
    for (int value = 0; value < 64; ++value) {
        for (size_t g = 0; g < 16; ++g) {
            Content c = random_content(random, 256, 16, 8, 64, 1);
            c.scale[g] = value;
            expect_values(decode(Format::Q3_K, pack_q3_k(c)), c, 32, 4);
        }
    }
}

void pack_scales_and_mins(Bytes& b, size_t at, const Content& c) {
    for (size_t g = 0; g < 8; ++g) {
        if (g < 4) {
            merge(b[at + g], c.scale[g]);
            merge(b[at + g + 4], c.min[g]);
        } else {
            merge(b[at + g + 4], (c.scale[g] & 15) | ((c.min[g] & 15) << 4));
            merge(b[at + g - 4], (c.scale[g] >> 4) << 6);
            merge(b[at + g], (c.min[g] >> 4) << 6);
        }
    }
}

// Q4_K, or with fifth bits Q5_K.
Bytes pack_q45_k(const Content& c, bool fifth) {
    Bytes b(fifth ? 176 : 144);
    put_half(b, 0, d);
    put_half(b, 2, dmin);
    pack_scales_and_mins(b, 4, c);
    const size_t quants = fifth ? 48 : 16;
    for (size_t j = 0; j < 256; j += 64) {
        for (size_t l = 0; l < 32; ++l) {
            const int even = c.q[j + l], odd = c.q[j + l + 32];
            b[quants + j / 2 + l] = static_cast<uint8_t>((even & 15) | ((odd & 15) << 4));
            if (fifth) merge(b[16 + l], (even >> 4) << (j / 32) | (odd >> 4) << (j / 32 + 1));
        }
    }
    return b;
}

TEST(QuantLayout, Q4_KAndQ5_K) {
    std::mt19937 random(4);
    for (int value = 0; value < 64; ++value) {
        for (size_t g = 0; g < 8; ++g) {
            Content c = random_content(random, 256, 8, 16, 64, 64);
            c.scale[g] = value;
            c.min[(g + 3) % 8] = value;
            expect_values(decode(Format::Q4_K, pack_q45_k(c, false)), c, 0, 0);
            c.q = random_content(random, 256, 8, 32, 1, 1).q;
            expect_values(decode(Format::Q5_K, pack_q45_k(c, true)), c, 0, 0);
        }
    }
}

TEST(QuantLayout, Q6_K) {
    std::mt19937 random(5);
    for (int value = 0; value < 256; ++value) {
        Content c = random_content(random, 256, 16, 64, 256, 1);
        c.scale[static_cast<size_t>(value % 16)] = value;
        Bytes b(210);
        for (size_t j = 0; j < 256; j += 128) {
            for (size_t l = 0; l < 32; ++l) {
                const int* q = c.q.data() + j + l;
                b[j / 2 + l] = static_cast<uint8_t>((q[0] & 15) | ((q[64] & 15) << 4));
                b[j / 2 + l + 32] = static_cast<uint8_t>((q[32] & 15) | ((q[96] & 15) << 4));
            }
        }
        pack_2bit(b, 128, c.q, 4);
        for (size_t g = 0; g < 16; ++g) b[192 + g] = static_cast<uint8_t>(c.scale[g] - 128);
        put_half(b, 208, d);
        expect_values(decode(Format::Q6_K, b), c, 128, 32);
    }
}

TEST(QuantLayout, Q8_K) {
    Bytes b(292);
    std::memcpy(b.data(), &d, 4);
    Content c{std::vector<int>(256), {1}, {0}};
    for (size_t i = 0; i < 256; ++i) {
        c.q[i] = static_cast<int>(i);
        b[4 + i] = static_cast<uint8_t>(static_cast<int>(i) - 128);
    }
    expect_values(decode(Format::Q8_K, b), c, 0, 128);
}

constexpr std::array<int, 16> iq4 = {-127, -104, -83, -65, -49, -35, -22, -10,
                                     1,    13,   25,  38,  53,  69,  89,  113};

TEST(QuantLayout, IQ4) {
    std::mt19937 random(6);
    for (int value = 0; value < 64; ++value) {
        for (size_t g = 0; g < 8; ++g) {
            Content c = random_content(random, 256, 8, 16, 64, 1);
            c.scale[g] = value;
            Bytes b(136);
            put_half(b, 0, d);
            uint16_t high = 0;
            for (size_t k = 0; k < 8; ++k) {
                high = static_cast<uint16_t>(high | (c.scale[k] >> 4) << (2 * k));
                merge(b[4 + k / 2], (c.scale[k] & 15) << (k % 2 * 4));
                for (size_t i = 0; i < 32; ++i) {
                    merge(b[8 + 16 * k + i % 16], c.q[32 * k + i] << (i / 16 * 4));
                }
            }
            std::memcpy(b.data() + 2, &high, 2);
            for (int& q : c.q) q = iq4[static_cast<size_t>(q)];
            expect_values(decode(Format::IQ4_XS, b), c, 32, 0);
        }
    }
    Content c = random_content(random, 32, 1, 16, 1, 1);
    c.scale = {1};
    Bytes b = pack_32(c, 2, false);
    put_half(b, 0, d);
    for (int& q : c.q) q = iq4[static_cast<size_t>(q)];
    expect_values(decode(Format::IQ4_NL, b), c, 0, 0);
}

// Twice E2M1's values, so that they are integers.
constexpr std::array<int, 16> fp4 = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

TEST(QuantLayout, NVFP4) {
    std::mt19937 random(8);
    for (int code = 0; code < 256; ++code) {
        const Content c = random_content(random, 64, 4, 16, 120, 1);
        Bytes b(36);
        for (size_t g = 0; g < 4; ++g) {
            b[g] = static_cast<uint8_t>(g == 2 ? code : c.scale[g]);
            for (size_t i = 0; i < 16; ++i) merge(b[4 + 8 * g + i % 8], c.q[16 * g + i] << (i / 8 * 4));
        }
        const std::vector<float> got = decode(Format::NVFP4, b);
        for (size_t i = 0; i < 64; ++i) {
            // E4M3 without its sign; 127 is 0.
            const int bits = b[i / 16] & 127, exponent = bits >> 3, mantissa = bits & 7;
            const float scale = bits == 127     ? 0.0f
                                : exponent == 0 ? std::ldexp(static_cast<float>(mantissa), -9)
                                                : std::ldexp(static_cast<float>(8 + mantissa), exponent - 10);
            ASSERT_EQ(got[i], scale * 0.5f * static_cast<float>(fp4[static_cast<size_t>(c.q[i])]))
                << code << " " << i;
        }
    }
}

TEST(QuantLayout, ZeroPoints) {
    std::mt19937 random(9);
    for (int zero = 0; zero <= 256; ++zero) {
        Content c = random_content(random, 32, 1, 16, 1, 1);
        c.scale = {1};
        c.min = {0};
        Bytes b = pack_32(c, 4, false);
        put_half(b, 0, d);
        put_half(b, 2, static_cast<float>(zero));
        expect_values(decode(Format::Q4_Z, b), c, 0, zero);
        c.q = random_content(random, 32, 1, 256, 1, 1).q;
        b.assign(36, 0);
        put_half(b, 0, d);
        put_half(b, 2, static_cast<float>(zero));
        for (size_t i = 0; i < 32; ++i) b[4 + i] = static_cast<uint8_t>(c.q[i]);
        expect_values(decode(Format::Q8_Z, b), c, 0, zero);
    }
}

// Blocks that smelt wrote, as ggml's own code decodes them: data/ggml_blocks.c says how they were made.
TEST(QuantLayout, GgmlReadsWhatIsWritten) {
    std::ifstream file(SMELT_TEST_DATA "/ggml_blocks.bin", std::ios::binary);
    const std::string data(std::istreambuf_iterator<char>(file), {});
    constexpr size_t n = 256;
    std::vector<float> expected(n), values(n);
    std::vector<std::string> seen;
    for (size_t at = 0; at < data.size();) {
        const std::string name(data.c_str() + at, std::min<size_t>(8, std::strlen(data.c_str() + at)));
        int32_t n_bytes = 0;
        std::memcpy(&n_bytes, data.data() + at + 8, sizeof(n_bytes));
        at += 12;
        const auto* bytes = reinterpret_cast<const std::byte*>(data.data() + at);
        at += static_cast<size_t>(n_bytes);
        std::memcpy(expected.data(), data.data() + at, n * sizeof(float));
        at += n * sizeof(float);
        ASSERT_LE(at, data.size());

        std::string lower = name;
        std::ranges::transform(lower, lower.begin(), [](char c) { return c == 'K' ? 'k' : c; });
        const auto format = format_from_name(lower);
        ASSERT_TRUE(format) << name;
        ASSERT_EQ(data_bytes(*format, n), static_cast<size_t>(n_bytes)) << name;
        std::vector<std::byte> aligned(bytes, bytes + n_bytes);
        decode_row({*format, aligned.data(), nullptr, n}, values);
        EXPECT_EQ(values, expected) << name;
        seen.push_back(name);
        if (!is_of_groups(*format)) continue;
        // Taken apart and put together again they are the same bytes.
        std::vector<std::byte> packed(aligned.size());
        for (size_t i = 0; i < packed.size(); i += static_cast<size_t>(format_info(*format).block_bytes)) {
            pack_block(*format, unpack_block(*format, aligned.data() + i), packed.data() + i);
        }
        EXPECT_EQ(packed, aligned) << name;
    }
    EXPECT_EQ(seen.size(), 13u);
}

}  // namespace
}  // namespace smelt
