// Tiles of formats whose blocks have 16, 32 or 64 columns: 16 rows by 128 columns.
#pragma once

#include "backend/cuda/kernels/tile_packing.cuh"

namespace smelt::cuda {

// Eight bits a weight, four chunks.
template <>
struct Tile<BlockQ8_0> : TileTraits<128, 2176, 32, false, false, false> {
    struct Loaded {
        uint4 q[4], d;
    };
    template <class From>
    TILE_FN static Loaded load(From from, const uint8_t* t, int lane) {
        Loaded l;
        for (int c = 0; c < 4; ++c) l.q[c] = from.words4(t + 512 * c + 16 * lane);
        l.d = from.words4(t + 2048 + 16 * (lane >> 2));
        return l;
    }
    TILE_FN static void fragment(const Loaded& l, int c, uint32_t* a) {
        for (int r = 0; r < 4; ++r) a[r] = word_at(l.q[c], r);
    }
    TILE_FN static GroupScales scales(const Loaded& l, int c, int) {
        const uint32_t d = word_at(l.d, c);
        return {{half_value(d & 0xffffu), half_value(d >> 16)}, {}, {}};
    }
    TILE_FN static void pack(const TileSource& s, uint8_t* t, int lane) {
        pack_bytes<BlockQ8_0>(s, t, lane, 4);
        pack_halves<BlockQ8_0>(s, t + 2048, lane, 0);
    }
};
template <>
struct Tile<BlockQ8_Z> : TileTraits<128, 2304, 32, true, false, true> {
    struct Loaded {
        uint4 q[4], d, z;
    };
    template <class From>
    TILE_FN static Loaded load(From from, const uint8_t* t, int lane) {
        Loaded l;
        for (int c = 0; c < 4; ++c) l.q[c] = from.words4(t + 512 * c + 16 * lane);
        l.d = from.words4(t + 2048 + 16 * (lane >> 2));
        l.z = from.words4(t + 2176 + 16 * (lane >> 2));
        return l;
    }
    TILE_FN static void fragment(const Loaded& l, int c, uint32_t* a) {
        for (int r = 0; r < 4; ++r) a[r] = word_at(l.q[c], r);
    }
    TILE_FN static GroupScales scales(const Loaded& l, int c, int) {
        const uint32_t d = word_at(l.d, c), z = word_at(l.z, c);
        const float d0 = half_value(d & 0xffffu), d1 = half_value(d >> 16);
        return {{d0, d1}, {d0 * half_value(z & 0xffffu), d1 * half_value(z >> 16)}, {}};
    }
    TILE_FN static void pack(const TileSource& s, uint8_t* t, int lane) {
        pack_bytes<BlockQ8_Z>(s, t, lane, 4);
        pack_halves<BlockQ8_Z>(s, t + 2048, lane, 0);
        pack_halves<BlockQ8_Z>(s, t + 2176, lane, BlockQ8_Z::zero_offset);
    }
};
template <>
struct Tile<BlockQ8_G64> : TileTraits<128, 2176, 32, false, false, false> {
    struct Loaded {
        uint4 q[4], d;  // floats: both blocks of row g, both of row g + 8
    };
    template <class From>
    TILE_FN static Loaded load(From from, const uint8_t* t, int lane) {
        Loaded l;
        for (int c = 0; c < 4; ++c) l.q[c] = from.words4(t + 512 * c + 16 * lane);
        l.d = from.words4(t + 2048 + 16 * (lane >> 2));
        return l;
    }
    TILE_FN static void fragment(const Loaded& l, int c, uint32_t* a) {
        for (int r = 0; r < 4; ++r) a[r] = word_at(l.q[c], r);
    }
    TILE_FN static GroupScales scales(const Loaded& l, int c, int) {
        return {
            {bit_cast_to<float>(word_at(l.d, c / 2)), bit_cast_to<float>(word_at(l.d, 2 + c / 2))}, {}, {}};
    }
    TILE_FN static void pack(const TileSource& s, uint8_t* t, int lane) {
        pack_bytes<BlockQ8_G64>(s, t, lane, 4);
        if ((lane & 3) != 0) return;
        for (int i = 0; i < 16; ++i) {
            const int row = lane / 4 + 8 * (i / 8), b = i / 4 % 2;
            t[2048 + 4 * lane + i] =
                s.has<BlockQ8_G64>(row, b) ? s.planar_scale(row, b, 64, 4)[i % 4] : uint8_t{0};
        }
    }
};

// Nibbles with a half for 32 of them.
template <class Block, int zero_point>
struct TileOfNibbles : TileTraits<128, 1152, 32, false, true, false, zero_point> {
    struct Loaded {
        uint4 q[2], d;
    };
    template <class From>
    TILE_FN static Loaded load(From from, const uint8_t* t, int lane) {
        Loaded l;
        for (int p = 0; p < 2; ++p) l.q[p] = from.words4(t + 512 * p + 16 * lane);
        l.d = from.words4(t + 1024 + 16 * (lane >> 2));
        return l;
    }
    TILE_FN static void fragment(const Loaded& l, int c, uint32_t* a) {
        nibble_fragment(l.q[c / 2], c & 1, a);
    }
    TILE_FN static GroupScales scales(const Loaded& l, int c, int) {
        const uint32_t d = word_at(l.d, c);
        return {{half_value(d & 0xffffu), half_value(d >> 16)}, {}, {zero_point, zero_point}};
    }
    TILE_FN static void pack(const TileSource& s, uint8_t* t, int lane) {
        pack_nibbles<Block>(s, t, lane, 2, false);
        pack_halves<Block>(s, t + 1024, lane, 0);
    }
};
template <>
struct Tile<BlockQ4_0> : TileOfNibbles<BlockQ4_0, 8> {};

// Two halves for 32: a minimum, or a zero point, which need not be an integer.
template <class Block, bool minimum>
struct TileOfNibbles2 : TileTraits<128, 1280, 32, true, false, false> {
    struct Loaded {
        uint4 q[2], d, m;
    };
    template <class From>
    TILE_FN static Loaded load(From from, const uint8_t* t, int lane) {
        Loaded l;
        for (int p = 0; p < 2; ++p) l.q[p] = from.words4(t + 512 * p + 16 * lane);
        l.d = from.words4(t + 1024 + 16 * (lane >> 2));
        l.m = from.words4(t + 1152 + 16 * (lane >> 2));
        return l;
    }
    TILE_FN static void fragment(const Loaded& l, int c, uint32_t* a) {
        nibble_fragment(l.q[c / 2], c & 1, a);
    }
    TILE_FN static GroupScales scales(const Loaded& l, int c, int) {
        const uint32_t d = word_at(l.d, c), m = word_at(l.m, c);
        const float d0 = half_value(d & 0xffffu), d1 = half_value(d >> 16), m0 = half_value(m & 0xffffu),
                    m1 = half_value(m >> 16);
        return {{d0, d1}, {minimum ? -m0 : d0 * m0, minimum ? -m1 : d1 * m1}, {}};
    }
    TILE_FN static void pack(const TileSource& s, uint8_t* t, int lane) {
        pack_nibbles<Block>(s, t, lane, 2, false);
        pack_halves<Block>(s, t + 1024, lane, 0);
        pack_halves<Block>(s, t + 1152, lane, 2);
    }
};
template <>
struct Tile<BlockQ4_1> : TileOfNibbles2<BlockQ4_1, true> {};
template <>
struct Tile<BlockQ4_Z> : TileOfNibbles2<BlockQ4_Z, false> {};

template <class Block, bool minimum>
struct TileOfFives : TileTraits<128, minimum ? 1536 : 1408, 32, minimum, !minimum, false, minimum ? 0 : 16> {
    struct Loaded {
        uint4 q[2], d, m;
        uint2 high;
    };
    template <class From>
    TILE_FN static Loaded load(From from, const uint8_t* t, int lane) {
        Loaded l;
        for (int p = 0; p < 2; ++p) l.q[p] = from.words4(t + 512 * p + 16 * lane);
        l.high = from.words2(t + 1024 + 8 * lane);
        l.d = from.words4(t + 1280 + 16 * (lane >> 2));
        if (minimum) l.m = from.words4(t + 1408 + 16 * (lane >> 2));
        return l;
    }
    TILE_FN static void fragment(const Loaded& l, int c, uint32_t* a) {
        nibble_fragment(l.q[c / 2], c & 1, a);
        for (int r = 0; r < 4; ++r) {
            const uint32_t high = r < 2 ? l.high.x : l.high.y;
            a[r] |= (high >> (2 * c + (r & 1)) & 0x01010101u) << 4;
        }
    }
    TILE_FN static GroupScales scales(const Loaded& l, int c, int) {
        const uint32_t d = word_at(l.d, c), m = minimum ? word_at(l.m, c) : 0u;
        return {{half_value(d & 0xffffu), half_value(d >> 16)},
                {-half_value(m & 0xffffu), -half_value(m >> 16)},
                {16, 16}};
    }
    TILE_FN static void pack(const TileSource& s, uint8_t* t, int lane) {
        pack_nibbles<Block>(s, t, lane, 2, false);
        pack_ones_of_four<Block>(s, t + 1024, lane, 4);
        pack_halves<Block>(s, t + 1280, lane, 0);
        if (minimum) pack_halves<Block>(s, t + 1408, lane, 2);
    }
};
template <>
struct Tile<BlockQ5_0> : TileOfFives<BlockQ5_0, false> {};
template <>
struct Tile<BlockQ5_1> : TileOfFives<BlockQ5_1, true> {};

template <>
struct Tile<BlockIQ4_NL> : TileTraits<128, 1152, 32, false, false, false> {
    using Loaded = TileOfNibbles<BlockIQ4_NL, 0>::Loaded;
    template <class From>
    TILE_FN static Loaded load(From from, const uint8_t* t, int lane) {
        return TileOfNibbles<BlockIQ4_NL, 0>::load(from, t, lane);
    }
    TILE_FN static void fragment(const Loaded& l, int c, uint32_t* a) {
        uint32_t table[4];
        iq4_table(table);
        lookup_fragment(l.q[c / 2], c & 1, table, a);
    }
    TILE_FN static GroupScales scales(const Loaded& l, int c, int half) {
        return TileOfNibbles<BlockIQ4_NL, 0>::scales(l, c, half);
    }
    TILE_FN static void pack(const TileSource& s, uint8_t* t, int lane) {
        pack_nibbles<BlockIQ4_NL>(s, t, lane, 2, true);
        pack_halves<BlockIQ4_NL>(s, t + 1024, lane, 0);
    }
};

// Both orders of nibbles in files become the same tile.
template <class Block, bool planar>
struct TileOfMicroscaled : TileTraits<128, 1088, 32, false, true, false, e2m1_zero> {
    struct Loaded {
        uint4 q[2];
        uint2 d;  // bytes: four of row g, four of row g + 8
    };
    template <class From>
    TILE_FN static Loaded load(From from, const uint8_t* t, int lane) {
        Loaded l;
        for (int p = 0; p < 2; ++p) l.q[p] = from.words4(t + 512 * p + 16 * lane);
        l.d = from.words2(t + 1024 + 8 * (lane >> 2));
        return l;
    }
    TILE_FN static void fragment(const Loaded& l, int c, uint32_t* a) { e2m1_fragment(l.q[c / 2], c & 1, a); }
    TILE_FN static GroupScales scales(const Loaded& l, int c, int) {
        return {{0.5f * e8m0_to_f32(static_cast<uint8_t>(l.d.x >> (8 * c))),
                 0.5f * e8m0_to_f32(static_cast<uint8_t>(l.d.y >> (8 * c)))},
                {},
                {e2m1_zero, e2m1_zero}};
    }
    TILE_FN static void pack(const TileSource& s, uint8_t* t, int lane) {
        pack_nibbles<Block>(s, t, lane, 2, true);
        if ((lane & 3) != 0) return;
        for (int i = 0; i < 8; ++i) {
            const int row = lane / 4 + 8 * (i / 4), b = i % 4;
            uint8_t scale = 127;
            if (s.has<Block>(row, b)) {
                if constexpr (planar) {
                    scale = s.planar_scale(row, b, 32, 1)[0];
                } else {
                    scale = reinterpret_cast<const uint8_t*>(s.block<Block>(row, b))[0];
                }
            }
            t[1024 + 2 * lane + i] = scale;
        }
    }
};
template <>
struct Tile<BlockMXFP4> : TileOfMicroscaled<BlockMXFP4, false> {};
template <>
struct Tile<BlockMXFP4_HF> : TileOfMicroscaled<BlockMXFP4_HF, true> {};

template <>
struct Tile<BlockNVFP4> : TileTraits<128, 1152, 16, false, true, false, e2m1_zero> {
    struct Loaded {
        uint4 q[2], d;  // bytes: eight of row g, eight of row g + 8
    };
    template <class From>
    TILE_FN static Loaded load(From from, const uint8_t* t, int lane) {
        Loaded l;
        for (int p = 0; p < 2; ++p) l.q[p] = from.words4(t + 512 * p + 16 * lane);
        l.d = from.words4(t + 1024 + 16 * (lane >> 2));
        return l;
    }
    TILE_FN static void fragment(const Loaded& l, int c, uint32_t* a) { e2m1_fragment(l.q[c / 2], c & 1, a); }
    // As BlockNVFP4::scale: no sign, 127 is 0.
    TILE_FN static float value(uint32_t byte) {
        const uint32_t code = byte & 127u;
        return code == 127 ? 0.0f : 0.5f * E4M3::value(code);
    }
    TILE_FN static GroupScales scales(const Loaded& l, int c, int half) {
        const int i = 2 * c + half;
        return {
            {value(word_at(l.d, i / 4) >> (8 * (i & 3))), value(word_at(l.d, 2 + i / 4) >> (8 * (i & 3)))},
            {},
            {e2m1_zero, e2m1_zero}};
    }
    TILE_FN static void pack(const TileSource& s, uint8_t* t, int lane) {
        pack_nibbles<BlockNVFP4>(s, t, lane, 2, true);
        if ((lane & 3) != 0) return;
        for (int i = 0; i < 16; ++i) {
            const int row = lane / 4 + 8 * (i / 8), b = i / 4 % 2;
            t[1024 + 4 * lane + i] =
                s.has<BlockNVFP4>(row, b) ? s.block<BlockNVFP4>(row, b)->scales[i % 4] : uint8_t{0};
        }
    }
};
template <>
struct Tile<BlockNVFP4_HF> : TileTraits<128, 1536, 16, false, true, false, e2m1_zero> {
    struct Loaded {
        uint4 q[2], d[4];  // floats: eight of row g, eight of row g + 8
    };
    template <class From>
    TILE_FN static Loaded load(From from, const uint8_t* t, int lane) {
        Loaded l;
        for (int p = 0; p < 2; ++p) l.q[p] = from.words4(t + 512 * p + 16 * lane);
        for (int i = 0; i < 4; ++i) l.d[i] = from.words4(t + 1024 + 64 * (lane >> 2) + 16 * i);
        return l;
    }
    TILE_FN static void fragment(const Loaded& l, int c, uint32_t* a) { e2m1_fragment(l.q[c / 2], c & 1, a); }
    TILE_FN static GroupScales scales(const Loaded& l, int c, int half) {
        const int i = 2 * c + half;
        return {{0.5f * bit_cast_to<float>(word_at(l.d[i / 4], i & 3)),
                 0.5f * bit_cast_to<float>(word_at(l.d[2 + i / 4], i & 3))},
                {},
                {e2m1_zero, e2m1_zero}};
    }
    TILE_FN static void pack(const TileSource& s, uint8_t* t, int lane) {
        pack_nibbles<BlockNVFP4_HF>(s, t, lane, 2, true);
        if ((lane & 3) != 0) return;
        for (int i = 0; i < 64; ++i) {
            const int row = lane / 4 + 8 * (i / 32), b = i / 4 % 8;
            t[1024 + 16 * lane + i] =
                s.has<BlockNVFP4_HF>(row, b) ? s.planar_scale(row, b, 16, 4)[i % 4] : uint8_t{0};
        }
    }
};

}  // namespace smelt::cuda
