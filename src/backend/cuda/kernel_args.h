// What the host hands to each kernel: one struct each, passed by value, the same text on both sides. Pointers
// are addresses of the device; strides are in elements where they do not say bytes. Device-safe.
#pragma once

#include <cstdint>

#include "base/device_fn.h"

namespace smelt::cuda {

// --- Geometry that host and kernels agree on ---

inline constexpr int warp_size = 32;
inline constexpr int matmul_warps = 4;  // of a block of the generic products; each has rows of its own
inline constexpr int most_products = 3;
inline constexpr int unit_len = 16;          // weights that a lane has at a time
inline constexpr int element_threads = 256;  // of ops over the elements of rows
inline constexpr int wide_row = 256;         // norms have a warp up to here, then 32
inline constexpr int norm_threads = 1024;
inline constexpr int wide_threads = 256;  // of the other ops that take a row as a whole
inline constexpr int attention_threads = 128;
inline constexpr int attention_warps = attention_threads / warp_size;
inline constexpr int attention_round = 32;   // positions of one round of the online softmax
inline constexpr int attention_span = 128;   // positions whose sums are carried on together
inline constexpr int attention_dims = 128;   // of k or v in shared memory at a time
inline constexpr int attention_pitch = 132;  // floats from one position to the next there
inline constexpr int attention_sums = 32;    // query rows of a warp times 32-wide chunks of v
inline constexpr int decode_threads = 256;   // of attention_decode: a warp for a round and half of the heads
inline constexpr int prompt_threads = 256, prompt_rows = 64;  // of attention_prompt, query rows
inline constexpr int sample_threads = 1024;
inline constexpr uint32_t sample_parts = 64;  // of a row of logits, whose largest are looked for side by side
inline constexpr int most_sampled = 1 << 20;  // logits of a row
inline constexpr int expert_tile = 8;         // pairs of one expert that share a read of its weights

// How many rows there are in this step: where they are counted, so many for each, or always `most`. A launch
// has blocks for the most rows of its shape class; those of rows that there are not return at once.
struct Rows {
    const int32_t* count;  // in the step's StepCounts; null: `most`
    uint32_t each, most;
};
DEVICE_FN inline uint32_t rows_of(const Rows& r) {
    return r.count == nullptr ? r.most : static_cast<uint32_t>(*r.count) * r.each;
}

// --- Row-wise ops ---

struct RowsArgs {
    Rows rows;
    float* out;
    const float *x, *y;
    const int32_t* ids;  // of rows, for gather_rows
    uint32_t row_len, x_rows;
    uint32_t out_stride, x_stride, y_stride;
    float alpha, limit;
};

struct NormArgs {
    Rows rows;
    float *out, *residual;
    const float *x, *w, *bias;
    uint32_t n;  // elements of a norm; norms of a row are the grid's second dimension
    uint32_t out_stride, x_stride, residual_stride;
    float eps;
};

struct RopeTableArgs {
    Rows rows;
    float* table;
    const int32_t* positions;
    const float* inv_freq;
    uint32_t n_pairs, stride;
    float scale;
};

struct RopeArgs {
    Rows rows;
    float* x;
    const float* table;
    uint32_t n_heads, head_dim, n_pairs, first;
    uint32_t x_stride, table_stride;
    uint32_t interleaved;
};

// One side of a KV layer.
struct KvArgs {
    uint8_t* rows;
    uint32_t n_heads, dim, row_bytes;
    int32_t format;  // a Format of kv_formats
};

// Of q, k and v: norm and rotation in place, then k and v to the cache. Heads of q come first, then k's, then
// v's.
struct PrepareArgs {
    Rows rows;
    float* q;
    const float *k, *v, *table, *q_norm, *k_norm;  // null: there is none
    const int32_t* slots;
    uint32_t n_q_heads, n_k_heads, n_v_heads;
    uint32_t q_stride, k_stride, v_stride, table_stride;
    uint32_t n_pairs, first, interleaved;  // n_pairs 0: no rotation
    float eps;
    KvArgs k_cache, v_cache;
};

struct EmbedArgs {
    Rows rows;
    float* out;
    const int32_t *ids, *drawn;
    const uint8_t *w, *scales;
    uint64_t w_row_bytes, s_row_bytes;
    uint32_t cols, n_units, out_stride;
    uint32_t table_rows, aligned;
};

struct TopKArgs {
    Rows rows;
    float* values;
    int32_t* ids;
    const float* x;
    uint32_t n, k;
    uint32_t x_stride, values_stride, ids_stride;
};

struct SampleArgs {
    Rows rows;
    int32_t *tokens, *drawn;     // drawn is for the embedding of the step that follows
    float *logprobs, *log_sums;  // may be null
    uint32_t* parts;             // room for rows of sample_parts ranks with their ids
    float* changed;              // room for rows of n logits; null where there are no masks or edits
    const float* logits;
    const void *draw_rows, *edits;  // DrawRow, LogitEdit
    const uint32_t* masks;
    uint32_t n, id_bits;                 // logits of a row; a multiple of four bits that is enough for an id
    uint32_t logits_stride, mask_words;  // of 32 bits; 0: there are no masks
};

// --- Matrix products ---
//
// The order of additions, which every product of this backend keeps: columns are taken in units of 16; lane l
// adds those of units l, l + 32, l + 64, ... into one sum by fused multiply-adds in ascending order; the
// lanes' sums are added 16, 8, 4, 2 and 1 apart. It depends on nothing but the number of columns, so that an
// element has the same bits in whatever batch it is computed.

struct MatmulProduct {
    float* out;
    const uint8_t *w, *scales;  // scales: planar formats only
    const float* bias;          // null: none
    uint64_t w_row_bytes, s_row_bytes;
    uint32_t rows, first_block;  // blocks of rows, one a warp, are counted through all products
    uint32_t out_stride;
};

struct MatmulArgs {
    Rows rows;  // of x
    const float* x;
    uint32_t cols, n_units;  // units of 16 columns, the last may be part of one
    uint32_t x_stride;
    uint32_t x_aligned, w_aligned;  // whether every row begins at a multiple of 16 bytes
    uint32_t n_products, n_blocks;
    MatmulProduct products[most_products];
};

// Where an expert's weights begin.
struct ExpertPlace {
    const uint8_t *w, *scales;
};

// Which pairs of token and expert a tile has.
enum class Pairing : uint32_t {
    sorted,  // what group_pairs made
    single,  // tile i has pair i
    heads,   // every token has every expert, pair t * n_experts + e: tiles of the first expert, of the second
             // ...
};

struct ExpertProduct {
    float* out;
    const ExpertPlace* places;  // one an expert
    const float* bias;
    uint64_t w_row_bytes, s_row_bytes;
    uint32_t rows, first_block;
    uint32_t out_stride;
};

// Pairs [first, first + count) of the sorted list belong to the expert.
struct ExpertTile {
    uint32_t expert, first, count;
};

struct ExpertsArgs {
    Rows rows;  // of x
    const float* x;
    const int32_t* ids;
    const ExpertTile* tiles;
    const uint32_t* pairs;
    uint32_t n_used, n_experts, cols, n_units;
    uint32_t x_stride, own_rows;  // own_rows: each pair of token and expert has its own row of x
    uint32_t x_aligned, w_aligned;
    uint32_t n_products, n_blocks;
    Pairing pairing;
    ExpertProduct products[most_products];
};

struct GroupArgs {
    Rows rows;  // tokens
    const int32_t* ids;
    uint32_t* pairs;
    ExpertTile* tiles;
    uint32_t* counts;
    uint32_t n_experts, n_used, ids_stride, max_tiles;
};

struct RouteArgs {
    Rows rows;
    int32_t* ids;
    float* weights;
    const float *logits, *bias;  // bias: of the selection; null: none
    uint32_t n_experts, n_used;
    uint32_t logits_stride, ids_stride, weights_stride;
    uint32_t sigmoid, normalize;
    float scale;
    uint32_t n_groups, n_groups_used;
};

struct AddExpertsArgs {
    Rows rows;
    float* x;
    const float *y, *weights;
    uint32_t n_used, dim;
    uint32_t x_stride, y_stride, weights_stride;
};

// --- Attention ---

// A round has 32 positions, beginning at a multiple of 32; 128 positions are a span with a maximum, a sum and
// a sum of v of its own; spans are merged one after another. So the order of operations depends on absolute
// positions alone, whether a block goes through all spans or one each.
struct AttentionArgs {
    Rows rows;  // tokens
    float *out, *partial;
    const float *q, *sinks;  // sinks: null: none
    const int32_t *positions, *seq_start, *block_table, *n_seqs;
    uint32_t max_blocks, block_len;
    uint32_t n_heads, n_rep;  // query heads, and how many of them share a head of k and v
    uint32_t q_stride, out_stride;
    uint32_t window;
    uint32_t n_spans;  // 0: a block goes through all spans itself
    uint32_t n_tiles;  // that there are at most
    uint32_t* n_done;  // spans of a token's heads, for attention_decode; zeros before and after
    float scale, soft_cap;
    KvArgs k, v;
};

// --- Recurrent layers ---

// Rows of states, see op::StateRows. `stride`: floats from row to row.
struct StateArgs {
    Rows sequences;
    float* rows;
    const int32_t *positions, *seq_start, *block_table;
    uint32_t max_blocks, block_len;
    uint64_t first, stride;
};

struct ConvArgs {
    Rows rows;  // tokens
    float* out;
    const float *x, *w;
    uint32_t n, kernel_len;  // channels, and tokens that an output is made of
    uint32_t out_stride, x_stride;
    StateArgs state;
};

struct DeltaArgs {
    float* out;
    const float *q, *k, *v, *a, *b, *decay, *bias;
    uint32_t n_k_heads, n_v_heads, k_dim, v_dim, tiled;
    uint32_t out_stride, q_stride, k_stride, v_stride, a_stride, b_stride;
    StateArgs state;
};

}  // namespace smelt::cuda
