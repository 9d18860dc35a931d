// out = x · wᵀ for every format without a kernel of its own: a few rows are decoded to floats in scratch,
// once for all tokens, and go through the float kernel.
#include "backend/cpu/kernel_set.h"
#include "backend/cpu/simd.h"

namespace smelt::cpu::SMELT_ISA {

namespace {

constexpr int64_t few_tokens = 4;  // up to here the rows are better kept small, near the core
constexpr int64_t few_rows = 4;    // as many as the float kernel takes at once

template <class Block>
constexpr int64_t scale_bytes_of() {
    if constexpr (requires { Block::planar_scale_bytes; }) {
        return Block::planar_scale_bytes;
    } else {
        return 0;
    }
}

template <class Block>
void decode_row(const uint8_t* __restrict data, const uint8_t* __restrict scales, int64_t n,
                float* __restrict out) {
    constexpr int64_t scale_bytes = scale_bytes_of<Block>();
    constexpr int64_t block_bytes = static_cast<int64_t>(sizeof(Block)) - scale_bytes;
    for (int64_t i = 0; i < n; i += Block::block_len, data += block_bytes, scales += scale_bytes) {
        if constexpr (scale_bytes == 0 && alignof(Block) == 1) {
            decode_whole(*reinterpret_cast<const Block*>(data), out + i);
        } else {
            Block b;
            auto* bytes = reinterpret_cast<uint8_t*>(&b);
            if constexpr (scale_bytes > 0) __builtin_memcpy(bytes, scales, static_cast<size_t>(scale_bytes));
            __builtin_memcpy(bytes + scale_bytes, data, static_cast<size_t>(block_bytes));
            decode_whole(b, out + i);
        }
    }
}

template <class Block>
void decode_rows(const MatrixRows& w, int64_t first, int64_t n, float* out) {
    for (int64_t r = 0; r < n; ++r) {
        const uint8_t* scales =
            scale_bytes_of<Block>() == 0 ? nullptr : w.scales + (first + r) * w.row_scale_bytes;
        decode_row<Block>(w.data + (first + r) * w.row_bytes, scales, w.cols, out + r * w.cols);
    }
}

void decode_rows(const MatrixRows& w, int64_t first, int64_t n, float* out) {
    switch (w.format) {
#define X(name, ...)   \
    case Format::name: \
        return decode_rows<Block##name>(w, first, n, out);
        QUANT_FORMATS(X)
#undef X
    }
}

}  // namespace

size_t decode_scratch(int64_t cols) {
    return static_cast<size_t>(panel_rows * cols) * sizeof(float);
}

void matmul_decoded(const MatmulArgs& a) {
    auto* floats = reinterpret_cast<float*>(a.scratch);
    const int64_t step = a.n_tokens <= few_tokens ? few_rows : panel_rows;
    for (int64_t row = a.first_row; row < a.last_row; row += step) {
        const int64_t n = a.last_row - row < step ? a.last_row - row : step;
        decode_rows(a.w, row, n, floats);
        MatmulArgs part = a;
        part.w = {.format = Format::F32,
                  .data = a.scratch,
                  .scales = nullptr,
                  .row_bytes = a.w.cols * static_cast<int64_t>(sizeof(float)),
                  .row_scale_bytes = 0,
                  .rows = n,
                  .cols = a.w.cols};
        part.first_row = 0;
        part.last_row = n;
        part.out = a.out + row;
        part.bias = a.bias == nullptr ? nullptr : a.bias + row;
        matmul_float(part);
    }
}

}  // namespace smelt::cpu::SMELT_ISA
