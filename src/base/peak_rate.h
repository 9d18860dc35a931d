// How many multiplications and additions a second this processor can do, instruction set by instruction set:
// the bound of every prefill.
#pragma once

#include <string_view>
#include <vector>

namespace smelt {

struct PeakRate {
    std::string_view instruction_set;  // "AVX-512 VNNI"
    std::string_view type;             // of the factors: "int8", "bf16", "f32"
    double operations_per_s;           // a multiplication and an addition are two
};

// Those that this processor has, each with so many threads on cores of their own, the best of a few runs.
std::vector<PeakRate> measure_peak_rates(int n_threads);

}  // namespace smelt
