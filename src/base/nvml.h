// NVIDIA's GPUs as their management library (NVML, part of the driver) sees them: who they are, how busy, how
// full, how warm. Opened at run time; where it is not, there are none.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"

namespace smelt {

// What a GPU does not say is empty.
struct GpuState {
    std::string name, driver;                           // driver: its version
    std::optional<uint64_t> memory_used, memory_total;  // bytes, of all processes
    std::optional<double> busy_percent;                 // of the time, a kernel ran
    std::optional<double> celsius, watts;
};

// All that this machine lets us see, in NVML's order; some milliseconds, the first time more.
std::vector<GpuState> read_gpus();
// What was read last, and lets it be read anew where that is more than a second ago: but for the first time
// it does not wait, since a driver that hangs must hold nobody up.
std::vector<GpuState> recent_gpus();
// An array of objects: name, driver, memory_used_bytes, memory_total_bytes, busy_percent, celsius, watts;
// null is what a GPU does not say.
Json gpus_json(const std::vector<GpuState>& gpus);

}  // namespace smelt
