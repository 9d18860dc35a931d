// Float vectors for the kernels: one width per instruction set, the same text for all. Included only by
// kernel files, which are compiled once per instruction set into namespace smelt::cpu::SMELT_ISA. No standard
// inline functions here: the linker could keep the copy that needs AVX-512 for everybody.
#pragma once

#include <stddef.h>
#include <stdint.h>

#if defined(SMELT_ISA_AVX512) || defined(SMELT_ISA_AVX2)
#include <immintrin.h>
#elif defined(SMELT_ISA_NEON)
#include <arm_neon.h>
#else
#include "base/half.h"  // the portable set has the flags of the rest of the program
#endif

#define SIMD static inline __attribute__((always_inline, unused))

// Before a loop over registers, which must not stay a loop.
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

namespace smelt::cpu::SMELT_ISA {

// panel_rows: rows of a matrix that int8 products take at once, one a lane.
#if defined(SMELT_ISA_AVX512)
constexpr int lanes = 16;
constexpr int panel_rows = 16;
#elif defined(SMELT_ISA_AVX2)
constexpr int lanes = 8;
constexpr int panel_rows = 8;
#else
constexpr int lanes = 4;
constexpr int panel_rows = 4;
#endif

typedef float F __attribute__((vector_size(lanes * 4)));
typedef int32_t I __attribute__((vector_size(lanes * 4)));

SIMD F splat(float x) {
    return F{} + x;
}
SIMD F load(const void* p) {
    F v;
    __builtin_memcpy(&v, p, sizeof v);
    return v;
}
SIMD void store(float* p, F v) {
    __builtin_memcpy(p, &v, sizeof v);
}
SIMD I bits(F v) {
    return reinterpret_cast<I>(v);
}
SIMD F from_bits(I v) {
    return reinterpret_cast<F>(v);
}
SIMD F to_float(I v) {
    return __builtin_convertvector(v, F);
}
// NaN in a stays.
SIMD F max(F a, F b) {
    return a < b ? b : a;
}
SIMD F min(F a, F b) {
    return b < a ? b : a;
}

// a * b + c; one rounding where the instruction set has it.
SIMD F fma(F a, F b, F c) {
#if defined(SMELT_ISA_AVX512)
    return reinterpret_cast<F>(_mm512_fmadd_ps(reinterpret_cast<__m512>(a), reinterpret_cast<__m512>(b),
                                               reinterpret_cast<__m512>(c)));
#elif defined(SMELT_ISA_AVX2)
    return reinterpret_cast<F>(_mm256_fmadd_ps(reinterpret_cast<__m256>(a), reinterpret_cast<__m256>(b),
                                               reinterpret_cast<__m256>(c)));
#elif defined(SMELT_ISA_NEON)
    return reinterpret_cast<F>(vfmaq_f32(reinterpret_cast<float32x4_t>(c), reinterpret_cast<float32x4_t>(a),
                                         reinterpret_cast<float32x4_t>(b)));
#else
    return a * b + c;
#endif
}

// The order of the additions is always the same: halves, quarters, ...
SIMD float sum(F v) {
#if defined(SMELT_ISA_AVX512)
    typedef float F8 __attribute__((vector_size(32)));
    const F8 half = __builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7) +
                    __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15);
#else
    const F half = v;
#endif
#if defined(SMELT_ISA_AVX512) || defined(SMELT_ISA_AVX2)
    typedef float F4 __attribute__((vector_size(16)));
    const F4 quarter =
        __builtin_shufflevector(half, half, 0, 1, 2, 3) + __builtin_shufflevector(half, half, 4, 5, 6, 7);
#else
    const F quarter = half;
#endif
    return (quarter[0] + quarter[2]) + (quarter[1] + quarter[3]);
}
// sum() of four vectors.
SIMD void sum_4(const F* v, float* to) {
#if defined(SMELT_ISA_AVX512)
    const auto z = [&](int i) { return reinterpret_cast<__m512>(v[i]); };
    // Halves of 0 and 1, of 2 and 3; quarters of all.
    const __m512 ab =
        _mm512_add_ps(_mm512_shuffle_f32x4(z(0), z(1), 0x44), _mm512_shuffle_f32x4(z(0), z(1), 0xee));
    const __m512 cd =
        _mm512_add_ps(_mm512_shuffle_f32x4(z(2), z(3), 0x44), _mm512_shuffle_f32x4(z(2), z(3), 0xee));
    __m512 all = _mm512_add_ps(_mm512_shuffle_f32x4(ab, cd, 0x88), _mm512_shuffle_f32x4(ab, cd, 0xdd));
    all = _mm512_add_ps(all, _mm512_permute_ps(all, 0x4e));
    all = _mm512_add_ps(all, _mm512_permute_ps(all, 0xb1));
    const __m512i firsts = _mm512_set_epi32(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 12, 8, 4, 0);
    _mm_storeu_ps(to, _mm512_castps512_ps128(_mm512_permutexvar_ps(firsts, all)));
#else
    UNROLL for (int i = 0; i < 4; ++i) to[i] = sum(v[i]);
#endif
}
SIMD float largest(F v) {
#if defined(SMELT_ISA_AVX512)
    typedef float F8 __attribute__((vector_size(32)));
    const F8 low = __builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7);
    const F8 high = __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15);
    const F8 half = low < high ? high : low;
#else
    const F half = v;
#endif
#if defined(SMELT_ISA_AVX512) || defined(SMELT_ISA_AVX2)
    typedef float F4 __attribute__((vector_size(16)));
    const F4 lower = __builtin_shufflevector(half, half, 0, 1, 2, 3);
    const F4 upper = __builtin_shufflevector(half, half, 4, 5, 6, 7);
    const F4 quarter = lower < upper ? upper : lower;
#else
    const F quarter = half;
#endif
    const float a = quarter[0] < quarter[2] ? quarter[2] : quarter[0];
    const float b = quarter[1] < quarter[3] ? quarter[3] : quarter[1];
    return a < b ? b : a;
}

SIMD F load_f16(const void* p) {
#if defined(SMELT_ISA_AVX512)
    return reinterpret_cast<F>(_mm512_cvtph_ps(_mm256_loadu_si256(static_cast<const __m256i*>(p))));
#elif defined(SMELT_ISA_AVX2)
    return reinterpret_cast<F>(_mm256_cvtph_ps(_mm_loadu_si128(static_cast<const __m128i*>(p))));
#elif defined(SMELT_ISA_NEON)
    float16x4_t h;
    __builtin_memcpy(&h, p, sizeof h);
    return reinterpret_cast<F>(vcvt_f32_f16(h));
#else
    F v;
    for (int i = 0; i < lanes; ++i) {
        uint16_t h;
        __builtin_memcpy(&h, static_cast<const char*>(p) + 2 * i, 2);
        v[i] = f16_to_f32(h);
    }
    return v;
#endif
}
SIMD void store_f16(uint16_t* p, F v) {
#if defined(SMELT_ISA_AVX512)
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                        _mm512_cvtps_ph(reinterpret_cast<__m512>(v), _MM_FROUND_TO_NEAREST_INT));
#elif defined(SMELT_ISA_AVX2)
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                     _mm256_cvtps_ph(reinterpret_cast<__m256>(v), _MM_FROUND_TO_NEAREST_INT));
#elif defined(SMELT_ISA_NEON)
    const float16x4_t h = vcvt_f16_f32(reinterpret_cast<float32x4_t>(v));
    __builtin_memcpy(p, &h, sizeof h);
#else
    for (int i = 0; i < lanes; ++i) p[i] = f32_to_f16(v[i]);
#endif
}
SIMD F load_bf16(const void* p) {
    typedef uint16_t H __attribute__((vector_size(lanes * 2)));
    typedef uint32_t U __attribute__((vector_size(lanes * 4)));
    H h;
    __builtin_memcpy(&h, p, sizeof h);
    const U u = __builtin_convertvector(h, U) << 16;
    return reinterpret_cast<F>(u);
}

// The first n < lanes elements, the rest 0.
SIMD F load_first(const void* p, int n) {
    float v[lanes] = {};
    __builtin_memcpy(v, p, static_cast<size_t>(n) * 4);
    return load(v);
}
SIMD F load_f16_first(const void* p, int n) {
    uint16_t v[lanes] = {};
    __builtin_memcpy(v, p, static_cast<size_t>(n) * 2);
    return load_f16(v);
}
SIMD F load_bf16_first(const void* p, int n) {
    uint16_t v[lanes] = {};
    __builtin_memcpy(v, p, static_cast<size_t>(n) * 2);
    return load_bf16(v);
}
SIMD void store_first(float* p, F v, int n) {
    __builtin_memcpy(p, &v, static_cast<size_t>(n) * 4);
}

// Elements 0, 2, 4, ... and 1, 3, 5, ... of the concatenation of a and b, and back.
struct Pair {
    F even, odd;
};
SIMD Pair deinterleave(F a, F b) {
#if defined(SMELT_ISA_AVX512)
    return {__builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30),
            __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31)};
#elif defined(SMELT_ISA_AVX2)
    return {__builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14),
            __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15)};
#else
    return {__builtin_shufflevector(a, b, 0, 2, 4, 6), __builtin_shufflevector(a, b, 1, 3, 5, 7)};
#endif
}
SIMD void interleave_store(float* p, Pair x) {
#if defined(SMELT_ISA_AVX512)
    store(p, __builtin_shufflevector(x.even, x.odd, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23));
    store(p + lanes, __builtin_shufflevector(x.even, x.odd, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14,
                                             30, 15, 31));
#elif defined(SMELT_ISA_AVX2)
    store(p, __builtin_shufflevector(x.even, x.odd, 0, 8, 1, 9, 2, 10, 3, 11));
    store(p + lanes, __builtin_shufflevector(x.even, x.odd, 4, 12, 5, 13, 6, 14, 7, 15));
#else
    store(p, __builtin_shufflevector(x.even, x.odd, 0, 4, 1, 5));
    store(p + lanes, __builtin_shufflevector(x.even, x.odd, 2, 6, 3, 7));
#endif
}

// Round to nearest even, |x| < 2^22.
SIMD I round_to_int(F x) {
    const F magic = splat(0x1.8p23f);
    return bits(x + magic) - bits(magic);
}

// Relative error below 2^-22 (Cephes' polynomial); 0 below -87, e^88 above 88, exactly 1 at 0.
SIMD F exp(F x) {
    const F magic = splat(0x1.8p23f);
    const F clamped = min(max(x, splat(-87.0f)), splat(88.0f));
    const F shifted = fma(clamped, splat(0x1.715476p0f), magic);
    const F n = shifted - magic;
    // r = x - n ln 2, |r| <= ln 2 / 2; ln 2 in two parts, the first exact in 9 bits
    const F r = fma(n, splat(2.12194440e-4f), fma(n, splat(-0.693359375f), clamped));
    F p = fma(splat(1.9875691500e-4f), r, splat(1.3981999507e-3f));
    p = fma(p, r, splat(8.3334519073e-3f));
    p = fma(p, r, splat(4.1665795894e-2f));
    p = fma(p, r, splat(1.6666665459e-1f));
    p = fma(p, r, splat(5.0000001201e-1f));
    p = fma(p, r * r, r) + 1.0f;
    const F power = from_bits((bits(shifted) - bits(magic) + 127) << 23);
    return x < splat(-87.0f) ? F{} : p * power;
}

// Near zero a polynomial whose relative error is 4e-9; beyond, 1 - 2 / (e^2x + 1) loses nothing.
SIMD F tanh(F x) {
    const F z = x * x, size = x < F{} ? -x : x;
    F p = fma(splat(-0.005717098664f), z, splat(0.02065064034f));
    p = fma(p, z, splat(-0.05374351639f));
    p = fma(p, z, splat(0.1333149154f));
    p = fma(p, z, splat(-0.3333328394f));
    const F small = fma(p * z, x, x);
    const F large = splat(1.0f) - splat(2.0f) / (exp(size * 2.0f) + 1.0f);
    return size < splat(0.625f) ? small : x < F{} ? -large : large;
}

}  // namespace smelt::cpu::SMELT_ISA
