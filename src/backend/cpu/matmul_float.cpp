// out = x · wᵀ for float weights of any width: lane i of the accumulator takes columns i, i + lanes, ... in
// order, then the lanes are summed.
#include "backend/cpu/kernel_set.h"
#include "backend/cpu/simd.h"

namespace smelt::cpu::SMELT_ISA {

namespace {

#if defined(SMELT_ISA_AVX512) || defined(SMELT_ISA_NEON)
constexpr int tile_rows = 4, tile_tokens = 4;  // 16 accumulators of 32 registers
#else
constexpr int tile_rows = 4, tile_tokens = 2;  // 8 of 16
#endif

template <WeightKind kind>
SIMD F load_weights(const uint8_t* p) {
    if constexpr (kind == WeightKind::f32) return load(p);
    if constexpr (kind == WeightKind::f16) return load_f16(p);
    if constexpr (kind == WeightKind::bf16) return load_bf16(p);
}
template <WeightKind kind>
SIMD F load_weights_first(const uint8_t* p, int n) {
    if constexpr (kind == WeightKind::f32) return load_first(p, n);
    if constexpr (kind == WeightKind::f16) return load_f16_first(p, n);
    if constexpr (kind == WeightKind::bf16) return load_bf16_first(p, n);
}

template <WeightKind kind, int R, int T>
SIMD void tile(const MatmulArgs& a, int64_t row, int64_t token) {
    constexpr int64_t width = kind == WeightKind::f32 ? 4 : 2;
    F acc[R][T] = {};
    const uint8_t* w = a.w.data + row * a.w.row_bytes;
    const float* x = a.x + token * a.x_stride;
    int64_t i = 0;
    for (; i + lanes <= a.w.cols; i += lanes) {
        F xs[T];
        UNROLL for (int t = 0; t < T; ++t) xs[t] = load(x + t * a.x_stride + i);
        UNROLL for (int r = 0; r < R; ++r) {
            const F ws = load_weights<kind>(w + r * a.w.row_bytes + i * width);
            UNROLL for (int t = 0; t < T; ++t) acc[r][t] = fma(ws, xs[t], acc[r][t]);
        }
    }
    const int rest = static_cast<int>(a.w.cols - i);
    UNROLL for (int r = 0; r < R; ++r) {
        const F ws = load_weights_first<kind>(w + r * a.w.row_bytes + i * width, rest);
        const float bias = a.bias == nullptr ? 0.0f : a.bias[row + r];
        UNROLL for (int t = 0; t < T; ++t) {
            acc[r][t] = fma(ws, load_first(x + t * a.x_stride + i, rest), acc[r][t]);
            a.out[(token + t) * a.out_stride + row + r] = sum(acc[r][t]) + bias;
        }
    }
}

template <WeightKind kind, int T>
void rows(const MatmulArgs& a, int64_t token) {
    int64_t row = a.first_row;
    for (; row + tile_rows <= a.last_row; row += tile_rows) tile<kind, tile_rows, T>(a, row, token);
    for (; row < a.last_row; ++row) tile<kind, 1, T>(a, row, token);
}

template <WeightKind kind>
void tokens(const MatmulArgs& a) {
    int64_t token = 0;
    for (; token + tile_tokens <= a.n_tokens; token += tile_tokens) rows<kind, tile_tokens>(a, token);
    for (; token < a.n_tokens; ++token) rows<kind, 1>(a, token);
}

}  // namespace

void matmul_float(const MatmulArgs& a) {
    switch (a.w.kind) {
        case WeightKind::f32:
            return tokens<WeightKind::f32>(a);
        case WeightKind::f16:
            return tokens<WeightKind::f16>(a);
        case WeightKind::bf16:
            return tokens<WeightKind::bf16>(a);
        default:
            return;
    }
}

}  // namespace smelt::cpu::SMELT_ISA
