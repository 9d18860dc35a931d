// Products of many rows of x with weights in tiles: the same integers and the same order of additions as
// matmul_tiles.cuh, so the same bits; rows of x come from memory as quantize_rows left them.
//
// matmul_sets is for tens of rows: a block has n_down rows of tiles, its eight warps a share of the columns
// each. matmul_wide is for hundreds: a block has eight rows of tiles by 64 rows of x, each warp all columns
// of two rows of tiles by 32 rows of x, in the order that eight warps would have them: tiles w, w + 8, ...
// for each w. Tiles and x come through a ring of stages in shared memory. Bytes: a weight once for 64 rows of
// x. Operations: two products of integers for each of weight and x, and a dozen instructions for each 16 x 32
// x 4 of them, which is the bound.
#pragma once

#include "backend/cuda/kernels/matmul_tiles.cuh"
#include "backend/cuda/kernels/pairs.cuh"

namespace smelt::cuda {

// Codes less their zero point where that is the same for all: what add_group would take off each sum.
template <class T>
INLINE void without_zero(uint32_t* fragment) {
    constexpr uint32_t turn = T::fixed_zero < 0 ? 0x80808080u : 0u;
    constexpr uint32_t add =
        static_cast<uint32_t>((T::fixed_zero < 0 ? 0 : 128) - T::fixed_zero) * 0x01010101u;
    if constexpr (T::fixed_zero != 0) {
        UNROLL for (int r = 0; r < 4; ++r) fragment[r] = ((fragment[r] ^ turn) + add) ^ 0x80808080u;
    }
}
// T without the zero point that without_zero() took off.
template <class T>
struct ZeroTaken : T {
    static constexpr bool has_zero = T::has_zero && T::fixed_zero == 0;
};

// A warp's sums: of n_down rows of tiles, each at `from`, by 4 * n_sets rows of x, whose share of a group
// read(group, set, b, x) gives to the lane.
template <class T, int n_sets, int n_down, class Read>
INLINE void add_sets(const uint8_t* const* from, uint32_t k_tiles, float (*sums)[n_sets][2], Read read) {
    const int me = static_cast<int>(lane());
    for (uint32_t k = warp(); k < k_tiles; k += tile_warps) {
        typename T::Loaded loaded[n_down];
        UNROLL for (int d = 0; d < n_down; ++d) loaded[d] =
            T::load(FromMemory{}, from[d] + uint64_t{k} * T::bytes, me);
        UNROLL for (int c = 0; c < T::n_chunks; ++c) {
            typename SetOf<T>::Words b[n_sets];
            typename SetOf<T>::Group x[n_sets];
            UNROLL for (int s = 0; s < n_sets; ++s) read(k * T::n_chunks + c, s, b[s], x[s]);
            UNROLL for (int d = 0; d < n_down; ++d) {
                uint32_t fragment[T::words];
                T::fragment(loaded[d], c, fragment);
                without_zero<T>(fragment);
                GroupScales scales[2];
                scales[0] = T::scales(loaded[d], c, 0);
                if (T::group == 16) scales[1] = T::scales(loaded[d], c, 1);
                UNROLL for (int s = 0; s < n_sets; ++s)
                    add_chunk<T>(fragment, scales, b[s], x[s], sums[d][s]);
            }
        }
    }
}
template <int n_sets>
INLINE void put_sums(float* partial, const float (*sums)[2]) {
    float* mine = partial + warp() * 64 * n_sets + lane();
    UNROLL for (int s = 0; s < n_sets; ++s) {
        mine[64 * s] = sums[s][0];
        mine[64 * s + 32] = sums[s][1];
    }
}

// Blocks: (rows of tiles by n_down, rows of x by 4 * n_sets).
template <class Block, int n_sets, int n_down>
INLINE void matmul_sets(const TileMatmulArgs& a) {
    using T = ZeroTaken<Tile<Block>>;
    using Set = SetOf<T>;
    __shared__ float partial[tile_warps * 64 * n_sets];
    const uint32_t first_tile = blockIdx.x * n_down, me = lane();
    const uint8_t* from[n_down];
    UNROLL for (int d = 0; d < n_down; ++d) from[d] =
        row_of_tiles<T, false>(a, least(first_tile + d, a.n_tiles - 1), false);
    const uint32_t n = rows_of(a.rows), first_x = blockIdx.y * (4 * n_sets);
    if (first_x >= n) return;
    const Set* sets = reinterpret_cast<const Set*>(a.values) + first_x / tile_tokens;
    float sums[n_down][n_sets][2] = {};
    add_sets<T, n_sets, n_down>(from, a.k_tiles, sums, [&](uint32_t group, int s, auto& b, auto& x) {
        const Set& set = sets[uint64_t{group} * a.n_sets + s];
        b = reinterpret_cast<const typename Set::Words*>(set.fragments)[me];
        x = set.group(me & 3);
    });
    UNROLL for (int d = 0; d < n_down; ++d) {
        if (first_tile + d >= a.n_tiles) return;
        if (d > 0) __syncthreads();
        put_sums<n_sets>(partial, sums[d]);
        __syncthreads();
        finish_tile<false, n_sets, 256>(a, partial, first_tile + d, first_x,
                                        least(n - first_x, uint32_t{4 * n_sets}), threadIdx.x);
    }
}

// The same with an expert's weights, for the pairs of token and expert that a block has: 4 * n_sets at most.
// Blocks: (rows of tiles, tiles of pairs).
template <class Block, int n_sets>
INLINE void experts_sets(const TileExpertsArgs& a) {
    using T = ZeroTaken<Tile<Block>>;
    using Set = SetOf<T>;
    __shared__ float partial[tile_warps * 64 * n_sets];
    const ExpertTile pairs = expert_tile_of<4 * n_sets>(a, blockIdx.y);
    if (pairs.count == 0) return;
    TileExpertProduct m = a.products[0];
    UNROLL for (int p = 1; p < most_products; ++p) {
        if (p < static_cast<int>(a.n_products) && blockIdx.x >= a.products[p].first_tile) m = a.products[p];
    }
    const uint32_t row_tile = blockIdx.x - m.first_tile, me = lane();
    const uint8_t* from = m.places[pairs.expert].w + uint64_t{row_tile} * a.k_tiles * T::bytes;
    // The rows of x that the lane has: one by a fragment's column, one by its sums.
    const Set* sets = reinterpret_cast<const Set*>(a.values);
    uint32_t of_column[n_sets], of_sums[n_sets];
    UNROLL for (uint32_t s = 0; s < n_sets; ++s) {
        of_column[s] = pair_of(a, pairs, 4 * s + (me >> 3)) / a.x_share;
        of_sums[s] = pair_of(a, pairs, 4 * s + (me & 3)) / a.x_share;
    }
    float sums[1][n_sets][2] = {};
    add_sets<T, n_sets, 1>(&from, a.k_tiles, sums, [&](uint32_t group, int s, auto& b, auto& x) {
        const Set* here = sets + uint64_t{group} * a.n_sets;
        b = reinterpret_cast<const typename Set::Words*>(
            here[of_column[s] / 4].fragments)[(of_column[s] & 3) * 8 + (me >> 2 & 1) * 4 + (me & 3)];
        x = here[of_sums[s] / 4].group(of_sums[s] & 3);
    });
    put_sums<n_sets>(partial, sums[0]);
    __syncthreads();
    finish_rows<false, n_sets, 256>(
        partial, row_tile * rows_of_tile, m.rows,
        m.bias == nullptr ? nullptr : m.bias + uint64_t{pairs.expert} * m.rows, pairs.count, threadIdx.x,
        [&](uint32_t x) {
            const uint32_t pair = pair_of(a, pairs, x), token = pair / a.n_used;
            return m.out + (uint64_t{token} * m.out_stride + (pair - token * a.n_used) * m.rows);
        });
}

// Blocks: (rows of tiles by wide_tiles, rows of x by wide_rows), of eight warps that multiply and one that
// copies.
template <class Block>
INLINE void matmul_wide(const TileMatmulArgs& a) {
    using T = ZeroTaken<Tile<Block>>;
    using Set = SetOf<T>;
    constexpr int n_sets = wide_rows / tile_tokens, my_sets = n_sets / 2, my_tiles = 2;
    constexpr uint32_t x_bytes = T::n_chunks * n_sets * sizeof(Set),
                       stage_bytes = wide_tiles * T::bytes + x_bytes;
    DYNAMIC_SHARED(uint4, all_shared);
    auto* shared = reinterpret_cast<uint8_t*>(all_shared);
    __shared__ __align__(8) uint64_t barriers[2 * most_slots];
    const SharedAddress full = shared_address(barriers), empty = full + 8 * most_slots;
    const int me = static_cast<int>(lane()), in_block = static_cast<int>(warp());
    const uint32_t first_tile = blockIdx.x * wide_tiles,
                   n_tiles = least(a.n_tiles - first_tile, uint32_t{wide_tiles});
    if (threadIdx.x == 0) {
        for (uint32_t i = 0; i < a.n_slots; ++i) {
            barrier_init(full + 8 * i, 1);
            barrier_init(empty + 8 * i, tile_warps);
        }
        barriers_are_ready();
    }
    __syncthreads();
    const uint32_t n = rows_of(a.rows), first_x = blockIdx.y * wide_rows;
    if (first_x >= n) return;

    if (in_block == tile_warps) {
        RingPlace to = {0, 1};
        const SharedAddress ring = shared_address(shared);
        const uint8_t* x = a.values + uint64_t{first_x / tile_tokens} * sizeof(Set);
        const uint8_t* w =
            row_of_tiles<T, false>(a, first_tile + least(static_cast<uint32_t>(me), n_tiles - 1), false);
        for (uint32_t slice = 0; slice < tile_warps; ++slice) {
            for (uint32_t k = slice; k < a.k_tiles; k += tile_warps) {
                const SharedAddress barrier = full + 8 * to.slot, stage = ring + to.slot * stage_bytes;
                barrier_wait(empty + 8 * to.slot, to.parity);
                if (me == 0) barrier_expect(barrier, n_tiles * T::bytes + x_bytes);
                __syncwarp();
                if (static_cast<uint32_t>(me) < n_tiles)
                    copy_bulk(stage + me * T::bytes, w + uint64_t{k} * T::bytes, T::bytes, barrier);
                if (me < T::n_chunks)
                    copy_bulk(stage + wide_tiles * T::bytes + me * (n_sets * sizeof(Set)),
                              x + uint64_t{k * T::n_chunks + me} * a.n_sets * sizeof(Set),
                              n_sets * sizeof(Set), barrier);
                to.advance(a.n_slots);
            }
        }
        return;
    }

    const int pair = in_block / 2, side = in_block % 2;
    float sums[my_tiles][my_sets][2] = {};
    RingPlace at = {0, 0};
    for (uint32_t slice = 0; slice < tile_warps; ++slice) {
        float chain[my_tiles][my_sets][2] = {};
        for (uint32_t k = slice; k < a.k_tiles; k += tile_warps) {
            const uint8_t* stage = shared + at.slot * stage_bytes;
            barrier_wait(full + 8 * at.slot, at.parity);
            typename T::Loaded loaded[my_tiles];
            UNROLL for (int d = 0; d < my_tiles; ++d) loaded[d] =
                T::load(FromShared{}, stage + (my_tiles * pair + d) * T::bytes, me);
            const auto* sets = reinterpret_cast<const Set*>(stage + wide_tiles * T::bytes) + my_sets * side;
            UNROLL for (int c = 0; c < T::n_chunks; ++c) {
                uint32_t fragment[my_tiles][T::words];
                GroupScales scales[my_tiles][2];
                UNROLL for (int d = 0; d < my_tiles; ++d) {
                    T::fragment(loaded[d], c, fragment[d]);
                    without_zero<T>(fragment[d]);
                    scales[d][0] = T::scales(loaded[d], c, 0);
                    if (T::group == 16) scales[d][1] = T::scales(loaded[d], c, 1);
                }
                UNROLL for (int s = 0; s < my_sets; ++s) {
                    const Set& set = sets[c * n_sets + s];
                    const auto b = reinterpret_cast<const typename Set::Words*>(set.fragments)[me];
                    const auto x = set.group(me & 3);
                    UNROLL for (int d = 0; d < my_tiles; ++d)
                        add_chunk<T>(fragment[d], scales[d], b, x, chain[d][s]);
                }
            }
            __syncwarp();
            if (me == 0) barrier_arrive(empty + 8 * at.slot);
            at.advance(a.n_slots);
        }
        UNROLL for (int d = 0; d < my_tiles; ++d) {
            UNROLL for (int s = 0; s < my_sets; ++s) {
                UNROLL for (int i = 0; i < 2; ++i) sums[d][s][i] =
                    slice == 0 ? chain[d][s][i] : sums[d][s][i] + chain[d][s][i];
            }
        }
    }
    UNROLL for (int d = 0; d < my_tiles; ++d) {
        const uint32_t of_block = my_tiles * pair + d;
        if (of_block >= n_tiles) continue;
        const PlaceOfTile to = place_of_tile(a, first_tile + of_block);
        UNROLL for (int s = 0; s < my_sets; ++s) {
            const uint32_t x = first_x + (my_sets * side + s) * tile_tokens + (me & 3);
            UNROLL for (int i = 0; i < 2; ++i) {
                const uint32_t row = to.first_row + 8 * i + (me >> 2);
                if (row >= to.rows || x >= n) continue;
                const float sum = to.bias != nullptr ? sums[d][s][i] + to.bias[row] : sums[d][s][i];
                to.out[uint64_t{x} * to.stride + row] = sum;
            }
        }
    }
}

}  // namespace smelt::cuda
