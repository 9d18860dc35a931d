// Integer products of one group: panel_rows rows of weights x group_len, against one row of activations. A
// Group holds the weights transposed: quad[j] has weights 4j .. 4j+3 of every row, a row a lane, so that the
// sums of all rows come out as one vector. Like simd.h, for kernel files only.
#pragma once

#include "backend/cpu/kernels.h"
#include "backend/cpu/simd.h"

namespace smelt::cpu::SMELT_ISA {

static_assert(panel_rows == lanes && group_len == 32);
constexpr int n_quads = group_len / 4;

typedef int8_t Bytes __attribute__((vector_size(panel_rows * 4)));

// What the stored byte of a signed quant is too large by: AVX-512's instruction takes unsigned x signed.
#if defined(SMELT_ISA_AVX512)
constexpr int byte_offset = 128;
#else
constexpr int byte_offset = 0;
#endif

struct Group {
    Bytes quad[n_quads];
};

// As splat(), which adds zero to it; here compilers load a number for all lanes at once.
SIMD F broadcast(float x) {
    return x - F{};
}

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

SIMD Bytes load_bytes(const uint8_t* p) {
    Bytes v;
    __builtin_memcpy(&v, p, sizeof v);
    return v;
}
SIMD I load_words(const uint8_t* p) {
    return reinterpret_cast<I>(load_bytes(p));
}
SIMD F load_floats(const uint8_t* p) {
    return from_bits(load_words(p));
}
// A byte for every lane, 0 to 255.
SIMD I load_single_bytes(const uint8_t* p) {
#if defined(SMELT_ISA_AVX512)
    return reinterpret_cast<I>(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
#elif defined(SMELT_ISA_AVX2)
    return reinterpret_cast<I>(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
#else
    I v;
    UNROLL for (int r = 0; r < lanes; ++r) v[r] = p[r];
    return v;
#endif
}
// The half in the low 16 bits of every lane.
SIMD F low_halves(I words) {
#if defined(SMELT_ISA_AVX512)
    return reinterpret_cast<F>(_mm512_cvtph_ps(_mm512_cvtepi32_epi16(reinterpret_cast<__m512i>(words))));
#else
    uint16_t h[lanes];
    for (int r = 0; r < lanes; ++r) h[r] = static_cast<uint16_t>(words[r]);
    return load_f16(h);
#endif
}
SIMD F high_halves(I words) {
    return low_halves(words >> 16);
}
// Shifts of all bits of a lane; what comes from the neighbour byte is for the caller to mask.
SIMD Bytes shift_right(Bytes v, int n) {
    typedef uint32_t U __attribute__((vector_size(lanes * 4)));
    return reinterpret_cast<Bytes>(reinterpret_cast<U>(v) >> n);
}
SIMD Bytes shift_left(Bytes v, int n) {
    return reinterpret_cast<Bytes>(reinterpret_cast<I>(v) << n);
}
SIMD Bytes low_nibbles(Bytes v) {
    return v & static_cast<int8_t>(15);
}
SIMD Bytes high_nibbles(Bytes v) {
    return shift_right(v, 4) & static_cast<int8_t>(15);
}
// Signed bytes, or unsigned ones of the whole range, as dot<255> wants them.
SIMD Bytes from_signed(Bytes v) {
    return byte_offset == 0 ? v : v ^ static_cast<int8_t>(-128);
}
SIMD Bytes from_unsigned(Bytes v) {
    return byte_offset == 0 ? v ^ static_cast<int8_t>(-128) : v;
}

// table[v] for bytes 0 to 15.
SIMD Bytes lookup_bytes(const int8_t* table, Bytes v) {
#if defined(SMELT_ISA_AVX512)
    const __m512i all = _mm512_broadcast_i32x4(_mm_load_si128(reinterpret_cast<const __m128i*>(table)));
    return reinterpret_cast<Bytes>(_mm512_shuffle_epi8(all, reinterpret_cast<__m512i>(v)));
#elif defined(SMELT_ISA_AVX2)
    const __m256i all = _mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(table)));
    return reinterpret_cast<Bytes>(_mm256_shuffle_epi8(all, reinterpret_cast<__m256i>(v)));
#elif defined(SMELT_ISA_NEON)
    return reinterpret_cast<Bytes>(vqtbl1q_s8(vld1q_s8(table), reinterpret_cast<uint8x16_t>(v)));
#else
    int8_t bytes[sizeof v];
    __builtin_memcpy(bytes, &v, sizeof v);
    for (size_t i = 0; i < sizeof v; ++i) bytes[i] = table[bytes[i] & 15];
    __builtin_memcpy(&v, bytes, sizeof v);
    return v;
#endif
}

// Byte k of every lane in all four places of the lane.
template <int k>
SIMD Bytes spread_byte(I v) {
#if defined(SMELT_ISA_AVX512)
    const __m512i places = _mm512_set4_epi32(0x0c0c0c0c + 0x01010101 * k, 0x08080808 + 0x01010101 * k,
                                             0x04040404 + 0x01010101 * k, 0x01010101 * k);
    return reinterpret_cast<Bytes>(_mm512_shuffle_epi8(reinterpret_cast<__m512i>(v), places));
#elif defined(SMELT_ISA_AVX2)
    const __m128i place = _mm_set_epi32(0x0c0c0c0c + 0x01010101 * k, 0x08080808 + 0x01010101 * k,
                                        0x04040404 + 0x01010101 * k, 0x01010101 * k);
    return reinterpret_cast<Bytes>(
        _mm256_shuffle_epi8(reinterpret_cast<__m256i>(v), _mm256_broadcastsi128_si256(place)));
#else
    I byte = (v >> (8 * k)) & 255;
    byte |= byte << 8;
    return reinterpret_cast<Bytes>(byte | (byte << 16));
#endif
}
// `v`, with `bit` in those bytes where `from` has the bit that `mask` has.
SIMD Bytes or_where(Bytes v, int8_t bit, Bytes from, Bytes mask) {
#if defined(SMELT_ISA_AVX512)
    const __m512i q = reinterpret_cast<__m512i>(v);
    const __mmask64 set =
        _mm512_test_epi8_mask(reinterpret_cast<__m512i>(from), reinterpret_cast<__m512i>(mask));
    return reinterpret_cast<Bytes>(_mm512_mask_add_epi8(q, set, q, _mm512_set1_epi8(bit)));
#else
    return v | (((from & mask) == mask) & bit);
#endif
}

// Sums over n quads of w * x, a row a lane. Quants are 0 .. max_quant; 255 stands for signed bytes, as
// from_signed() leaves them. |x| <= 127. The sums begin with `start`.
template <int max_quant, int n>
SIMD I dot(const Bytes* w, const int8_t* x, I start) {
#if defined(SMELT_ISA_AVX512)
    __m512i total = reinterpret_cast<__m512i>(start);
    UNROLL for (int j = 0; j < n; ++j) {
        // _mm512_dpbusd_epi32 with the four bytes for all lanes, which compilers load by an instruction of
        // its own.
        typedef int32_t Four __attribute__((may_alias, aligned(1)));
        asm("vpdpbusd %2%{1to16%}, %1, %0"
            : "+v"(total)
            : "v"(w[j]), "m"(*reinterpret_cast<const Four*>(x + 4 * j)));
    }
    return reinterpret_cast<I>(total);
#elif defined(SMELT_ISA_AVX2)
    constexpr int fit = max_quant <= 15 ? 8 : max_quant <= 31 ? 4 : max_quant <= 63 ? 2 : 1;
    constexpr int at_once = fit < n ? fit : n;
    I total = start;
    UNROLL for (int first = 0; first < n; first += at_once) {
        // Sums of at_once pairs of products fit in 16 bits.
        __m256i pairs{};
        UNROLL for (int i = 0; i < at_once; ++i) {
            int32_t x4;
            __builtin_memcpy(&x4, x + 4 * (first + i), 4);
            const __m256i q = reinterpret_cast<__m256i>(w[first + i]), xs = _mm256_set1_epi32(x4);
            // Of signed weights: |w| * (x with w's sign).
            const __m256i both = max_quant == 255
                                     ? _mm256_maddubs_epi16(_mm256_abs_epi8(q), _mm256_sign_epi8(xs, q))
                                     : _mm256_maddubs_epi16(q, xs);
            pairs = i == 0 ? both : _mm256_add_epi16(pairs, both);
        }
        total += reinterpret_cast<I>(_mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
    }
    return total;
#elif defined(SMELT_ISA_NEON) && defined(__ARM_FEATURE_DOTPROD)
    int32x4_t even = reinterpret_cast<int32x4_t>(start), odd = vdupq_n_s32(0);
    const auto quad = [&](int j) { return reinterpret_cast<int8x16_t>(w[j]); };
    UNROLL for (int j = 0; j < n; j += 4) {
        const int8x16_t xs = vld1q_s8(x + 4 * j);
        even = vdotq_laneq_s32(even, quad(j), xs, 0);
        odd = vdotq_laneq_s32(odd, quad(j + 1), xs, 1);
        even = vdotq_laneq_s32(even, quad(j + 2), xs, 2);
        odd = vdotq_laneq_s32(odd, quad(j + 3), xs, 3);
    }
    return reinterpret_cast<I>(vaddq_s32(even, odd));
#elif defined(SMELT_ISA_NEON)
    int32x4_t total = reinterpret_cast<int32x4_t>(start);
    UNROLL for (int j = 0; j < n; ++j) {
        int32_t x4;
        __builtin_memcpy(&x4, x + 4 * j, 4);
        const int8x16_t xs = vreinterpretq_s8_s32(vdupq_n_s32(x4));
        const int8x16_t q = reinterpret_cast<int8x16_t>(w[j]);
        const int32x4_t low = vpaddlq_s16(vmull_s8(vget_low_s8(q), vget_low_s8(xs)));
        const int32x4_t high = vpaddlq_s16(vmull_high_s8(q, xs));
        total = vaddq_s32(total, vpaddq_s32(low, high));
    }
    return reinterpret_cast<I>(total);
#else
    // Products of bytes, and sums of two of them, fit in 16 bits: those of even bytes and of odd ones.
    typedef int16_t Pairs __attribute__((vector_size(lanes * 4)));
    I total = start;
    UNROLL for (int j = 0; j < n; ++j) {
        int32_t x4;
        __builtin_memcpy(&x4, x + 4 * j, 4);
        const Pairs q = reinterpret_cast<Pairs>(w[j]), xs = reinterpret_cast<Pairs>(I{} + x4);
        const Pairs both = ((q << 8) >> 8) * ((xs << 8) >> 8) + (q >> 8) * (xs >> 8);
        const I two = reinterpret_cast<I>(both);
        total += ((two << 16) >> 16) + (two >> 16);
    }
    return total;
#endif
}

}  // namespace smelt::cpu::SMELT_ISA
