// Recurrent layers. A causal convolution: a thread for each channel of each token, then one for each channel
// of each sequence that writes the state. The gated delta rule: a thread for each column of each head's
// state, which goes through the sequence's tokens one after the other, so that chunks of a prompt never show.
//
// Bytes: for each token a state is read twice and written once, k_dim * 12 a column, from cache but for the
// first.
#include "backend/cuda/kernels/dialect.cuh"

namespace smelt::cuda {

INLINE float* state_row(const StateArgs& s, uint32_t seq, uint32_t position) {
    const int32_t block = s.block_table[static_cast<uint64_t>(seq) * s.max_blocks + position / s.block_len];
    return s.rows + static_cast<uint64_t>(static_cast<uint32_t>(block)) * s.stride + s.first;
}
// The tokens that a sequence has in this step.
struct Span {
    uint32_t first, end, begin;  // begin: position of the first
};
INLINE Span span_of(const StateArgs& s, uint32_t seq) {
    const auto first = static_cast<uint32_t>(s.seq_start[seq]);
    return {first, static_cast<uint32_t>(s.seq_start[seq + 1]), static_cast<uint32_t>(s.positions[first])};
}

KERNEL(causal_conv, ConvArgs, 256) {
    const uint32_t token = blockIdx.x, c = blockIdx.y * blockDim.x + threadIdx.x;
    if (token >= rows_of(a.rows) || c >= a.n) return;
    uint32_t seq = 0;
    while (static_cast<uint32_t>(a.state.seq_start[seq + 1]) <= token) ++seq;
    const Span s = span_of(a.state, seq);
    float sum = 0;
    for (uint32_t j = 0; j < a.kernel_len; ++j) {
        // ago tokens before: of this step, of the state, or before the beginning
        const uint32_t ago = a.kernel_len - 1 - j;
        float value = 0;
        if (token >= s.first + ago) {
            value = a.x[static_cast<uint64_t>(token - ago) * a.x_stride + c];
        } else if (s.begin > 0) {
            const uint32_t back = s.first + ago - token;  // 1: the state's last
            value = state_row(a.state, seq,
                              s.begin - 1)[static_cast<uint64_t>(a.kernel_len - 1 - back) * a.n + c];
        }
        sum = fmaf(a.w[c * a.kernel_len + j], value, sum);
    }
    a.out[static_cast<uint64_t>(token) * a.out_stride + c] = sum / (1.0f + expf(-sum));
}

KERNEL(conv_state, ConvArgs, 256) {
    const uint32_t seq = blockIdx.x, c = blockIdx.y * blockDim.x + threadIdx.x, n_held = a.kernel_len - 1;
    if (seq >= rows_of(a.state.sequences) || c >= a.n) return;
    const Span s = span_of(a.state, seq);
    float held[8];
    UNROLL for (uint32_t j = 0; j < 8; ++j) {
        held[j] = s.begin > 0 && j < n_held
                      ? state_row(a.state, seq, s.begin - 1)[static_cast<uint64_t>(j) * a.n + c]
                      : 0.0f;
    }
    for (uint32_t token = s.first; token < s.end; ++token) {
        const float x = a.x[static_cast<uint64_t>(token) * a.x_stride + c];
        UNROLL for (uint32_t j = 0; j < 8; ++j) {
            if (j + 1 < n_held && j < 7) held[j] = held[j + 1];
            if (j + 1 == n_held) held[j] = x;
        }
        const uint32_t position = s.begin + token - s.first;
        if (token + 1 < s.end && (position + 1) % a.state.block_len != 0) continue;
        float* row = state_row(a.state, seq, position);
        UNROLL for (uint32_t j = 0; j < 8; ++j) {
            if (j < n_held) row[static_cast<uint64_t>(j) * a.n + c] = held[j];
        }
    }
}

// log(1 + y), y from 0 to 1, where 1 + y rounds y's last digits away.
INLINE float log_one_plus(float y) {
    const float sum = 1.0f + y;
    return sum == 1.0f ? y : logf(sum) * (y / (sum - 1.0f));
}

KERNEL(delta_rule, DeltaArgs, 32) {
    const uint32_t seq = blockIdx.x, head = blockIdx.y, column = blockIdx.z * blockDim.x + threadIdx.x;
    if (seq >= rows_of(a.state.sequences) || column >= a.v_dim) return;
    const Span span = span_of(a.state, seq);
    const uint32_t k_head = a.tiled != 0 ? head % a.n_k_heads : head / (a.n_v_heads / a.n_k_heads);
    const uint64_t in_row = static_cast<uint64_t>(head) * a.k_dim * a.v_dim + column;
    // the state stays where it is after the last token
    float* s = state_row(a.state, seq, span.begin + span.end - span.first - 1) + in_row;
    if (span.begin == 0) {
        for (uint32_t i = 0; i < a.k_dim; ++i) s[i * a.v_dim] = 0;
    } else {
        const float* from = state_row(a.state, seq, span.begin - 1) + in_row;
        if (from != s) {
            for (uint32_t i = 0; i < a.k_dim; ++i) s[i * a.v_dim] = from[i * a.v_dim];
        }
    }
    for (uint32_t token = span.first; token < span.end; ++token) {
        const float* keys = a.k + static_cast<uint64_t>(token) * a.k_stride + k_head * a.k_dim;
        const float* queries = a.q + static_cast<uint64_t>(token) * a.q_stride + k_head * a.k_dim;
        const float x = a.a[static_cast<uint64_t>(token) * a.a_stride + head] + a.bias[head];
        const float softplus = fmaxf(x, 0.0f) + log_one_plus(expf(x < 0.0f ? x : -x));
        const float keep = expf(a.decay[head] * softplus);
        const float beta = 1.0f / (1.0f + expf(-a.b[static_cast<uint64_t>(token) * a.b_stride + head]));
        // sums in four chains: less rounding, less waiting
        float known[4] = {}, sums[4] = {};
        for (uint32_t i0 = 0; i0 < a.k_dim; i0 += 4) {
            UNROLL for (uint32_t j = 0; j < 4; ++j) {
                const uint32_t i = i0 + j;
                if (i < a.k_dim) known[j] = fmaf(s[i * a.v_dim] * keep, keys[i], known[j]);
            }
        }
        const float change = (a.v[static_cast<uint64_t>(token) * a.v_stride + head * a.v_dim + column] -
                              ((known[0] + known[1]) + (known[2] + known[3]))) *
                             beta;
        for (uint32_t i0 = 0; i0 < a.k_dim; i0 += 4) {
            UNROLL for (uint32_t j = 0; j < 4; ++j) {
                const uint32_t i = i0 + j;
                if (i >= a.k_dim) continue;
                const float value = fmaf(keys[i], change, s[i * a.v_dim] * keep);
                s[i * a.v_dim] = value;
                sums[j] = fmaf(value, queries[i], sums[j]);
            }
        }
        a.out[static_cast<uint64_t>(token) * a.out_stride + head * a.v_dim + column] =
            (sums[0] + sums[1]) + (sums[2] + sums[3]);
        const uint32_t position = span.begin + token - span.first;
        if (token + 1 == span.end || (position + 1) % a.state.block_len != 0) continue;
        float* kept = state_row(a.state, seq, position) + in_row;
        if (kept == s) continue;
        for (uint32_t i = 0; i < a.k_dim; ++i) kept[i * a.v_dim] = s[i * a.v_dim];
    }
}

}  // namespace smelt::cuda
