// Which pairs of token and expert a block of a product with experts has, see Pairing.
#pragma once

#include "backend/cuda/kernels/dialect.cuh"
#include "backend/cuda/tile_args.h"

namespace smelt::cuda {

// The pair that is number i of a tile; beyond its end, the last one.
template <class Args>
INLINE uint32_t pair_of(const Args& a, const ExpertTile& tile, uint32_t i) {
    const uint32_t at = tile.first + least(i, tile.count - 1);
    if (a.pairing == Pairing::heads) return at * a.n_experts + tile.expert;
    return a.pairing == Pairing::single ? at : a.pairs[at];
}

// Tile `index`, of at most `most` pairs; without any where there is none.
template <uint32_t most, class Args>
INLINE ExpertTile expert_tile_of(const Args& a, uint32_t index) {
    const uint32_t n = rows_of(a.rows);
    ExpertTile tile = {0, index, 1};
    if (a.pairing == Pairing::single) {
        if (index >= n * a.n_used) return {0, 0, 0};
        tile.expert = static_cast<uint32_t>(a.ids[index]);
    } else if (a.pairing == Pairing::heads) {
        const uint32_t each = n / a.n_experts, tiles_each = (each + most - 1) / most;
        if (tiles_each == 0 || index / tiles_each >= a.n_experts) return {0, 0, 0};
        tile.expert = index / tiles_each;
        tile.first = index % tiles_each * most;  // token
        tile.count = least(most, each - tile.first);
    } else {
        tile = a.tiles[index];
    }
    return tile.expert < a.n_experts ? tile : ExpertTile{0, 0, 0};
}

}  // namespace smelt::cuda
