// getrusage, and what each system has for the memory of now.
#include "base/process_use.h"

#include <sys/resource.h>
#if defined(__APPLE__)
#include <mach/mach.h>
#else
#include <unistd.h>

#include <cstdio>
#endif

namespace smelt {

namespace {

#if defined(__APPLE__)
uint64_t read_resident() {
    mach_task_basic_info info{};
    mach_msg_type_number_t count = MACH_TASK_BASIC_INFO_COUNT;
    const auto at = reinterpret_cast<task_info_t>(&info);
    return task_info(mach_task_self(), MACH_TASK_BASIC_INFO, at, &count) == KERN_SUCCESS ? info.resident_size
                                                                                         : 0;
}
#else
uint64_t read_resident() {
    std::FILE* file = std::fopen("/proc/self/statm", "r");
    if (file == nullptr) return 0;
    unsigned long long size = 0, resident = 0;
    const bool found = std::fscanf(file, "%llu %llu", &size, &resident) == 2;
    std::fclose(file);
    return found ? resident * static_cast<uint64_t>(::sysconf(_SC_PAGESIZE)) : 0;
}
#endif

}  // namespace

ProcessUse read_process_use() {
    struct rusage usage {};
    getrusage(RUSAGE_SELF, &usage);
    const auto seconds = [](const timeval& t) {
        return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
    };
#if defined(__APPLE__)
    const uint64_t unit = 1;  // macOS counts bytes, Linux KiB
#else
    const uint64_t unit = 1024;
#endif
    return {.cpu_seconds = seconds(usage.ru_utime) + seconds(usage.ru_stime),
            .peak_resident = static_cast<uint64_t>(usage.ru_maxrss) * unit,
            .resident = read_resident()};
}

}  // namespace smelt
