// Which kernels this processor can run.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "backend/cpu/kernels.h"
#include "base/cpu_info.h"

namespace smelt::cpu {

struct Isa {
    std::string_view name;   // as BackendOptions::isa
    std::string_view title;  // for people: "AVX-512 VNNI"
    const Kernels* kernels;
    std::vector<std::string> needs;  // features of CpuInfo
};

// Those that this program was built with, best first.
const std::vector<Isa>& built_isas();
// "" is the best that the processor has. Throws Error naming what is missing.
const Isa& choose_isa(std::string_view name, const CpuInfo& cpu);

}  // namespace smelt::cpu
