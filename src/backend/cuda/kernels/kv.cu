// What comes before attention: norm of the heads of q and k, rotation, and k and v into the cache, one warp a
// head. Fused, because five launches would be five times a launch's time.
#include "backend/cuda/kernels/rope.cuh"
#include "quant/format_list.h"

namespace smelt::cuda {

// --- A head's values into a row of the cache: the bytes that quant/encode.cpp makes. A lane has one of 32.
// ---

INLINE void put_half(uint8_t* to, float value) {
    *reinterpret_cast<uint16_t*>(to) = float_to_half(value);
}
// Below the smallest normal number it would be infinite, see quant/encode.cpp.
INLINE float inverse_of(float d) {
    return fabsf(d) < 1.17549435e-38f ? 0.0f : 1.0f / d;
}

// The quants are made with the unrounded scale.
INLINE void encode_q8_0(const float* x, uint8_t* block) {
    const float d = lanes_max(fabsf(x[lane()])) / 127.0f;
    const float inverse = inverse_of(d);
    if (lane() == 0) put_half(block, d);
    block[2 + lane()] = static_cast<uint8_t>(static_cast<int>(roundf(x[lane()] * inverse)));
}
// The first value of largest magnitude maps to -8.
INLINE void encode_q4_0(const float* x, uint8_t* block) {
    const float largest = lanes_max(fabsf(x[lane()]));
    const uint32_t first = least(lanes_min(fabsf(x[lane()]) == largest ? lane() : 31u), 31u);
    const float d = x[first] / -8.0f;
    const float inverse = inverse_of(d);
    if (lane() == 0) put_half(block, d);
    if (lane() < 16) {
        const int low = static_cast<int>(x[lane()] * inverse + 8.5f),
                  high = static_cast<int>(x[lane() + 16] * inverse + 8.5f);
        block[2 + lane()] = static_cast<uint8_t>((low < 15 ? low : 15) | (high < 15 ? high : 15) << 4);
    }
}
// The power of two that brings the largest magnitude into the element's last binade; elements round to even.
INLINE void encode_mxfp8(const float* x, uint8_t* block) {
    const float largest = lanes_max(fabsf(x[lane()]));
    const int exponent = static_cast<int>(float_bits(largest) >> 23) - E4M3::largest_exponent;
    const int biased = largest == 0.0f ? 0 : exponent < 0 ? 0 : exponent > 254 ? 254 : exponent;
    if (lane() == 0) block[0] = static_cast<uint8_t>(biased);
    // 2^(127 - biased) in two factors, neither of which leaves the range
    const int half_way = (127 - biased) / 2;
    const float v = x[lane()] * bits_as_float(static_cast<uint32_t>(127 + half_way) << 23) *
                    bits_as_float(static_cast<uint32_t>(254 - biased - half_way) << 23);
    const float magnitude = fabsf(v);
    const uint32_t bits = float_bits(magnitude);
    const float magic = 16384.0f;  // its last place is 2^-9, the step of subnormals
    const uint32_t code = magnitude < 0.015625f
                              ? float_bits(magnitude + magic) - float_bits(magic)
                              : ((bits + 0x7ffffu + ((bits >> 20) & 1)) >> 20) - (120u << 3);
    block[1 + lane()] = static_cast<uint8_t>(least(code, E4M3::largest_code) | (float_bits(v) >> 24 & 0x80u));
}

INLINE void store_head(const float* x, uint8_t* row, uint32_t dim, int32_t format) {
    switch (static_cast<Format>(format)) {
        case Format::F32:
            for (uint32_t i = lane(); i < dim; i += 32) reinterpret_cast<float*>(row)[i] = x[i];
            break;
        case Format::F16:
            for (uint32_t i = lane(); i < dim; i += 32)
                reinterpret_cast<uint16_t*>(row)[i] = float_to_half(x[i]);
            break;
        case Format::BF16:
            for (uint32_t i = lane(); i < dim; i += 32)
                reinterpret_cast<uint16_t*>(row)[i] = f32_to_bf16(x[i]);
            break;
        case Format::Q8_0:
            for (uint32_t b = 0; b < dim / 32; ++b) encode_q8_0(x + 32 * b, row + b * sizeof(BlockQ8_0));
            break;
        case Format::Q4_0:
            for (uint32_t b = 0; b < dim / 32; ++b) encode_q4_0(x + 32 * b, row + b * sizeof(BlockQ4_0));
            break;
        default:
            for (uint32_t b = 0; b < dim / 32; ++b)
                encode_mxfp8(x + 32 * b, row + b * sizeof(BlockMXFP8_E4M3));
    }
}

// `head` holds a head's values, as many as k's or v's dim. q is changed in place; k and v only go to the
// cache.
KERNEL(prepare_heads, PrepareArgs, 32) {
    DYNAMIC_SHARED(float, head);
    const uint32_t token = blockIdx.x, number = blockIdx.y;
    if (token >= rows_of(a.rows)) return;
    const bool is_q = number < a.n_q_heads, is_k = !is_q && number < a.n_q_heads + a.n_k_heads;
    const auto slot = static_cast<uint64_t>(static_cast<uint32_t>(a.slots[token]));
    if (!is_q && !is_k) {
        const uint32_t h = number - a.n_q_heads - a.n_k_heads, dim = a.v_cache.dim;
        const float* from = a.v + static_cast<uint64_t>(token) * a.v_stride + h * dim;
        for (uint32_t i = lane(); i < dim; i += 32) head[i] = from[i];
        __syncwarp();
        store_head(head, a.v_cache.rows + (slot * a.v_cache.n_heads + h) * a.v_cache.row_bytes, dim,
                   a.v_cache.format);
        return;
    }
    const uint32_t dim = a.k_cache.dim, h = is_q ? number : number - a.n_q_heads;
    const float* from = is_q ? a.q + static_cast<uint64_t>(token) * a.q_stride + h * dim
                             : a.k + static_cast<uint64_t>(token) * a.k_stride + h * dim;
    // norm over the head
    const float* w = is_q ? a.q_norm : a.k_norm;
    float scale = 1;
    if (w != nullptr) {
        float sum = 0;
        for (uint32_t i = lane(); i < dim; i += 32) sum = fmaf(from[i], from[i], sum);
        scale = 1.0f / sqrtf(lanes_sum(sum) / static_cast<float>(dim) + a.eps);
    }
    for (uint32_t i = lane(); i < dim; i += 32) head[i] = w != nullptr ? from[i] * scale * w[i] : from[i];
    __syncwarp();
    // rotation
    const float* angles = a.table + static_cast<uint64_t>(token) * a.table_stride;
    for (uint32_t i = lane(); i < a.n_pairs; i += 32)
        rotate_pair(head, angles, i, a.n_pairs, a.first, a.interleaved != 0);
    __syncwarp();
    if (is_q) {
        float* to = a.q + static_cast<uint64_t>(token) * a.q_stride + h * dim;
        for (uint32_t i = lane(); i < dim; i += 32) to[i] = head[i];
        return;
    }
    store_head(head, a.k_cache.rows + (slot * a.k_cache.n_heads + h) * a.k_cache.row_bytes, dim,
               a.k_cache.format);
}

}  // namespace smelt::cuda
