// Rounding that makes the error of products small, not that of weights: each weight is rounded to where the
// errors before it want it (GPTQ), with the scales of each block chosen for the weights as they then are;
// afterwards codes and scales are changed one at a time as long as e H eᵀ shrinks.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "lab/moments.h"
#include "quant/group_codes.h"

namespace smelt {

struct CompensationOptions {
    double damping = 0.01;     // of the mean of H's diagonal
    int64_t q4_z_group = 128;  // weights that share a scale in Q4_Z, at most 256: GPTQ's groups
    int n_sweeps = 4;          // over all codes and scales, at most
};

class Compensator {
 public:
    // Borrows the moments, which are mirrored.
    Compensator(const Moments& moments, const CompensationOptions& options, ThreadPool& pool);

    // A format of group_codes.h, or Q4_Z, whose zero points are all 8.
    static bool can_round(Format f);
    // One row of n weights in such a format. Returns e H eᵀ.
    double round_row(Format f, std::span<const float> weights, std::byte* out) const;
    // Adds `share` of w D H⁻¹ to a row w.
    void follow(const Drift& drift, double share, std::span<float> weights) const;
    // e H eᵀ, with the damping.
    double cost(std::span<const float> errors) const;

 private:
    class Row;
    const Moments& m_;
    CompensationOptions options_;
    TriangularFactor factor_;
    std::vector<float> importance_;  // squares of the factor's diagonal
    float added_ = 0;                // to H's diagonal, as in the factor
};

}  // namespace smelt
