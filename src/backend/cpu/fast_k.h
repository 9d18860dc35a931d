// Formats of quant/block_k.h: super-blocks of 256 weights. Their small integer scales are unpacked once a
// block, four rows' bytes of them in the lanes of one vector. Read fast.h first.
#pragma once

#include "backend/cpu/fast_32.h"

namespace smelt::cpu::SMELT_ISA {

// Byte i of every lane's four, as numbers.
SIMD F unsigned_byte(I bytes, int i, int mask = 255) {
    return to_float((bytes >> (8 * i)) & mask);
}
SIMD F signed_byte(I bytes, int i) {
    return to_float((bytes << (24 - 8 * i)) >> 24);
}
SIMD void load_words_4(const uint8_t* p, I* to) {
    UNROLL for (int i = 0; i < 4; ++i) to[i] = load_words(p + i * sizeof(I));
}
// Two bits of every byte.
SIMD Bytes two_bits(Bytes v, int shift) {
    return shift_right(v, shift) & static_cast<int8_t>(3);
}

// Q4_K and Q5_K begin alike: two halves and twelve bytes with eight scales and mins of 6 bits.
typedef F ScaleAndZero[2];
SIMD void numbers_of_6_bits(const uint8_t* p, ScaleAndZero* to) {
    static_assert(BlockQ4_K::scales_offset == 4 && BlockQ5_K::scales_offset == 4);
    I head[4];
    load_words_4(p, head);
    const F d = low_halves(head[0]), minus_dmin = -high_halves(head[0]);
    const I a = head[1], b = head[2], c = head[3];
    const I scales[2] = {a & 0x3f3f3f3f, (c & 0x0f0f0f0f) | ((a >> 2) & 0x30303030)};
    const I mins[2] = {b & 0x3f3f3f3f, ((c >> 4) & 0x0f0f0f0f) | ((b >> 2) & 0x30303030)};
    UNROLL for (int g = 0; g < 8; ++g) {
        to[g][0] = d * unsigned_byte(scales[g / 4], g % 4);
        to[g][1] = minus_dmin * unsigned_byte(mins[g / 4], g % 4);
    }
}

template <>
struct Fast<BlockQ4_K> : Int8<BlockQ4_K, Arithmetic<15, Zero::min, 0, 1>, 2> {
    SIMD void numbers(const Panel& p, int64_t unit, Numbers* to) { numbers_of_6_bits(word(p, unit, 0), to); }
    SIMD RawBytes load(const Panel& p, int64_t unit, int step, Shared) {
        return load_32(word(p, unit, BlockQ4_K::quants_offset + 32 * step));
    }
    SIMD Group group(const RawBytes& raw, int k) {
        Group g;
        UNROLL for (int j = 0; j < n_quads; ++j) {
            g.quad[j] = k == 0 ? low_nibbles(raw.quad[j]) : high_nibbles(raw.quad[j]);
        }
        return g;
    }
};

template <>
struct Fast<BlockQ5_K> : Int8<BlockQ5_K, Arithmetic<31, Zero::min, 0, 1>, 2> {
    SIMD void numbers(const Panel& p, int64_t unit, Numbers* to) { numbers_of_6_bits(word(p, unit, 0), to); }
    using Shared = RawBytes;
    SIMD Shared shared(const Panel& p, int64_t unit) {
        return load_32(word(p, unit, BlockQ5_K::high_offset));
    }
    struct Raw {
        RawBytes both, high;
    };
    SIMD Raw load(const Panel& p, int64_t unit, int step, const Shared& high) {
        Raw raw;
        raw.both = load_32(word(p, unit, BlockQ5_K::quants_offset + 32 * step));
        UNROLL for (int j = 0; j < n_quads; ++j) raw.high.quad[j] = shift_right(high.quad[j], 2 * step);
        return raw;
    }
    SIMD Group group(const Raw& raw, int k) {
        Group g;
        UNROLL for (int j = 0; j < n_quads; ++j) {
            const Bytes both = raw.both.quad[j];
            g.quad[j] = (k == 0 ? low_nibbles(both) : high_nibbles(both)) |
                        (shift_left(raw.high.quad[j], 4 - k) & static_cast<int8_t>(16));
        }
        return g;
    }
};

template <>
struct Fast<BlockQ2_K> : Int8<BlockQ2_K, Arithmetic<3, Zero::min, 0, 2>, 4> {
    SIMD void numbers(const Panel& p, int64_t unit, Numbers* to) {
        I bytes[4];
        load_words_4(word(p, unit, 0), bytes);
        const I both = load_words(word(p, unit, BlockQ2_K::d_offset));
        const F d = low_halves(both), minus_dmin = -high_halves(both);
        UNROLL for (int i = 0; i < 16; ++i) {
            to[i / 2][i % 2] = d * unsigned_byte(bytes[i / 4], i % 4, 15);
            to[i / 2][2 + i % 2] = minus_dmin * unsigned_byte(bytes[i / 4] >> 4, i % 4, 15);
        }
    }
    SIMD RawBytes load(const Panel& p, int64_t unit, int step, Shared) {
        return load_32(word(p, unit, BlockQ2_K::quants_offset + 32 * step));
    }
    SIMD Group group(const RawBytes& raw, int k) {
        Group g;
        UNROLL for (int j = 0; j < n_quads; ++j) g.quad[j] = two_bits(raw.quad[j], 2 * k);
        return g;
    }
};

template <>
struct Fast<BlockQ3_K> : Int8<BlockQ3_K, Arithmetic<7, Zero::constant, 4, 2>, 4> {
    SIMD void numbers(const Panel& p, int64_t unit, Numbers* to) {
        static_assert(BlockQ3_K::d_offset == BlockQ3_K::scales_offset + 12);
        const F d = load_f16(side(p, unit));
        I part[3];
        UNROLL for (int i = 0; i < 3; ++i) {
            part[i] = load_words(word(p, unit, BlockQ3_K::scales_offset + 4 * i));
        }
        UNROLL for (int i = 0; i < 4; ++i) {
            const I low = (part[i % 2] >> (i / 2 * 4)) & 0x0f0f0f0f;
            const I four = low | (((part[2] >> (2 * i)) & 0x03030303) << 4);
            UNROLL for (int k = 0; k < 4; ++k) {
                to[2 * i + k / 2][k % 2] = d * (unsigned_byte(four, k) - splat(32.0f));
            }
        }
    }
    using Shared = RawBytes;
    SIMD Shared shared(const Panel& p, int64_t unit) { return load_32(word(p, unit, 0)); }
    struct Raw {
        RawBytes low, high;
    };
    SIMD Raw load(const Panel& p, int64_t unit, int step, const Shared& high) {
        Raw raw;
        raw.low = load_32(word(p, unit, BlockQ3_K::quants_offset + 32 * step));
        UNROLL for (int j = 0; j < n_quads; ++j) raw.high.quad[j] = shift_right(high.quad[j], 4 * step);
        return raw;
    }
    SIMD Group group(const Raw& raw, int k) {
        Group g;
        UNROLL for (int j = 0; j < n_quads; ++j) {
            const Bytes high = raw.high.quad[j];
            const Bytes third = k < 3 ? shift_left(high, 2 - k) : shift_right(high, 1);
            g.quad[j] = two_bits(raw.low.quad[j], 2 * k) | (third & static_cast<int8_t>(4));
        }
        return g;
    }
};

template <>
struct Fast<BlockQ6_K> : Int8<BlockQ6_K, Arithmetic<63, Zero::constant, 32, 2>, 4> {
    SIMD void numbers(const Panel& p, int64_t unit, Numbers* to) {
        I bytes[4];
        load_words_4(word(p, unit, BlockQ6_K::scales_offset), bytes);
        const F d = load_f16(side(p, unit));
        UNROLL for (int i = 0; i < 16; ++i) to[i / 2][i % 2] = d * signed_byte(bytes[i / 4], i % 4);
    }
    struct Raw {
        RawBytes low[2], high;
    };
    SIMD Raw load(const Panel& p, int64_t unit, int step, Shared) {
        return {{load_32(word(p, unit, 64 * step)), load_32(word(p, unit, 64 * step + 32))},
                load_32(word(p, unit, BlockQ6_K::high_offset + 32 * step))};
    }
    SIMD Group group(const Raw& raw, int k) {
        Group g;
        UNROLL for (int j = 0; j < n_quads; ++j) {
            const Bytes both = raw.low[k % 2].quad[j], high = raw.high.quad[j];
            const Bytes upper = k < 2 ? shift_left(high, 4 - 2 * k) : shift_right(high, 2 * k - 4);
            g.quad[j] = (k < 2 ? low_nibbles(both) : high_nibbles(both)) | (upper & static_cast<int8_t>(48));
        }
        return g;
    }
};

template <>
struct Fast<BlockQ8_K> : Int8<BlockQ8_K, Arithmetic<255, Zero::constant, byte_offset, 1>, 1> {
    SIMD void numbers(const Panel& p, int64_t unit, Numbers* to) {
        const F d = load_floats(word(p, unit, 0));
        UNROLL for (int g = 0; g < 8; ++g) to[g][0] = d;
    }
    SIMD RawBytes load(const Panel& p, int64_t unit, int step, Shared) {
        return load_32(word(p, unit, BlockQ8_K::quants_offset + 32 * step));
    }
    SIMD Group group(const RawBytes& raw, int) { return signed_group(raw); }
};

}  // namespace smelt::cpu::SMELT_ISA
