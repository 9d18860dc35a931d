// OCP Microscaling (MX v1.0): 32 elements of a small float format under one power of two; and NVIDIA's FP4.
// Device-safe.
#pragma once

#ifndef __METAL_VERSION__
#include <cstdint>
#endif

#include "base/half.h"

namespace smelt {

// A scale of eight exponent bits: 2^(bits - 127), exact in float down to 0's 2^-127. 255 is NaN, as OCP says:
// every element of such a block is NaN. (ggml reads 255 as 2^128; no published file holds it.)
DEVICE_FN inline float e8m0_to_f32(uint8_t bits) {
    if (bits == 255) return bit_cast_to<float>(0x7fc00000u);
    return bit_cast_to<float>(bits == 0 ? 0x00400000u : static_cast<uint32_t>(bits) << 23);
}
struct E8M0 {
    uint8_t bits;
    DEVICE_FN operator float() const { return e8m0_to_f32(bits); }
};

// condition ? a : b, with both of them computed: compilers do not turn ?: into vector code when one side has
// float arithmetic that could trap.
DEVICE_FN constexpr uint32_t select(bool condition, uint32_t a, uint32_t b) {
    return b ^ ((a ^ b) & (0u - static_cast<uint32_t>(condition)));
}

// A float of 1 + E + M bits in the low bits of a byte, with subnormals. What codes mean infinity or NaN is
// the format's own: without those, every code is a number.
enum class Specials { none, one_nan, ieee };

template <int E, int M, Specials S>
struct MiniFloat {
    DEVICE_CONSTANT int n_bits = 1 + E + M;
    DEVICE_CONSTANT int mantissa_bits = M;
    DEVICE_CONSTANT int bias = (1 << (E - 1)) - 1;
    DEVICE_CONSTANT int largest_code = (1 << (E + M)) - 1 -
                                       (S == Specials::one_nan ? 1
                                        : S == Specials::ieee  ? 1 << M
                                                               : 0);
    // The exponent of the largest number: the emax of OCP's rule for scales.
    DEVICE_CONSTANT int largest_exponent = (largest_code >> M) - bias;

    // Without branches, so that loops over it become vector code.
    DEVICE_FN static constexpr float value(uint32_t code) {
        const uint32_t sign = (code >> (E + M) & 1u) << 31, magnitude = code & ((1u << (E + M)) - 1);
        const uint32_t normal = (magnitude << (23 - M)) + (static_cast<uint32_t>(127 - bias) << 23);
        const float step = bit_cast_to<float>(static_cast<uint32_t>(128 - bias - M) << 23);
        const uint32_t subnormal =
            bit_cast_to<uint32_t>(static_cast<float>(static_cast<int>(magnitude)) * step);
        uint32_t result = select(magnitude < (1u << M), subnormal, normal);
        if (S != Specials::none) {
            constexpr uint32_t infinity = 0x7f800000u, nan = 0x7fc00000u;
            const bool infinite = S == Specials::ieee && magnitude == static_cast<uint32_t>(largest_code) + 1;
            const uint32_t special = select(infinite, infinity, nan);
            result = select(magnitude > static_cast<uint32_t>(largest_code), special, result);
        }
        return bit_cast_to<float>(sign | result);
    }
};
using E2M1 = MiniFloat<2, 1, Specials::none>;     // to 6
using E2M3 = MiniFloat<2, 3, Specials::none>;     // to 7.5
using E3M2 = MiniFloat<3, 2, Specials::none>;     // to 28
using E4M3 = MiniFloat<4, 3, Specials::one_nan>;  // to 448; all ones is NaN, there is no infinity
using E5M2 = MiniFloat<5, 2, Specials::ieee>;     // to 57344

// MXFP4, 4.25 bits/weight. GGUF: byte j has weight j in its low nibble, weight j + 16 in its high one.
struct BlockMXFP4 {
    using Element = E2M1;
    E8M0 scale;
    uint8_t qs[16];
    DEVICE_CONSTANT int block_len = 32;
    DEVICE_CONSTANT int quants_offset = sizeof(scale);
    template <class Block>
    DEVICE_FN static constexpr uint32_t code(Block b, int i) {
        return i < 16 ? b->qs[i] & 15u : b->qs[i - 16] >> 4u;
    }
    template <class Block>
    DEVICE_FN static constexpr void set_code(Block b, int i, uint32_t c) {
        b->qs[i % 16] |= static_cast<uint8_t>(c << (i / 16 * 4));
    }
    template <class Block, class Out>
    DEVICE_FN static void decode16(Block b, int part, Out out) {
        const float scale = e8m0_to_f32(b->scale.bits);
        for (int i = 0; i < 16; ++i) out[i] = scale * Element::value((b->qs[i] >> (4 * part)) & 15u);
    }
};
static_assert(sizeof(BlockMXFP4) == 17);

// The same numbers as gpt-oss's Hugging Face files have them: weights 2j and 2j + 1 are byte j's low and high
// nibble. On disk planar: *_blocks and *_scales are two tensors.
struct BlockMXFP4_HF {
    using Element = E2M1;
    E8M0 scale;
    uint8_t qs[16];
    DEVICE_CONSTANT int block_len = 32;
    DEVICE_CONSTANT int planar_scale_bytes = sizeof(E8M0);
    template <class Block>
    DEVICE_FN static constexpr uint32_t code(Block b, int i) {
        return (b->qs[i / 2] >> (i % 2 * 4)) & 15u;
    }
    template <class Block>
    DEVICE_FN static constexpr void set_code(Block b, int i, uint32_t c) {
        b->qs[i / 2] |= static_cast<uint8_t>(c << (i % 2 * 4));
    }
    template <class Block, class Out>
    DEVICE_FN static void decode16(Block b, int part, Out out) {
        const float scale = e8m0_to_f32(b->scale.bits);
        for (int i = 0; i < 16; ++i) out[i] = scale * Element::value(code(b, 16 * part + i));
    }
};
static_assert(sizeof(BlockMXFP4_HF) == 17);

// MXFP6, 6.25 bits/weight. OCP leaves the packing open: here element i has bits 6i .. 6i + 5, lowest first.
template <class T>
struct BlockMXFP6 {
    using Element = T;
    E8M0 scale;
    uint8_t qs[24];
    DEVICE_CONSTANT int block_len = 32;
    template <class Block>
    DEVICE_FN static constexpr uint32_t code(Block b, int i) {
        const int first = i / 4 * 3;  // of the bytes of four elements
        const uint32_t four = static_cast<uint32_t>(b->qs[first]) |
                              static_cast<uint32_t>(b->qs[first + 1]) << 8 |
                              static_cast<uint32_t>(b->qs[first + 2]) << 16;
        return (four >> (i % 4 * 6)) & 63u;
    }
    template <class Block>
    DEVICE_FN static constexpr void set_code(Block b, int i, uint32_t c) {
        const uint32_t bits = c << (i % 4 * 6);
        for (int k = 0; k < 3; ++k) b->qs[i / 4 * 3 + k] |= static_cast<uint8_t>(bits >> (8 * k));
    }
    template <class Block, class Out>
    DEVICE_FN static void decode16(Block b, int part, Out out) {
        const float scale = e8m0_to_f32(b->scale.bits);
        for (int i = 0; i < 16; ++i) out[i] = scale * Element::value(code(b, 16 * part + i));
    }
};
using BlockMXFP6_E2M3 = BlockMXFP6<E2M3>;
using BlockMXFP6_E3M2 = BlockMXFP6<E3M2>;
static_assert(sizeof(BlockMXFP6_E2M3) == 25);

// MXFP8, 8.25 bits/weight.
template <class T>
struct BlockMXFP8 {
    using Element = T;
    E8M0 scale;
    uint8_t qs[32];
    DEVICE_CONSTANT int block_len = 32;
    DEVICE_CONSTANT int quants_offset = sizeof(scale);
    template <class Block>
    DEVICE_FN static constexpr uint32_t code(Block b, int i) {
        return b->qs[i];
    }
    template <class Block>
    DEVICE_FN static constexpr void set_code(Block b, int i, uint32_t c) {
        b->qs[i] = static_cast<uint8_t>(c);
    }
    template <class Block, class Out>
    DEVICE_FN static void decode16(Block b, int part, Out out) {
        const float scale = e8m0_to_f32(b->scale.bits);
        for (int i = 0; i < 16; ++i) out[i] = scale * Element::value(code(b, 16 * part + i));
    }
};
using BlockMXFP8_E4M3 = BlockMXFP8<E4M3>;
using BlockMXFP8_E5M2 = BlockMXFP8<E5M2>;
static_assert(sizeof(BlockMXFP8_E4M3) == 33);

// NVIDIA's FP4: 16 E2M1 under a scale in E4M3, and a float for the whole tensor. In GGUF, 4.5 bits/weight:
// four scales, then four times 8 bytes whose low nibbles are weights 0..7 of the 16. As in ggml a scale has
// no sign and 127, E4M3's NaN, is 0. The tensor's float is a tensor of its own.
struct BlockNVFP4 {
    uint8_t scales[4];
    uint8_t qs[32];
    DEVICE_CONSTANT int block_len = 64;
    DEVICE_CONSTANT int quants_offset = sizeof(scales);
    template <class Block>
    DEVICE_FN static constexpr float scale(Block b, int group) {
        const uint32_t code = b->scales[group] & 127u;
        return code == 127 ? 0.0f : E4M3::value(code);
    }
    template <class Block, class Out>
    DEVICE_FN static void decode16(Block b, int part, Out out) {
        const float d = scale(b, part);
        for (int i = 0; i < 8; ++i) {
            out[i] = d * E2M1::value(b->qs[8 * part + i] & 15u);
            out[i + 8] = d * E2M1::value(b->qs[8 * part + i] >> 4u);
        }
    }
};
static_assert(sizeof(BlockNVFP4) == 36);

// The same numbers as Hugging Face files have them, weights 2j and 2j + 1 in byte j; 6 bits/weight. Planar:
// the quants stay in the file, the scales are made when it is opened, E4M3 times the tensor's float.
struct BlockNVFP4_HF {
    float scale;
    uint8_t qs[8];
    DEVICE_CONSTANT int block_len = 16;
    DEVICE_CONSTANT int planar_scale_bytes = sizeof(float);
    template <class Block, class Out>
    DEVICE_FN static void decode16(Block b, int part, Out out) {
        (void)part;
        const float d = b->scale;
        for (int i = 0; i < 16; ++i) out[i] = d * E2M1::value((b->qs[i / 2] >> (i % 2 * 4)) & 15u);
    }
};
static_assert(sizeof(BlockNVFP4_HF) == 12);

}  // namespace smelt
