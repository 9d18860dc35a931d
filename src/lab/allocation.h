// Which format each tensor gets so that a model of a given size loses least: the sum of what tensors lose is
// made small under the budget.
#pragma once

#include "lab/mixes.h"
#include "lab/sensitivity.h"

namespace smelt {

// `n_bytes` is for the weights alone. Throws Error where the smallest formats do not fit.
FormatMap allocate(const ModelFile& model, const Sensitivity& sensitivity, uint64_t n_bytes);

}  // namespace smelt
