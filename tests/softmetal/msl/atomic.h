// Relaxed atomics on device and threadgroup memory.
#pragma once

#include "softmetal/msl/simd.h"

namespace metal {

enum memory_order { memory_order_relaxed };

template <class T>
struct atomic {
    T value;
};
using atomic_uint = atomic<uint>;
using atomic_int = atomic<int>;
using atomic_float = atomic<float>;
using atomic_bool = atomic<bool>;
using atomic_ulong = atomic<ulong>;

template <class Space, class A>
auto atomic_load_explicit(const softmetal::ptr<Space, A>& p, memory_order) {
    p.check(p.address());
    std::remove_const_t<decltype(p.address()->value)> v;
    __atomic_load(&p.address()->value, &v, __ATOMIC_RELAXED);
    return v;
}
template <class Space, class T>
void atomic_store_explicit(const softmetal::ptr<Space, atomic<T>>& p, std::type_identity_t<T> v,
                           memory_order) {
    p.check(p.address());
    __atomic_store(&p.address()->value, &v, __ATOMIC_RELAXED);
}
template <class Space, class T>
T atomic_exchange_explicit(const softmetal::ptr<Space, atomic<T>>& p, std::type_identity_t<T> v,
                           memory_order) {
    p.check(p.address());
    T old;
    __atomic_exchange(&p.address()->value, &v, &old, __ATOMIC_RELAXED);
    return old;
}
template <class Space, class T>
bool atomic_compare_exchange_weak_explicit(const softmetal::ptr<Space, atomic<T>>& p, T* expected,
                                           std::type_identity_t<T> v, memory_order, memory_order) {
    p.check(p.address());
    return __atomic_compare_exchange(&p.address()->value, expected, &v, true, __ATOMIC_RELAXED,
                                     __ATOMIC_RELAXED);
}

#define METAL_FETCH(name, expression)                                                                      \
    template <class Space, class T>                                                                        \
    T atomic_fetch_##name##_explicit(const softmetal::ptr<Space, atomic<T>>& p, std::type_identity_t<T> v, \
                                     memory_order) {                                                       \
        p.check(p.address());                                                                              \
        T old, next;                                                                                       \
        __atomic_load(&p.address()->value, &old, __ATOMIC_RELAXED);                                        \
        do next = static_cast<T>(expression);                                                              \
        while (!__atomic_compare_exchange(&p.address()->value, &old, &next, true, __ATOMIC_RELAXED,        \
                                          __ATOMIC_RELAXED));                                              \
        return old;                                                                                        \
    }
METAL_FETCH(add, old + v)
METAL_FETCH(sub, old - v)
METAL_FETCH(max, old < v ? v : old)
METAL_FETCH(min, v < old ? v : old)
METAL_FETCH(and, old& v)
METAL_FETCH(or, old | v)
METAL_FETCH(xor, old ^ v)
#undef METAL_FETCH

}  // namespace metal
