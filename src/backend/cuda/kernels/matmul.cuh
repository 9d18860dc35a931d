// Products of few rows of x with rows of w, any format: a warp has n_rows rows of w and n_tokens rows of x;
// its lanes share the columns, in the order that kernel_args.h says. Each weight is read from memory once for
// n_tokens rows of x; x comes from cache.
#pragma once

#include "backend/cuda/kernels/pairs.cuh"
#include "backend/cuda/kernels/weights.cuh"

namespace smelt::cuda {

// The product that a block of rows belongs to. Each comparison is with a constant index: args stay in
// constant memory.
template <class Args>
INLINE uint32_t product_of(const Args& a, uint32_t block) {
    uint32_t p = 0;
    UNROLL for (uint32_t i = 1; i < most_products; ++i) {
        if (i < a.n_products && block >= a.products[i].first_block) p = i;
    }
    return p;
}

// sums[r * n_tokens + t] = this lane's part of w_r · x_t; x_of(t) is row t of x.
template <class Block, int n_tokens, int n_rows, class XOf>
INLINE void lane_products(const WeightRow* w, uint32_t n_units, bool x_aligned, float* sums, XOf x_of) {
    UNROLL for (int i = 0; i < n_rows * n_tokens; ++i) sums[i] = 0;
    for (uint32_t u = lane(); u < n_units; u += warp_size) {
        float weights[n_rows][16];
        UNROLL for (int r = 0; r < n_rows; ++r) WeightLoad<Block>::unit(w[r], u, weights[r]);
        UNROLL for (int t = 0; t < n_tokens; ++t) {
            float values[16];
            load_activations(x_of(static_cast<uint32_t>(t)), u, w[0].n, x_aligned, values);
            UNROLL for (int r = 0; r < n_rows; ++r) {
                float sum = sums[r * n_tokens + t];
                UNROLL for (int i = 0; i < 16; ++i) sum = fmaf(weights[r][i], values[i], sum);
                sums[r * n_tokens + t] = sum;
            }
        }
    }
}

template <int n_rows, class Product>
INLINE void rows_of_block(const Product& m, const uint8_t* w, const uint8_t* scales, uint32_t first_row,
                          uint32_t cols, bool aligned, WeightRow* rows) {
    UNROLL for (int r = 0; r < n_rows; ++r) {
        const uint32_t row = least(first_row + static_cast<uint32_t>(r), m.rows - 1);
        rows[r] = {w + row * m.w_row_bytes, scales == nullptr ? nullptr : scales + row * m.s_row_bytes, cols,
                   aligned};
    }
}

// Blocks: (tiles of n_tokens rows of x, blocks of rows of w in groups of matmul_warps).
template <class Block, int n_tokens, int n_rows>
INLINE void matmul(const MatmulArgs& a) {
    const uint32_t n = rows_of(a.rows), first_token = blockIdx.x * n_tokens;
    const uint32_t block = blockIdx.y * matmul_warps + warp();
    if (first_token >= n || block >= a.n_blocks) return;
    const uint32_t p = product_of(a, block);
    const MatmulProduct& m = a.products[p];
    const uint32_t first_row = (block - m.first_block) * n_rows;
    WeightRow rows[n_rows];
    rows_of_block<n_rows>(m, m.w, m.scales, first_row, a.cols, a.w_aligned != 0, rows);
    float sums[n_rows * n_tokens];
    lane_products<Block, n_tokens, n_rows>(rows, a.n_units, a.x_aligned != 0, sums, [&](uint32_t t) {
        return a.x + static_cast<uint64_t>(least(first_token + t, n - 1)) * a.x_stride;
    });
    const uint32_t i = lanes_sums<n_rows * n_tokens>(sums);
    const uint32_t row = first_row + i / n_tokens, token = first_token + i % n_tokens;
    if (is_first<n_rows * n_tokens>() && row < m.rows && token < n) {
        m.out[static_cast<uint64_t>(token) * m.out_stride + row] =
            m.bias != nullptr ? sums[0] + m.bias[row] : sums[0];
    }
}

// The same with an expert's weights: a block's rows of x are the pairs of a tile, see group_pairs.
template <class Block, int n_tokens, int n_rows>
INLINE void matmul_experts(const ExpertsArgs& a) {
    const uint32_t block = blockIdx.y * matmul_warps + warp();
    if (block >= a.n_blocks) return;
    const uint32_t p = product_of(a, block);
    const ExpertProduct& m = a.products[p];
    const ExpertTile tile = expert_tile_of<n_tokens>(a, blockIdx.x);
    if (tile.count == 0) return;
    const ExpertPlace place = m.places[tile.expert];
    const uint32_t first_row = (block - m.first_block) * n_rows;
    WeightRow rows[n_rows];
    rows_of_block<n_rows>(m, place.w, place.scales, first_row, a.cols, a.w_aligned != 0, rows);
    float sums[n_rows * n_tokens];
    lane_products<Block, n_tokens, n_rows>(rows, a.n_units, a.x_aligned != 0, sums, [&](uint32_t t) {
        const uint32_t pair = pair_of(a, tile, t), token = pair / a.n_used;
        return a.x + (static_cast<uint64_t>(token) * a.x_stride +
                      (a.own_rows != 0 ? (pair - token * a.n_used) * a.cols : 0));
    });
    const uint32_t i = lanes_sums<n_rows * n_tokens>(sums);
    const uint32_t row = first_row + i / n_tokens, t = i % n_tokens;
    if (is_first<n_rows * n_tokens>() && row < m.rows && t < tile.count) {
        const uint32_t pair = pair_of(a, tile, t), token = pair / a.n_used, used = pair - token * a.n_used;
        const float sum = sums[0];
        m.out[static_cast<uint64_t>(token) * m.out_stride + used * m.rows + row] =
            m.bias != nullptr ? sum + m.bias[static_cast<uint64_t>(tile.expert) * m.rows + row] : sum;
    }
}

// Rows of a table as floats, exactly as the format says them; a thread has 16 values. Id -1 - row is what the
// step before drew for that row, nothing where that is negative. An id that the table does not have would be
// a bug of the caller and shows as NaN.
template <class Block>
INLINE void embed(const EmbedArgs& a) {
    const uint32_t token = blockIdx.x, u = blockIdx.y * blockDim.x + threadIdx.x;
    if (token >= rows_of(a.rows) || u >= a.n_units) return;
    const int32_t given = a.ids[token], id = given < 0 ? a.drawn[-1 - given] : given;
    float values[16];
    if (given < 0 && id < 0) {
        UNROLL for (int i = 0; i < 16; ++i) values[i] = 0;
    } else if (static_cast<uint32_t>(id) < a.table_rows) {
        const auto row = static_cast<uint32_t>(id);
        const WeightRow weights = {a.w + row * a.w_row_bytes,
                                   a.scales == nullptr ? nullptr : a.scales + row * a.s_row_bytes, a.cols,
                                   a.aligned != 0};
        WeightLoad<Block>::unit(weights, u, values);
    } else {
        UNROLL for (int i = 0; i < 16; ++i) values[i] = bits_as_float(0x7fc00000u);
    }
    float* to = a.out + (static_cast<uint64_t>(token) * a.out_stride + 16 * u);
    UNROLL for (uint32_t i = 0; i < 16; ++i) {
        if (16 * u + i < a.cols) to[i] = values[i];
    }
}

}  // namespace smelt::cuda
