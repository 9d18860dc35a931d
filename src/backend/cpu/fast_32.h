// Formats of quant/block.h: 32 or 64 integers with one scale. Read fast.h first.
#pragma once

#include "backend/cpu/fast.h"

namespace smelt::cpu::SMELT_ISA {

// 32 bytes of every row are the quants of a group.
struct RawBytes {
    Bytes quad[n_quads];
};
SIMD RawBytes load_32(const uint8_t* p) {
    RawBytes raw;
    UNROLL for (int j = 0; j < n_quads; ++j) raw.quad[j] = load_bytes(p + j * sizeof(Bytes));
    return raw;
}
SIMD Group signed_group(const RawBytes& raw) {
    Group g;
    UNROLL for (int j = 0; j < n_quads; ++j) g.quad[j] = from_signed(raw.quad[j]);
    return g;
}

// 16 bytes whose low nibbles are weights 0 .. 15 and whose high ones are 16 .. 31.
struct RawNibbles {
    Bytes both[n_quads / 2];
};
SIMD RawNibbles load_16(const uint8_t* p) {
    RawNibbles raw;
    UNROLL for (int j = 0; j < n_quads / 2; ++j) raw.both[j] = load_bytes(p + j * sizeof(Bytes));
    return raw;
}
SIMD Group split_nibbles(const RawNibbles& raw) {
    Group g;
    UNROLL for (int j = 0; j < n_quads / 2; ++j) {
        g.quad[j] = low_nibbles(raw.both[j]);
        g.quad[j + n_quads / 2] = high_nibbles(raw.both[j]);
    }
    return g;
}
template <>
struct Fast<BlockQ8_0> : Int8<BlockQ8_0, Arithmetic<255, Zero::constant, byte_offset, 1>, 1> {
    SIMD void numbers(const Panel& p, int64_t unit, Numbers* to) { to[0][0] = load_f16(side(p, unit)); }
    SIMD RawBytes load(const Panel& p, int64_t unit, int, Shared) {
        return load_32(word(p, unit, BlockQ8_0::quants_offset));
    }
    SIMD Group group(const RawBytes& raw, int) { return signed_group(raw); }
};

template <>
struct Fast<BlockQ4_0> : Int8<BlockQ4_0, Arithmetic<15, Zero::constant, 8, 1>, 1> {
    SIMD void numbers(const Panel& p, int64_t unit, Numbers* to) { to[0][0] = load_f16(side(p, unit)); }
    SIMD RawNibbles load(const Panel& p, int64_t unit, int, Shared) {
        return load_16(word(p, unit, BlockQ4_0::quants_offset));
    }
    SIMD Group group(const RawNibbles& raw, int) { return split_nibbles(raw); }
};

template <>
struct Fast<BlockQ8_G64> : Int8<BlockQ8_G64, Arithmetic<255, Zero::constant, byte_offset, 1>, 1> {
    SIMD void numbers(const Panel& p, int64_t unit, Numbers* to) {
        to[0][0] = load_floats(side(p, unit));
        to[1][0] = to[0][0];
    }
    SIMD RawBytes load(const Panel& p, int64_t unit, int step, Shared) {
        return load_32(word(p, unit, step * group_len));
    }
    SIMD Group group(const RawBytes& raw, int) { return signed_group(raw); }
};

template <>
struct Fast<BlockQ4_1> : Int8<BlockQ4_1, Arithmetic<15, Zero::min, 0, 1>, 1> {
    SIMD void numbers(const Panel& p, int64_t unit, Numbers* to) {
        const I both = load_words(word(p, unit, 0));
        to[0][0] = low_halves(both);
        to[0][1] = high_halves(both);
    }
    SIMD RawNibbles load(const Panel& p, int64_t unit, int, Shared) {
        return load_16(word(p, unit, BlockQ4_1::quants_offset));
    }
    SIMD Group group(const RawNibbles& raw, int) { return split_nibbles(raw); }
};

struct RawFiveBits {
    RawNibbles nibbles;
    I high;
};
SIMD Group five_bits(const RawFiveBits& raw) {
    Group g = split_nibbles(raw.nibbles);
    const Bytes spread[4] = {spread_byte<0>(raw.high), spread_byte<1>(raw.high), spread_byte<2>(raw.high),
                             spread_byte<3>(raw.high)};
    const Bytes low = reinterpret_cast<Bytes>(I{} + 0x08040201),
                high = reinterpret_cast<Bytes>(I{} + static_cast<int32_t>(0x80402010));
    UNROLL for (int j = 0; j < n_quads; ++j) {
        g.quad[j] = or_where(g.quad[j], 16, spread[j / 2], j % 2 == 0 ? low : high);
    }
    return g;
}

template <>
struct Fast<BlockQ5_0> : Int8<BlockQ5_0, Arithmetic<31, Zero::constant, 16, 1>, 1> {
    SIMD void numbers(const Panel& p, int64_t unit, Numbers* to) { to[0][0] = load_f16(side(p, unit)); }
    SIMD RawFiveBits load(const Panel& p, int64_t unit, int, Shared) {
        return {load_16(word(p, unit, BlockQ5_0::quants_offset)),
                load_words(word(p, unit, BlockQ5_0::high_offset))};
    }
    SIMD Group group(const RawFiveBits& raw, int) { return five_bits(raw); }
};

template <>
struct Fast<BlockQ5_1> : Int8<BlockQ5_1, Arithmetic<31, Zero::min, 0, 1>, 1> {
    SIMD void numbers(const Panel& p, int64_t unit, Numbers* to) {
        const I both = load_words(word(p, unit, 0));
        to[0][0] = low_halves(both);
        to[0][1] = high_halves(both);
    }
    SIMD RawFiveBits load(const Panel& p, int64_t unit, int, Shared) {
        return {load_16(word(p, unit, BlockQ5_1::quants_offset)),
                load_words(word(p, unit, BlockQ5_1::high_offset))};
    }
    SIMD Group group(const RawFiveBits& raw, int) { return five_bits(raw); }
};

template <>
struct Fast<BlockQ4_Z> : Int8<BlockQ4_Z, Arithmetic<15, Zero::row, 0, 1>, 1> {
    SIMD void numbers(const Panel& p, int64_t unit, Numbers* to) {
        const I both = load_words(word(p, unit, 0));
        to[0][0] = low_halves(both);
        to[0][1] = -high_halves(both);
    }
    SIMD RawNibbles load(const Panel& p, int64_t unit, int, Shared) {
        return load_16(word(p, unit, BlockQ4_Z::quants_offset));
    }
    SIMD Group group(const RawNibbles& raw, int) { return split_nibbles(raw); }
};

template <>
struct Fast<BlockQ8_Z> : Int8<BlockQ8_Z, Arithmetic<255, Zero::row, 0, 1>, 1> {
    SIMD void numbers(const Panel& p, int64_t unit, Numbers* to) {
        const I both = load_words(word(p, unit, 0));
        to[0][0] = low_halves(both);
        // What from_unsigned() takes off.
        to[0][1] = splat(static_cast<float>(128 - byte_offset)) - high_halves(both);
    }
    SIMD RawBytes load(const Panel& p, int64_t unit, int, Shared) {
        return load_32(word(p, unit, BlockQ8_Z::quants_offset));
    }
    SIMD Group group(const RawBytes& raw, int) {
        Group g;
        UNROLL for (int j = 0; j < n_quads; ++j) g.quad[j] = from_unsigned(raw.quad[j]);
        return g;
    }
};

}  // namespace smelt::cpu::SMELT_ISA
