// What reading a tile is made of: words of a lane, codes as bytes, tables of the formats that look codes up.
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
    static constexpr bool halves = false;  // weights are floats of 16 bits, not integers
    static constexpr int words = 4;        // of 32 bits, of a lane's share of 16 rows by 32 columns
};

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

}  // namespace smelt::cuda
