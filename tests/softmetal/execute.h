// Runs dispatches: threadgroups spread over threads of the host, one dispatch at a time in the process, since
// function constants are variables of it.
#pragma once

#include <vector>

#include "softmetal/launch.h"

namespace softmetal {

using Constants = std::vector<std::pair<const FunctionConstant*, uint32_t>>;

void execute(const Launch& launch, const Registration& file, const Constants& constants);

// All files with kernels.
const std::vector<const Registration*>& registrations();

}  // namespace softmetal
