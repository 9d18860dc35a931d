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

struct QuantizedBuffer {
    int8_t* q;
    QuantizedGroup* groups;
    QuantizedHalves* halves;

    // Rows from `row` on, of `cols` values each.
    QuantizedRows from(int64_t row, int64_t cols) const {
        const int64_t group = row * (cols / group_len);
        return {q + row * cols, groups + group, halves + group};
    }
};
inline QuantizedBuffer carve_quantized(Carver& carver, int64_t n_rows, int64_t cols) {
    const int64_t n_groups = n_rows * (cols / group_len);
    return {carver.take<int8_t>(n_rows * cols), carver.take<QuantizedGroup>(n_groups),
            carver.take<QuantizedHalves>(n_groups)};
}
inline void quantize_row(const Kernels& k, const float* x, int64_t cols, const QuantizedBuffer& to,
                         int64_t row) {
    const int64_t group = row * (cols / group_len);
    k.quantize(x, cols, to.q + row * cols, to.groups + group, to.halves + group);
}

}  // namespace smelt::cpu
