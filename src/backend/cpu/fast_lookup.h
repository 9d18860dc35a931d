// Formats whose nibbles stand for sixteen uneven numbers, which one byte shuffle looks up: IQ4, and MXFP4 and
// NVFP4, whose elements are twice as large as integers and their scales half as large. Read fast.h first.
#pragma once

#include "backend/cpu/fast_k.h"

namespace smelt::cpu::SMELT_ISA {

struct alignas(16) ByteTable {
    int8_t v[16];
};
// IQ4's numbers are signed bytes.
constexpr ByteTable iq4_bytes = [] {
    ByteTable t{};
    for (int c = 0; c < 16; ++c) t.v[c] = static_cast<int8_t>(static_cast<int>(iq4_value(c)) + byte_offset);
    return t;
}();
// E2M1's reach from -6 to 6 in steps of a half.
constexpr int e2m1_offset = 16;
constexpr ByteTable e2m1_bytes = [] {
    ByteTable t{};
    for (int c = 0; c < 16; ++c) {
        t.v[c] =
            static_cast<int8_t>(static_cast<int>(2 * E2M1::value(static_cast<uint32_t>(c))) + e2m1_offset);
    }
    return t;
}();

SIMD Group look_up(const ByteTable& table, const Group& nibbles) {
    Group g;
    UNROLL for (int j = 0; j < n_quads; ++j) g.quad[j] = lookup_bytes(table.v, nibbles.quad[j]);
    return g;
}

template <>
struct Fast<BlockIQ4_NL> : Int8<BlockIQ4_NL, Arithmetic<255, Zero::constant, byte_offset, 1>, 1> {
    SIMD void numbers(const Panel& p, int64_t unit, Numbers* to) { to[0][0] = load_f16(side(p, unit)); }
    SIMD RawNibbles load(const Panel& p, int64_t unit, int, Shared) {
        return load_16(word(p, unit, BlockIQ4_NL::quants_offset));
    }
    SIMD Group group(const RawNibbles& raw, int) { return look_up(iq4_bytes, split_nibbles(raw)); }
};

template <>
struct Fast<BlockIQ4_XS> : Int8<BlockIQ4_XS, Arithmetic<255, Zero::constant, byte_offset, 1>, 1> {
    SIMD void numbers(const Panel& p, int64_t unit, Numbers* to) {
        static_assert(BlockIQ4_XS::high_offset == 2 && BlockIQ4_XS::scales_offset == 4);
        const I head = load_words(word(p, unit, 0)),
                low = load_words(word(p, unit, BlockIQ4_XS::scales_offset));
        const F d = low_halves(head);
        UNROLL for (int g = 0; g < 8; ++g) {
            const I scale = ((low >> (4 * g)) & 15) | (((head >> (16 + 2 * g)) & 3) << 4);
            to[g][0] = d * to_float(scale - 32);
        }
    }
    SIMD RawNibbles load(const Panel& p, int64_t unit, int step, Shared) {
        return load_16(word(p, unit, BlockIQ4_XS::quants_offset + 16 * step));
    }
    SIMD Group group(const RawNibbles& raw, int) { return look_up(iq4_bytes, split_nibbles(raw)); }
};

// Half of 2^(exponent - 127), for 0 to 255; 255 is NaN.
SIMD F half_of_power(I exponent) {
    const I normal = (exponent - 1) << 23, small = (I{} + 0x200000) << (exponent & 1);
    const I power = exponent < 2 ? small : normal;
    return from_bits(exponent == 255 ? I{} + 0x7fc00000 : power);
}
// Half of an E4M3 without its sign, whose NaN is 0.
SIMD F half_of_e4m3(I code) {
    const I magnitude = code & 127;
    const F small = to_float(magnitude) * 0x1p-10f, normal = from_bits((magnitude << 20) + (119 << 23));
    return magnitude == 127 ? F{} : magnitude < 8 ? small : normal;
}

using E2M1Sums = Arithmetic<31, Zero::constant, e2m1_offset, 1>;
using E2M1HalfSums = Arithmetic<31, Zero::constant, e2m1_offset, 2>;

template <>
struct Fast<BlockMXFP4> : Int8<BlockMXFP4, E2M1Sums, 1> {
    SIMD void numbers(const Panel& p, int64_t unit, Numbers* to) {
        to[0][0] = half_of_power(load_single_bytes(side(p, unit)));
    }
    SIMD RawNibbles load(const Panel& p, int64_t unit, int, Shared) {
        return load_16(word(p, unit, BlockMXFP4::quants_offset));
    }
    SIMD Group group(const RawNibbles& raw, int) { return look_up(e2m1_bytes, split_nibbles(raw)); }
};

// 16 bytes that have weights 2j and 2j + 1 in byte j.
SIMD Group split_pairs(const RawNibbles& raw) {
    Group g;
    UNROLL for (int j = 0; j < n_quads; ++j) {
        const I bytes = reinterpret_cast<I>(raw.both[j / 2]) >> (j % 2 * 16);
        g.quad[j] = reinterpret_cast<Bytes>((bytes & 0xf) | ((bytes & 0xf0) << 4) | ((bytes & 0xf00) << 8) |
                                            ((bytes & 0xf000) << 12));
    }
    return g;
}

template <>
struct Fast<BlockMXFP4_HF> : Int8<BlockMXFP4_HF, E2M1Sums, 1> {
    SIMD void numbers(const Panel& p, int64_t unit, Numbers* to) {
        to[0][0] = half_of_power(load_single_bytes(side(p, unit)));
    }
    SIMD RawNibbles load(const Panel& p, int64_t unit, int, Shared) { return load_16(word(p, unit, 0)); }
    SIMD Group group(const RawNibbles& raw, int) { return look_up(e2m1_bytes, split_pairs(raw)); }
};

template <>
struct Fast<BlockNVFP4> : Int8<BlockNVFP4, E2M1HalfSums, 1> {
    SIMD void numbers(const Panel& p, int64_t unit, Numbers* to) {
        const I codes = load_words(word(p, unit, 0));
        UNROLL for (int i = 0; i < 4; ++i) to[i / 2][i % 2] = half_of_e4m3(codes >> (8 * i));
    }
    SIMD RawNibbles load(const Panel& p, int64_t unit, int step, Shared) {
        return load_16(word(p, unit, BlockNVFP4::quants_offset + 16 * step));
    }
    SIMD Group group(const RawNibbles& raw, int) {
        // Each half has eight bytes: two quads of low nibbles, then two of high ones.
        Group nibbles;
        UNROLL for (int j = 0; j < n_quads; ++j) {
            const Bytes both = raw.both[j / 4 * 2 + j % 2];
            nibbles.quad[j] = j % 4 < 2 ? low_nibbles(both) : high_nibbles(both);
        }
        return look_up(e2m1_bytes, nibbles);
    }
};

template <>
struct Fast<BlockNVFP4_HF> : Int8<BlockNVFP4_HF, E2M1HalfSums, 1> {
    SIMD void numbers(const Panel& p, int64_t unit, Numbers* to) {
        UNROLL for (int i = 0; i < 2; ++i) {
            to[0][i] = load_floats(side(p, unit) + i * sizeof(F)) * 0.5f;
        }
    }
    SIMD RawNibbles load(const Panel& p, int64_t unit, int, Shared) { return load_16(word(p, unit, 0)); }
    SIMD Group group(const RawNibbles& raw, int) { return look_up(e2m1_bytes, split_pairs(raw)); }
};

}  // namespace smelt::cpu::SMELT_ISA
