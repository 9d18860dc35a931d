// half and bfloat: 16 bits with arithmetic that rounds to them, as on the device.
#pragma once

#include <concepts>
#include <type_traits>

#include "base/half.h"

// Functions of the kernels' library, which nvcc has to be told that a GPU calls.
#if defined(__CUDACC__)
#define MSL __host__ __device__
#else
#define MSL
#endif

namespace metal {

template <class Bits>
struct small_float {
    uint16_t bits;

    small_float() = default;
    constexpr small_float(float x) : bits(Bits::narrow(x)) {}
    constexpr small_float(double x) : bits(Bits::narrow(static_cast<float>(x))) {}
    template <std::integral I>
    constexpr small_float(I x) : bits(Bits::narrow(static_cast<float>(x))) {}
    template <class Other>
    requires(!std::same_as<Other, Bits>) constexpr explicit small_float(small_float<Other> x)
        : bits(Bits::narrow(static_cast<float>(x))) {}
    constexpr operator float() const { return Bits::widen(bits); }

    template <class T>
    constexpr small_float& operator+=(T x) {
        return *this = small_float(static_cast<float>(*this) + static_cast<float>(x));
    }
    template <class T>
    constexpr small_float& operator-=(T x) {
        return *this = small_float(static_cast<float>(*this) - static_cast<float>(x));
    }
    template <class T>
    constexpr small_float& operator*=(T x) {
        return *this = small_float(static_cast<float>(*this) * static_cast<float>(x));
    }
    template <class T>
    constexpr small_float& operator/=(T x) {
        return *this = small_float(static_cast<float>(*this) / static_cast<float>(x));
    }
    constexpr small_float operator-() const {
        small_float r{};
        r.bits = static_cast<uint16_t>(bits ^ 0x8000u);
        return r;
    }
};

struct HalfBits {
    static constexpr uint16_t narrow(float x) { return smelt::f32_to_f16(x); }
#if defined(__CUDA_ARCH__)
    __device__ static float widen(uint16_t b) {
        float f;
        asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(b));
        return f;
    }
#else
    static constexpr float widen(uint16_t b) {
        return smelt::f16_to_f32(b);
    }
#endif
};
struct BfloatBits {
    static constexpr uint16_t narrow(float x) { return smelt::f32_to_bf16(x); }
    static constexpr float widen(uint16_t b) { return smelt::bf16_to_f32(b); }
};
using half = small_float<HalfBits>;
using bfloat = small_float<BfloatBits>;

template <class T>
inline constexpr bool is_small_float = false;
template <class Bits>
inline constexpr bool is_small_float<small_float<Bits>> = true;

// half op half and half op integer are half; half op float is float, by the conversion.
template <class A, class B>
concept SmallPair = (is_small_float<A> && (std::same_as<A, B> || std::integral<B>)) ||
                    (is_small_float<B> && std::integral<A>);
template <class A, class B>
using small_of = std::conditional_t<is_small_float<A>, A, B>;

template <class A, class B>
requires SmallPair<A, B>
constexpr small_of<A, B> operator+(A a, B b) {
    return static_cast<float>(a) + static_cast<float>(b);
}
template <class A, class B>
requires SmallPair<A, B>
constexpr small_of<A, B> operator-(A a, B b) {
    return static_cast<float>(a) - static_cast<float>(b);
}
template <class A, class B>
requires SmallPair<A, B>
constexpr small_of<A, B> operator*(A a, B b) {
    return static_cast<float>(a) * static_cast<float>(b);
}
template <class A, class B>
requires SmallPair<A, B>
constexpr small_of<A, B> operator/(A a, B b) {
    return static_cast<float>(a) / static_cast<float>(b);
}
constexpr half operator""h(long double x) {
    return static_cast<float>(x);
}

}  // namespace metal
