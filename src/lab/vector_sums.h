// The loops that rounding spends its time in, compiled once for each instruction set.
#pragma once

#include <cstddef>

namespace smelt {

struct VectorSums {
    float (*dot)(const float* a, const float* b, size_t n);
    void (*add_scaled)(float a, const float* x, float* y, size_t n);  // y += a * x
    // y += w[0] * x + w[1] * (x + stride) + ...: four rows at once
    void (*add_four)(const float w[4], const float* x, size_t stride, float* y, size_t n);
};

// The best that this processor has. Sums are in one order, which differs between instruction sets.
const VectorSums& vector_sums();

}  // namespace smelt
