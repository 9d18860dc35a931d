// What every op has: fields() names its members and says whether a tensor is read, written or both, which is
// all that printing, comparing, hashing and counting bytes need.
#pragma once

#include <cstdint>

namespace smelt::op {

enum class Access : uint8_t { read, write, update };

// What fields() calls for a member: f(Access, name, Tensor&), f(name, const Weight*&), f(name, WeightList&),
// f(name, KvStorage*&), f(name, number&).
#define SMELT_FIELDS               \
    template <class Self, class F> \
    static void fields(Self& s, F&& f)

}  // namespace smelt::op
