// Joins ops of a record into the fused forms that a device has.
#pragma once

#include "backend/backend.h"

namespace smelt {

// Neighbours that a device has one kernel for become one op:
//   Add, RmsNorm                        -> AddRmsNorm    x += y, norm of x
//   RmsNorm and Rope of q and k, StoreKv -> PrepareHeads
//   Matmul of two, SiluMul              -> GatedMatmul
// The results are those of the parts, in the parts' order.
Record fuse(Record record, const Fusions& has);

}  // namespace smelt
