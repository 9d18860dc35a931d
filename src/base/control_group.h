// What Linux's control groups leave this process: of containers, services and sessions, version 1 and 2.
#pragma once

#include <cstdint>
#include <string>

namespace smelt {

struct ControlGroupLimits {
    uint64_t memory = UINT64_MAX;     // bytes that the group may use
    uint64_t available = UINT64_MAX;  // of them, bytes that nothing uses
    int cores = 0;                    // that a quota of processor time amounts to; 0: no quota
};

// The tightest of the process's groups and all those above them. Elsewhere than on Linux there is no limit.
// `membership` is the file that says which groups these are, `root` where their folders are.
ControlGroupLimits read_control_group(const std::string& membership = "/proc/self/cgroup",
                                      const std::string& root = "/sys/fs/cgroup");

}  // namespace smelt
