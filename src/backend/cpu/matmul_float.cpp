// out = x · wᵀ for float weights of any width: lane i of the accumulator takes columns i, i + lanes, ... in
// order, then the lanes are summed.
#include "backend/cpu/fast.h"
#include "backend/cpu/kernel_set.h"

namespace smelt::cpu::SMELT_ISA {

namespace {

#if defined(SMELT_ISA_AVX512) || defined(SMELT_ISA_NEON)
constexpr int tile_rows = 4, tile_tokens = 4;  // 16 accumulators of 32 registers
#else
constexpr int tile_rows = 4, tile_tokens = 2;  // 8 of 16
#endif

template <class Block, int R, int T>
SIMD void tile(const MatmulArgs& a, int64_t row, int64_t token) {
    constexpr int64_t width = sizeof(Block);
    F acc[R][T] = {};
    const uint8_t* w = a.w.data + row * a.w.row_bytes;
    const float* x = a.x + token * a.x_stride;
    int64_t i = 0;
    for (; i + lanes <= a.w.cols; i += lanes) {
        F xs[T];
        UNROLL for (int t = 0; t < T; ++t) xs[t] = load(x + t * a.x_stride + i);
        UNROLL for (int r = 0; r < R; ++r) {
            const F ws = Fast<Block>::load_all(w + r * a.w.row_bytes + i * width);
            UNROLL for (int t = 0; t < T; ++t) acc[r][t] = fma(ws, xs[t], acc[r][t]);
        }
    }
    const int rest = static_cast<int>(a.w.cols - i);
    UNROLL for (int r = 0; r < R; ++r) {
        const F ws = Fast<Block>::load_some(w + r * a.w.row_bytes + i * width, rest);
        const float bias = a.bias == nullptr ? 0.0f : a.bias[row + r];
        UNROLL for (int t = 0; t < T; ++t) {
            acc[r][t] = fma(ws, load_first(x + t * a.x_stride + i, rest), acc[r][t]);
            a.out[(token + t) * a.out_stride + row + r] = sum(acc[r][t]) + bias;
        }
    }
}

template <class Block, int T>
void rows(const MatmulArgs& a, int64_t token) {
    int64_t row = a.first_row;
    for (; row + tile_rows <= a.last_row; row += tile_rows) tile<Block, tile_rows, T>(a, row, token);
    for (; row < a.last_row; ++row) tile<Block, 1, T>(a, row, token);
}

template <class Block>
void tokens(const MatmulArgs& a) {
    int64_t token = 0;
    for (; token + tile_tokens <= a.n_tokens; token += tile_tokens) rows<Block, tile_tokens>(a, token);
    for (; token < a.n_tokens; ++token) rows<Block, 1>(a, token);
}

}  // namespace

void matmul_float(const MatmulArgs& a) {
    switch (a.w.format) {
#define X(name, ...)                                                                                \
    case Format::name:                                                                              \
        if constexpr (Fast<Block##name>::product == Product::floats) return tokens<Block##name>(a); \
        break;
        QUANT_FORMATS(X)
#undef X
    }
}

}  // namespace smelt::cpu::SMELT_ISA
