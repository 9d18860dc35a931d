// Weights for tests and benchmarks in any format, also those that cannot be encoded.
#pragma once

#include "quant/format.h"

namespace smelt {

// n weights of mean 0 and about the deviation given, the same for the same seed. Formats that can be encoded
// get rounded normals; others get random quants and inner scales under a block scale of sensible size.
void random_row(Format f, int64_t n, uint64_t seed, float deviation, std::byte* data, std::byte* scales);

}  // namespace smelt
