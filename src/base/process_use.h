// What this process has used of the machine so far.
#pragma once

#include <cstdint>

namespace smelt {

struct ProcessUse {
    double cpu_seconds = 0;      // user and system, of all threads
    uint64_t peak_resident = 0;  // bytes
    uint64_t resident = 0;       // bytes now; 0 where the system does not say
};
ProcessUse read_process_use();

}  // namespace smelt
