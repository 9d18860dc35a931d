// Products of few rows of x with weights in tiles, near the read bandwidth of the card.
//
// x becomes integers of 16 bits under one scale for 32 columns, two planes of int8; the products of a group
// are sums of integers by mma.sync, exact, whatever their order. A group's sum is a float by one rounding and
// enters a chain of fused multiply-adds over the tiles w, w + 8, w + 16, ... of a row, of warp w; the eight
// chains are added in order. So an element's bits depend on its rows of x and w alone, in both kernels here
// and for any number of rows. Against float activations a weight's product is off by at most |w| * max|x of
// its group| / 65278.
//
// Weights that are halves (F16, and BF16 as halves with a scale for a tile) are multiplied as they are, with
// x in two halves: 22 bits of it, whatever its neighbours are. The sums of 32 columns are floats of the
// card's own rounding, in one order; the rest is the same.
//
// Bytes: each weight once for up to 4 rows of x; more are for matmul_sets.cuh. In matmul_ring a
// warp of its own fills a ring in shared memory by bulk copies of up to eight tiles, which begin before the
// kernel that makes x has ended and go on across rows of tiles, so that the memory has no pause.
#pragma once

#include "backend/cuda/kernels/ring.cuh"
#include "backend/cuda/kernels/tile_operands.cuh"

namespace smelt::cuda {

// --- Products ---

// Where tile `t` of rows begins, of the products one after another; `second` of gated ones.
template <class T, bool gated>
INLINE const uint8_t* row_of_tiles(const TileMatmulArgs& a, uint32_t t, bool second) {
    const uint8_t* w = gated && second ? a.products[1].w : a.products[0].w;
    uint32_t first = 0;
    if (!gated) {
        UNROLL for (int p = 1; p < most_products; ++p) {
            if (p < static_cast<int>(a.n_products) && t >= a.products[p].first_tile) {
                w = a.products[p].w;
                first = a.products[p].first_tile;
            }
        }
    }
    return w + uint64_t{t - first} * a.k_tiles * T::bytes;
}

// Where the sums of a tile of rows go. Of gated products, both go to the first.
struct PlaceOfTile {
    float* out;
    const float* bias;
    uint32_t first_row, rows, stride;
};
INLINE PlaceOfTile place_of_tile(const TileMatmulArgs& a, uint32_t tile) {
    const TileProduct* m = &a.products[0];
    UNROLL for (int p = 1; p < most_products; ++p) {
        if (p < static_cast<int>(a.n_products) && tile >= a.products[p].first_tile) m = &a.products[p];
    }
    return {m->out, m->bias, (tile - m->first_tile) * rows_of_tile, m->rows, m->out_stride};
}

INLINE float silu_times(float gate, float up) {
    return gate / (1.0f + expf(-gate)) * up;
}

// The sums of eight warps in order, with bias or through the gate. partial: passes * 64 * n_sets floats a
// warp, of these [pass][set][side][lane]. For n_threads threads; row x goes to out_of(x).
template <bool gated, int n_sets, int n_threads, class OutOf>
INLINE void finish_rows(const float* partial, uint32_t first_row, uint32_t rows, const float* bias,
                        uint32_t n_x, uint32_t thread, OutOf out_of) {
    constexpr int passes = gated ? 2 : 1, each = 64 * n_sets;
    for (uint32_t i = thread; i < 16 * n_x; i += n_threads) {
        const uint32_t r = i % 16, x = i / 16;
        const float* from = partial + (x / 4) * 64 + (r / 8) * 32 + 4 * (r % 8) + x % 4;
        float sum = from[0], second = gated ? from[each] : 0.0f;
        UNROLL for (int s = 1; s < tile_warps; ++s) {
            sum += from[s * passes * each];
            if (gated) second += from[s * passes * each + each];
        }
        const uint32_t row = first_row + r;
        if (row >= rows) continue;
        if (bias != nullptr) sum += bias[row];
        out_of(x)[row] = gated ? silu_times(sum, second) : sum;
    }
}
template <bool gated, int n_sets, int n_threads>
INLINE void finish_tile(const TileMatmulArgs& a, const float* partial, uint32_t tile, uint32_t first_x,
                        uint32_t n_x, uint32_t thread) {
    const PlaceOfTile to = place_of_tile(a, tile);
    finish_rows<gated, n_sets, n_threads>(
        partial, to.first_row, to.rows, to.bias, n_x, thread,
        [&](uint32_t x) { return to.out + uint64_t{first_x + x} * to.stride; });
}

// --- A ring in shared memory ---

// The sum of x and residual of each row to `floats`, and what its norm multiplies it by: as the kernels
// add_rms_norm and rms_norm of rows.cu do it, to the bit. For the threads that multiply.
template <int n_x, int n_threads>
INLINE void norm_rows(const TileMatmulArgs& a, uint32_t first_x, uint32_t n, float* floats, float* scratch,
                      float* scale) {
    const auto barrier = [] { first_threads_barrier(n_threads); };
    const uint32_t cols = a.cols;
    for (uint32_t r = 0; r < n; ++r) {
        const float* x = a.x + uint64_t{first_x + r} * a.x_stride;
        const float* residual = a.norm.residual + uint64_t{first_x + r} * a.norm.residual_stride;
        UNROLL_BY(4)
        for (uint32_t i = threadIdx.x; i < cols; i += n_threads)
            floats[r * cols + i] = a.norm.residual != nullptr ? residual[i] + x[i] : x[i];
    }
    barrier();
    // Who has read lets block 0 know. Its sums are in shared memory.
    if (threadIdx.x == 0 && a.norm.residual != nullptr) add_released(a.norm.n_read, 1);
    // The threads of that kernel, several for each here.
    const bool is_wide = cols > wide_row;
    for (uint32_t r = 0; r < n; ++r) {
        for (uint32_t thread = threadIdx.x; thread < norm_threads; thread += n_threads) {
            if (!is_wide && thread >= 32) break;
            float sum = 0;
            for (uint32_t i = thread; i < cols; i += is_wide ? norm_threads : 32) {
                const float v = floats[r * cols + i];
                sum = fmaf(v, v, sum);
            }
            sum = lanes_sum(sum);
            if (lane() == 0) scratch[32 * r + thread / 32] = sum;
        }
    }
    barrier();
    UNROLL for (int r = 0; r < n_x; ++r) {
        float total = scratch[32 * r];
        if (is_wide) {
            total = 0;
            for (int w = 0; w < norm_threads / 32; ++w) total += scratch[32 * r + w];
        }
        scale[r] = 1.0f / sqrtf(total / static_cast<float>(cols) + a.norm.eps);
    }
}
// Once every block has read the residual. For one warp of block 0.
INLINE void write_residual(const TileMatmulArgs& a, uint32_t first_x, uint32_t n, const float* floats) {
    wait_until(a.norm.n_read, gridDim.x);
    __syncwarp();
    if (lane() == 0) *a.norm.n_read = 0;
    for (uint32_t r = 0; r < n; ++r) {
        float* to = a.norm.residual + uint64_t{first_x + r} * a.norm.residual_stride;
        for (uint32_t i = lane(); i < a.cols; i += 32) to[i] = floats[r * a.cols + i];
    }
}

// n_x rows of x, 1, 2 or 4, as integers in shared memory: of each group n_x * 64 bytes of fragments, then n_x
// GroupOfX. Blocks: (as many as run at once, sets of n_x rows), of n_teams times eight warps that multiply, a
// warp that copies and one that adds the warps' sums up.
template <class Block, int n_x, bool gated = false, int n_teams = ring_teams>
INLINE void matmul_ring(const TileMatmulArgs& a) {
    using T = Tile<Block>;
    using Set = SetOf<T>;
    constexpr int passes = gated ? 2 : 1, n_threads = n_teams * tile_warps * 32;
    constexpr uint32_t slot_bytes = tile_warps * T::bytes;
    DYNAMIC_SHARED(uint4, all_shared);
    auto* shared = reinterpret_cast<uint8_t*>(all_shared);
    __shared__ float partial[n_teams][2][tile_warps * passes * 64];
    __shared__ __align__(8) uint64_t barriers[2 * n_teams * (most_slots + 2)];
    const int me = static_cast<int>(lane()), in_block = static_cast<int>(warp());
    const uint32_t n_groups_of_x = a.k_tiles * T::n_chunks,
                   rounds = (a.k_tiles + tile_warps - 1) / tile_warps;
    auto* fragments = reinterpret_cast<uint32_t*>(shared + n_teams * a.n_slots * slot_bytes);
    auto* groups = reinterpret_cast<GroupOfX*>(fragments + n_groups_of_x * (n_x * words_of_row<T>));
    auto* floats = reinterpret_cast<float*>(  // rows of x, where a norm makes them
        reinterpret_cast<uint8_t*>(groups) + n_groups_of_x * (n_x * Set::group_bytes));
    __shared__ float scratch[32 * n_x];
    // Of each team: slots that are full, empty; sums that are there, taken.
    const auto full = [&](int team) { return shared_address(barriers) + 16 * (most_slots + 2) * team; };
    const auto empty = [&](int team) { return full(team) + 8 * most_slots; };
    const auto made = [&](int team) { return full(team) + 16 * most_slots; };
    const auto taken = [&](int team) { return full(team) + 16 * most_slots + 16; };

    let_next_start();
    if (threadIdx.x == 0) {
        for (int team = 0; team < n_teams; ++team) {
            for (uint32_t i = 0; i < a.n_slots; ++i) {
                barrier_init(full(team) + 8 * i, 1);
                barrier_init(empty(team) + 8 * i, tile_warps);
            }
            for (int i = 0; i < 2; ++i) {
                barrier_init(made(team) + 8 * i, tile_warps);
                barrier_init(taken(team) + 8 * i, 1);
            }
        }
        barriers_are_ready();
    }
    __syncthreads();

    if (in_block == n_teams * tile_warps) {
        if (me != 0) return;
        const uint64_t policy = read_once();
        RingPlace to[n_teams];
        UNROLL for (int team = 0; team < n_teams; ++team) to[team] = {0, 1};
        for (uint32_t first = blockIdx.x; first < a.n_tiles; first += n_teams * gridDim.x) {
            UNROLL for (int team = 0; team < n_teams; ++team) {
                const uint32_t tile = first + team * gridDim.x;
                if (tile >= a.n_tiles) break;
                const SharedAddress ring = shared_address(shared) + team * a.n_slots * slot_bytes;
                for (int pass = 0; pass < passes; ++pass) {
                    const uint8_t* from = row_of_tiles<T, gated>(a, tile, pass == 1);
                    for (uint32_t k = 0; k < a.k_tiles; k += tile_warps) {
                        const uint32_t n = least(a.k_tiles - k, uint32_t{tile_warps}) * T::bytes;
                        barrier_wait(empty(team) + 8 * to[team].slot, to[team].parity);
                        barrier_expect(full(team) + 8 * to[team].slot, n);
                        copy_bulk(ring + to[team].slot * slot_bytes, from, n, full(team) + 8 * to[team].slot,
                                  policy);
                        from += n;
                        to[team].advance(a.n_slots);
                    }
                }
            }
        }
        return;
    }

    wait_for_previous();
    const uint32_t first_x = blockIdx.y * n_x, all = rows_of(a.rows);
    const uint32_t n = least(all - least(all, first_x), uint32_t{n_x});
    if (in_block == n_teams * tile_warps + 1) {
        uint32_t i = 0;
        for (uint32_t first = blockIdx.x; first < a.n_tiles; first += n_teams * gridDim.x, ++i) {
            const uint32_t which = i & 1, phase = i >> 1 & 1;
            for (int team = 0; team < n_teams; ++team) {
                const uint32_t tile = first + team * gridDim.x;
                if (tile >= a.n_tiles) break;
                barrier_wait(made(team) + 8 * which, phase);
                finish_tile<gated, 1, 32>(a, partial[team][which], tile, first_x, n, me);
                __syncwarp();
                if (me == 0) barrier_arrive(taken(team) + 8 * which);
            }
        }
        if (a.norm.w != nullptr && a.norm.residual != nullptr && blockIdx.x == 0)
            write_residual(a, first_x, n, floats);
        return;
    }

    // All loads of a thread are under way before the first is waited for.
    const uint32_t n_words = n_groups_of_x * 8;
    constexpr int at_once = 8;
    const bool normed = a.norm.w != nullptr;
    float scales_of_norm[n_x];
    if (normed) norm_rows<n_x, n_threads>(a, first_x, n, floats, scratch, scales_of_norm);
    for (uint32_t first = threadIdx.x; first < n_words * n_x; first += at_once * n_threads) {
        float4 v[at_once];
        UNROLL for (int j = 0; j < at_once; ++j) {
            const uint32_t of_all = first + j * n_threads, r = n_x == 1 ? 0 : of_all / n_words;
            const uint32_t column = 4 * (of_all - r * n_words);
            v[j] = {};
            if (of_all >= n_words * n_x || r >= n) continue;
            if (normed) {
                float scale = scales_of_norm[0];
                UNROLL for (int i = 1; i < n_x; ++i) {
                    if (r == static_cast<uint32_t>(i)) scale = scales_of_norm[i];
                }
                v[j] = load_four(floats + r * a.cols, column, a.cols);
                const float4 w = load_four(a.norm.w, column, a.cols);
                v[j] = {v[j].x * scale * w.x, v[j].y * scale * w.y, v[j].z * scale * w.z,
                        v[j].w * scale * w.w};
                float* out = a.norm.out + uint64_t{first_x + r} * a.norm.out_stride + column;
                if (blockIdx.x == 0) {
                    if (column < a.cols) out[0] = v[j].x;
                    if (column + 1 < a.cols) out[1] = v[j].y;
                    if (column + 2 < a.cols) out[2] = v[j].z;
                    if (column + 3 < a.cols) out[3] = v[j].w;
                }
            } else {
                v[j] = load_four(a.x + uint64_t{first_x + r} * a.x_stride, column, a.cols);
            }
        }
        UNROLL for (int j = 0; j < at_once; ++j) {
            const uint32_t of_all = first + j * n_threads, r = n_x == 1 ? 0 : of_all / n_words;
            const uint32_t word = of_all - r * n_words;
            if (of_all >= n_words * n_x) break;  // the same in all lanes of a warp
            put_word<T>(fragments + (word / 8 * n_x + r) * words_of_row<T>, groups + (word / 8 * n_x + r),
                        word & 7, v[j], true);
        }
    }
    first_threads_barrier(n_threads);

    // Column c of the fragment: plane c % 2 of row c / 2 of x.
    const int team = in_block / tile_warps, in_team = in_block % tile_warps;
    const int column = me >> 2, row_of_column = (column >> 1) & (n_x - 1), my_row = (me & 3) & (n_x - 1);
    const auto* my_fragments = reinterpret_cast<const typename Set::Words*>(fragments) + row_of_column * 8 +
                               (column & 1) * 4 + (me & 3);
    const uint8_t* my_ring = shared + team * a.n_slots * slot_bytes + in_team * T::bytes;
    RingPlace at = {0, 0};
    uint32_t i = 0;
    for (uint32_t tile = blockIdx.x + team * gridDim.x; tile < a.n_tiles; tile += n_teams * gridDim.x, ++i) {
        const uint32_t which = i & 1, phase = i >> 1 & 1;
        float sums[passes][2];
        UNROLL for (int pass = 0; pass < passes; ++pass) {
            sums[pass][0] = sums[pass][1] = 0;
            for (uint32_t k = static_cast<uint32_t>(in_team), round = 0; round < rounds;
                 ++round, k += tile_warps) {
                barrier_wait(full(team) + 8 * at.slot, at.parity);
                if (k < a.k_tiles) {
                    const typename T::Loaded loaded =
                        T::load(FromShared{}, my_ring + at.slot * slot_bytes, me);
                    UNROLL for (int c = 0; c < T::n_chunks; ++c) {
                        uint32_t fragment[T::words];
                        T::fragment(loaded, c, fragment);
                        GroupScales scales[2];
                        scales[0] = T::scales(loaded, c, 0);
                        if (T::group == 16) scales[1] = T::scales(loaded, c, 1);
                        const uint32_t g = k * T::n_chunks + c;
                        typename Set::Group group;
                        if constexpr (!T::halves) group = groups[g * n_x + my_row];
                        add_chunk<T>(fragment, scales, my_fragments[g * (n_x * 8)], group, sums[pass]);
                    }
                }
                __syncwarp();
                if (me == 0) barrier_arrive(empty(team) + 8 * at.slot);
                at.advance(a.n_slots);
            }
        }
        barrier_wait(taken(team) + 8 * which, phase ^ 1);
        float* mine = partial[team][which] + in_team * passes * 64;
        UNROLL for (int pass = 0; pass < passes; ++pass) {
            mine[64 * pass + me] = sums[pass][0];
            mine[64 * pass + 32 + me] = sums[pass][1];
        }
        __syncwarp();
        if (me == 0) barrier_arrive(made(team) + 8 * which);
    }
}

// Blocks: warps by tile.
template <class Block>
INLINE void pack_tiles(const PackTilesArgs& a) {
    using T = Tile<Block>;
    const uint32_t i = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    if (i >= a.n_tiles) return;
    const uint32_t row_tile = i / a.k_tiles, k_tile = i % a.k_tiles;
    const TileSource source = {a.data,
                               a.scales,
                               a.row_bytes,
                               a.s_row_bytes,
                               a.rows,
                               a.cols,
                               int64_t{row_tile} * rows_of_tile,
                               int64_t{k_tile} * T::cols};
    T::pack(source, a.tiles + uint64_t{i} * T::bytes, static_cast<int>(threadIdx.x & 31));
}

}  // namespace smelt::cuda
