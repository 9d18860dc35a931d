// Tiles of weights that are floats of 16 bits: 16 rows by 64 columns of halves, and a scale. A lane has eight
// neighbouring columns of each 32: those from 8j on, of rows g and g + 8.
#pragma once

#include "backend/cuda/kernels/tile_packing.cuh"

namespace smelt::cuda {

// What halves leave of x is kept so many times larger, and x so much smaller that 4 million is no infinity.
inline constexpr float halves_apart = 2048.0f, halves_unit = 1.0f / 64.0f;

TILE_FN uint16_t half_of(float x) {
#ifdef __CUDA_ARCH__
    return float_to_half(x);
#else
    return f32_to_f16(x);
#endif
}

template <class Block, bool is_bf16>
struct TileOfHalves : TileTraits<64, 2064, 32, false, false, false> {
    static constexpr bool halves = true;
    static constexpr int words = 8;
    struct Loaded {
        uint4 q[4];
        float scale;
    };
    template <class From>
    TILE_FN static Loaded load(From from, const uint8_t* t, int lane) {
        Loaded l;
        for (int i = 0; i < 4; ++i) l.q[i] = from.words4(t + 512 * i + 16 * lane);
        l.scale = bit_cast_to<float>(from.word(t + 2048));
        return l;
    }
    // Two operands of mma.sync, of 16 columns each.
    TILE_FN static void fragment(const Loaded& l, int c, uint32_t* a) {
        for (int i = 0; i < 4; ++i) {
            a[2 * i] = word_at(l.q[2 * c], i);
            a[2 * i + 1] = word_at(l.q[2 * c + 1], i);
        }
    }
    TILE_FN static GroupScales scales(const Loaded& l, int, int) { return {{l.scale, l.scale}, {}, {}}; }

    TILE_FN static uint32_t bits_at(const TileSource& s, int row, int col) {
        return s.has<Block>(row, col) ? *reinterpret_cast<const uint16_t*>(s.block<Block>(row, col)) : 0u;
    }
    // The power of two that brings the largest weight of the tile, infinities aside, just below the largest
    // half. BF16 alone: weights keep all their bits unless they are 2^-32 of that one or less.
    TILE_FN static int exponent(const TileSource& s) {
        uint32_t top = 0;
        for (int i = 0; i < 16 * 64; ++i) {
            const uint32_t bits = bits_at(s, i / 64, i % 64) & 0x7fffu;
            if (bits < 0x7f80u && bits > top) top = bits;
        }
        const int to_top = 127 + 14 - static_cast<int>(top >> 7);
        return to_top < 100 ? to_top : 100;
    }
    TILE_FN static float power_of_two(int exponent) {
        return bit_cast_to<float>(static_cast<uint32_t>(127 + exponent) << 23);
    }
    TILE_FN static void pack(const TileSource& s, uint8_t* t, int lane) {
        const int to_top = is_bf16 ? exponent(s) : 0;
        for (int c = 0; c < 2; ++c) {
            for (int side = 0; side < 2; ++side) {
                uint32_t packed[4] = {};
                for (int i = 0; i < 8; ++i) {
                    uint32_t bits = bits_at(s, lane / 4 + 8 * side, 32 * c + 8 * (lane & 3) + i);
                    if (is_bf16) bits = half_of(bit_cast_to<float>(bits << 16) * power_of_two(to_top));
                    packed[i / 2] |= bits << (16 * (i & 1));
                }
                put(t + 512 * (2 * c + side) + 16 * lane, packed, 4);
            }
        }
        if (lane >= 4) return;
        const float scale = lane == 0 ? power_of_two(-to_top) / halves_unit : 0.0f;
        reinterpret_cast<float*>(t + 2048)[lane] = scale;
    }
};
template <>
struct Tile<BlockF16> : TileOfHalves<BlockF16, false> {};
template <>
struct Tile<BlockBF16> : TileOfHalves<BlockBF16, true> {};

}  // namespace smelt::cuda
