// smelt doctor --check: every op, number format and architecture on a device against the scalar reference.
#pragma once

#include "apps/device_options.h"

namespace smelt {

// Prints a line for each check, or JSON; needs no file. Throws Error saying how many failed, where any did.
void check_device(const DeviceOptions& device, bool json);

}  // namespace smelt
