// What the two matmul ops share: cutting rows into chunks, and activations as int8.
#pragma once

#include <algorithm>

#include "backend/cpu/memory.h"

namespace smelt::cpu {

inline constexpr int64_t matmul_chunk_bytes =
    64 << 10;  // weights of a chunk; 5 µs of one core's memory bandwidth

struct MatmulPlan {
    int64_t chunk_rows;
    int n_chunks;
};
// Rows of one product per chunk: whole panels, and enough chunks that a thread which loses its core delays
// little.
inline MatmulPlan choose_matmul(const MatrixRows& w, int64_t n_tokens, int panel_rows, int n_threads) {
    const int64_t by_bytes =
        std::max<int64_t>(1, matmul_chunk_bytes / std::max<int64_t>(1, w.row_bytes * n_tokens));
    const int64_t by_threads = std::max<int64_t>(1, w.rows / (8 * n_threads));
    const int64_t wanted = std::min(by_bytes, by_threads);
    const int64_t chunk_rows = (wanted + panel_rows - 1) / panel_rows * panel_rows;
    return {chunk_rows, static_cast<int>((w.rows + chunk_rows - 1) / chunk_rows)};
}

inline bool is_int8(WeightKind kind) {
    return kind == WeightKind::q8_0 || kind == WeightKind::q4_0 || kind == WeightKind::q8_g64;
}

// Scratch of one thread for one product.
inline size_t product_scratch(const Kernels& k, WeightKind kind, int64_t cols) {
    if (is_int8(kind)) return k.matmul_scratch(cols);
    return kind == WeightKind::decoded ? k.decode_scratch(cols) : 0;
}
inline void run_product(const Kernels& k, const MatmulArgs& args) {
    if (is_int8(args.w.kind)) {
        k.matmul_int8(args);
    } else if (args.w.kind == WeightKind::decoded) {
        k.matmul_decoded(args);
    } else {
        k.matmul_float(args);
    }
}

struct QuantizedBuffer {
    int8_t* q;
    float* d;
    int32_t* sums;

    // Rows from `row` on, of `cols` values each.
    QuantizedRows from(int64_t row, int64_t cols) const {
        const int64_t group = row * (cols / group_len);
        return {q + row * cols, d + group, sums + group};
    }
};
inline QuantizedBuffer carve_quantized(Carver& carver, int64_t n_rows, int64_t cols) {
    const int64_t n_groups = cols / group_len;
    return {carver.take<int8_t>(n_rows * cols), carver.take<float>(n_rows * n_groups),
            carver.take<int32_t>(n_rows * n_groups)};
}
inline void quantize_row(const Kernels& k, const float* x, int64_t cols, const QuantizedBuffer& to,
                         int64_t row) {
    const int64_t group = row * (cols / group_len);
    k.quantize(x, cols, to.q + row * cols, to.d + group, to.sums + group);
}

}  // namespace smelt::cpu
