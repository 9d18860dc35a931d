// Attention over one step of positions with an online softmax: the largest score so far, the sum of
// exp(score - largest) and the sum of exp(score - largest) * v are carried from step to step. Positions that
// a row does not see have weight 0, so that a row's sums do not depend on the rows beside it.
#include "backend/cpu/kernel_set.h"
#include "backend/cpu/simd.h"

namespace smelt::cpu::SMELT_ISA {

namespace {

constexpr int widen_from_rows = 4;  // query rows from which widening k and v to memory first pays
#if defined(SMELT_ISA_AVX512) || defined(SMELT_ISA_NEON)
constexpr int mix_tile_rows = 4;  // 16 accumulators of 32 registers
#else
constexpr int mix_tile_rows = 2;  // 8 of 16
#endif
constexpr float minus_infinity = -__builtin_inff();

SIMD int padded(int n) {
    return (n + attend_padding - 1) / attend_padding * attend_padding;
}

template <bool f16>
SIMD F load_kv(const void* row, int i) {
    if constexpr (f16) return load_f16(static_cast<const uint16_t*>(row) + i);
    return load(static_cast<const float*>(row) + i);
}

// Rows as floats, padded with zeros, in `to`; `rows` then points there.
void widen(const void** rows, int n_rows, int dim, Format format, float* to) {
    for (int r = 0; r < n_rows; ++r, to += padded(dim)) {
        kv_decode(format, rows[r], dim, to);
        for (int i = dim; i < padded(dim); ++i) to[i] = 0;
        rows[r] = to;
    }
}

// Read as they are: whole vectors of floats, or of halves where few rows would share the widened ones.
bool is_direct(Format format, int dim, int n_rows) {
    return dim % lanes == 0 && (format == Format::F32 || (format == Format::F16 && n_rows < widen_from_rows));
}

// scores[r][p] = q_r · k_p * scale
template <bool f16, int R, int P>
SIMD void score_tile(const float* q, int q_stride, const void* const* k, int dim, float scale,
                     float* scores) {
    F acc[R][P] = {};
    for (int i = 0; i < dim; i += lanes) {
        F qs[R];
        UNROLL for (int r = 0; r < R; ++r) qs[r] = load(q + r * q_stride + i);
        UNROLL for (int p = 0; p < P; ++p) {
            const F ks = load_kv<f16>(k[p], i);
            UNROLL for (int r = 0; r < R; ++r) acc[r][p] = fma(qs[r], ks, acc[r][p]);
        }
    }
    UNROLL for (int r = 0; r < R; ++r) {
        float sums[P];
        if constexpr (P == 4) {
            sum_4(acc[r], sums);
        } else {
            UNROLL for (int p = 0; p < P; ++p) sums[p] = sum(acc[r][p]);
        }
        UNROLL for (int p = 0; p < P; ++p) scores[r * kv_step + p] = sums[p] * scale;
    }
}

template <bool f16, int R>
void score_rows(const AttendArgs& a, const void* const* k, int row, float* scores) {
    const int q_stride = padded(a.k_dim);
    const float* q = a.q + row * q_stride;
    int p = 0;
    for (; p + 4 <= a.n_pos; p += 4) {
        score_tile<f16, R, 4>(q, q_stride, k + p, a.k_dim, a.scale, scores + row * kv_step + p);
    }
    for (; p < a.n_pos; ++p) {
        score_tile<f16, R, 1>(q, q_stride, k + p, a.k_dim, a.scale, scores + row * kv_step + p);
    }
}

template <bool f16>
void score(const AttendArgs& a, const void* const* k, float* scores) {
    int row = 0;
    for (; row + 4 <= a.n_rows; row += 4) score_rows<f16, 4>(a, k, row, scores);
    if (row + 2 <= a.n_rows) {
        score_rows<f16, 2>(a, k, row, scores);
        row += 2;
    }
    if (row < a.n_rows) score_rows<f16, 1>(a, k, row, scores);
}

// Turns a row's scores into weights; returns what the sums so far must be multiplied by.
SIMD float soften(const AttendArgs& a, int row, float* scores) {
    const int first = a.first[row], last = a.last[row];
    if (a.soft_cap > 0) soft_cap(scores, a.n_pos, a.soft_cap);
    for (int p = 0; p < first; ++p) scores[p] = minus_infinity;
    for (int p = last; p < kv_step; ++p) scores[p] = minus_infinity;
    if (first >= last) {
        for (int p = 0; p < kv_step; ++p) scores[p] = 0;
        return 1;
    }
    F top = load(scores);
    for (int p = lanes; p < kv_step; p += lanes) top = max(top, load(scores + p));
    const float m = largest(top);
    const float m_before = a.m[row];
    const float new_m = m < m_before ? m_before : m;
    F total{};
    for (int p = 0; p < kv_step; p += lanes) {
        const F weights = exp(load(scores + p) - new_m);
        store(scores + p, weights);
        total += weights;
    }
    const float keep = exp(splat(m_before - new_m))[0];
    a.m[row] = new_m;
    a.l[row] = a.l[row] * keep + sum(total);
    return keep;
}

// acc_r = acc_r * keep_r + sum over p of weight[r][p] * v_p, for D vectors of the head.
template <bool f16, int R, int D>
SIMD void mix_tile(const AttendArgs& a, const void* const* v, const float* weights, const float* keep,
                   int row, int dim) {
    const int stride = padded(a.v_dim);
    float* to = a.acc + row * stride + dim;
    F acc[R][D];
    UNROLL for (int r = 0; r < R; ++r) {
        UNROLL for (int d = 0; d < D; ++d) acc[r][d] = load(to + r * stride + d * lanes) * keep[r];
    }
    for (int p = 0; p < a.n_pos; ++p) {
        F vs[D];
        UNROLL for (int d = 0; d < D; ++d) vs[d] = load_kv<f16>(v[p], dim + d * lanes);
        UNROLL for (int r = 0; r < R; ++r) {
            const F w = splat(weights[r * kv_step + p]);
            UNROLL for (int d = 0; d < D; ++d) acc[r][d] = fma(w, vs[d], acc[r][d]);
        }
    }
    UNROLL for (int r = 0; r < R; ++r) {
        UNROLL for (int d = 0; d < D; ++d) store(to + r * stride + d * lanes, acc[r][d]);
    }
}

template <bool f16, int R>
void mix_rows(const AttendArgs& a, const void* const* v, const float* weights, const float* keep, int row,
              int v_dim) {
    int d = 0;
    for (; d + 4 * lanes <= v_dim; d += 4 * lanes) {
        mix_tile<f16, R, 4>(a, v, weights + row * kv_step, keep + row, row, d);
    }
    for (; d < v_dim; d += lanes) mix_tile<f16, R, 1>(a, v, weights + row * kv_step, keep + row, row, d);
}

template <bool f16>
void mix(const AttendArgs& a, const void* const* v, const float* weights, const float* keep, int v_dim) {
    int row = 0;
    for (; row + mix_tile_rows <= a.n_rows; row += mix_tile_rows) {
        mix_rows<f16, mix_tile_rows>(a, v, weights, keep, row, v_dim);
    }
    for (; row + 2 <= a.n_rows; row += 2) mix_rows<f16, 2>(a, v, weights, keep, row, v_dim);
    if (row < a.n_rows) mix_rows<f16, 1>(a, v, weights, keep, row, v_dim);
}

}  // namespace

size_t attend_scratch(int n_rows, int k_dim, int v_dim) {
    return static_cast<size_t>(kv_step * (padded(k_dim) + padded(v_dim)) + n_rows * (kv_step + 1));
}

void attend(const AttendArgs& a) {
    float* wide_k = a.scratch;
    float* wide_v = wide_k + kv_step * padded(a.k_dim);
    float* scores = wide_v + kv_step * padded(a.v_dim);
    float* keep = scores + a.n_rows * kv_step;
    const void *k[kv_step], *v[kv_step];
    for (int p = 0; p < a.n_pos; ++p) {
        k[p] = a.k[p];
        v[p] = a.v[p];
    }
    // Widened rows are padded with zeros, as q and acc are: the loops may run over whole vectors.
    const bool wide_keys = !is_direct(a.k_format, a.k_dim, a.n_rows),
               wide_values = !is_direct(a.v_format, a.v_dim, a.n_rows);
    if (wide_keys) widen(k, a.n_pos, a.k_dim, a.k_format, wide_k);
    if (wide_values && wide_keys && a.v[0] == a.k[0] && a.v_dim % lanes == 0) {
        for (int p = 0; p < a.n_pos; ++p) v[p] = k[p];  // values inside keys
    } else if (wide_values) {
        widen(v, a.n_pos, a.v_dim, a.v_format, wide_v);
    }

    if (a.k_format == Format::F16 && !wide_keys) {
        score<true>(a, k, scores);
    } else {
        score<false>(a, k, scores);
    }
    for (int r = 0; r < a.n_rows; ++r) keep[r] = soften(a, r, scores + r * kv_step);
    if (a.v_format == Format::F16 && !wide_values) {
        mix<true>(a, v, scores, keep, a.v_dim);
    } else {
        mix<false>(a, v, scores, keep, (a.v_dim + lanes - 1) / lanes * lanes);
    }
}

void attend_merge(float* m, float* l, float* acc, float span_m, float span_l, const float* span_acc,
                  int v_dim) {
    const float top = *m < span_m ? span_m : *m;
    const float keep = exp(splat(*m - top))[0], take = exp(splat(span_m - top))[0];
    *m = top;
    *l = *l * keep + span_l * take;
    for (int i = 0; i < padded(v_dim); i += lanes) {
        store(acc + i, load(acc + i) * keep + load(span_acc + i) * take);
    }
}

void attend_finish(float* out, const float* acc, float l, int v_dim) {
    int i = 0;
    for (; i + lanes <= v_dim; i += lanes) store(out + i, load(acc + i) / l);
    store_first(out + i, load_first(acc + i, v_dim - i) / l, v_dim - i);
}

}  // namespace smelt::cpu::SMELT_ISA
