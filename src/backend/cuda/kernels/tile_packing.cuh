// How a tile is made of the blocks of a file: integers of weights as the file has them, then parts of them in
// a lane's words.
#pragma once

#include "backend/cuda/kernels/tile_helpers.cuh"

namespace smelt::cuda {

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

}  // namespace smelt::cuda
