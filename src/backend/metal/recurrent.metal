// Recurrent layers. A causal convolution: a thread for each channel of each token, then one for each channel of each
// sequence that writes the state. The gated delta rule: a thread for each column of each head's state, which goes
// through the sequence's tokens one after the other, so that chunks of a prompt never show.
//
// Bytes: for each token a state is read twice and written once, k_dim * 12 a column. Qwen3-Next's 32 heads of 128 x 128
// are 2 MB: 6 MB a layer and token where no cache holds them, 16 µs at 400 GB/s (M1, M2 Max; 12 µs: M4 Max's 546 GB/s).
#include <metal_stdlib>

#include "backend/metal/kernel_args.h"

using namespace metal;
#pragma clang fp contract(off)

namespace smelt {
using namespace gpu;

inline ulong state_row(constant StateArgs& s, device const int* block_table, uint seq, uint position) {
    return ulong(block_table[ulong(seq) * s.max_blocks + position / s.block_len]) * s.stride + s.first;
}

kernel void causal_conv(constant ConvArgs& a [[buffer(0)]], device float* out [[buffer(1)]],
                        device const float* x [[buffer(2)]], device const float* w [[buffer(3)]],
                        device const float* states [[buffer(4)]], device const int* positions [[buffer(5)]],
                        device const int* seq_start [[buffer(6)]], device const int* block_table [[buffer(7)]],
                        uint2 at [[thread_position_in_grid]]) {
    const uint c = at.x, token = at.y;
    if (c >= a.n) return;
    uint seq = 0;
    while (uint(seq_start[seq + 1]) <= token) ++seq;
    const uint first = uint(seq_start[seq]), begin = uint(positions[first]);
    float sum = 0;
    for (uint j = 0; j < a.kernel_len; ++j) {
        // ago tokens before: of this step, of the state, or before the beginning
        const uint ago = a.kernel_len - 1 - j;
        float value = 0;
        if (token >= first + ago) {
            value = x[ulong(token - ago) * a.x_stride + c];
        } else if (begin > 0) {
            const uint back = first + ago - token;  // 1: the state's last
            value = states[state_row(a.state, block_table, seq, begin - 1) + ulong(a.kernel_len - 1 - back) * a.n + c];
        }
        sum = fma(w[c * a.kernel_len + j], value, sum);
    }
    out[ulong(token) * a.out_stride + c] = sum / (1.0f + exp(-sum));
}

kernel void conv_state(constant ConvArgs& a [[buffer(0)]], device const float* x [[buffer(1)]],
                       device float* states [[buffer(2)]], device const int* positions [[buffer(3)]],
                       device const int* seq_start [[buffer(4)]], device const int* block_table [[buffer(5)]],
                       uint2 at [[thread_position_in_grid]]) {
    const uint c = at.x, seq = at.y, n_held = a.kernel_len - 1;
    if (c >= a.n) return;
    const uint first = uint(seq_start[seq]), end = uint(seq_start[seq + 1]), begin = uint(positions[first]);
    float held[8];
    for (uint j = 0; j < n_held; ++j) {
        held[j] = begin > 0 ? states[state_row(a.state, block_table, seq, begin - 1) + ulong(j) * a.n + c] : 0.0f;
    }
    for (uint token = first; token < end; ++token) {
        for (uint j = 0; j + 1 < n_held; ++j) held[j] = held[j + 1];
        held[n_held - 1] = x[ulong(token) * a.x_stride + c];
        const uint position = begin + token - first;
        if (token + 1 < end && (position + 1) % a.state.block_len != 0) continue;
        const ulong row = state_row(a.state, block_table, seq, position);
        for (uint j = 0; j < n_held; ++j) states[row + ulong(j) * a.n + c] = held[j];
    }
}

// log(1 + y), y from 0 to 1, where 1 + y rounds y's last digits away.
inline float log_one_plus(float y) {
    const float sum = 1.0f + y;
    return sum == 1.0f ? y : log(sum) * (y / (sum - 1.0f));
}

kernel void delta_rule(constant DeltaArgs& a [[buffer(0)]], device float* out [[buffer(1)]],
                       device const float* q [[buffer(2)]], device const float* k [[buffer(3)]],
                       device const float* v [[buffer(4)]], device const float* a_rows [[buffer(5)]],
                       device const float* b_rows [[buffer(6)]], device const float* decay [[buffer(7)]],
                       device const float* bias [[buffer(8)]], device float* states [[buffer(9)]],
                       device const int* positions [[buffer(10)]], device const int* seq_start [[buffer(11)]],
                       device const int* block_table [[buffer(12)]], uint3 at [[thread_position_in_grid]]) {
    const uint column = at.x, head = at.y, seq = at.z;
    if (column >= a.v_dim) return;
    const uint first = uint(seq_start[seq]), end = uint(seq_start[seq + 1]), begin = uint(positions[first]);
    const uint k_head = a.tiled != 0 ? head % a.n_k_heads : head / (a.n_v_heads / a.n_k_heads);
    const ulong in_row = ulong(head) * a.k_dim * a.v_dim + column;
    // the state stays where it is after the last token
    device float* s = states + (state_row(a.state, block_table, seq, begin + end - first - 1) + in_row);
    if (begin == 0) {
        for (uint i = 0; i < a.k_dim; ++i) s[i * a.v_dim] = 0;
    } else {
        device const float* from = states + (state_row(a.state, block_table, seq, begin - 1) + in_row);
        if (from != s) {
            for (uint i = 0; i < a.k_dim; ++i) s[i * a.v_dim] = from[i * a.v_dim];
        }
    }
    for (uint token = first; token < end; ++token) {
        device const float* keys = k + (ulong(token) * a.k_stride + k_head * a.k_dim);
        device const float* queries = q + (ulong(token) * a.q_stride + k_head * a.k_dim);
        const float x = a_rows[ulong(token) * a.a_stride + head] + bias[head];
        const float softplus = max(x, 0.0f) + log_one_plus(exp(x < 0.0f ? x : -x));
        const float keep = exp(decay[head] * softplus);
        const float beta = 1.0f / (1.0f + exp(-b_rows[ulong(token) * a.b_stride + head]));
        float known = 0;
        for (uint i = 0; i < a.k_dim; ++i) known = fma(s[i * a.v_dim] * keep, keys[i], known);
        const float change = (v[ulong(token) * a.v_stride + head * a.v_dim + column] - known) * beta;
        float sum = 0;
        for (uint i = 0; i < a.k_dim; ++i) {
            const float value = fma(keys[i], change, s[i * a.v_dim] * keep);
            s[i * a.v_dim] = value;
            sum = fma(value, queries[i], sum);
        }
        out[ulong(token) * a.out_stride + head * a.v_dim + column] = sum;
        const uint position = begin + token - first;
        if (token + 1 == end || (position + 1) % a.state.block_len != 0) continue;
        device float* kept = states + (state_row(a.state, block_table, seq, position) + in_row);
        if (kept == s) continue;
        for (uint i = 0; i < a.k_dim; ++i) kept[i * a.v_dim] = s[i * a.v_dim];
    }
}

}  // namespace smelt
