// Runs dispatches: threadgroups spread over threads of the host, one dispatch at a time in the process, since
// function constants are variables of it.
#pragma once

#include <vector>

#include "softmetal/launch.h"

namespace softmetal {

using Constants = std::vector<std::pair<const FunctionConstant*, uint32_t>>;

// Throws Violation when an argument is unbound.
void check_bound(const Launch& launch);
void execute(const Launch& launch, const Registration& file, const Constants& constants);

// Memory that host and kernels share: zeroed; null when there is none. And memory of the host's own, from
// where adopt() gives what kernels see of it.
char* allocate(size_t bytes);
void free(char* memory, size_t bytes);
char* adopt(char* memory, size_t bytes);

// All files with kernels.
const std::vector<const Registration*>& registrations();

}  // namespace softmetal
