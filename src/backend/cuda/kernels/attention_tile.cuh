// Tiles of query rows that a block of attention has, and where their keys and values lie.
#pragma once

#include "backend/cuda/kernels/softmax_sum.cuh"

namespace smelt::cuda {

// Which rounds of which sequence a block has.
struct AttentionTile {
    const int32_t* blocks;
    uint32_t first_token, first_row, last_row;  // of the sequence; rows are query heads of tokens
    uint32_t low, high;                         // positions that any row sees
};

INLINE bool find_tile(const AttentionArgs& a, uint32_t tile_rows, uint32_t index, AttentionTile& tile) {
    const auto n_seqs = static_cast<uint32_t>(*a.n_seqs);
    for (uint32_t seq = 0; seq < n_seqs; ++seq) {
        const auto first_token = static_cast<uint32_t>(a.seq_start[seq]);
        const uint32_t n_rows = (static_cast<uint32_t>(a.seq_start[seq + 1]) - first_token) * a.n_rep;
        const uint32_t n_tiles = (n_rows + tile_rows - 1) / tile_rows;
        if (index >= n_tiles) {
            index -= n_tiles;
            continue;
        }
        tile.blocks = a.block_table + static_cast<uint64_t>(seq) * a.max_blocks;
        tile.first_token = first_token;
        tile.first_row = index * tile_rows;
        tile.last_row = least(tile.first_row + tile_rows, n_rows) - 1;
        // positions ascend within a sequence
        tile.low =
            first_seen(static_cast<uint32_t>(a.positions[first_token + tile.first_row / a.n_rep]), a.window);
        tile.high = static_cast<uint32_t>(a.positions[first_token + tile.last_row / a.n_rep]);
        return true;
    }
    return false;
}

}  // namespace smelt::cuda
