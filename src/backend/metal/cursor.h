// Along a row of weights in steps of 16 blocks: each of 16 lanes has one of them in registers as it lies in
// the file, fetched ahead of its use, and unpacks 16 of its 32 weights at a time. The numbers are those of
// decode16. A byte becomes a float by taking its place in the mantissa of 32768, which one multiply-add takes
// off again while it applies the scale; nothing of that rounds. For .metal files.
#pragma once

#include "backend/metal/bits.h"
#include "backend/metal/unroll.h"
#include "backend/metal/weights.h"

namespace smelt {

// Blocks of n_bytes begin anywhere; 16 of them are whole words, so that a lane's always begin at the same
// bit. Read by words: two or three pieces of 16 bytes, of which the block is then cut, were no faster on the
// GPU that was tried.
template <int n_bytes>
struct BlockCursor {
    enum { n_words = (n_bytes + 3 + 3) / 4 };
    device const uint* at;
    uint shift;  // bits of the first word that belong to the block before

    void start(thread const WeightRow& row, uint block) {
        const ulong offset = row.offset + ulong(block) * n_bytes;
        at = (device const uint*)(row.data + (offset & ~ulong(3)));
        shift = uint(offset & 3) * 8;
    }
    void fetch(thread uint* words) {
        UNROLL for (int i = 0; i < n_words; ++i) words[i] = at[i];
        at += 16 * n_bytes / 4;
    }
};

// Sixteen weights of a fetched block: unit(), times 2^twos times scale(). twos 0: the scale is in them.
template <class Block>
struct Unpack;

// Two bytes of scale, then the quants; blocks begin at even addresses.
inline float leading_half(thread const uint* words, uint shift) {
    return float(as_type<half>(ushort(words[0] >> shift)));
}
template <>
struct Unpack<BlockQ8_0> {
    enum { twos = 0 };
    static void unit(thread const uint* words, uint shift, int part, thread float* w) {
        const float d = leading_half(words, shift), c = -32896.0f * d;
        UNROLL for (int j = 0; j < 4; ++j) {
            const uint four = joined(words[4 * part + j], words[4 * part + j + 1], shift + 16) ^ 0x80808080u;
            UNROLL for (int i = 0; i < 4; ++i) w[4 * j + i] = fma(d, byte_float(four, i), c);
        }
    }
    static float scale(thread const uint*, uint) { return 1; }
};
template <>
struct Unpack<BlockQ4_0> {
    enum { twos = 0 };
    static void unit(thread const uint* words, uint shift, int part, thread float* w) {
        const float d = leading_half(words, shift);
        const float a = part == 0 ? d : 0.0625f * d, c = part == 0 ? -32776.0f * d : -2056.0f * d;
        UNROLL for (int j = 0; j < 4; ++j) {
            const uint four =
                joined(words[j], words[j + 1], shift + 16) & (part == 0 ? 0x0f0f0f0fu : 0xf0f0f0f0u);
            UNROLL for (int i = 0; i < 4; ++i) w[4 * j + i] = fma(a, byte_float(four, i), c);
        }
    }
    static float scale(thread const uint*, uint) { return 1; }
};
// Sign, exponent and mantissa take their places in a half, whose exponent has five bits: that is 2^14 too
// small. Two at a time, of bytes i and i + 2.
template <>
struct Unpack<BlockMXFP4> {
    enum { twos = 14 };
    static void unit(thread const uint* words, uint shift, int part, thread float* w) {
        UNROLL for (int j = 0; j < 4; ++j) {
            const uint four = joined(words[j], words[j + 1], shift + 8);
            UNROLL for (int i = 0; i < 2; ++i) {
                const int bit = 8 * i + 4 * part;
                const uint sign = four << (12 - bit),
                           magnitude = bit == 12 ? four >> 3 : four << (9 - bit % 12);
                const half2 two = as_type<half2>((sign & 0x80008000u) | (magnitude & 0x0e000e00u));
                w[4 * j + i] = float(two.x);
                w[4 * j + i + 2] = float(two.y);
            }
        }
    }
    static float scale(thread const uint* words, uint shift) {
        return e8m0_to_f32(uint8_t(words[0] >> shift));
    }
};

}  // namespace smelt
