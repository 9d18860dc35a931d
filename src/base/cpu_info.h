// What processor and how much memory this process may use. Asked of the processor and the system, once each.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace smelt {

struct CpuInfo {
    std::string model;  // "Intel(R) Xeon(R) Processor"; empty if the system does not say
    std::vector<std::string>
        features;            // instruction sets by their usual names: "avx2", "avx512_vnni", "dotprod"
    int physical_cores = 1;  // that this process may run on, counting a CPU quota
    int logical_cores = 1;   // that this process may run on
    size_t l1d_bytes = 0, l2_bytes = 0, l3_bytes = 0;  // of one core's view; 0 if unknown
    size_t all_l3_bytes = 0;  // of all last-level caches that this process's cores have

    bool has(std::string_view feature) const;
};
CpuInfo read_cpu_info();

struct MemoryInfo {
    uint64_t total = 0, available = 0;  // bytes; of the control group where that is less
};
MemoryInfo read_memory_info();

}  // namespace smelt
