// The loops that rounding spends its time in, compiled once for each instruction set.
#pragma once

#include <cstddef>

namespace smelt {

struct VectorSums {
    float (*dot)(const float* a, const float* b, size_t n);
    void (*add_scaled)(float a, const float* x, float* y, size_t n);  // y += a * x
    // sums(16, 16) += aᵀ b of two panels (n_rows, 16)
    void (*add_products)(const float* a, const float* b, size_t n_rows, float* sums);
};

// The best that this processor has. Sums are in one order, which differs between instruction sets.
const VectorSums& vector_sums();

}  // namespace smelt
