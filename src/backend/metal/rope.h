// Rotary position embedding of one pair, and its sines and cosines. For .metal files.
#pragma once

namespace smelt {

struct CosSin {
    float cos, sin;
};

// Within 1e-7 for angles up to 2^20: Metal promises no more than 4 units in the last place of its own, and
// its fast forms nothing for large angles. The quarter turn is taken off in three parts whose products with n
// are exact or nearly so; what the second one rounds away is carried along.
inline CosSin cos_sin(float angle) {
    const float n = rint(angle * 0.636619772f);       // 2 / pi
    const float first = fma(-n, 1.57079637f, angle);  // exact: both are multiples of 2^-23
    const float r = fma(-n, -4.37113883e-8f, first);
    const float lost = fma(-n, -4.37113883e-8f, first - r) - n * -1.71512451e-15f;
    const float z = r * r;
    float s = fma(fma(fma(-1.9515295891e-4f, z, 8.3321608736e-3f), z, -1.6666654611e-1f) * z, r, r);
    float c = fma(fma(fma(2.443315711809948e-5f, z, -1.388731625493765e-3f), z, 4.166664568298827e-2f) * z, z,
                  fma(-0.5f, z, 1.0f));
    const float s_of_r = s;
    s = fma(lost, c, s);
    c = fma(-lost, s_of_r, c);
    const int quarter = int(n) & 3;
    const float x = (quarter & 1) != 0 ? -s : c, y = (quarter & 1) != 0 ? c : s;
    CosSin result = {(quarter & 2) != 0 ? -x : x, (quarter & 2) != 0 ? -y : y};
    return result;
}

// The first of the two elements that pair i rotates, and the distance to the second.
inline uint pair_at(uint i, bool interleaved) {
    return interleaved ? 2 * i : i;
}
inline uint pair_step(uint n_pairs, bool interleaved) {
    return interleaved ? 1 : n_pairs;
}

inline float2 rotate(float2 x, float2 cos_sin) {
    return float2(x.x * cos_sin.x - x.y * cos_sin.y, x.x * cos_sin.y + x.y * cos_sin.x);
}

}  // namespace smelt
