// What the host hands to each kernel: one struct each, the same text on both sides. Strides are in elements
// where they do not say bytes. Device-safe.
#pragma once

#ifndef __METAL_VERSION__
#include <cstdint>
#endif

#include "base/device_fn.h"

namespace smelt {
namespace gpu {

// --- Geometry that host and kernels agree on ---

struct Geometry {
    DEVICE_CONSTANT int simd_width = 32;
    DEVICE_CONSTANT int matmul_simdgroups = 4;  // in a threadgroup; each has rows of its own
    DEVICE_CONSTANT int max_products = 3;       // of one matmul dispatch
    DEVICE_CONSTANT int row_steps = 8;   // of 512 columns that matmul_row has in threadgroup memory together
    DEVICE_CONSTANT int row_pitch = 17;  // float4s of 64 columns there: in different banks
    DEVICE_CONSTANT int many_rows = 8192;  // of w, from which on it takes two at a time
    DEVICE_CONSTANT int attention_threads = 128;
    DEVICE_CONSTANT int attention_step = 32;   // positions of one round of the online softmax
    DEVICE_CONSTANT int attention_span = 512;  // positions whose sums are carried on together
    DEVICE_CONSTANT int attention_simdgroups = attention_threads / simd_width;
    DEVICE_CONSTANT int attention_dims = 128;  // of k or v in threadgroup memory at a time
    DEVICE_CONSTANT int attention_pitch =
        132;  // floats from one position to the next there: in different banks
    DEVICE_CONSTANT int attention_sums = 32;  // query rows of a simdgroup times 32-wide chunks of v
    DEVICE_CONSTANT int wide_row = 256;       // row-wise reductions have a simdgroup up to here, then 8
    DEVICE_CONSTANT int wide_threads = 256;
    DEVICE_CONSTANT int sample_threads = 512;
    DEVICE_CONSTANT int most_sampled = 1 << 20;  // logits of a row
};

// --- Row-wise ops ---

struct RowsArgs {
    uint32_t n_rows, row_len;
    uint32_t out_stride, x_stride, y_stride;
    float alpha, limit;
};

struct NormArgs {
    uint32_t n, groups;  // elements of a norm, and norms in a row
    uint32_t out_stride, x_stride, residual_stride;
    float eps;
};

struct RopeTableArgs {
    uint32_t n_pairs, stride;
    float scale;
};

struct RopeArgs {
    uint32_t n_heads, head_dim, n_pairs, first;
    uint32_t x_stride, table_stride;
    uint32_t interleaved;
};

// One side of a KV layer.
struct KvArgs {
    uint32_t n_heads, dim, row_bytes;
    int32_t format;  // a Format of kv_formats
};

// Of q, k and v: norm and rotation in place, then k and v to the cache. Heads of q come first, then k's, then
// v's.
struct PrepareArgs {
    uint32_t n_q_heads, n_k_heads, n_v_heads;
    uint32_t q_stride, k_stride, v_stride, table_stride;
    uint32_t n_pairs, first, interleaved;  // n_pairs 0: no rotation
    uint32_t q_norm, k_norm;               // whether there is one
    float eps;
    KvArgs k, v;
};

struct EmbedArgs {
    uint32_t cols, n_units, out_stride;
    uint32_t table_rows, aligned;
    uint64_t w_offset, w_row_bytes, s_offset, s_row_bytes;
};

struct TopKArgs {
    uint32_t n, k;
    uint32_t x_stride, values_stride, ids_stride;
};

struct SampleArgs {
    uint32_t n, id_bits;                 // logits of a row; a multiple of four bits that is enough for an id
    uint32_t logits_stride, mask_words;  // of 32 bits; 0: there are no masks
};

// --- Matrix products ---

struct MatmulProduct {
    uint32_t rows, first_block;  // blocks of rows, one a simdgroup, are counted through all products
    uint32_t out_stride, has_bias;
    uint64_t w_offset, w_row_bytes;  // bytes from the buffer's beginning; from row to row
    uint64_t s_offset, s_row_bytes;  // of a planar format's scales
};

struct MatmulArgs {
    uint32_t n_tokens, cols, n_units;  // units of 16 columns, the last may be part of one
    uint32_t x_stride;
    uint32_t x_aligned, w_aligned;  // whether 16 bytes can be read at once
    uint32_t n_products, n_blocks;
    MatmulProduct products[Geometry::max_products];
};

struct ExpertProduct {
    uint32_t rows, first_block;
    uint32_t out_stride, has_bias;
    uint64_t w_row_bytes, s_row_bytes;
};

// Which pairs of token and expert a tile has.
enum class Pairing : uint32_t {
    sorted,  // what group_pairs made
    single,  // tile i has pair i
    heads,   // every token has every expert, pair t * n_experts + e: tiles of the first expert, of the second
             // ...
};

struct ExpertsArgs {
    uint32_t n_used, n_experts, cols, n_units;
    uint32_t x_stride, own_rows;  // own_rows: each pair of token and expert has its own row of x
    uint32_t x_aligned, w_aligned;
    uint32_t n_products, n_blocks;
    Pairing pairing;
    uint32_t n_tokens;  // of heads
    ExpertProduct products[Geometry::max_products];
};

// Where an expert's weights begin in the bound buffers; absent: not in these.
struct ExpertPlace {
    uint64_t w_offset, s_offset;
};
struct AbsentExpert {
    DEVICE_CONSTANT uint64_t offset = ~uint64_t(0);
};

struct GroupArgs {
    uint32_t n_pairs, n_experts, n_used, ids_stride;
    uint32_t tile_len, max_tiles;  // pairs of one expert that share a read of its weights
};

// Pairs [first, first + count) of the sorted list belong to the expert.
struct ExpertTile {
    uint32_t expert, first, count;
};

struct RouteArgs {
    uint32_t n_experts, n_used;
    uint32_t logits_stride, ids_stride, weights_stride;
    uint32_t sigmoid, normalize, has_bias;
    float scale;
    uint32_t n_groups, n_groups_used;
};

struct AddExpertsArgs {
    uint32_t n_used, dim;
    uint32_t x_stride, y_stride, weights_stride;
};

// --- Attention ---

struct AttentionArgs {
    uint32_t n_seqs, max_blocks, block_len;
    uint32_t n_heads, n_rep;  // query heads, and how many of them share a head of k and v
    uint32_t q_stride, out_stride;
    uint32_t window, has_sinks;
    uint32_t n_spans;  // 0: a threadgroup goes through all spans itself
    float scale, soft_cap;
    KvArgs k, v;
};

// --- Recurrent layers ---

// Rows of states, see op::StateRows. `stride`: floats from row to row.
struct StateArgs {
    uint32_t n_seqs, max_blocks, block_len;
    uint64_t first, stride;
};

struct ConvArgs {
    uint32_t n, kernel_len;  // channels, and tokens that an output is made of
    uint32_t out_stride, x_stride;
    StateArgs state;
};

struct DeltaArgs {
    uint32_t n_k_heads, n_v_heads, k_dim, v_dim, tiled;
    uint32_t out_stride, q_stride, k_stride, v_stride, a_stride, b_stride;
    StateArgs state;
};

}  // namespace gpu
}  // namespace smelt
