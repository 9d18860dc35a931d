// Weights for tests and benchmarks in any format, also those that cannot be encoded, and fast.
#pragma once

#include "quant/format.h"

namespace smelt {

// n weights of mean 0 and about the deviation given, the same for the same seed. Formats with
// inner scales get random quants and scales under a block scale of sensible size, others rounded normals.
void random_row(Format f, int64_t n, uint64_t seed, float deviation, std::byte* data, std::byte* scales);

}  // namespace smelt
