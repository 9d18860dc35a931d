// The kernels of one instruction set as a table of functions, and their arguments. Plain data: this header is
// compiled with every instruction set's flags. Scheduling and checks are cpu_backend.cpp's.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "quant/format_list.h"

namespace smelt::cpu {

// Every kernel computes each element in an order that depends on the element's own inputs alone, so that a
// result is the same bit for bit in any batch, chunk and thread.

constexpr int group_len = 32;       // weights and activations that share one scale in int8 products
constexpr int start_scale = 128;    // the largest that stored quants are too large by
constexpr int kv_step = 32;         // positions that attention takes at once, aligned in the sequence
constexpr int kv_span = 512;        // positions whose sums are made apart and then merged, in order
constexpr int attend_padding = 16;  // floats; q rows and accumulators are padded with zeros to a multiple

struct MatrixRows {
    Format format;
    const uint8_t* data;    // of row 0; any alignment
    const uint8_t* scales;  // planar formats
    int64_t row_bytes, row_scale_bytes;
    int64_t rows, cols;
    const uint8_t* packed = nullptr;  // all rows as pack() makes them, aligned to 64; null: only as above
};

// Activations of int8 products: x = d * q, groups of group_len.
struct QuantizedGroup {
    float d;
    float sum;      // of q; exact
    int32_t start;  // -start_scale * sum
};
struct QuantizedHalves {  // the same of the group's halves
    float sum[2];
    int32_t start[2];
};
struct QuantizedRows {
    const int8_t* q;                // (n_rows, cols)
    const QuantizedGroup* groups;   // (n_rows, cols / group_len)
    const QuantizedHalves* halves;  // as groups
};

struct MatmulArgs {
    MatrixRows w;
    int64_t first_row, last_row;  // of w; multiples of panel_rows but for the end
    const float* x;               // (n_tokens, x_stride); unused where takes_int8()
    int64_t x_stride;
    QuantizedRows xq;
    int64_t n_tokens;
    float* out;  // (n_tokens, out_stride)
    int64_t out_stride;
    const float* bias;  // (w.rows) or null
    uint8_t* scratch;   // matmul_scratch bytes, aligned to 64
};

// One kv head, up to kv_step positions, several query rows (tokens x query heads of the kv head).
struct AttendArgs {
    const void* const* k;  // (n_pos) rows of k_dim
    const void* const* v;  // (n_pos) rows of v_dim
    Format k_format, v_format;
    int n_pos;
    int k_dim, v_dim;
    int n_rows;
    const float* q;        // (n_rows, k_dim padded)
    const int32_t* first;  // (n_rows) positions [first, last) of this step that the row sees
    const int32_t* last;
    float scale;
    float soft_cap;  // 0: none
    float* m;        // (n_rows) largest score so far; -inf at the start
    float* l;        // (n_rows) sum of exp(score - m); 0
    float* acc;      // (n_rows, v_dim padded) sum of exp(score - m) * v; 0
    float* scratch;  // attend_scratch floats
};

// One token and some columns of one head's state: see op::DeltaRule.
struct DeltaArgs {
    float* state;  // (k_dim, stride)
    int64_t stride, k_dim, n_columns;
    const float *q, *k;  // (k_dim)
    const float* v;      // (n_columns)
    float* out;          // (n_columns)
    float keep, beta;    // what is left of the state, and how much is written
};

struct Kernels {
    const char* isa;
    int panel_rows;  // rows of w that a matmul takes at once

    bool (*takes_int8)(Format f, int64_t cols);  // else products take floats
    size_t (*matmul_scratch)(Format f, int64_t cols);
    void (*matmul)(const MatmulArgs&);
    // Matrices of takes_int8() are read faster once they are packed; the products have the same bits. Packs
    // rows [first_row, last_row), multiples of panel_rows but for the end, of packed_bytes for all of them.
    size_t (*packed_bytes)(Format f, int64_t rows, int64_t cols);
    void (*pack)(const MatrixRows& w, int64_t first_row, int64_t last_row, uint8_t* to);
    void (*quantize)(const float* x, int64_t n, int8_t* q, QuantizedGroup* groups, QuantizedHalves* halves);

    size_t (*attend_scratch)(int n_rows, int k_dim, int v_dim);
    void (*attend)(const AttendArgs&);
    // (m, l, acc) of one span into those of the spans before it.
    void (*attend_merge)(float* m, float* l, float* acc, float span_m, float span_l, const float* span_acc,
                         int v_dim);
    void (*attend_finish)(float* out, const float* acc, float l, int v_dim);

    void (*rms_norm)(float* out, const float* x, const float* w, int64_t n, float eps);
    void (*layer_norm)(float* out, const float* x, const float* w, const float* bias, int64_t n, float eps);
    void (*add)(float* x, const float* y, int64_t n);
    void (*silu_mul)(float* out, const float* gate, const float* up, int64_t n);
    void (*clamped_silu_mul)(float* out, const float* gate, const float* up, int64_t n, float alpha,
                             float limit);
    void (*gelu)(float* out, const float* x, int64_t n);
    void (*gelu_mul)(float* out, const float* gate, const float* up, int64_t n);
    void (*sigmoid_mul)(float* out, const float* gate, const float* x, int64_t n);
    void (*soft_cap)(float* x, int64_t n, float cap);
    // out[c] = silu(sum over j of w[j * n + c] * x[j][c]), c from `first` to `last`
    void (*causal_conv)(float* out, const float* const* x, int kernel, const float* w, int64_t n,
                        int64_t first, int64_t last);
    void (*delta_rule)(const DeltaArgs&);
    void (*rope_half)(float* x, const float* table, int64_t n_pairs);
    void (*rope_interleaved)(float* x, const float* table, int64_t n_pairs);
    // x to a KV format; n whole blocks.
    void (*kv_encode)(Format f, const float* x, int64_t n, void* row);
};

}  // namespace smelt::cpu
