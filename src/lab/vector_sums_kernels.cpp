// Plain loops; SMELT_ISA names the set that they are compiled for. Nothing inline of others may come in here.
#include "lab/vector_sums.h"

namespace smelt {

namespace lab_isa {

namespace SMELT_ISA {

namespace {

float dot(const float* a, const float* b, size_t n) {
    constexpr size_t lanes = 32;
    float sums[lanes] = {};
    size_t i = 0;
    for (; i + lanes <= n; i += lanes) {
        for (size_t k = 0; k < lanes; ++k) sums[k] += a[i + k] * b[i + k];
    }
    float sum = 0;
    for (; i < n; ++i) sum += a[i] * b[i];
    for (size_t half = lanes / 2; half > 0; half /= 2) {
        for (size_t k = 0; k < half; ++k) sums[k] += sums[k + half];
    }
    return sum + sums[0];
}

void add_scaled(float a, const float* __restrict x, float* __restrict y, size_t n) {
    for (size_t i = 0; i < n; ++i) y[i] += a * x[i];
}

void add_four(const float* w, const float* __restrict x, size_t stride, float* __restrict y, size_t n) {
    const float a = w[0], b = w[1], c = w[2], d = w[3];
    const float* __restrict x1 = x + stride;
    const float* __restrict x2 = x1 + stride;
    const float* __restrict x3 = x2 + stride;
    for (size_t i = 0; i < n; ++i) y[i] += a * x[i] + b * x1[i] + c * x2[i] + d * x3[i];
}

}  // namespace

extern const VectorSums sums;
const VectorSums sums{dot, add_scaled, add_four};

}  // namespace SMELT_ISA

}  // namespace lab_isa

}  // namespace smelt
