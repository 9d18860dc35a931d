// cap * tanh(x / cap).
#pragma once

#include "backend/cuda/kernels/dialect.cuh"

namespace smelt::cuda {

// tanh: near zero a polynomial whose relative error is 4e-9; beyond, 1 - 2 / (e^2u + 1) loses nothing.
INLINE float soft_capped(float x, float cap) {
    const float u = x / cap, z = u * u, size = fabsf(u);
    float p = fmaf(-0.005717098664f, z, 0.02065064034f);
    p = fmaf(p, z, -0.05374351639f);
    p = fmaf(p, z, 0.1333149154f);
    p = fmaf(p, z, -0.3333328394f);
    if (size < 0.625f) return fmaf(p * z, u, u) * cap;
    const float large = 1.0f - 2.0f / (expf(fminf(2.0f * size, 80.0f)) + 1.0f);
    return (u < 0.0f ? -large : large) * cap;
}

}  // namespace smelt::cuda
