// cap * tanh(x / cap), for .metal files.
#pragma once

namespace smelt {

// tanh: near zero a polynomial whose relative error is 4e-9; beyond, 1 - 2 / (e^2u + 1) loses nothing.
inline float soft_capped(float x, float cap) {
    const float u = x / cap, z = u * u, size = u < 0.0f ? -u : u;
    float p = fma(-0.005717098664f, z, 0.02065064034f);
    p = fma(p, z, -0.05374351639f);
    p = fma(p, z, 0.1333149154f);
    p = fma(p, z, -0.3333328394f);
    if (size < 0.625f) return fma(p * z, u, u) * cap;
    const float large = 1.0f - 2.0f / (exp(min(2.0f * size, 80.0f)) + 1.0f);
    return (u < 0.0f ? -large : large) * cap;
}

}  // namespace smelt
