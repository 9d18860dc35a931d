// Vectors of two, three and four elements, with the swizzles that kernels use.
#pragma once

#include <cstddef>
#include <utility>

#include "softmetal/launch.h"
#include "softmetal/msl/small_float.h"

namespace metal {

using uchar = unsigned char;
using ushort = unsigned short;
using uint = unsigned int;
using ulong = unsigned long;
using std::int16_t, std::int32_t, std::int64_t, std::int8_t, std::uint16_t, std::uint32_t, std::uint64_t,
    std::uint8_t;
using std::ptrdiff_t, std::size_t;

template <class T, int n>
struct vec;

// Elements I... of the n whose memory it shares.
template <class T, int n, int... I>
struct swizzle {
    T data[n];
    using vector = vec<T, sizeof...(I)>;
    constexpr operator vector() const { return vector(data[I]...); }
    constexpr swizzle& operator=(vector v) {
        int k = 0;
        ((data[I] = v[k++]), ...);
        return *this;
    }
    constexpr swizzle& operator+=(vector v) { return *this = vector(*this) + v; }
    constexpr swizzle& operator*=(vector v) { return *this = vector(*this) * v; }
};

template <class V>
struct vector_of {};
template <class T, int n>
struct vector_of<vec<T, n>> {
    using type = vec<T, n>;
};
template <class T, int n, int... I>
struct vector_of<swizzle<T, n, I...>> {
    using type = vec<T, sizeof...(I)>;
};
template <class V>
concept VectorLike = requires {
    typename vector_of<V>::type;
};
template <VectorLike V>
constexpr typename vector_of<V>::type to_vector(V v) {
    return v;
}

template <class T, int n>
struct components;
template <class T>
struct components<T, 2> {
    union {
        T data[2];
        struct {
            T x, y;
        };
        struct {
            T r, g;
        };
        swizzle<T, 2, 0, 1> xy;
        swizzle<T, 2, 1, 0> yx;
    };
};
template <class T>
struct components<T, 3> {
    union {
        T data[3];
        struct {
            T x, y, z;
        };
        struct {
            T r, g, b;
        };
        swizzle<T, 3, 0, 1> xy;
        swizzle<T, 3, 0, 2> xz;
        swizzle<T, 3, 1, 2> yz;
        swizzle<T, 3, 0, 1, 2> xyz;
        swizzle<T, 3, 2, 1, 0> zyx;
    };
};
template <class T>
struct components<T, 4> {
    union {
        T data[4];
        struct {
            T x, y, z, w;
        };
        struct {
            T r, g, b, a;
        };
        swizzle<T, 4, 0, 1> xy;
        swizzle<T, 4, 0, 2> xz;
        swizzle<T, 4, 0, 3> xw;
        swizzle<T, 4, 1, 2> yz;
        swizzle<T, 4, 1, 3> yw;
        swizzle<T, 4, 2, 3> zw;
        swizzle<T, 4, 0, 1, 2> xyz;
        swizzle<T, 4, 1, 2, 3> yzw;
        swizzle<T, 4, 0, 1, 2, 3> xyzw;
        swizzle<T, 4, 3, 2, 1, 0> wzyx;
        swizzle<T, 4, 2, 3, 0, 1> zwxy;
    };
};

template <class T, int n>
struct alignas(sizeof(T) * (n == 3 ? 4 : n)) vec : components<T, n> {
    using components<T, n>::data;

    vec() = default;
    constexpr vec(T s) {
        for (int i = 0; i < n; ++i) data[i] = s;
    }
    template <class U>
    constexpr explicit vec(vec<U, n> v) {
        for (int i = 0; i < n; ++i) data[i] = static_cast<T>(v.data[i]);
    }
    template <class U, int m, int... I>
    requires(sizeof...(I) == n && !std::is_same_v<U, T>) constexpr explicit vec(swizzle<U, m, I...> s)
        : vec(to_vector(s)) {}
    // (float2, float, float), in any division
    template <class A, class B, class... More>
    constexpr vec(A a, B b, More... more) {
        const int end = put(put(0, a), b);
        const int total = put_all(end, more...);
        if (total != n) bad_index("a vector's constructor", total);
    }

    constexpr T& operator[](int i) {
        if (static_cast<unsigned>(i) >= n) [[unlikely]]
            bad_index("a vector", i);
        return data[i];
    }
    constexpr const T& operator[](int i) const {
        if (static_cast<unsigned>(i) >= n) [[unlikely]]
            bad_index("a vector", i);
        return data[i];
    }

    constexpr vec operator-() const {
        vec r;
        for (int i = 0; i < n; ++i) r.data[i] = static_cast<T>(-data[i]);
        return r;
    }
    constexpr vec operator~() const {
        vec r;
        for (int i = 0; i < n; ++i) r.data[i] = static_cast<T>(~data[i]);
        return r;
    }
    constexpr vec<bool, n> operator!() const {
        vec<bool, n> r;
        for (int i = 0; i < n; ++i) r.data[i] = !data[i];
        return r;
    }

#define METAL_VECTOR_OP(op)                                                             \
    friend constexpr vec operator op(vec a, vec b) {                                    \
        for (int i = 0; i < n; ++i) a.data[i] = static_cast<T>(a.data[i] op b.data[i]); \
        return a;                                                                       \
    }                                                                                   \
    constexpr vec& operator op##=(vec b) {                                              \
        return *this = *this op b;                                                      \
    }
    METAL_VECTOR_OP(+)
    METAL_VECTOR_OP(-)
    METAL_VECTOR_OP(*)
    METAL_VECTOR_OP(/)
    METAL_VECTOR_OP(%)
    METAL_VECTOR_OP(&)
    METAL_VECTOR_OP(|)
    METAL_VECTOR_OP(^)
    METAL_VECTOR_OP(<<)
    METAL_VECTOR_OP(>>)
#undef METAL_VECTOR_OP
#define METAL_VECTOR_OP(op)                                             \
    friend constexpr vec<bool, n> operator op(vec a, vec b) {           \
        vec<bool, n> r;                                                 \
        for (int i = 0; i < n; ++i) r.data[i] = a.data[i] op b.data[i]; \
        return r;                                                       \
    }
    METAL_VECTOR_OP(==)
    METAL_VECTOR_OP(!=)
    METAL_VECTOR_OP(<)
    METAL_VECTOR_OP(<=)
    METAL_VECTOR_OP(>)
    METAL_VECTOR_OP(>=)
    METAL_VECTOR_OP(&&)
    METAL_VECTOR_OP(||)
#undef METAL_VECTOR_OP

 private:
    MSL static void bad_index([[maybe_unused]] const char* what, [[maybe_unused]] int i) {
#if !defined(__CUDA_ARCH__)
        softmetal::report_index(what, i, n);
#endif
    }
    template <class A>
    constexpr int put(int at, const A& a) {
        if constexpr (VectorLike<A>) {
            const auto v = to_vector(a);
            for (const auto& e : v.data) {
                if (at < n) data[at] = static_cast<T>(e);
                ++at;
            }
            return at;
        } else {
            if (at < n) data[at] = static_cast<T>(a);
            return at + 1;
        }
    }
    constexpr int put_all(int at) {
        return at;
    }
    template <class A, class... More>
    constexpr int put_all(int at, const A& a, More... more) {
        return put_all(put(at, a), more...);
    }
};

#define METAL_SWIZZLE_OP(op)                                                   \
    template <class T, int n, int m, int... I, int... J>                       \
    constexpr auto operator op(swizzle<T, n, I...> a, swizzle<T, m, J...> b) { \
        return to_vector(a) op to_vector(b);                                   \
    }                                                                          \
    template <class T, int n, int... I, class S>                               \
    requires std::is_arithmetic_v<S>                                           \
    constexpr auto operator op(swizzle<T, n, I...> a, S b) {                   \
        return to_vector(a) op static_cast<T>(b);                              \
    }                                                                          \
    template <class T, int n, int... I, class S>                               \
    requires std::is_arithmetic_v<S>                                           \
    constexpr auto operator op(S a, swizzle<T, n, I...> b) {                   \
        return static_cast<T>(a) op to_vector(b);                              \
    }
METAL_SWIZZLE_OP(+)
METAL_SWIZZLE_OP(-)
METAL_SWIZZLE_OP(*)
METAL_SWIZZLE_OP(/)
METAL_SWIZZLE_OP(&)
METAL_SWIZZLE_OP(|)
#undef METAL_SWIZZLE_OP

// As three elements without the fourth's room.
template <class T>
struct packed_vec3 {
    T x, y, z;
    packed_vec3() = default;
    constexpr packed_vec3(vec<T, 3> v) : x(v.x), y(v.y), z(v.z) {}
    constexpr operator vec<T, 3>() const { return {x, y, z}; }
};

#define METAL_VECTORS(T)    \
    using T##2 = vec<T, 2>; \
    using T##3 = vec<T, 3>; \
    using T##4 = vec<T, 4>; \
    using packed_##T##3 = packed_vec3<T>;
METAL_VECTORS(char)
METAL_VECTORS(uchar)
METAL_VECTORS(short)
METAL_VECTORS(ushort)
METAL_VECTORS(int)
METAL_VECTORS(uint)
METAL_VECTORS(long)
METAL_VECTORS(ulong)
METAL_VECTORS(half)
METAL_VECTORS(bfloat)
METAL_VECTORS(float)
METAL_VECTORS(bool)
#undef METAL_VECTORS

// `char` is signed on the device; x86 and Arm Linux disagree about it, so the kernels are compiled with
// -fsigned-char.
template <class To, class From>
constexpr To as_type(From from) {
    static_assert(sizeof(To) == sizeof(From));
    return __builtin_bit_cast(To, from);
}

}  // namespace metal

namespace softmetal {

template <class T>
MSL T position(const Dim3& d) {
    if constexpr (metal::VectorLike<T>) {
        T v;
        const uint32_t values[] = {d.x, d.y, d.z};
        for (int i = 0; auto& e : v.data) e = static_cast<std::remove_reference_t<decltype(e)>>(values[i++]);
        return v;
    } else {
        return static_cast<T>(d.x);
    }
}
template <class T>
MSL T position(uint32_t value) {
    return static_cast<T>(value);
}

}  // namespace softmetal
