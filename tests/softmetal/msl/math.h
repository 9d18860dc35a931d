// Arithmetic functions of MSL over float, half, integers and vectors of them.
#pragma once

#include <bit>
#include <cmath>
#include <limits>

#include "softmetal/msl/vector.h"

namespace metal {

// name(x) for float; for half and bfloat, rounded; for vectors, each element.
#define METAL_UNARY(name, expression)                 \
    MSL inline float name(float x) {                  \
        return expression;                            \
    }                                                 \
    template <class Bits>                             \
    MSL small_float<Bits> name(small_float<Bits> x) { \
        return name(static_cast<float>(x));           \
    }                                                 \
    template <VectorLike V>                           \
    MSL auto name(V v) {                              \
        auto r = to_vector(v);                        \
        for (auto& e : r.data) e = name(e);           \
        return r;                                     \
    }
METAL_UNARY(exp, std::exp(x))
METAL_UNARY(exp2, std::exp2(x))
METAL_UNARY(log, std::log(x))
METAL_UNARY(log2, std::log2(x))
METAL_UNARY(log10, std::log10(x))
METAL_UNARY(sqrt, std::sqrt(x))
METAL_UNARY(rsqrt, 1 / std::sqrt(x))
METAL_UNARY(sin, std::sin(x))
METAL_UNARY(cos, std::cos(x))
METAL_UNARY(tan, std::tan(x))
METAL_UNARY(tanh, std::tanh(x))
METAL_UNARY(floor, std::floor(x))
METAL_UNARY(ceil, std::ceil(x))
METAL_UNARY(trunc, std::trunc(x))
METAL_UNARY(rint, std::nearbyint(x))
METAL_UNARY(round, std::round(x))
METAL_UNARY(fabs, std::fabs(x))
METAL_UNARY(saturate, x<0 ? 0 : x> 1 ? 1 : x)
METAL_UNARY(sign, x > 0 ? 1.0F : x < 0 ? -1.0F : x)
#undef METAL_UNARY

#define METAL_BINARY(name, expression)                                      \
    MSL inline float name(float x, float y) {                               \
        return expression;                                                  \
    }                                                                       \
    template <class Bits>                                                   \
    MSL small_float<Bits> name(small_float<Bits> x, small_float<Bits> y) {  \
        return name(static_cast<float>(x), static_cast<float>(y));          \
    }                                                                       \
    template <class T, int n>                                               \
    MSL vec<T, n> name(vec<T, n> x, std::type_identity_t<vec<T, n>> y) {    \
        for (int i = 0; i < n; ++i) x.data[i] = name(x.data[i], y.data[i]); \
        return x;                                                           \
    }
METAL_BINARY(fmax, std::fmax(x, y))
METAL_BINARY(fmin, std::fmin(x, y))
METAL_BINARY(pow, std::pow(x, y))
METAL_BINARY(powr, std::pow(x, y))
METAL_BINARY(fmod, std::fmod(x, y))
METAL_BINARY(ldexp_by, std::ldexp(x, static_cast<int>(y)))
#undef METAL_BINARY

MSL inline float ldexp(float x, int e) {
    return std::ldexp(x, e);
}
MSL inline float sincos(float x, float& c) {
    c = std::cos(x);
    return std::sin(x);
}
MSL inline float fma(float a, float b, float c) {
    return __builtin_fmaf(a, b, c);
}
MSL inline half fma(half a, half b, half c) {
    return __builtin_fmaf(a, b, c);
}
template <class T, int n>
MSL vec<T, n> fma(vec<T, n> a, std::type_identity_t<vec<T, n>> b, std::type_identity_t<vec<T, n>> c) {
    for (int i = 0; i < n; ++i) a.data[i] = fma(a.data[i], b.data[i], c.data[i]);
    return a;
}

template <class T>
concept Scalar = std::is_arithmetic_v<T> || is_small_float<T>;

template <Scalar T>
MSL T max(T a, T b) {
    if constexpr (std::is_same_v<T, float>)
        return std::fmax(a, b);
    else
        return a < b ? b : a;
}
template <Scalar T>
MSL T min(T a, T b) {
    if constexpr (std::is_same_v<T, float>)
        return std::fmin(a, b);
    else
        return b < a ? b : a;
}
template <Scalar T>
MSL T clamp(T x, T low, T high) {
    return min(max(x, low), high);
}
template <Scalar T>
MSL T abs(T x) {
    return x < T(0) ? T(-x) : x;
}
template <class T, int n>
MSL vec<T, n> max(vec<T, n> a, std::type_identity_t<vec<T, n>> b) {
    for (int i = 0; i < n; ++i) a.data[i] = max(a.data[i], b.data[i]);
    return a;
}
template <class T, int n>
MSL vec<T, n> min(vec<T, n> a, std::type_identity_t<vec<T, n>> b) {
    for (int i = 0; i < n; ++i) a.data[i] = min(a.data[i], b.data[i]);
    return a;
}
template <class T, int n>
MSL vec<T, n> clamp(vec<T, n> x, std::type_identity_t<vec<T, n>> low, std::type_identity_t<vec<T, n>> high) {
    return min(max(x, low), high);
}
template <class T, int n>
MSL vec<T, n> abs(vec<T, n> x) {
    for (auto& e : x.data) e = abs(e);
    return x;
}
template <class T>
MSL T mix(T a, T b, std::type_identity_t<T> t) {
    return a + (b - a) * t;
}
template <Scalar T>
MSL T select(T a, T b, bool second) {
    return second ? b : a;
}
template <class T, int n>
MSL vec<T, n> select(vec<T, n> a, vec<T, n> b, vec<bool, n> second) {
    for (int i = 0; i < n; ++i) a.data[i] = second.data[i] ? b.data[i] : a.data[i];
    return a;
}
template <VectorLike A, VectorLike B>
MSL auto dot(A a, B b) {
    const auto x = to_vector(a), y = to_vector(b);
    auto sum = x.data[0] * y.data[0];
    for (size_t i = 1; i < std::size(x.data); ++i) sum = sum + x.data[i] * y.data[i];
    return sum;
}
template <VectorLike V>
MSL auto length_squared(V v) {
    return dot(v, v);
}
template <VectorLike V>
MSL auto length(V v) {
    return sqrt(dot(v, v));
}
template <int n>
MSL bool all(vec<bool, n> v) {
    for (bool e : v.data)
        if (!e) return false;
    return true;
}
template <int n>
MSL bool any(vec<bool, n> v) {
    return !all(!v);
}

MSL inline bool isnan(float x) {
    return std::isnan(x);
}
MSL inline bool isinf(float x) {
    return std::isinf(x);
}
MSL inline bool isfinite(float x) {
    return std::isfinite(x);
}
template <std::integral T>
MSL T popcount(T x) {
    return static_cast<T>(std::popcount(std::make_unsigned_t<T>(x)));
}
template <std::integral T>
MSL T clz(T x) {
    return static_cast<T>(std::countl_zero(std::make_unsigned_t<T>(x)));
}
template <std::integral T>
MSL T ctz(T x) {
    return static_cast<T>(std::countr_zero(std::make_unsigned_t<T>(x)));
}
MSL inline uint mulhi(uint a, uint b) {
    return static_cast<uint>((uint64_t{a} * b) >> 32);
}
template <std::integral T>
MSL void check_bits([[maybe_unused]] const char* function, [[maybe_unused]] uint end) {
#if !defined(__CUDA_ARCH__)
    if (end > sizeof(T) * 8) softmetal::report_index(function, end, sizeof(T) * 8);
#endif
}
template <std::integral T>
MSL T extract_bits(T x, uint offset, uint bits) {
    check_bits<T>("extract_bits", offset + bits);
    if (bits == 0) return 0;
    const uint up = static_cast<uint>(sizeof(T) * 8) - offset - bits, down = up + offset;
    return static_cast<T>(static_cast<T>(x << up) >> down);
}
template <std::integral T>
MSL T insert_bits(T base, T insert, uint offset, uint bits) {
    check_bits<T>("insert_bits", offset + bits);
    const T mask =
        bits == sizeof(T) * 8 ? static_cast<T>(~T{0}) : static_cast<T>(((T{1} << bits) - 1) << offset);
    return static_cast<T>((base & ~mask) | (static_cast<T>(insert << offset) & mask));
}
template <std::integral T>
MSL T rotate(T x, T by) {
    return static_cast<T>(std::rotl(std::make_unsigned_t<T>(x), static_cast<int>(by)));
}
template <std::integral T>
MSL T mad24(T a, T b, T c) {
    return a * b + c;
}
template <std::integral T>
MSL T mul24(T a, T b) {
    return a * b;
}
MSL inline half2 unpack_half2(uint x) {
    return as_type<half2>(x);
}
MSL inline float4 unpack_unorm4x8_to_float(uint x) {
    return float4(as_type<uchar4>(x)) / 255.0F;
}

// The software device has one precision: that of the C library.
namespace precise {
using metal::cos, metal::exp, metal::exp2, metal::log, metal::log2, metal::pow, metal::rsqrt, metal::sin,
    metal::sqrt, metal::tanh, metal::fma, metal::max, metal::min, metal::clamp;
MSL inline float divide(float a, float b) {
    return a / b;
}
}  // namespace precise
namespace fast {
using namespace precise;
}
MSL inline float divide(float a, float b) {
    return a / b;
}

template <class T>
using numeric_limits = std::numeric_limits<T>;
using std::bool_constant, std::conditional_t, std::enable_if_t, std::false_type, std::integral_constant,
    std::is_same_v, std::make_unsigned_t, std::true_type, std::is_same, std::conditional, std::enable_if,
    std::is_floating_point_v, std::is_integral_v;

}  // namespace metal

#define METAL_FUNC inline
#ifndef INFINITY
#define INFINITY __builtin_inff()
#endif
#undef MAXFLOAT
#define MAXFLOAT __FLT_MAX__
#define M_PI_F 3.14159265358979323846F
#define M_SQRT2_F 1.41421356237309504880F
#define M_2_SQRTPI_F 1.12837916709551257390F
#define M_LOG2E_F 1.44269504088896340736F
#define M_LN2_F 0.69314718055994530942F
