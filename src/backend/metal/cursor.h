// Along a row of weights in steps of 16 blocks: each of eight lanes has two neighbouring ones in registers as
// they lie in the file, fetched ahead of their use, and unpacks 16 of their 64 weights at a time. The numbers
// are those of decode16. A byte becomes a float by taking its place in the mantissa of 32768, which one
// multiply-add takes off again while it applies the scale; nothing of that rounds. For .metal files.
#pragma once

#include "backend/metal/bits.h"
#include "backend/metal/unroll.h"
#include "backend/metal/weights.h"

namespace smelt {

// In rows of whole pairs of blocks, which begin at even addresses, those of several rows at the same place in
// eight bytes. Eight bytes at a time: each load of a simdgroup meets the same few lines of a cache whether it
// takes four or eight bytes of a lane's pair.
template <int n_bytes, int n_rows>  // of a pair
struct PairCursor {
    enum { n_loads = (n_bytes + 6) / 8, n_words = n_bytes / 8 + 1 };
    device const uint2* at[n_rows];
    bool upper;  // pairs begin in the upper word of what was loaded first
    uint shift;  // 16 where they begin in the middle of that word

    void start(thread const WeightRow* rows, uint pair) {
        UNROLL for (int r = 0; r < n_rows; ++r) {
            const ulong offset = rows[r].offset + pair * n_bytes;
            at[r] = (device const uint2*)(rows[r].data + (offset & ~ulong(7)));
        }
        const uint place = uint(rows[0].offset) + pair * n_bytes;
        upper = (place & 4) != 0;
        shift = place % 4 * 8;
    }
    // Of row r the pair so many steps further.
    void fetch(int r, uint step, thread uint2* loaded) const {
        UNROLL for (int i = 0; i < n_loads; ++i) loaded[i] = at[r][n_bytes * step + uint(i)];
    }
    void advance(uint steps) { UNROLL for (int r = 0; r < n_rows; ++r) at[r] += n_bytes * steps; }
    // The words in which a block of the pair lies. It begins with the first of them, or 16 bits further, or
    // with `shift` that many more.
    void words(thread const uint2* loaded, int block, thread uint* words) const {
        UNROLL for (int i = 0; i < n_words; ++i) {
            const int from = i + block * (n_bytes / 8), next = from + 1;
            const uint lower = loaded[from / 2][from % 2];
            words[i] = next == 2 * n_loads ? lower : upper ? loaded[next / 2][next % 2] : lower;
        }
    }
};

// Sixteen weights of a block's words, of its half that `part` says: unit(), times 2^twos times its scale.
// twos 0: the scale is in them. Otherwise it is a power of two, of which exponent() has the bits that a float
// of it has, where that is a usual float.
template <class Block>
struct Unpack;

// Bytes into its first word at which the second block of a pair begins; the first begins with a word.
template <class Block>
struct Slip {
    enum { bytes = sizeof(Block) % 4 };
};

// Four bytes from an even place, a half from there.
inline uint four_bytes(thread const uint* words, int at) {
    return at % 4 == 0 ? words[at / 4] : joined(words[at / 4], words[at / 4 + 1], 16);
}
inline float half_at(thread const uint* words, int at) {
    return float(as_type<half>(ushort(words[at / 4] >> (8 * (at % 4)))));
}
template <>
struct Unpack<BlockQ8_0> {
    enum { twos = 0 };
    static void unit(thread const uint* words, uint, int block, int part, thread float* w) {
        const float d = half_at(words, Slip<BlockQ8_0>::bytes * block), c = -32896.0f * d;
        const int quants = Slip<BlockQ8_0>::bytes * block + BlockQ8_0::quants_offset;
        UNROLL for (int j = 0; j < 4; ++j) {
            const uint four = four_bytes(words, quants + 16 * part + 4 * j) ^ 0x80808080u;
            UNROLL for (int i = 0; i < 4; ++i) w[4 * j + i] = fma(d, byte_float(four, i), c);
        }
    }
    static uint exponent(thread const uint*, uint, int) { return 0; }
};
template <>
struct Unpack<BlockQ4_0> {
    enum { twos = 0 };
    static void unit(thread const uint* words, uint, int block, int part, thread float* w) {
        const float d = half_at(words, Slip<BlockQ4_0>::bytes * block);
        const float a = part == 0 ? d : 0.0625f * d, c = part == 0 ? -32776.0f * d : -2056.0f * d;
        const int quants = Slip<BlockQ4_0>::bytes * block + BlockQ4_0::quants_offset;
        UNROLL for (int j = 0; j < 4; ++j) {
            const uint four = four_bytes(words, quants + 4 * j) & (part == 0 ? 0x0f0f0f0fu : 0xf0f0f0f0u);
            UNROLL for (int i = 0; i < 4; ++i) w[4 * j + i] = fma(a, byte_float(four, i), c);
        }
    }
    static uint exponent(thread const uint*, uint, int) { return 0; }
};
// Sign, exponent and mantissa take their places in the upper byte of a half, whose exponent has five bits:
// that is 2^14 too small.
template <>
struct Unpack<BlockMXFP4> {
    enum { twos = 14 };
    static void unit(thread const uint* words, uint shift, int block, int part, thread float* w) {
        const int quants = Slip<BlockMXFP4>::bytes * block + BlockMXFP4::quants_offset;
        UNROLL for (int j = 0; j < 4; ++j) {
            const uint four = joined(words[j], words[j + 1], shift + 8 * uint(quants));
            const uint magnitudes = part == 0 ? four << 1 : four >> 3, signs = part == 0 ? four << 4 : four;
            const uint bytes = (magnitudes & 0x0e0e0e0eu) | (signs & 0x80808080u);
            const half2 even = even_halves(bytes), odd = odd_halves(bytes);
            w[4 * j] = float(even.x);
            w[4 * j + 1] = float(odd.x);
            w[4 * j + 2] = float(even.y);
            w[4 * j + 3] = float(odd.y);
        }
    }
    static uint exponent(thread const uint* words, uint shift, int block) {
        return words[0] >> (shift + 8 * uint(Slip<BlockMXFP4>::bytes * block)) << 23 & 0x7f800000u;
    }
};

}  // namespace smelt
