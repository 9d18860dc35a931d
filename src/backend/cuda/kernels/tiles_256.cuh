// Tiles of super-blocks: 16 rows by 256 columns, one block of each row.
#pragma once

#include "backend/cuda/kernels/tile_packing.cuh"

namespace smelt::cuda {

// 16 bytes a row: d, dmin and what scale_and_min() reads, as the file has them.
template <class Block, bool fives>
struct TileOf45_K : TileTraits<256, fives ? 2816 : 2304, 32, true, false, false> {
    struct Loaded {
        uint4 q[4], row[2];
        uint4 high;  // Q5_K
    };
    template <class From>
    TILE_FN static Loaded load(From from, const uint8_t* t, int lane) {
        Loaded l;
        for (int p = 0; p < 4; ++p) l.q[p] = from.words4(t + 512 * p + 16 * lane);
        if (fives) l.high = from.words4(t + 2304 + 16 * lane);
        for (int side = 0; side < 2; ++side)
            l.row[side] = from.words4(t + 2048 + 16 * ((lane >> 2) + 8 * side));
        return l;
    }
    TILE_FN static void fragment(const Loaded& l, int c, uint32_t* a) {
        nibble_fragment(l.q[c / 2], c & 1, a);
        if (!fives) return;
        for (int r = 0; r < 4; ++r) a[r] |= (word_at(l.high, r) >> c & 0x01010101u) << 4;
    }
    TILE_FN static GroupScales scales(const Loaded& l, int c, int) {
        GroupScales s = {};
        for (int side = 0; side < 2; ++side) {
            const uint4& row = l.row[side];
            const uint32_t scale =
                c < 4 ? row.y & 0x3f3f3f3fu : (row.w & 0x0f0f0f0fu) | (row.y >> 2 & 0x30303030u);
            const uint32_t min =
                c < 4 ? row.z & 0x3f3f3f3fu : (row.w >> 4 & 0x0f0f0f0fu) | (row.z >> 2 & 0x30303030u);
            s.d[side] = half_value(row.x & 0xffffu) * byte_value(scale, c & 3);
            s.min[side] = half_value(row.x >> 16) * byte_value(min, c & 3);
        }
        return s;
    }
    TILE_FN static void pack(const TileSource& s, uint8_t* t, int lane) {
        pack_nibbles<Block>(s, t, lane, 4, false);
        pack_fields<Block>(s, t + 2048, lane, 0, 16);
        if (fives) pack_ones<Block>(s, t + 2304, lane, 4);
    }
};
template <>
struct Tile<BlockQ4_K> : TileOf45_K<BlockQ4_K, false> {};
template <>
struct Tile<BlockQ5_K> : TileOf45_K<BlockQ5_K, true> {};

template <>
struct Tile<BlockQ6_K> : TileTraits<256, 3360, 16, false, true, false, 32> {
    struct Loaded {
        uint4 q[4], high[2], scales[2];
        uint32_t d;
    };
    template <class From>
    TILE_FN static Loaded load(From from, const uint8_t* t, int lane) {
        Loaded l;
        for (int p = 0; p < 4; ++p) l.q[p] = from.words4(t + 512 * p + 16 * lane);
        for (int f = 0; f < 2; ++f) l.high[f] = from.words4(t + 2048 + 512 * f + 16 * lane);
        for (int side = 0; side < 2; ++side)
            l.scales[side] = from.words4(t + 3072 + 16 * ((lane >> 2) + 8 * side));
        l.d = from.word(t + 3328 + 4 * (lane >> 2));
        return l;
    }
    TILE_FN static void fragment(const Loaded& l, int c, uint32_t* a) {
        nibble_fragment(l.q[c / 2], c & 1, a);
        for (int r = 0; r < 4; ++r) a[r] |= (word_at(l.high[c / 4], r) >> (2 * (c & 3)) & 0x03030303u) << 4;
    }
    TILE_FN static GroupScales scales(const Loaded& l, int c, int half) {
        const int i = 2 * c + half;
        return {{half_value(l.d & 0xffffu) * int8_value(word_at(l.scales[0], i / 4), i & 3),
                 half_value(l.d >> 16) * int8_value(word_at(l.scales[1], i / 4), i & 3)},
                {},
                {32, 32}};
    }
    TILE_FN static void pack(const TileSource& s, uint8_t* t, int lane) {
        pack_nibbles<BlockQ6_K>(s, t, lane, 4, false);
        pack_twos<BlockQ6_K>(s, t + 2048, lane, 2, 4);
        pack_fields<BlockQ6_K>(s, t + 3072, lane, BlockQ6_K::scales_offset, 16);
        for (int i = 0; lane < 16 && i < 2; ++i) {
            t[3328 + 4 * (lane & 7) + 2 * (lane / 8) + i] =
                s.has<BlockQ6_K>(lane, 0)
                    ? reinterpret_cast<const uint8_t*>(s.block<BlockQ6_K>(lane, 0))[BlockQ6_K::d_offset + i]
                    : uint8_t{0};
        }
    }
};

template <>
struct Tile<BlockQ3_K> : TileTraits<256, 1760, 16, false, true, false, 4> {
    struct Loaded {
        uint4 q[2], high;
        uint32_t row[2][3], d;
    };
    template <class From>
    TILE_FN static Loaded load(From from, const uint8_t* t, int lane) {
        Loaded l;
        for (int f = 0; f < 2; ++f) l.q[f] = from.words4(t + 512 * f + 16 * lane);
        l.high = from.words4(t + 1024 + 16 * lane);
        for (int side = 0; side < 2; ++side) {
            for (int i = 0; i < 3; ++i)
                l.row[side][i] = from.word(t + 1536 + 12 * ((lane >> 2) + 8 * side) + 4 * i);
        }
        l.d = from.word(t + 1728 + 4 * (lane >> 2));
        return l;
    }
    TILE_FN static void fragment(const Loaded& l, int c, uint32_t* a) {
        for (int r = 0; r < 4; ++r) {
            a[r] = (word_at(l.q[c / 4], r) >> (2 * (c & 3)) & 0x03030303u) |
                   (word_at(l.high, r) >> c & 0x01010101u) << 2;
        }
    }
    TILE_FN static GroupScales scales(const Loaded& l, int c, int half) {
        const int i = 2 * c + half;
        GroupScales s = {{}, {}, {4, 4}};
        for (int side = 0; side < 2; ++side) {
            const uint32_t low = (l.row[side][i / 4 % 2] >> (i / 8 * 4) & 0x0f0f0f0fu);
            const uint32_t all = low | (l.row[side][2] >> (i / 4 * 2) & 0x03030303u) << 4;
            s.d[side] = half_value(side == 0 ? l.d & 0xffffu : l.d >> 16) * (byte_value(all, i & 3) - 32.0f);
        }
        return s;
    }
    TILE_FN static void pack(const TileSource& s, uint8_t* t, int lane) {
        pack_twos<BlockQ3_K>(s, t, lane, 2, 0);
        pack_ones<BlockQ3_K>(s, t + 1024, lane, 2);
        pack_fields<BlockQ3_K>(s, t + 1536, lane, BlockQ3_K::scales_offset, 12);
        for (int i = 0; lane < 16 && i < 2; ++i) {
            t[1728 + 4 * (lane & 7) + 2 * (lane / 8) + i] =
                s.has<BlockQ3_K>(lane, 0)
                    ? reinterpret_cast<const uint8_t*>(s.block<BlockQ3_K>(lane, 0))[BlockQ3_K::d_offset + i]
                    : uint8_t{0};
        }
    }
};

template <>
struct Tile<BlockQ2_K> : TileTraits<256, 1344, 16, true, false, false> {
    struct Loaded {
        uint4 q[2], scales[2];
        uint32_t d[2];
    };
    template <class From>
    TILE_FN static Loaded load(From from, const uint8_t* t, int lane) {
        Loaded l;
        for (int f = 0; f < 2; ++f) l.q[f] = from.words4(t + 512 * f + 16 * lane);
        for (int side = 0; side < 2; ++side) {
            const int row = (lane >> 2) + 8 * side;
            l.scales[side] = from.words4(t + 1024 + 16 * row);
            l.d[side] = from.word(t + 1280 + 4 * row);
        }
        return l;
    }
    TILE_FN static void fragment(const Loaded& l, int c, uint32_t* a) {
        for (int r = 0; r < 4; ++r) a[r] = word_at(l.q[c / 4], r) >> (2 * (c & 3)) & 0x03030303u;
    }
    TILE_FN static GroupScales scales(const Loaded& l, int c, int half) {
        const int i = 2 * c + half;
        GroupScales s = {};
        for (int side = 0; side < 2; ++side) {
            const uint32_t both = word_at(l.scales[side], i / 4);
            s.d[side] = half_value(l.d[side] & 0xffffu) * byte_value(both & 0x0f0f0f0fu, i & 3);
            s.min[side] = half_value(l.d[side] >> 16) * byte_value(both >> 4 & 0x0f0f0f0fu, i & 3);
        }
        return s;
    }
    TILE_FN static void pack(const TileSource& s, uint8_t* t, int lane) {
        pack_twos<BlockQ2_K>(s, t, lane, 2, 0);
        pack_fields<BlockQ2_K>(s, t + 1024, lane, 0, 16);
        pack_fields<BlockQ2_K>(s, t + 1280, lane, BlockQ2_K::d_offset, 4);
    }
};

template <>
struct Tile<BlockIQ4_XS> : TileTraits<256, 2176, 32, false, false, false> {
    struct Loaded {
        uint4 q[4];
        uint2 row[2];  // d, upper bits, lower bits
    };
    template <class From>
    TILE_FN static Loaded load(From from, const uint8_t* t, int lane) {
        Loaded l;
        for (int p = 0; p < 4; ++p) l.q[p] = from.words4(t + 512 * p + 16 * lane);
        for (int side = 0; side < 2; ++side)
            l.row[side] = from.words2(t + 2048 + 8 * ((lane >> 2) + 8 * side));
        return l;
    }
    TILE_FN static void fragment(const Loaded& l, int c, uint32_t* a) {
        uint32_t table[4];
        iq4_table(table);
        lookup_fragment(l.q[c / 2], c & 1, table, a);
    }
    TILE_FN static GroupScales scales(const Loaded& l, int c, int) {
        GroupScales s = {};
        for (int side = 0; side < 2; ++side) {
            const uint32_t low = l.row[side].y >> (4 * c) & 15u, high = l.row[side].x >> (16 + 2 * c) & 3u;
            s.d[side] = half_value(l.row[side].x & 0xffffu) *
                        static_cast<float>(static_cast<int>(low | high << 4) - 32);
        }
        return s;
    }
    TILE_FN static void pack(const TileSource& s, uint8_t* t, int lane) {
        pack_nibbles<BlockIQ4_XS>(s, t, lane, 4, true);
        pack_fields<BlockIQ4_XS>(s, t + 2048, lane, 0, 8);
    }
};

}  // namespace smelt::cuda
