// Rows of the KV cache to floats and back, in every format that it can have; the bytes are those of
// encode_row().
#include "backend/cpu/kernel_set.h"
#include "backend/cpu/simd.h"

namespace smelt::cpu::SMELT_ISA {

namespace {

// x rounded to the nearest integer, halves away from zero: x - trunc(x) is exact.
SIMD F round_away(F x) {
    const F whole = to_float(__builtin_convertvector(x, I)), rest = x - whole;
    const F up = whole + splat(1.0f), down = whole - splat(1.0f);
    return rest >= splat(0.5f) ? up : rest <= splat(-0.5f) ? down : whole;
}

SIMD F magnitude(F x) {
    return from_bits(bits(x) & 0x7fffffff);
}

SIMD float largest_magnitude(const float* x) {
    F top{};
    UNROLL for (int i = 0; i < 32; i += lanes) top = max(top, magnitude(load(x + i)));
    return largest(top);
}

// As many bytes as a vector has lanes. The compiler's own conversion of vectors takes them one by one.
SIMD I load_int8(const void* p) {
#if defined(SMELT_ISA_AVX512)
    return reinterpret_cast<I>(_mm512_cvtepi8_epi32(_mm_loadu_si128(static_cast<const __m128i*>(p))));
#elif defined(SMELT_ISA_AVX2)
    return reinterpret_cast<I>(_mm256_cvtepi8_epi32(_mm_loadl_epi64(static_cast<const __m128i*>(p))));
#else
    I v;
    for (int i = 0; i < lanes; ++i) v[i] = static_cast<const int8_t*>(p)[i];
    return v;
#endif
}
SIMD I load_uint8(const void* p) {
    return load_int8(p) & 255;
}
SIMD void store_bytes(void* p, I v) {
#if defined(SMELT_ISA_AVX512)
    _mm_storeu_si128(static_cast<__m128i*>(p), _mm512_cvtepi32_epi8(reinterpret_cast<__m512i>(v)));
#else
    for (int i = 0; i < lanes; ++i) static_cast<int8_t*>(p)[i] = static_cast<int8_t>(v[i]);
#endif
}

// One number by way of a register: through memory, a vector would wait for the bytes just stored.
SIMD float half_of(F16 h) {
#if defined(SMELT_ISA_AVX512) || defined(SMELT_ISA_AVX2)
    return _cvtsh_ss(h.bits);
#elif defined(SMELT_ISA_NEON)
    return static_cast<float>(__builtin_bit_cast(__fp16, h.bits));
#else
    return f16_to_f32(h.bits);
#endif
}
// splat() would lose the sign of -0.
SIMD F16 to_half(float x) {
    const float wide[lanes] = {x};
    uint16_t all[lanes];
    store_f16(all, load(wide));
    return {all[0]};
}

SIMD void decode(const BlockQ8_0& b, float* to) {
    const F d = splat(half_of(b.d));
    UNROLL for (int i = 0; i < 32; i += lanes) store(to + i, d * to_float(load_int8(b.qs + i)));
}
// Below the smallest normal number it would be infinite, see quant/encode.cpp.
SIMD float inverse_of(float d) {
    return (d < 0 ? -d : d) < 0x1p-126f ? 0 : 1 / d;
}
void encode(const float* x, BlockQ8_0& b) {
    const float d = largest_magnitude(x) / 127;
    const F inverse = splat(inverse_of(d));
    b.d = to_half(d);
    UNROLL for (int i = 0; i < 32; i += lanes) {
        store_bytes(b.qs + i, __builtin_convertvector(round_away(load(x + i) * inverse), I));
    }
}

SIMD void decode(const BlockQ4_0& b, float* to) {
    const F d = splat(half_of(b.d));
    UNROLL for (int i = 0; i < 16; i += lanes) {
        const I q = load_uint8(b.qs + i);
        store(to + i, d * to_float((q & 15) - 8));
        store(to + i + 16, d * to_float((q >> 4) - 8));
    }
}
SIMD I nibbles(F x, F inverse) {
    const I q = __builtin_convertvector(x * inverse + splat(8.5f), I);
    return q < 15 ? q : I{} + 15;
}
void encode(const float* x, BlockQ4_0& b) {
    const float top = largest_magnitude(x);
    float extreme = 0;
    for (int i = 31; i >= 0; --i) extreme = (x[i] < 0 ? -x[i] : x[i]) == top ? x[i] : extreme;
    const float d = (top == 0 ? 0.0f : extreme) / -8;
    const F inverse = splat(inverse_of(d));
    b.d = to_half(d);
    UNROLL for (int i = 0; i < 16; i += lanes) {
        store_bytes(b.qs + i, nibbles(load(x + i), inverse) | nibbles(load(x + i + 16), inverse) << 4);
    }
}

// The bits of a normal number are those of a float with another bias; below 2^-6 come steps of 2^-9.
SIMD void decode(const BlockMXFP8_E4M3& b, float* to) {
    const F scale = splat(static_cast<float>(b.scale));
    UNROLL for (int i = 0; i < 32; i += lanes) {
        const I code = load_uint8(b.qs + i), magnitude_bits = code & 0x7f;
        const F normal = from_bits((magnitude_bits << 20) + (120 << 23)),
                small = to_float(magnitude_bits) * 0x1p-9f;
        const F value = magnitude_bits < 8 ? small : normal;
        store(to + i, from_bits(bits(value) | (code & 0x80) << 24) * scale);
    }
}
void encode(const float* x, BlockMXFP8_E4M3& b) {
    constexpr int largest_exponent = 8;  // of 448
    const float top = largest_magnitude(x);
    int biased = (bit_cast_to<int32_t>(top) >> 23) - largest_exponent;
    biased = top == 0 || biased < 0 ? 0 : biased > 254 ? 254 : biased;
    b.scale = {static_cast<uint8_t>(biased)};
    // 2^(127 - biased) in two factors, neither of which leaves the range
    const int half = (127 - biased) / 2;
    const F first = splat(bit_cast_to<float>((127 + half) << 23)),
            second = splat(bit_cast_to<float>((127 + 127 - biased - half) << 23));
    UNROLL for (int i = 0; i < 32; i += lanes) {
        const F v = load(x + i) * first * second, m = magnitude(v);
        // Ties to even: of the three bits that stay, or of steps of 2^-9 below 2^-6.
        const I normal = (bits(m) + 0x7ffff + ((bits(m) >> 20) & 1)) >> 20;
        const F magic = splat(0x1p14f);
        const I small = bits(m + magic) - bits(magic);
        I code = m < splat(0x1p-6f) ? small : normal - (120 << 3);
        code = code > 126 ? I{} + 126 : code;
        store_bytes(b.qs + i, code | ((bits(v) >> 24) & 0x80));
    }
}

template <class Block>
void decode_blocks(const void* row, int n, float* to) {
    const auto* bytes = static_cast<const uint8_t*>(row);
    for (int i = 0; i < n; i += Block::block_len, bytes += sizeof(Block)) {
        decode(*reinterpret_cast<const Block*>(bytes), to + i);
    }
}
template <class Block>
void encode_blocks(const float* x, int64_t n, void* row) {
    auto* bytes = static_cast<uint8_t*>(row);
    for (int64_t i = 0; i < n; i += Block::block_len, bytes += sizeof(Block)) {
        encode(x + i, *reinterpret_cast<Block*>(bytes));
    }
}

SIMD F load_float(Format f, const void* row, int i) {
    if (f == Format::F32) return load(static_cast<const float*>(row) + i);
    const void* p = static_cast<const uint16_t*>(row) + i;
    return f == Format::F16 ? load_f16(p) : load_bf16(p);
}
SIMD F load_float_first(Format f, const void* row, int i, int n) {
    if (f == Format::F32) return load_first(static_cast<const float*>(row) + i, n);
    const void* p = static_cast<const uint16_t*>(row) + i;
    return f == Format::F16 ? load_f16_first(p, n) : load_bf16_first(p, n);
}

}  // namespace

void kv_decode(Format f, const void* row, int n, float* to) {
    switch (f) {
        case Format::Q8_0:
            return decode_blocks<BlockQ8_0>(row, n, to);
        case Format::Q4_0:
            return decode_blocks<BlockQ4_0>(row, n, to);
        case Format::MXFP8_E4M3:
            return decode_blocks<BlockMXFP8_E4M3>(row, n, to);
        default:
            break;
    }
    int i = 0;
    for (; i + lanes <= n; i += lanes) store(to + i, load_float(f, row, i));
    if (i < n) store_first(to + i, load_float_first(f, row, i, n - i), n - i);
}

void kv_encode(Format f, const float* x, int64_t n, void* row) {
    switch (f) {
        case Format::Q8_0:
            return encode_blocks<BlockQ8_0>(x, n, row);
        case Format::Q4_0:
            return encode_blocks<BlockQ4_0>(x, n, row);
        case Format::MXFP8_E4M3:
            return encode_blocks<BlockMXFP8_E4M3>(x, n, row);
        case Format::F16:
            return to_f16(static_cast<uint16_t*>(row), x, n);
        case Format::BF16:
            for (int64_t i = 0; i < n; ++i) static_cast<uint16_t*>(row)[i] = f32_to_bf16(x[i]);
            return;
        default:
            __builtin_memcpy(row, x, static_cast<size_t>(n) * sizeof(float));
    }
}

}  // namespace smelt::cpu::SMELT_ISA
