// Rotary position embedding of one pair, and its sines and cosines.
#pragma once

#include "backend/cuda/kernels/dialect.cuh"

namespace smelt::cuda {

struct CosSin {
    float cos, sin;
};

// Within 1e-7 for angles up to 2^20. The quarter turn is taken off in three parts whose products with n are
// exact or nearly so; what the second one rounds away is carried along.
INLINE CosSin cos_sin(float angle) {
    const float n = rintf(angle * 0.636619772f);       // 2 / pi
    const float first = fmaf(-n, 1.57079637f, angle);  // exact: both are multiples of 2^-23
    const float r = fmaf(-n, -4.37113883e-8f, first);
    const float lost = fmaf(-n, -4.37113883e-8f, first - r) - n * -1.71512451e-15f;
    const float z = r * r;
    float s = fmaf(fmaf(fmaf(-1.9515295891e-4f, z, 8.3321608736e-3f), z, -1.6666654611e-1f) * z, r, r);
    float c = fmaf(fmaf(fmaf(2.443315711809948e-5f, z, -1.388731625493765e-3f), z, 4.166664568298827e-2f) * z,
                   z, fmaf(-0.5f, z, 1.0f));
    const float s_of_r = s;
    s = fmaf(lost, c, s);
    c = fmaf(-lost, s_of_r, c);
    const int quarter = static_cast<int>(n) & 3;
    const float x = (quarter & 1) != 0 ? -s : c, y = (quarter & 1) != 0 ? c : s;
    return {(quarter & 2) != 0 ? -x : x, (quarter & 2) != 0 ? -y : y};
}

// Rotates pair i of a head, whose angles are (cos, sin) pairs.
INLINE void rotate_pair(float* head, const float* angles, uint32_t i, uint32_t n_pairs, uint32_t first,
                        bool interleaved) {
    float& a = head[first + (interleaved ? 2 * i : i)];
    float& b = head[first + (interleaved ? 2 * i + 1 : i + n_pairs)];
    const float x = a, y = b, cos = angles[2 * i], sin = angles[2 * i + 1];
    a = x * cos - y * sin;
    b = x * sin + y * cos;
}

}  // namespace smelt::cuda
