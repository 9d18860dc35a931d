// Ops over rows: elements, norms, rotations, gathered rows, the largest of a row. A block's first dimension
// is the row. Elementwise ops take their bytes / bandwidth; in decode all of these take a launch's time.
#include "backend/cuda/kernels/rank.cuh"
#include "backend/cuda/kernels/rope.cuh"
#include "backend/cuda/kernels/soft_cap.cuh"

namespace smelt::cuda {

// --- A thread for each element ---

// The element of a row that a thread has; false where there is none.
template <class Args>
INLINE bool element_of(const Args& a, uint32_t row_len, uint32_t& row, uint32_t& i) {
    row = blockIdx.x;
    i = blockIdx.y * blockDim.x + threadIdx.x;
    return i < row_len && row < rows_of(a.rows);
}
INLINE float& at(float* rows, uint32_t row, uint32_t stride, uint32_t i) {
    return rows[static_cast<uint64_t>(row) * stride + i];
}
INLINE float at(const float* rows, uint32_t row, uint32_t stride, uint32_t i) {
    return rows[static_cast<uint64_t>(row) * stride + i];
}

KERNEL(add, RowsArgs, 256) {
    uint32_t row, i;
    if (!element_of(a, a.row_len, row, i)) return;
    at(a.out, row, a.out_stride, i) += at(a.y, row, a.y_stride, i);
}
KERNEL(copy, RowsArgs, 256) {
    uint32_t row, i;
    if (!element_of(a, a.row_len, row, i)) return;
    at(a.out, row, a.out_stride, i) = at(a.x, row, a.x_stride, i);
}

// g / (1 + e^-g)
INLINE float silu(float g, float alpha) {
    return g / (1.0f + expf(-alpha * g));
}
// x and out may be the same memory.
KERNEL(silu_mul, RowsArgs, 256) {
    uint32_t row, i;
    if (!element_of(a, a.row_len, row, i)) return;
    at(a.out, row, a.out_stride, i) = silu(at(a.x, row, a.x_stride, i), 1.0f) * at(a.y, row, a.y_stride, i);
}
KERNEL(clamped_silu_mul, RowsArgs, 256) {
    uint32_t row, i;
    if (!element_of(a, a.row_len, row, i)) return;
    const float g = fminf(at(a.x, row, a.x_stride, i), a.limit);
    const float up = fminf(fmaxf(at(a.y, row, a.y_stride, i), -a.limit), a.limit);
    at(a.out, row, a.out_stride, i) = silu(g, a.alpha) * (up + 1.0f);
}
INLINE float gelu_of(float v) {
    // (1 + tanh(u)) / 2 = 1 / (1 + e^-2u), without the cancellation of the former
    const float u = 0.7978845608f * (v + 0.044715f * v * v * v);
    return v / (1.0f + expf(-2.0f * u));
}
KERNEL(gelu, RowsArgs, 256) {
    uint32_t row, i;
    if (!element_of(a, a.row_len, row, i)) return;
    at(a.out, row, a.out_stride, i) = gelu_of(at(a.x, row, a.x_stride, i));
}
// Half of erfc(z), z >= 0, to 1.2e-7 of itself: W. H. Press et al., Numerical Recipes, 6.2.
INLINE float half_erfc(float z) {
    const float t = 1.0f / (1.0f + 0.5f * z);
    float p = 0.17087277f;
    p = p * t - 0.82215223f;
    p = p * t + 1.48851587f;
    p = p * t - 1.13520398f;
    p = p * t + 0.27886807f;
    p = p * t - 0.18628806f;
    p = p * t + 0.09678418f;
    p = p * t + 0.37409196f;
    p = p * t + 1.00002368f;
    p = p * t - 1.26551223f;
    return 0.5f * t * expf(p - z * z);
}
KERNEL(exact_gelu, RowsArgs, 256) {
    uint32_t row, i;
    if (!element_of(a, a.row_len, row, i)) return;
    const float v = at(a.x, row, a.x_stride, i), half_tail = half_erfc(fabsf(v) * 0.7071067812f);
    at(a.out, row, a.out_stride, i) = v * (v < 0 ? half_tail : 1.0f - half_tail);
}
KERNEL(gelu_mul, RowsArgs, 256) {
    uint32_t row, i;
    if (!element_of(a, a.row_len, row, i)) return;
    at(a.out, row, a.out_stride, i) = gelu_of(at(a.x, row, a.x_stride, i)) * at(a.y, row, a.y_stride, i);
}
// x is the gate; limit 0: one for the whole row.
KERNEL(sigmoid_mul, RowsArgs, 256) {
    uint32_t row, i;
    if (!element_of(a, a.row_len, row, i)) return;
    const float gate = at(a.x, row, a.x_stride, a.limit > 0 ? i : 0);
    at(a.out, row, a.out_stride, i) = at(a.y, row, a.y_stride, i) / (1.0f + expf(-gate));
}
KERNEL(scale, RowsArgs, 256) {
    uint32_t row, i;
    if (!element_of(a, a.row_len, row, i)) return;
    at(a.out, row, a.out_stride, i) *= a.alpha;
}
KERNEL(soft_cap, RowsArgs, 256) {
    uint32_t row, i;
    if (!element_of(a, a.row_len, row, i)) return;
    float& x = at(a.out, row, a.out_stride, i);
    x = soft_capped(x, a.limit);
}

// out[i] = x[ids[i]]; a row that x does not have would be a bug of the caller and shows as NaN.
KERNEL(gather_rows, RowsArgs, 256) {
    uint32_t row, i;
    if (!element_of(a, a.row_len, row, i)) return;
    const auto from = static_cast<uint32_t>(a.ids[row]);
    at(a.out, row, a.out_stride, i) =
        from < a.x_rows ? at(a.x, from, a.x_stride, i) : bits_as_float(0x7fc00000u);
}

// x[t] += sum over i of weights[t][i] * y[t][i]
KERNEL(add_experts, AddExpertsArgs, 256) {
    uint32_t row, c;
    if (!element_of(a, a.dim, row, c)) return;
    float sum = at(a.x, row, a.x_stride, c);
    for (uint32_t i = 0; i < a.n_used; ++i)
        sum = fmaf(at(a.weights, row, a.weights_stride, i), at(a.y, row, a.y_stride, i * a.dim + c), sum);
    at(a.x, row, a.x_stride, c) = sum;
}

// table[t][i] = (cos, sin)(positions[t] * inv_freq[i]) * scale, once a step.
KERNEL(rope_table, RopeTableArgs, 256) {
    uint32_t row, i;
    if (!element_of(a, a.n_pairs, row, i)) return;
    const CosSin turn = cos_sin(static_cast<float>(a.positions[row]) * a.inv_freq[i]);
    at(a.table, row, a.stride, 2 * i) = turn.cos * a.scale;
    at(a.table, row, a.stride, 2 * i + 1) = turn.sin * a.scale;
}
// In place; a thread has one pair of one head.
KERNEL(rope, RopeArgs, 256) {
    uint32_t row, i;
    if (!element_of(a, a.n_heads * a.n_pairs, row, i)) return;
    const uint32_t head = i / a.n_pairs;
    rotate_pair(&at(a.x, row, a.x_stride, head * a.head_dim),
                a.table + static_cast<uint64_t>(row) * a.table_stride, i % a.n_pairs, a.n_pairs, a.first,
                a.interleaved != 0);
}

// --- A block for each norm: one warp up to 256 elements and 32 above, whatever else is in the call ---

// out = x / sqrt(mean(x²) + eps) * w. out may be x.
KERNEL(rms_norm, NormArgs, 1024) {
    __shared__ float scratch[32];
    if (blockIdx.x >= rows_of(a.rows)) return;
    const float* in = a.x + static_cast<uint64_t>(blockIdx.x) * a.x_stride + blockIdx.y * a.n;
    float* to = a.out + static_cast<uint64_t>(blockIdx.x) * a.out_stride + blockIdx.y * a.n;
    float sum = 0;
    for (uint32_t i = threadIdx.x; i < a.n; i += blockDim.x) sum = fmaf(in[i], in[i], sum);
    sum = threads_sum(sum, scratch);
    const float scale = 1.0f / sqrtf(sum / static_cast<float>(a.n) + a.eps);
    for (uint32_t i = threadIdx.x; i < a.n; i += blockDim.x) to[i] = in[i] * scale * a.w[i];
}

// residual += x; out = its norm
KERNEL(add_rms_norm, NormArgs, 1024) {
    __shared__ float scratch[32];
    if (blockIdx.x >= rows_of(a.rows)) return;
    const float* in = a.x + static_cast<uint64_t>(blockIdx.x) * a.x_stride;
    float* total = a.residual + static_cast<uint64_t>(blockIdx.x) * a.residual_stride;
    float* to = a.out + static_cast<uint64_t>(blockIdx.x) * a.out_stride;
    float sum = 0;
    for (uint32_t i = threadIdx.x; i < a.n; i += blockDim.x) {
        const float v = total[i] + in[i];
        total[i] = v;
        sum = fmaf(v, v, sum);
    }
    sum = threads_sum(sum, scratch);
    const float scale = 1.0f / sqrtf(sum / static_cast<float>(a.n) + a.eps);
    for (uint32_t i = threadIdx.x; i < a.n; i += blockDim.x) to[i] = total[i] * scale * a.w[i];
}

// out = (x - mean) / sqrt(mean((x - mean)²) + eps) * w + bias. out may be x.
KERNEL(layer_norm, NormArgs, 1024) {
    __shared__ float scratch[32];
    if (blockIdx.x >= rows_of(a.rows)) return;
    const float* in = a.x + static_cast<uint64_t>(blockIdx.x) * a.x_stride + blockIdx.y * a.n;
    float* to = a.out + static_cast<uint64_t>(blockIdx.x) * a.out_stride + blockIdx.y * a.n;
    float sum = 0;
    for (uint32_t i = threadIdx.x; i < a.n; i += blockDim.x) sum += in[i];
    const float mean = threads_sum(sum, scratch) / static_cast<float>(a.n);
    float squares = 0;
    for (uint32_t i = threadIdx.x; i < a.n; i += blockDim.x) {
        const float off = in[i] - mean;
        squares = fmaf(off, off, squares);
    }
    squares = threads_sum(squares, scratch);
    const float scale = 1.0f / sqrtf(squares / static_cast<float>(a.n) + a.eps);
    for (uint32_t i = threadIdx.x; i < a.n; i += blockDim.x)
        to[i] = (in[i] - mean) * scale * a.w[i] + a.bias[i];
}

// --- The k largest of each row: a thread holds the best that is left of its own elements ---

// The best of a thread's elements that comes after `last`.
INLINE Ranked best_after(const float* row, uint32_t n, Ranked last) {
    Ranked best = no_rank();
    for (uint32_t i = threadIdx.x; i < n; i += blockDim.x) {
        const Ranked x = {rank_of(row[i]), i};
        if (is_before(last, x) && is_before(x, best)) best = x;
    }
    return best;
}
KERNEL(top_k, TopKArgs, 256) {
    __shared__ uint32_t scratch[16];
    if (blockIdx.x >= rows_of(a.rows)) return;
    const float* row = a.x + static_cast<uint64_t>(blockIdx.x) * a.x_stride;
    const Ranked first = {0xffffffffu, 0};
    Ranked own = best_after(row, a.n, first);
    if (threadIdx.x == 0 && rank_of(row[0]) == 0xffffffffu)
        own = first;  // NaN there does not come after itself
    for (uint32_t i = 0; i < a.k; ++i) {
        const Ranked best = best_of_threads(own, scratch);
        if (best.id % blockDim.x == threadIdx.x) {
            a.values[static_cast<uint64_t>(blockIdx.x) * a.values_stride + i] = row[best.id];
            a.ids[static_cast<uint64_t>(blockIdx.x) * a.ids_stride + i] = static_cast<int32_t>(best.id);
            own = best_after(row, a.n, best);
        }
    }
}

}  // namespace smelt::cuda
