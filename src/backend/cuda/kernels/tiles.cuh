// How quantized weights lie on the card: tiles of 16 rows by 128 or 256 columns, each as many bytes as its
// blocks in the file. A lane finds its share in 16-byte words: lane 4g + j has of each 32 columns those from
// 4j and from 16 + 4j on, of rows g and g + 8, which is what mma.sync wants as its first operand. Rows and
// columns beyond the end are zeros. pack() makes a tile from blocks of a file, load() and fragment() read it;
// no products here.
#pragma once

#include "backend/cuda/kernels/dialect.cuh"
#include "backend/cuda/tile_args.h"
#include "quant/format_list.h"

#ifdef __CUDACC__
#define TILE_FN __host__ __device__ __forceinline__
#else
#define TILE_FN inline
#endif

namespace smelt::cuda {

// --- Helpers ---

TILE_FN uint32_t permuted(uint32_t a, uint32_t b, uint32_t selector) {
#ifdef __CUDA_ARCH__
    return __byte_perm(a, b, selector);
#else
    uint32_t result = 0;
    for (int i = 0; i < 4; ++i) {
        const uint32_t index = selector >> (4 * i) & 7u;
        result |= ((index < 4 ? a >> (8 * index) : b >> (8 * (index - 4))) & 255u) << (8 * i);
    }
    return result;
#endif
}
TILE_FN uint32_t word_at(const uint4& v, int i) {
    return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w;
}
// Where load() finds a tile: in memory, past the first cache since weights are read once; or in shared
// memory.
struct FromMemory {
    TILE_FN uint4 words4(const uint8_t* at) const {
#ifdef __CUDA_ARCH__
        uint4 v;
        asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];"
                     : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                     : "l"(at));
        return v;
#else
        return *reinterpret_cast<const uint4*>(at);
#endif
    }
    TILE_FN uint2 words2(const uint8_t* at) const {
#ifdef __CUDA_ARCH__
        uint2 v;
        asm volatile("ld.global.nc.L1::no_allocate.v2.u32 {%0,%1}, [%2];" : "=r"(v.x), "=r"(v.y) : "l"(at));
        return v;
#else
        return *reinterpret_cast<const uint2*>(at);
#endif
    }
    TILE_FN uint32_t word(const uint8_t* at) const {
#ifdef __CUDA_ARCH__
        uint32_t v;
        asm volatile("ld.global.nc.L1::no_allocate.u32 %0, [%1];" : "=r"(v) : "l"(at));
        return v;
#else
        return *reinterpret_cast<const uint32_t*>(at);
#endif
    }
};
struct FromShared {
    TILE_FN uint4 words4(const uint8_t* at) const { return *reinterpret_cast<const uint4*>(at); }
    TILE_FN uint2 words2(const uint8_t* at) const { return *reinterpret_cast<const uint2*>(at); }
    TILE_FN uint32_t word(const uint8_t* at) const { return *reinterpret_cast<const uint32_t*>(at); }
};
TILE_FN float half_value(uint32_t bits) {
#ifdef __CUDA_ARCH__
    return half_to_float(static_cast<uint16_t>(bits));
#else
    return f16_to_f32(static_cast<uint16_t>(bits));
#endif
}
// Byte i of a word, with sign or without.
TILE_FN float byte_value(uint32_t word, int i) {
    return static_cast<float>(word >> (8 * i) & 255u);
}
TILE_FN float int8_value(uint32_t word, int i) {
    return static_cast<float>(static_cast<int8_t>(word >> (8 * i) & 255u));
}

// Scale, minimum and zero point of a group of columns in rows g and g + 8: w = d * (q - zero) - min.
struct GroupScales {
    float d[2], min[2];
    int zero[2];
};

// Row and column of byte k of register r of lane 4g + j, in 16 rows by 32 columns.
struct Place {
    TILE_FN static int row(int lane, int r) { return lane / 4 + 8 * (r & 1); }
    TILE_FN static int column(int lane, int r) { return 4 * (lane & 3) + 16 * (r >> 1); }
};

// Blocks of a file that a tile is made of. Planar formats have their scales elsewhere.
struct TileSource {
    const uint8_t *data, *scales;
    uint64_t row_bytes, s_row_bytes;
    int64_t rows, cols, first_row, first_col;

    template <class Block>
    TILE_FN bool has(int row, int b) const {
        return first_row + row < rows && first_col + int64_t{b} * Block::block_len < cols;
    }
    template <class Block>
    TILE_FN const Block* block(int row, int b) const {
        return reinterpret_cast<const Block*>(data + static_cast<uint64_t>(first_row + row) * row_bytes) +
               (first_col / Block::block_len + b);
    }
    // Of planar formats: bytes of quants and a scale a block.
    TILE_FN const uint8_t* planar(int row, int b, int len, int bytes) const {
        return data + static_cast<uint64_t>(first_row + row) * row_bytes +
               static_cast<uint64_t>(first_col / len + b) * static_cast<uint64_t>(bytes);
    }
    TILE_FN const uint8_t* planar_scale(int row, int b, int len, int bytes) const {
        return scales + static_cast<uint64_t>(first_row + row) * s_row_bytes +
               static_cast<uint64_t>(first_col / len + b) * static_cast<uint64_t>(bytes);
    }
};

// The integer of a weight as the file has it.
template <class Block>
struct Code {
    TILE_FN static uint32_t of(const TileSource& s, int row, int col);
};
template <class Block>
TILE_FN uint32_t code_at(const TileSource& s, int row, int col) {
    return s.has<Block>(row, col / Block::block_len) ? Code<Block>::of(s, row, col) : 0u;
}

#define SMELT_CODE(Block, text)                                               \
    template <>                                                               \
    TILE_FN uint32_t Code<Block>::of(const TileSource& s, int row, int col) { \
        const Block* b = s.block<Block>(row, col / Block::block_len);         \
        const int i = col % Block::block_len;                                 \
        return text;                                                          \
    }
SMELT_CODE(BlockQ8_0, static_cast<uint8_t>(b->qs[i]))
SMELT_CODE(BlockQ8_Z, b->qs[i])
SMELT_CODE(BlockQ4_0, b->qs[i % 16] >> (i / 16 * 4) & 15u)
SMELT_CODE(BlockQ4_1, b->qs[i % 16] >> (i / 16 * 4) & 15u)
SMELT_CODE(BlockQ4_Z, b->qs[i % 16] >> (i / 16 * 4) & 15u)
SMELT_CODE(BlockIQ4_NL, b->qs[i % 16] >> (i / 16 * 4) & 15u)
SMELT_CODE(BlockMXFP4, b->qs[i % 16] >> (i / 16 * 4) & 15u)
SMELT_CODE(BlockQ5_0, (b->qs[i % 16] >> (i / 16 * 4) & 15u) | (word_of(b->qh) >> i & 1u) << 4)
SMELT_CODE(BlockQ5_1, (b->qs[i % 16] >> (i / 16 * 4) & 15u) | (word_of(b->qh) >> i & 1u) << 4)
SMELT_CODE(BlockNVFP4, b->qs[8 * (i / 16) + i % 8] >> (i % 16 / 8 * 4) & 15u)
SMELT_CODE(BlockQ2_K, static_cast<uint32_t>(quant_2bit(b->qs, i / 128, i / 32 % 4, i % 32)))
SMELT_CODE(BlockQ3_K, static_cast<uint32_t>(quant_2bit(b->qs, i / 128, i / 32 % 4, i % 32)) |
                          (b->hmask[i % 32] >> (i / 32) & 1u) << 2)
SMELT_CODE(BlockQ4_K, b->qs[i / 64 * 32 + i % 32] >> (i / 32 % 2 * 4) & 15u)
SMELT_CODE(BlockQ5_K,
           (b->qs[i / 64 * 32 + i % 32] >> (i / 32 % 2 * 4) & 15u) | (b->qh[i % 32] >> (i / 32) & 1u) << 4)
SMELT_CODE(BlockQ6_K, (b->ql[64 * (i / 128) + i / 32 % 2 * 32 + i % 32] >> (i / 64 % 2 * 4) & 15u) |
                          static_cast<uint32_t>(quant_2bit(b->qh, i / 128, i / 32 % 4, i % 32)) << 4)
SMELT_CODE(BlockIQ4_XS, b->qs[i / 32 * 16 + i % 16] >> (i % 32 / 16 * 4) & 15u)
#undef SMELT_CODE
template <>
TILE_FN uint32_t Code<BlockMXFP4_HF>::of(const TileSource& s, int row, int col) {
    return s.planar(row, col / 32, 32, 16)[col % 32 / 2] >> (col % 2 * 4) & 15u;
}
template <>
TILE_FN uint32_t Code<BlockNVFP4_HF>::of(const TileSource& s, int row, int col) {
    return s.planar(row, col / 16, 16, 8)[col % 16 / 2] >> (col % 2 * 4) & 15u;
}
template <>
TILE_FN uint32_t Code<BlockQ8_G64>::of(const TileSource& s, int row, int col) {
    return s.planar(row, col / 64, 64, 64)[col % 64];
}

// --- Packing: parts of codes in a lane's words ---

TILE_FN void put(uint8_t* at, const uint32_t* words, int n) {
    for (int i = 0; i < n; ++i) reinterpret_cast<uint32_t*>(at)[i] = words[i];
}
// Bytes: register r of chunk c as mma.sync wants it.
template <class Block>
TILE_FN void pack_bytes(const TileSource& s, uint8_t* to, int lane, int n_chunks) {
    for (int c = 0; c < n_chunks; ++c) {
        uint32_t words[4] = {};
        for (int r = 0; r < 4; ++r) {
            for (int k = 0; k < 4; ++k)
                words[r] |= code_at<Block>(s, Place::row(lane, r), 32 * c + Place::column(lane, r) + k)
                            << (8 * k);
        }
        put(to + 512 * c + 16 * lane, words, 4);
    }
}
// Low nibbles are of the even chunk of a pair, high ones of the odd one; in_order: the four of a chunk are
// neighbours, for formats whose codes are looked up.
template <class Block>
TILE_FN void pack_nibbles(const TileSource& s, uint8_t* to, int lane, int n_pairs, bool in_order) {
    for (int p = 0; p < n_pairs; ++p) {
        uint32_t words[4] = {};
        for (int r = 0; r < 4; ++r) {
            for (int i = 0; i < 8; ++i) {
                const int column = 64 * p + 32 * (i / 4) + Place::column(lane, r) + i % 4;
                const uint32_t code = code_at<Block>(s, Place::row(lane, r), column) & 15u;
                words[r] |= code << (in_order ? 4 * i : 8 * (i % 4) + 4 * (i / 4));
            }
        }
        put(to + 512 * p + 16 * lane, words, 4);
    }
}
// Two bits of each code from `bit` on: of four chunks in a byte.
template <class Block>
TILE_FN void pack_twos(const TileSource& s, uint8_t* to, int lane, int n_fours, int bit) {
    for (int f = 0; f < n_fours; ++f) {
        uint32_t words[4] = {};
        for (int r = 0; r < 4; ++r) {
            for (int c = 0; c < 4; ++c) {
                for (int k = 0; k < 4; ++k) {
                    const int column = 32 * (4 * f + c) + Place::column(lane, r) + k;
                    words[r] |= (code_at<Block>(s, Place::row(lane, r), column) >> bit & 3u)
                                << (8 * k + 2 * c);
                }
            }
        }
        put(to + 512 * f + 16 * lane, words, 4);
    }
}
// One bit of each: of eight chunks in a byte.
template <class Block>
TILE_FN void pack_ones(const TileSource& s, uint8_t* to, int lane, int bit) {
    uint32_t words[4] = {};
    for (int r = 0; r < 4; ++r) {
        for (int c = 0; c < 8; ++c) {
            for (int k = 0; k < 4; ++k) {
                const int column = 32 * c + Place::column(lane, r) + k;
                words[r] |= (code_at<Block>(s, Place::row(lane, r), column) >> bit & 1u) << (8 * k + c);
            }
        }
    }
    put(to + 16 * lane, words, 4);
}
// The same for tiles of four chunks: registers 0 and 1 share a word, 2 and 3.
template <class Block>
TILE_FN void pack_ones_of_four(const TileSource& s, uint8_t* to, int lane, int bit) {
    uint32_t words[2] = {};
    for (int r = 0; r < 4; ++r) {
        for (int c = 0; c < 4; ++c) {
            for (int k = 0; k < 4; ++k) {
                const int column = 32 * c + Place::column(lane, r) + k;
                words[r / 2] |= (code_at<Block>(s, Place::row(lane, r), column) >> bit & 1u)
                                << (8 * k + 2 * c + (r & 1));
            }
        }
    }
    put(to + 8 * lane, words, 2);
}
// Four halves of row g with those of row g + 8 above them; lanes with j = 0 do that. `offset` in a block.
template <class Block>
TILE_FN void pack_halves(const TileSource& s, uint8_t* to, int lane, int offset) {
    if ((lane & 3) != 0) return;
    uint32_t words[4] = {};
    for (int c = 0; c < 4; ++c) {
        for (int side = 0; side < 2; ++side) {
            const int row = lane / 4 + 8 * side;
            if (!s.has<Block>(row, c)) continue;
            const auto* at = reinterpret_cast<const uint8_t*>(s.block<Block>(row, c)) + offset;
            words[c] |= (static_cast<uint32_t>(at[0]) | static_cast<uint32_t>(at[1]) << 8) << (16 * side);
        }
    }
    put(to + 4 * lane, words, 4);
}
// n bytes of the one block that each row has, n a multiple of four: row by row.
template <class Block>
TILE_FN void pack_fields(const TileSource& s, uint8_t* to, int lane, int offset, int n) {
    if (lane >= 16 || !s.has<Block>(lane, 0)) {
        for (int i = 0; lane < 16 && i < n; ++i) to[n * lane + i] = 0;
        return;
    }
    const auto* at = reinterpret_cast<const uint8_t*>(s.block<Block>(lane, 0)) + offset;
    for (int i = 0; i < n; ++i) to[n * lane + i] = at[i];
}

// --- Reading: codes of a chunk ---

TILE_FN void nibble_fragment(const uint4& q, int side, uint32_t* a) {
    for (int r = 0; r < 4; ++r) a[r] = (word_at(q, r) >> (4 * side)) & 0x0f0f0f0fu;
}
// Four nibbles in the low half of a word become bytes of a table of 16.
TILE_FN uint32_t looked_up(uint32_t nibbles, const uint32_t* table) {
    const uint32_t index = nibbles & 0x7777u, upper = (nibbles >> 1 & 0x4444u) | 0x3210u;
    return permuted(permuted(table[0], table[1], index), permuted(table[2], table[3], index), upper);
}
TILE_FN void lookup_fragment(const uint4& q, int side, const uint32_t* table, uint32_t* a) {
    for (int r = 0; r < 4; ++r) a[r] = looked_up(word_at(q, r) >> (16 * side), table);
}

template <class Block>
struct Tile {
    static constexpr bool native = false;
};

// What every tile says of itself.
template <int n_cols, int n_bytes, int group_len, bool with_min, bool with_zero, bool is_unsigned,
          int zero = 0>
struct TileTraits {
    static_assert(n_bytes % 16 == 0);        // tiles lie one after another and are copied in words of 16
    static constexpr int fixed_zero = zero;  // the zero point where all groups have the same
    static constexpr bool native = true, has_min = with_min, has_zero = with_zero, u8 = is_unsigned;
    static constexpr int cols = n_cols, bytes = n_bytes, group = group_len, n_chunks = n_cols / 32;
};

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
struct Tile<BlockQ8_Z> : TileTraits<128, 2304, 32, false, true, true> {
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
        return {{half_value(d & 0xffffu), half_value(d >> 16)},
                {},
                {static_cast<int>(half_value(z & 0xffffu)), static_cast<int>(half_value(z >> 16))}};
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

// Two halves for 32: a minimum, or a zero point.
template <class Block, bool minimum>
struct TileOfNibbles2 : TileTraits<128, 1280, 32, minimum, !minimum, false> {
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
        const float m0 = half_value(m & 0xffffu), m1 = half_value(m >> 16);
        GroupScales s = {{half_value(d & 0xffffu), half_value(d >> 16)}, {-m0, -m1}, {}};
        if (!minimum) {
            s.zero[0] = static_cast<int>(m0);
            s.zero[1] = static_cast<int>(m1);
        }
        return s;
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

// Tables of 16 int8.
TILE_FN void iq4_table(uint32_t* t) {
    t[0] = 0xbfad9881u, t[1] = 0xf6eaddcfu, t[2] = 0x26190d01u, t[3] = 0x71594535u;
}
// E2M1 doubled, minus 16: of codes without a sign, and of those with one. All are negative, and where a
// selector has its uppermost bit set, permuted() gives the sign's bits, all ones: each table leaves alone
// what the other has.
inline constexpr int e2m1_zero = -16;
TILE_FN uint32_t signed_permuted(uint32_t a, uint32_t b, uint32_t selector) {
#ifdef __CUDA_ARCH__
    uint32_t d;
    asm("prmt.b32 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(selector));
    return d;
#else
    uint32_t result = 0;
    for (int i = 0; i < 4; ++i) {
        const uint32_t index = selector >> (4 * i) & 7u,
                       byte = (index < 4 ? a >> (8 * index) : b >> (8 * (index - 4))) & 255u;
        result |= ((selector >> (4 * i) & 8u) == 0 ? byte : byte >= 128 ? 255u : 0u) << (8 * i);
    }
    return result;
#endif
}
TILE_FN void e2m1_fragment(const uint4& q, int side, uint32_t* a) {
    for (int r = 0; r < 4; ++r) {
        const uint32_t codes = word_at(q, r) >> (16 * side),
                       turned = (word_at(q, r) ^ 0x88888888u) >> (16 * side);
        a[r] = signed_permuted(0xf3f2f1f0u, 0xfcf8f6f4u, codes) &
               signed_permuted(0xedeeeff0u, 0xe4e8eaecu, turned);
    }
}

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

// Super-blocks: a tile has one of each of its rows.

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
