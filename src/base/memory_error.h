// Too little memory for something that was asked for: unlike other failures of a device, no reason to
// distrust it.
#pragma once

#include "base/error.h"

namespace smelt {

class MemoryError : public Error {
 public:
    using Error::Error;
};

}  // namespace smelt
