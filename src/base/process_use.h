// What this process has used of the machine so far.
#pragma once

#include <cstdint>

namespace smelt {

struct ProcessUse {
    double cpu_seconds = 0;      // user and system, of all threads
    uint64_t peak_resident = 0;  // bytes
};
ProcessUse read_process_use();

}  // namespace smelt
