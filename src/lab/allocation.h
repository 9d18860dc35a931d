// Which format each tensor gets so that a model of a given size loses least: what the errors of each tensor
// cost is measured, what formats make of each tensor is computed, and the sum is made small under the budget.
#pragma once

#include <functional>

#include "lab/calibrated.h"

namespace smelt {

struct AllocationOptions {
    int n_threads = 1;
    int n_windows = 6;        // that divergences are measured on, the last ones
    int n_sampled_rows = 48;  // of a tensor, for what a format makes of it
    std::function<void(size_t done, size_t total)> progress = {};  // tensors
};

// `n_bytes` is for the weights alone. Throws Error where the smallest formats do not fit.
FormatMap allocate(const std::shared_ptr<const ModelFile>& model, Backend& backend,
                   const TextWindows& windows, uint64_t n_bytes, const AllocationOptions& options);

}  // namespace smelt
