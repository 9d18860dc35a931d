// Integer products of one group: panel_rows rows of weights x group_len, against one row of activations.
// A Group holds the weights transposed: quad[j] has weights 4j .. 4j+3 of every row, a row a lane, so that
// the sums of all rows come out as one vector. Like simd.h, for kernel files only.
#pragma once

#include "backend/cpu/kernels.h"
#include "backend/cpu/simd.h"

namespace smelt::cpu::SMELT_ISA {

static_assert(panel_rows == lanes && group_len == 32);
constexpr int n_quads = group_len / 4;

typedef int8_t Bytes __attribute__((vector_size(panel_rows * 4)));
typedef uint8_t UBytes __attribute__((vector_size(panel_rows * 4)));

// Int8 weights are kept as the instruction likes them: AVX-512's takes unsigned x signed, so 128 is added
// here and 128 times the sum of the activations taken off the product. Nibbles are 8 too large everywhere.
#if defined(SMELT_ISA_AVX512)
constexpr int byte_offset = 128;
constexpr int nibble_offset = 8;
#else
constexpr int byte_offset = 0;
constexpr int nibble_offset = 8;
#endif

struct Group {
    Bytes quad[n_quads];
};

// 16 bytes of every row, transposed: out[j] has bytes 4j .. 4j+3. p is row 0's.
SIMD void load_transposed(const uint8_t* p, int64_t row_bytes, Bytes* out) {
#if defined(SMELT_ISA_AVX512)
    __m512i z[4];
    UNROLL for (int i = 0; i < 4; ++i) {
        const uint8_t* q = p + i * row_bytes;
        z[i] = _mm512_castsi128_si512(_mm_loadu_si128(reinterpret_cast<const __m128i*>(q)));
        z[i] =
            _mm512_inserti32x4(z[i], _mm_loadu_si128(reinterpret_cast<const __m128i*>(q + 4 * row_bytes)), 1);
        z[i] =
            _mm512_inserti32x4(z[i], _mm_loadu_si128(reinterpret_cast<const __m128i*>(q + 8 * row_bytes)), 2);
        z[i] = _mm512_inserti32x4(z[i], _mm_loadu_si128(reinterpret_cast<const __m128i*>(q + 12 * row_bytes)),
                                  3);
    }
    const __m512i a = _mm512_unpacklo_epi32(z[0], z[1]), b = _mm512_unpackhi_epi32(z[0], z[1]);
    const __m512i c = _mm512_unpacklo_epi32(z[2], z[3]), d = _mm512_unpackhi_epi32(z[2], z[3]);
    out[0] = reinterpret_cast<Bytes>(_mm512_unpacklo_epi64(a, c));
    out[1] = reinterpret_cast<Bytes>(_mm512_unpackhi_epi64(a, c));
    out[2] = reinterpret_cast<Bytes>(_mm512_unpacklo_epi64(b, d));
    out[3] = reinterpret_cast<Bytes>(_mm512_unpackhi_epi64(b, d));
#elif defined(SMELT_ISA_AVX2)
    __m256i z[4];
    UNROLL for (int i = 0; i < 4; ++i) {
        const uint8_t* q = p + i * row_bytes;
        z[i] = _mm256_castsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(q)));
        z[i] = _mm256_inserti128_si256(
            z[i], _mm_loadu_si128(reinterpret_cast<const __m128i*>(q + 4 * row_bytes)), 1);
    }
    const __m256i a = _mm256_unpacklo_epi32(z[0], z[1]), b = _mm256_unpackhi_epi32(z[0], z[1]);
    const __m256i c = _mm256_unpacklo_epi32(z[2], z[3]), d = _mm256_unpackhi_epi32(z[2], z[3]);
    out[0] = reinterpret_cast<Bytes>(_mm256_unpacklo_epi64(a, c));
    out[1] = reinterpret_cast<Bytes>(_mm256_unpackhi_epi64(a, c));
    out[2] = reinterpret_cast<Bytes>(_mm256_unpacklo_epi64(b, d));
    out[3] = reinterpret_cast<Bytes>(_mm256_unpackhi_epi64(b, d));
#else
    I z[4];
    for (int i = 0; i < 4; ++i) __builtin_memcpy(&z[i], p + i * row_bytes, sizeof z[i]);
    const I a = __builtin_shufflevector(z[0], z[1], 0, 4, 1, 5);
    const I b = __builtin_shufflevector(z[0], z[1], 2, 6, 3, 7);
    const I c = __builtin_shufflevector(z[2], z[3], 0, 4, 1, 5);
    const I d = __builtin_shufflevector(z[2], z[3], 2, 6, 3, 7);
    out[0] = reinterpret_cast<Bytes>(__builtin_shufflevector(a, c, 0, 1, 4, 5));
    out[1] = reinterpret_cast<Bytes>(__builtin_shufflevector(a, c, 2, 3, 6, 7));
    out[2] = reinterpret_cast<Bytes>(__builtin_shufflevector(b, d, 0, 1, 4, 5));
    out[3] = reinterpret_cast<Bytes>(__builtin_shufflevector(b, d, 2, 3, 6, 7));
#endif
}

SIMD Group load_bytes(const uint8_t* p, int64_t row_bytes) {
    Group g;
    load_transposed(p, row_bytes, g.quad);
    load_transposed(p + 16, row_bytes, g.quad + 4);
    UNROLL for (int j = 0; j < n_quads; ++j) {
        if (byte_offset != 0) g.quad[j] = g.quad[j] ^ static_cast<int8_t>(-128);
    }
    return g;
}

// Low nibbles of the 16 bytes are weights 0 .. 15, high nibbles 16 .. 31.
SIMD Group load_nibbles(const uint8_t* p, int64_t row_bytes) {
    Group g;
    load_transposed(p, row_bytes, g.quad);
    UNROLL for (int j = 0; j < 4; ++j) {
        const UBytes both = reinterpret_cast<UBytes>(g.quad[j]);
        g.quad[j] = reinterpret_cast<Bytes>(both & static_cast<uint8_t>(15));
        g.quad[j + 4] = reinterpret_cast<Bytes>(both >> 4);
    }
    return g;
}

// The scale at the start of each row's block.
SIMD F load_scales_f16(const uint8_t* p, int64_t row_bytes) {
#if defined(SMELT_ISA_AVX512)
    const __m512i offsets =
        _mm512_mullo_epi32(_mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0),
                           _mm512_set1_epi32(static_cast<int>(row_bytes)));
    const __m512i words = _mm512_i32gather_epi32(offsets, p, 1);
    return reinterpret_cast<F>(_mm512_cvtph_ps(_mm512_cvtepi32_epi16(words)));
#else
    uint16_t h[lanes];
    for (int r = 0; r < lanes; ++r) __builtin_memcpy(&h[r], p + r * row_bytes, 2);
    return load_f16(h);
#endif
}
SIMD F load_scales_f32(const uint8_t* p, int64_t row_bytes) {
    float d[lanes];
    for (int r = 0; r < lanes; ++r) __builtin_memcpy(&d[r], p + r * row_bytes, 4);
    return load(d);
}

// Sums over the group of w * x, a row a lane; w as load_bytes() or load_nibbles() left it.
SIMD I dot(const Group& w, const int8_t* x) {
#if defined(SMELT_ISA_AVX512)
    __m512i even = _mm512_setzero_si512(), odd = even;
    UNROLL for (int j = 0; j < n_quads; j += 2) {
        int32_t x0, x1;
        __builtin_memcpy(&x0, x + 4 * j, 4);
        __builtin_memcpy(&x1, x + 4 * j + 4, 4);
        even = _mm512_dpbusd_epi32(even, reinterpret_cast<__m512i>(w.quad[j]), _mm512_set1_epi32(x0));
        odd = _mm512_dpbusd_epi32(odd, reinterpret_cast<__m512i>(w.quad[j + 1]), _mm512_set1_epi32(x1));
    }
    return reinterpret_cast<I>(_mm512_add_epi32(even, odd));
#elif defined(SMELT_ISA_AVX2)
    // |w| * (x with w's sign): two products fit in 16 bits, as |x| <= 127.
    I total{};
    UNROLL for (int j = 0; j < n_quads; ++j) {
        int32_t x4;
        __builtin_memcpy(&x4, x + 4 * j, 4);
        const __m256i q = reinterpret_cast<__m256i>(w.quad[j]);
        const __m256i pairs =
            _mm256_maddubs_epi16(_mm256_abs_epi8(q), _mm256_sign_epi8(_mm256_set1_epi32(x4), q));
        total += reinterpret_cast<I>(_mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
    }
    return total;
#elif defined(SMELT_ISA_NEON) && defined(__ARM_FEATURE_DOTPROD)
    const int8x16_t x_low = vld1q_s8(x), x_high = vld1q_s8(x + 16);
    int32x4_t even = vdupq_n_s32(0), odd = even;
    const auto quad = [&](int j) { return reinterpret_cast<int8x16_t>(w.quad[j]); };
    even = vdotq_laneq_s32(even, quad(0), x_low, 0);
    odd = vdotq_laneq_s32(odd, quad(1), x_low, 1);
    even = vdotq_laneq_s32(even, quad(2), x_low, 2);
    odd = vdotq_laneq_s32(odd, quad(3), x_low, 3);
    even = vdotq_laneq_s32(even, quad(4), x_high, 0);
    odd = vdotq_laneq_s32(odd, quad(5), x_high, 1);
    even = vdotq_laneq_s32(even, quad(6), x_high, 2);
    odd = vdotq_laneq_s32(odd, quad(7), x_high, 3);
    return reinterpret_cast<I>(vaddq_s32(even, odd));
#elif defined(SMELT_ISA_NEON)
    int32x4_t total = vdupq_n_s32(0);
    UNROLL for (int j = 0; j < n_quads; ++j) {
        int32_t x4;
        __builtin_memcpy(&x4, x + 4 * j, 4);
        const int8x16_t xs = vreinterpretq_s8_s32(vdupq_n_s32(x4));
        const int8x16_t q = reinterpret_cast<int8x16_t>(w.quad[j]);
        const int32x4_t low = vpaddlq_s16(vmull_s8(vget_low_s8(q), vget_low_s8(xs)));
        const int32x4_t high = vpaddlq_s16(vmull_high_s8(q, xs));
        total = vaddq_s32(total, vpaddq_s32(low, high));
    }
    return reinterpret_cast<I>(total);
#else
    I total{};
    UNROLL for (int j = 0; j < n_quads; ++j) {
        for (int r = 0; r < panel_rows; ++r) {
            int32_t s = 0;
            for (int i = 0; i < 4; ++i) s += w.quad[j][4 * r + i] * x[4 * j + i];
            total[r] += s;
        }
    }
    return total;
#endif
}

}  // namespace smelt::cpu::SMELT_ISA
