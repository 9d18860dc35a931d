// IEEE half (F16) and bfloat16 (BF16) as bits, with exact widening and round-to-nearest-even narrowing.
// Device-safe: no standard library beyond <cstdint>. Metal has both as types of its language.
#pragma once

#ifndef __METAL_VERSION__
#include <cstdint>
#endif

#include "base/device_fn.h"

namespace smelt {

// std::bit_cast without a function of its own (see base/device_fn.h).
template <class To, class From>
DEVICE_FN constexpr To bit_cast_to(From from) {
#ifdef __METAL_VERSION__
    return as_type<To>(from);
#else
    return __builtin_bit_cast(To, from);
#endif
}

#ifdef __METAL_VERSION__
using F16 = half;
using BF16 = bfloat;
#else
DEVICE_FN constexpr float f16_to_f32(uint16_t h) {
    const uint32_t sign = static_cast<uint32_t>(h & 0x8000u) << 16;
    const uint32_t magnitude = h & 0x7fffu;
    const uint32_t normal = (magnitude << 13) + (112u << 23);
    const uint32_t special = (magnitude << 13) | 0x7f800000u;
    const uint32_t subnormal =
        bit_cast_to<uint32_t>(static_cast<float>(static_cast<int>(magnitude)) * 0x1p-24f);  // exact
    const uint32_t finite = magnitude < 0x400u ? subnormal : normal;
    return bit_cast_to<float>(sign | (magnitude >= 0x7c00u ? special : finite));
}

DEVICE_FN constexpr uint16_t f32_to_f16(float value) {
    const uint32_t bits = bit_cast_to<uint32_t>(value);
    const uint32_t sign = (bits >> 16) & 0x8000u;
    const uint32_t magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return static_cast<uint16_t>(sign | 0x7e00u);   // NaN, quiet
    if (magnitude >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7c00u);  // rounds to infinity
    if (magnitude < 0x38800000u) {
        // Below 2^-14: adding 2^-1 aligns the half subnormal grid (2^-24) with the float's last mantissa bit.
        const float aligned = bit_cast_to<float>(magnitude) + 0.5f;
        return static_cast<uint16_t>(sign | (bit_cast_to<uint32_t>(aligned) - 0x3f000000u));
    }
    const uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u);
    return static_cast<uint16_t>(sign | ((rounded - 0x38000000u) >> 13));
}

DEVICE_FN constexpr float bf16_to_f32(uint16_t b) {
    return bit_cast_to<float>(static_cast<uint32_t>(b) << 16);
}

DEVICE_FN constexpr uint16_t f32_to_bf16(float value) {
    const uint32_t bits = bit_cast_to<uint32_t>(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((bits >> 16) | 0x40u);  // NaN, quiet
    return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

// Packed: blocks of a file may lie at any address.
struct __attribute__((packed)) F16 {
    uint16_t bits;
    DEVICE_FN operator float() const { return f16_to_f32(bits); }
    DEVICE_FN static F16 from(float value) { return {f32_to_f16(value)}; }
};

struct BF16 {
    uint16_t bits;
    DEVICE_FN operator float() const { return bf16_to_f32(bits); }
    DEVICE_FN static BF16 from(float value) { return {f32_to_bf16(value)}; }
};

static_assert(sizeof(F16) == 2 && sizeof(BF16) == 2);
#endif

}  // namespace smelt
