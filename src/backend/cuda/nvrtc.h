// Compiles kernels at run time, where none were built in or the card is another: NVRTC, opened like the
// driver. What was compiled is kept in a folder.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "backend/cuda/kernel_files.h"

namespace smelt::cuda {

struct CompileTarget {
    std::string architecture;  // "sm_90a"
    std::string card;          // name, for the cache's key
    int driver_version = 0;
    std::filesystem::path cache;  // empty: nothing is kept
};

// Machine code of a unit. Throws Error when NVRTC is not there, or with its log.
std::vector<char> compile_unit(const KernelUnit& unit, const CompileTarget& target);

// Which NVRTC there is: "NVRTC 13.0"; where there is none, `missing` says why.
std::string describe_nvrtc(std::string& missing);

}  // namespace smelt::cuda
