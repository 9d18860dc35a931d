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

// Four columns of a at a time, so that all sums stay in registers.
void add_products(const float* a, const float* b, size_t n_rows, float* sums) {
    typedef float Eight __attribute__((vector_size(32), aligned(4)));
    for (size_t i = 0; i < 16; i += 4) {
        Eight s[4][2];
        for (size_t k = 0; k < 4; ++k) {
            for (size_t h = 0; h < 2; ++h)
                s[k][h] = *reinterpret_cast<const Eight*>(sums + (i + k) * 16 + 8 * h);
        }
        for (size_t r = 0; r < n_rows; ++r) {
            const Eight low = *reinterpret_cast<const Eight*>(b + 16 * r),
                        high = *reinterpret_cast<const Eight*>(b + 16 * r + 8);
            for (size_t k = 0; k < 4; ++k) {
                const float x = a[16 * r + i + k];
                s[k][0] += x * low;
                s[k][1] += x * high;
            }
        }
        for (size_t k = 0; k < 4; ++k) {
            for (size_t h = 0; h < 2; ++h) *reinterpret_cast<Eight*>(sums + (i + k) * 16 + 8 * h) = s[k][h];
        }
    }
}

}  // namespace

extern const VectorSums sums;
const VectorSums sums{dot, add_scaled, add_products};

}  // namespace SMELT_ISA

}  // namespace lab_isa

}  // namespace smelt
