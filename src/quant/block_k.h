// GGUF's K-quants and IQ4: super-blocks of 256 weights whose groups of 16 or 32 have small integer scales
// under one or two halves. Device-safe.
#pragma once

#ifndef __METAL_VERSION__
#include <cstdint>
#endif

#include "base/half.h"

namespace smelt {

// Weight i of quarter `quarter` of half `side` of a super-block with 2 bits each: the quarters lie in one
// another's bytes. Loops go half by half and quarter by quarter, so that they become vector code.
template <class Bytes>
DEVICE_FN constexpr int quant_2bit(Bytes qs, int side, int quarter, int i) {
    return (qs[32 * side + i] >> (2 * quarter)) & 3;
}

// 2.625 bits/weight: w = d * scale * q - dmin * min; scale and min of 16 weights are the nibbles of a byte.
struct BlockQ2_K {
    uint8_t scales[16];
    uint8_t qs[64];
    F16 d, dmin;
    DEVICE_CONSTANT int block_len = 256;
    DEVICE_CONSTANT int quants_offset = sizeof(scales), d_offset = quants_offset + sizeof(qs);
    template <class Block, class Out>
    DEVICE_FN static void decode16(Block b, int part, Out out) {
        const float d = b->d, dmin = b->dmin;
        const float scale = d * static_cast<float>(b->scales[part] & 15);
        const float min = dmin * static_cast<float>(b->scales[part] >> 4);
        const int side = part / 8, quarter = part / 2 % 4, first = part % 2 * 16;
        for (int i = 0; i < 16; ++i) {
            const int q = quant_2bit(b->qs, side, quarter, first + i);
            out[i] = scale * static_cast<float>(q) - min;
        }
    }
};
static_assert(sizeof(BlockQ2_K) == 84);

// 3.4375 bits/weight: w = d * (scale - 32) * (q - 4). The third bit of weight i is bit i / 32 of
// hmask[i % 32]; scales of 16 weights have 6 bits: nibbles in bytes 0..7, upper bits in bytes 8..11.
struct BlockQ3_K {
    uint8_t hmask[32];
    uint8_t qs[64];
    uint8_t scales[12];
    F16 d;
    DEVICE_CONSTANT int block_len = 256;
    DEVICE_CONSTANT int quants_offset = sizeof(hmask), scales_offset = quants_offset + sizeof(qs),
                        d_offset = scales_offset + sizeof(scales);
    template <class Block>
    DEVICE_FN static constexpr int scale(Block b, int g) {
        const int low = g < 8 ? b->scales[g] & 15 : b->scales[g - 8] >> 4;
        return (low | (((b->scales[8 + g % 4] >> (g / 4 * 2)) & 3) << 4)) - 32;
    }
    template <class Block, class Out>
    DEVICE_FN static void decode16(Block b, int part, Out out) {
        const float d = b->d;
        const float group = d * static_cast<float>(scale(b, part));
        const int side = part / 8, quarter = part / 2 % 4, first = part % 2 * 16;
        for (int i = 0; i < 16; ++i) {
            const int low = quant_2bit(b->qs, side, quarter, first + i);
            const int high = (b->hmask[first + i] >> (part / 2)) & 1;
            out[i] = group * static_cast<float>((low | (high << 2)) - 4);
        }
    }
};
static_assert(sizeof(BlockQ3_K) == 110);

// Eight scales and eight mins of 6 bits in 12 bytes, as Q4_K and Q5_K have them: 0..3 are the low bits of
// bytes 0..7; 4..7 are nibbles of bytes 8..11 with their upper bits on top of bytes 0..7.
struct ScaleAndMin {
    int scale, min;
};
template <class Bytes>
DEVICE_FN constexpr ScaleAndMin scale_and_min(Bytes scales, int g) {
    if (g < 4) return {scales[g] & 63, scales[g + 4] & 63};
    return {(scales[g + 4] & 15) | (scales[g - 4] >> 6 << 4), (scales[g + 4] >> 4) | (scales[g] >> 6 << 4)};
}

// 4.5 bits/weight: w = d * scale * q - dmin * min, groups of 32. Two groups share 32 bytes, the even one has
// the low nibbles.
struct BlockQ4_K {
    F16 d, dmin;
    uint8_t scales[12];
    uint8_t qs[128];
    DEVICE_CONSTANT int block_len = 256;
    DEVICE_CONSTANT int min_offset = sizeof(d), scales_offset = min_offset + sizeof(dmin),
                        quants_offset = scales_offset + sizeof(scales);
    template <class Block, class Out>
    DEVICE_FN static void decode16(Block b, int part, Out out) {
        const float d = b->d, dmin = b->dmin;
        const int g = part / 2, first = g / 2 * 32 + part % 2 * 16;
        const ScaleAndMin s = scale_and_min(b->scales, g);
        const float scale = d * static_cast<float>(s.scale), min = dmin * static_cast<float>(s.min);
        for (int i = 0; i < 16; ++i) {
            out[i] = scale * static_cast<float>((b->qs[first + i] >> (g % 2 * 4)) & 15) - min;
        }
    }
};
static_assert(sizeof(BlockQ4_K) == 144);

// 5.5 bits/weight: as Q4_K; the fifth bit of weight i of group g is bit g of qh[i].
struct BlockQ5_K {
    F16 d, dmin;
    uint8_t scales[12];
    uint8_t qh[32];
    uint8_t qs[128];
    DEVICE_CONSTANT int block_len = 256;
    DEVICE_CONSTANT int min_offset = sizeof(d), scales_offset = min_offset + sizeof(dmin),
                        high_offset = scales_offset + sizeof(scales),
                        quants_offset = high_offset + sizeof(qh);
    template <class Block, class Out>
    DEVICE_FN static void decode16(Block b, int part, Out out) {
        const float d = b->d, dmin = b->dmin;
        const int g = part / 2, low = part % 2 * 16, first = g / 2 * 32 + low;
        const ScaleAndMin s = scale_and_min(b->scales, g);
        const float scale = d * static_cast<float>(s.scale), min = dmin * static_cast<float>(s.min);
        for (int i = 0; i < 16; ++i) {
            const int q = ((b->qs[first + i] >> (g % 2 * 4)) & 15) | (((b->qh[low + i] >> g) & 1) << 4);
            out[i] = scale * static_cast<float>(q) - min;
        }
    }
};
static_assert(sizeof(BlockQ5_K) == 176);

// 6.5625 bits/weight: w = d * scale * (q - 32), groups of 16 with int8 scales. Of each half, the first 64
// weights are low nibbles of ql and the others high ones; qh has the upper two bits.
struct BlockQ6_K {
    uint8_t ql[128];
    uint8_t qh[64];
    int8_t scales[16];
    F16 d;
    DEVICE_CONSTANT int block_len = 256;
    DEVICE_CONSTANT int high_offset = sizeof(ql), scales_offset = high_offset + sizeof(qh),
                        d_offset = scales_offset + sizeof(scales);
    template <class Block, class Out>
    DEVICE_FN static void decode16(Block b, int part, Out out) {
        const float d = b->d;
        const float scale = d * static_cast<float>(b->scales[part]);
        const int side = part / 8, quarter = part / 2 % 4, first = part % 2 * 16;
        const int in_ql = 64 * side + quarter % 2 * 32 + first;
        for (int i = 0; i < 16; ++i) {
            const int low = (b->ql[in_ql + i] >> (quarter / 2 * 4)) & 15;
            const int high = quant_2bit(b->qh, side, quarter, first + i);
            out[i] = scale * static_cast<float>((low | (high << 4)) - 32);
        }
    }
};
static_assert(sizeof(BlockQ6_K) == 210);

// 9.125 bits/weight: w = d * q. The sums are for products with other formats and not needed here.
struct BlockQ8_K {
    float d;
    int8_t qs[256];
    int16_t sums[16];  // of 16 quants each
    DEVICE_CONSTANT int block_len = 256;
    DEVICE_CONSTANT int quants_offset = sizeof(d);
    template <class Block, class Out>
    DEVICE_FN static void decode16(Block b, int part, Out out) {
        const float d = b->d;
        for (int i = 0; i < 16; ++i) out[i] = d * static_cast<float>(b->qs[16 * part + i]);
    }
};
static_assert(sizeof(BlockQ8_K) == 292);

// The 16 values of IQ4_NL's and IQ4_XS's nibbles: denser around zero.
DEVICE_FN constexpr float iq4_value(int nibble) {
    constexpr int8_t values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
    return static_cast<float>(values[nibble]);
}

// 4.5 bits/weight: 32 nibbles placed as in Q4_0; w = d * iq4_value.
struct BlockIQ4_NL {
    F16 d;
    uint8_t qs[16];
    DEVICE_CONSTANT int block_len = 32;
    DEVICE_CONSTANT int quants_offset = sizeof(d);
    template <class Block, class Out>
    DEVICE_FN static void decode16(Block b, int part, Out out) {
        const float d = b->d;
        for (int i = 0; i < 16; ++i) out[i] = d * iq4_value((b->qs[i] >> (4 * part)) & 15);
    }
};
static_assert(sizeof(BlockIQ4_NL) == 18);

// 4.25 bits/weight: eight groups of IQ4_NL's nibbles; w = d * (scale - 32) * iq4_value. Scales have 6 bits:
// nibbles in scales_l, upper two bits in scales_h (little-endian).
struct BlockIQ4_XS {
    F16 d;
    uint8_t scales_h[2];
    uint8_t scales_l[4];
    uint8_t qs[128];
    DEVICE_CONSTANT int block_len = 256;
    DEVICE_CONSTANT int high_offset = sizeof(d), scales_offset = high_offset + sizeof(scales_h),
                        quants_offset = scales_offset + sizeof(scales_l);
    template <class Block>
    DEVICE_FN static constexpr int scale(Block b, int g) {
        const int low = (b->scales_l[g / 2] >> (g % 2 * 4)) & 15,
                  high = (b->scales_h[g / 4] >> (g % 4 * 2)) & 3;
        return (low | (high << 4)) - 32;
    }
    template <class Block, class Out>
    DEVICE_FN static void decode16(Block b, int part, Out out) {
        const float d = b->d;
        const int g = part / 2;
        const float group = d * static_cast<float>(scale(b, g));
        for (int i = 0; i < 16; ++i) out[i] = group * iq4_value((b->qs[16 * g + i] >> (part % 2 * 4)) & 15);
    }
};
static_assert(sizeof(BlockIQ4_XS) == 136);

}  // namespace smelt
