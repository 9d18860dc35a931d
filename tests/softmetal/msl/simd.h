// Functions of a simdgroup: its threads arrive, the last one computes, all go on with the result. Fewer
// threads than the simdgroup has, or threads at different places of the kernel, are an error.
#pragma once

#include "softmetal/msl/math.h"
#include "softmetal/msl/pointer.h"

template <class Bits>
inline constexpr bool softmetal::has_elements<metal::small_float<Bits>> = true;

namespace metal {

enum class mem_flags : uint { mem_none = 0, mem_device = 1, mem_threadgroup = 2, mem_texture = 4 };
constexpr mem_flags operator|(mem_flags a, mem_flags b) {
    return static_cast<mem_flags>(static_cast<uint>(a) | static_cast<uint>(b));
}

#define METAL_PLACE const char *file = __builtin_FILE(), int line = __builtin_LINE()

inline void threadgroup_barrier(mem_flags, METAL_PLACE) {
    softmetal::threadgroup_barrier({file, line});
}
inline void simdgroup_barrier(mem_flags, METAL_PLACE) {
    softmetal::simdgroup_barrier({file, line});
}

namespace simd_detail {
// compute(values, n, result) once, after all values are there.
template <class Result, class T, class Compute>
const Result* collect(const char* function, softmetal::Place place, const T& value, Compute compute) {
    static_assert(sizeof(T) <= softmetal::slot_bytes && sizeof(Result) <= 2 * 32 * softmetal::slot_bytes);
    softmetal::Simdgroup& s = *softmetal::simdgroup;
    T* values = reinterpret_cast<T*>(s.slots[s.n_calls & 1]);
    Result* result = reinterpret_cast<Result*>(s.results[s.n_calls & 1]);
    values[s.lane] = value;
    if (softmetal::arrive(s, function, place)) compute(values, s.count, *result);
    return result;
}
template <class T, class Combine>
T reduce(const char* function, softmetal::Place place, T value, Combine combine) {
    return *collect<T>(function, place, value, [&](T* values, uint n, T& result) {
        // A tree, as the hardware has: pairs, pairs of pairs.
        for (uint step = 1; step < n; step *= 2)
            for (uint i = 0; i + step < n; i += 2 * step) values[i] = combine(values[i], values[i + step]);
        result = values[0];
    });
}
template <class T>
T read_lane(const char* function, softmetal::Place place, T value, uint from) {
    softmetal::Simdgroup& s = *softmetal::simdgroup;
    T* values = reinterpret_cast<T*>(s.slots[s.n_calls & 1]);
    values[s.lane] = value;
    if (from >= s.count) [[unlikely]]
        softmetal::report_index(function, from, s.count);
    softmetal::arrive(s, function, place);
    return values[from];
}
}  // namespace simd_detail

#define METAL_REDUCTION(name, expression)                                                               \
    template <class T>                                                                                  \
    T name(T value, METAL_PLACE) {                                                                      \
        return simd_detail::reduce(#name, {file, line}, value, [](T a, T b) { return T(expression); }); \
    }
METAL_REDUCTION(simd_sum, a + b)
METAL_REDUCTION(simd_product, a* b)
METAL_REDUCTION(simd_max, max(a, b))
METAL_REDUCTION(simd_min, min(a, b))
METAL_REDUCTION(simd_and, a& b)
METAL_REDUCTION(simd_or, a | b)
METAL_REDUCTION(simd_xor, a ^ b)
#undef METAL_REDUCTION

inline bool simd_all(bool value, METAL_PLACE) {
    return simd_detail::reduce("simd_all", {file, line}, value, [](bool a, bool b) { return a && b; });
}
inline bool simd_any(bool value, METAL_PLACE) {
    return simd_detail::reduce("simd_any", {file, line}, value, [](bool a, bool b) { return a || b; });
}

template <class T>
T simd_prefix_inclusive_sum(T value, METAL_PLACE) {
    struct All {
        T value[32];
    };
    const uint lane = softmetal::simdgroup->lane;
    return simd_detail::collect<All>("simd_prefix_inclusive_sum", {file, line}, value,
                                     [](T* values, uint n, All& r) {
                                         T sum = T(0);
                                         for (uint i = 0; i < n; ++i) r.value[i] = sum = sum + values[i];
                                     })
        ->value[lane];
}
template <class T>
T simd_prefix_exclusive_sum(T value, METAL_PLACE) {
    struct All {
        T value[32];
    };
    const uint lane = softmetal::simdgroup->lane;
    return simd_detail::collect<All>("simd_prefix_exclusive_sum", {file, line}, value,
                                     [](T* values, uint n, All& r) {
                                         T sum = T(0);
                                         for (uint i = 0; i < n; ++i) {
                                             r.value[i] = sum;
                                             sum = sum + values[i];
                                         }
                                     })
        ->value[lane];
}

template <class T>
T simd_shuffle(T value, ushort lane, METAL_PLACE) {
    return simd_detail::read_lane("simd_shuffle", {file, line}, value, lane);
}
template <class T>
T simd_broadcast(T value, ushort lane, METAL_PLACE) {
    return simd_detail::read_lane("simd_broadcast", {file, line}, value, lane);
}
template <class T>
T simd_broadcast_first(T value, METAL_PLACE) {
    return simd_detail::read_lane("simd_broadcast_first", {file, line}, value, 0);
}
template <class T>
T simd_shuffle_xor(T value, ushort mask, METAL_PLACE) {
    return simd_detail::read_lane("simd_shuffle_xor", {file, line}, value, softmetal::simdgroup->lane ^ mask);
}
// Lanes whose source is outside the simdgroup keep their value (MSL leaves it undefined for _up and _down;
// the hardware does this).
template <class T>
T simd_shuffle_down(T value, ushort delta, METAL_PLACE) {
    const softmetal::Simdgroup& l = *softmetal::simdgroup;
    const uint from = l.lane + delta < l.count ? l.lane + delta : l.lane;
    return simd_detail::read_lane("simd_shuffle_down", {file, line}, value, from);
}
template <class T>
T simd_shuffle_up(T value, ushort delta, METAL_PLACE) {
    const softmetal::Simdgroup& l = *softmetal::simdgroup;
    const uint from = l.lane >= delta ? l.lane - delta : l.lane;
    return simd_detail::read_lane("simd_shuffle_up", {file, line}, value, from);
}

class simd_vote {
 public:
    using vote_t = ulong;
    explicit simd_vote(vote_t v) : v_(v) {}
    explicit operator vote_t() const { return v_; }
    bool any() const { return v_ != 0; }

 private:
    vote_t v_;
};
inline simd_vote simd_ballot(bool value, METAL_PLACE) {
    return simd_vote(
        *simd_detail::collect<ulong>("simd_ballot", {file, line}, value, [](bool* values, uint n, ulong& r) {
            r = 0;
            for (uint i = 0; i < n; ++i) r |= ulong{values[i]} << i;
        }));
}
inline bool simd_is_first() {
    return softmetal::simdgroup->lane == 0;
}

}  // namespace metal
