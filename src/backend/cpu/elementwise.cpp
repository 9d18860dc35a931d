// Norms, activations, rope, narrowing: one row at a time.
#include "backend/cpu/kernel_set.h"
#include "backend/cpu/simd.h"

namespace smelt::cpu::SMELT_ISA {

void rms_norm(float* out, const float* x, const float* w, int64_t n, float eps) {
    // scale = 1 / sqrt(mean(x²) + eps)
    F squares{};
    int64_t i = 0;
    for (; i + lanes <= n; i += lanes) squares = fma(load(x + i), load(x + i), squares);
    const int rest = static_cast<int>(n - i);
    const F last = load_first(x + i, rest);
    squares = fma(last, last, squares);
    const float scale = 1.0f / __builtin_sqrtf(sum(squares) / static_cast<float>(n) + eps);
    // out = x * scale * w
    for (i = 0; i + lanes <= n; i += lanes) store(out + i, load(x + i) * scale * load(w + i));
    store_first(out + i, last * scale * load_first(w + i, rest), rest);
}

void layer_norm(float* out, const float* x, const float* w, const float* bias, int64_t n, float eps) {
    const float inverse_n = 1.0f / static_cast<float>(n);
    F total{};
    int64_t i = 0;
    for (; i + lanes <= n; i += lanes) total += load(x + i);
    const int rest = static_cast<int>(n - i);
    const float mean = sum(total + load_first(x + i, rest)) * inverse_n;
    // From the differences: mean(x²) - mean(x)² would cancel where the mean is large.
    F squares{};
    for (i = 0; i + lanes <= n; i += lanes) {
        const F difference = load(x + i) - mean;
        squares = fma(difference, difference, squares);
    }
    float last[lanes] = {};
    for (int j = 0; j < rest; ++j) last[j] = x[i + j] - mean;
    squares = fma(load(last), load(last), squares);
    const float scale = 1.0f / __builtin_sqrtf(sum(squares) * inverse_n + eps);
    // out = (x - mean) * scale * w + bias
    for (i = 0; i + lanes <= n; i += lanes) {
        store(out + i, fma((load(x + i) - mean) * scale, load(w + i), load(bias + i)));
    }
    store_first(out + i, fma(load(last) * scale, load_first(w + i, rest), load_first(bias + i, rest)), rest);
}

void add(float* x, const float* y, int64_t n) {
    int64_t i = 0;
    for (; i + lanes <= n; i += lanes) store(x + i, load(x + i) + load(y + i));
    for (; i < n; ++i) x[i] += y[i];
}

SIMD F silu(F x, float alpha = 1) {
    return x / (splat(1.0f) + exp(-x * alpha));
}

void silu_mul(float* out, const float* gate, const float* up, int64_t n) {
    int64_t i = 0;
    for (; i + lanes <= n; i += lanes) store(out + i, silu(load(gate + i)) * load(up + i));
    const int rest = static_cast<int>(n - i);
    store_first(out + i, silu(load_first(gate + i, rest)) * load_first(up + i, rest), rest);
}

SIMD F clamped_silu(F gate, F up, float alpha, float limit) {
    const F highest = splat(limit), lowest = splat(-limit);
    const F u = min(up < lowest ? lowest : up, highest);
    return silu(min(gate, highest), alpha) * (u + splat(1.0f));
}

void clamped_silu_mul(float* out, const float* gate, const float* up, int64_t n, float alpha, float limit) {
    int64_t i = 0;
    for (; i + lanes <= n; i += lanes)
        store(out + i, clamped_silu(load(gate + i), load(up + i), alpha, limit));
    const int rest = static_cast<int>(n - i);
    store_first(out + i, clamped_silu(load_first(gate + i, rest), load_first(up + i, rest), alpha, limit),
                rest);
}

// x / 2 * (1 + tanh(u)) = x / (1 + exp(-2u)), u = sqrt(2 / pi) * (x + 0.044715 x³)
SIMD F gelu(F x) {
    const F cubic = fma(x * x * x, splat(0.044715f), x);
    return x / (splat(1.0f) + exp(cubic * -1.5957691216f));
}

void gelu(float* out, const float* x, int64_t n) {
    int64_t i = 0;
    for (; i + lanes <= n; i += lanes) store(out + i, gelu(load(x + i)));
    const int rest = static_cast<int>(n - i);
    store_first(out + i, gelu(load_first(x + i, rest)), rest);
}

void gelu_mul(float* out, const float* gate, const float* up, int64_t n) {
    int64_t i = 0;
    for (; i + lanes <= n; i += lanes) store(out + i, gelu(load(gate + i)) * load(up + i));
    const int rest = static_cast<int>(n - i);
    store_first(out + i, gelu(load_first(gate + i, rest)) * load_first(up + i, rest), rest);
}

SIMD F sigmoid_mul(F gate, F x) {
    return x / (splat(1.0f) + exp(-gate));
}

void sigmoid_mul(float* out, const float* gate, const float* x, int64_t n) {
    int64_t i = 0;
    for (; i + lanes <= n; i += lanes) store(out + i, sigmoid_mul(load(gate + i), load(x + i)));
    const int rest = static_cast<int>(n - i);
    store_first(out + i, sigmoid_mul(load_first(gate + i, rest), load_first(x + i, rest)), rest);
}

void soft_cap(float* x, int64_t n, float cap) {
    int64_t i = 0;
    for (; i + lanes <= n; i += lanes) store(x + i, tanh(load(x + i) / cap) * cap);
    const int rest = static_cast<int>(n - i);
    store_first(x + i, tanh(load_first(x + i, rest) / splat(cap)) * cap, rest);
}

// (a, b) -> (a cos - b sin, a sin + b cos)
SIMD Pair rotate(Pair x, Pair cos_sin) {
    return {x.even * cos_sin.even - x.odd * cos_sin.odd, x.even * cos_sin.odd + x.odd * cos_sin.even};
}

void rope_half(float* x, const float* table, int64_t n_pairs) {
    int64_t i = 0;
    for (; i + lanes <= n_pairs; i += lanes) {
        const Pair t = deinterleave(load(table + 2 * i), load(table + 2 * i + lanes));
        const Pair y = rotate({load(x + i), load(x + n_pairs + i)}, t);
        store(x + i, y.even);
        store(x + n_pairs + i, y.odd);
    }
    for (; i < n_pairs; ++i) {
        const float a = x[i], b = x[n_pairs + i], c = table[2 * i], s = table[2 * i + 1];
        x[i] = a * c - b * s;
        x[n_pairs + i] = a * s + b * c;
    }
}

void rope_interleaved(float* x, const float* table, int64_t n_pairs) {
    int64_t i = 0;
    for (; i + lanes <= n_pairs; i += lanes) {
        const Pair t = deinterleave(load(table + 2 * i), load(table + 2 * i + lanes));
        interleave_store(x + 2 * i, rotate(deinterleave(load(x + 2 * i), load(x + 2 * i + lanes)), t));
    }
    for (; i < n_pairs; ++i) {
        const float a = x[2 * i], b = x[2 * i + 1], c = table[2 * i], s = table[2 * i + 1];
        x[2 * i] = a * c - b * s;
        x[2 * i + 1] = a * s + b * c;
    }
}

void to_f16(uint16_t* out, const float* x, int64_t n) {
    int64_t i = 0;
    for (; i + lanes <= n; i += lanes) store_f16(out + i, load(x + i));
    const int rest = static_cast<int>(n - i);
    if (rest == 0) return;
    uint16_t last[lanes];
    store_f16(last, load_first(x + i, rest));
    __builtin_memcpy(out + i, last, static_cast<size_t>(rest) * sizeof(uint16_t));
}

// d = max|x| / 127, q = round(x / d) in every group
void quantize(const float* x, int64_t n, int8_t* q, QuantizedGroup* groups, QuantizedHalves* halves) {
    for (int64_t g = 0; g < n / group_len; ++g, x += group_len, q += group_len) {
        F magnitude{};
        UNROLL for (int i = 0; i < group_len; i += lanes) {
            const F v = load(x + i);
            magnitude = max(magnitude, v < F{} ? -v : v);
        }
        const float top = largest(magnitude);
        // Below 2^-120 the inverse would overflow; such a group is zero for every product that a float can
        // hold.
        const float inverse = top < 0x1p-120f ? 0.0f : 127.0f / top;
        F sums[2] = {};
        UNROLL for (int i = 0; i < group_len; i += lanes) {
            const F scaled = load(x + i) * inverse;
            const F in_range = min(scaled >= splat(-127.0f) ? scaled : splat(-127.0f), splat(127.0f));
            const I rounded = round_to_int(in_range);
            typedef int8_t B __attribute__((vector_size(lanes)));
            const B bytes = __builtin_convertvector(rounded, B);
            __builtin_memcpy(q + i, &bytes, sizeof bytes);
            sums[i / (group_len / 2)] += to_float(rounded);
        }
        const float first = sum(sums[0]), second = sum(sums[1]);
        groups[g] = {top / 127.0f, first + second, -start_scale * static_cast<int32_t>(first + second)};
        halves[g] = {
            {first, second},
            {-start_scale * static_cast<int32_t>(first), -start_scale * static_cast<int32_t>(second)}};
    }
}

}  // namespace smelt::cpu::SMELT_ISA
