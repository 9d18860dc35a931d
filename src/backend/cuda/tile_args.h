// What the host hands to the kernels that read weights as tiles (kernels/tiles.cuh). Device-safe.
#pragma once

#include "backend/cuda/kernel_args.h"
#include "quant/format_list.h"

namespace smelt::cuda {

inline constexpr int rows_of_tile = 16;
inline constexpr int tile_warps = 8;          // that share a row of tiles: warp w has tiles w, w + 8, ...
inline constexpr int tile_tokens = 4;         // rows of x that a fragment of them has room for
inline constexpr int tile_value_bytes = 256;  // of a fragment: 32 columns of four rows, two planes of int8
inline constexpr int tile_group_bytes = 16;   // of a row's 32 columns: scale and sums
inline constexpr int tile_set_bytes = tile_value_bytes + tile_tokens * tile_group_bytes;
inline constexpr int half_set_bytes = 512;                // the same of halves, which have no scales
inline constexpr int wide_tiles = 8;                      // of rows, of a block of matmul_wide
inline constexpr int wide_rows = 64;                      // of x, of such a block
inline constexpr int wide_block = (tile_warps + 1) * 32;  // threads
inline constexpr int ring_teams = 2;                      // of tile_warps warps, each with a ring of its own
inline constexpr int ring_threads = (ring_teams * tile_warps + 2) * 32;
inline constexpr int most_slots = 32;  // of a ring

struct TileProduct {
    float* out;
    const uint8_t* w;
    const float* bias;          // null: none
    uint32_t rows, first_tile;  // tiles of rows are counted through all products
    uint32_t out_stride;
};

// x is not read but made, by the norm that comes before the products: out = norm of x, with a residual of
// residual + x, which also takes the sum's place once all blocks have read it.
struct TileNorm {
    const float* w;  // null: none
    float *residual, *out;
    uint32_t* n_read;  // blocks that have; 0 before and after
    uint32_t residual_stride, out_stride;
    float eps;
};

// Gated: product 0 is the gate, 1 what it lets through; out is that of product 0.
struct TileMatmulArgs {
    Rows rows;  // of x
    const float* x;
    const uint8_t* values;            // x as quantize_rows left it, or null: the kernel does that itself
    uint32_t x_stride, cols, n_sets;  // n_sets: that quantize_rows made
    uint32_t k_tiles;                 // tiles in a row of them
    uint32_t n_slots;                 // of a ring in shared memory, each tile_warps tiles
    uint32_t n_products, n_tiles;
    TileProduct products[most_products];
    TileNorm norm;  // for matmul_ring
};

// Rows of x in two planes: of int8 with a scale for 32 columns (fragments, then scales), or of halves.
struct QuantizeRowsArgs {
    Rows rows;
    const float* x;
    uint8_t* values;
    uint32_t x_stride, cols, n_sets, n_groups;  // groups of 32 columns, as many as the tiles have
    uint32_t parts;                             // rows of `cols` columns that a row of x is
};

// Products with experts whose weights lie in tiles; x as quantize_rows left it.
struct TileExpertProduct {
    float* out;
    const ExpertPlace* places;  // one an expert
    const float* bias;
    uint32_t rows, first_tile;
    uint32_t out_stride;
};
struct TileExpertsArgs {
    Rows rows;  // of x
    const uint8_t* values;
    const int32_t* ids;
    const ExpertTile* tiles;
    const uint32_t* pairs;
    uint32_t n_used, n_experts;
    uint32_t x_share;  // pairs that have the same row of x
    uint32_t n_sets, k_tiles;
    uint32_t n_products;
    Pairing pairing;
    TileExpertProduct products[most_products];
};

// Bytes of a file become tiles. A warp each.
struct PackTilesArgs {
    const uint8_t *data, *scales;
    uint8_t* tiles;
    uint64_t row_bytes, s_row_bytes;
    uint32_t rows, cols, k_tiles, n_tiles;  // n_tiles: of all rows and columns
};

// What a tile of a format is: bytes as many as its 16 rows of blocks have. None where bytes is 0: floats of
// 32 bits, and formats whose numbers are neither small integers nor halves.
struct TileShape {
    uint32_t cols, bytes;
    uint32_t set_bytes = tile_set_bytes;  // of 32 columns of four rows of x
};
constexpr TileShape tile_shape(Format format) {
    switch (format) {
        case Format::F16:
        case Format::BF16:
            return {64, rows_of_tile * 64 * sizeof(uint16_t) + 16, half_set_bytes};
#define SMELT_TILE(name)                                                                     \
    case Format::name: {                                                                     \
        constexpr uint32_t cols = Block##name::block_len == 256 ? 256 : 128;                 \
        return {cols, rows_of_tile * (cols / Block##name::block_len) * sizeof(Block##name)}; \
    }
            SMELT_TILE(Q4_0)
            SMELT_TILE(Q4_1)
            SMELT_TILE(Q5_0)
            SMELT_TILE(Q5_1)
            SMELT_TILE(Q8_0)
            SMELT_TILE(Q8_G64)
            SMELT_TILE(Q2_K)
            SMELT_TILE(Q3_K)
            SMELT_TILE(Q4_K)
            SMELT_TILE(Q5_K)
            SMELT_TILE(Q6_K)
            SMELT_TILE(IQ4_NL)
            SMELT_TILE(IQ4_XS)
            SMELT_TILE(MXFP4)
            SMELT_TILE(MXFP4_HF)
            SMELT_TILE(NVFP4)
            SMELT_TILE(NVFP4_HF)
            SMELT_TILE(Q4_Z)
            SMELT_TILE(Q8_Z)
#undef SMELT_TILE
        default:
            return {0, 0};
    }
}

}  // namespace smelt::cuda
