// Recurrent layers: a causal convolution over a few tokens, and the gated delta rule, one token at a time.
#include "backend/cpu/kernel_set.h"
#include "backend/cpu/simd.h"

namespace smelt::cpu::SMELT_ISA {

namespace {

SIMD F silu(F x) {
    return x / (splat(1.0f) + exp(-x));
}

// D vectors of columns: S *= keep; known = Sᵀ k; S += k ⊗ (v - known) * beta; out = Sᵀ q
template <int D>
SIMD void delta_columns(const DeltaArgs& a, int64_t first) {
    F known[D] = {};
    for (int64_t i = 0; i < a.k_dim; ++i) {
        const float* row = a.state + i * a.stride + first;
        UNROLL for (int d = 0; d < D; ++d) known[d] =
            fma(load(row + d * lanes) * a.keep, splat(a.k[i]), known[d]);
    }
    F change[D], out[D] = {};
    UNROLL for (int d = 0; d < D; ++d) change[d] = (load(a.v + first + d * lanes) - known[d]) * a.beta;
    for (int64_t i = 0; i < a.k_dim; ++i) {
        float* row = a.state + i * a.stride + first;
        UNROLL for (int d = 0; d < D; ++d) {
            const F s = fma(splat(a.k[i]), change[d], load(row + d * lanes) * a.keep);
            store(row + d * lanes, s);
            out[d] = fma(s, splat(a.q[i]), out[d]);
        }
    }
    UNROLL for (int d = 0; d < D; ++d) store(a.out + first + d * lanes, out[d]);
}

// The last columns, fewer than a vector.
SIMD void delta_rest(const DeltaArgs& a, int64_t first, int n) {
    F known{}, out{};
    for (int64_t i = 0; i < a.k_dim; ++i)
        known = fma(load_first(a.state + i * a.stride + first, n) * a.keep, splat(a.k[i]), known);
    const F change = (load_first(a.v + first, n) - known) * a.beta;
    for (int64_t i = 0; i < a.k_dim; ++i) {
        float* row = a.state + i * a.stride + first;
        const F s = fma(splat(a.k[i]), change, load_first(row, n) * a.keep);
        store_first(row, s, n);
        out = fma(s, splat(a.q[i]), out);
    }
    store_first(a.out + first, out, n);
}

}  // namespace

void delta_rule(const DeltaArgs& a) {
    int64_t c = 0;
    for (; c + 4 * lanes <= a.n_columns; c += 4 * lanes) delta_columns<4>(a, c);
    for (; c + lanes <= a.n_columns; c += lanes) delta_columns<1>(a, c);
    if (c < a.n_columns) delta_rest(a, c, static_cast<int>(a.n_columns - c));
}

void causal_conv(float* out, const float* const* x, int kernel, const float* w, int64_t n, int64_t first,
                 int64_t last) {
    int64_t c = first;
    for (; c + lanes <= last; c += lanes) {
        F total{};
        for (int j = 0; j < kernel; ++j) total = fma(load(w + j * n + c), load(x[j] + c), total);
        store(out + c, silu(total));
    }
    const int rest = static_cast<int>(last - c);
    if (rest == 0) return;
    F total{};
    for (int j = 0; j < kernel; ++j)
        total = fma(load_first(w + j * n + c, rest), load_first(x[j] + c, rest), total);
    store_first(out + c, silu(total), rest);
}

}  // namespace smelt::cpu::SMELT_ISA
