// getrusage.
#include "base/process_use.h"

#include <sys/resource.h>

namespace smelt {

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
    return {seconds(usage.ru_utime) + seconds(usage.ru_stime), static_cast<uint64_t>(usage.ru_maxrss) * unit};
}

}  // namespace smelt
