// Linux. Elsewhere threads stay where the system puts them.
#include "base/affinity.h"

#if defined(__linux__)
#include <sched.h>

#include <algorithm>
#include <fstream>
#include <string>
#endif

namespace smelt {

#if defined(__linux__)

namespace {

std::vector<int> processors_of_this_thread() {
    cpu_set_t set;
    CPU_ZERO(&set);
    std::vector<int> list;
    if (sched_getaffinity(0, sizeof set, &set) != 0) return list;
    for (int i = 0; i < CPU_SETSIZE; ++i) {
        if (CPU_ISSET(i, &set)) list.push_back(i);
    }
    return list;
}

void move_this_thread(const std::vector<int>& processors) {
    cpu_set_t set;
    CPU_ZERO(&set);
    for (const int i : processors) CPU_SET(i, &set);
    sched_setaffinity(0, sizeof set, &set);
}

// "0,8" or "0-1": the first number.
bool leads_its_core(int processor) {
    std::ifstream file("/sys/devices/system/cpu/cpu" + std::to_string(processor) +
                       "/topology/thread_siblings_list");
    int first = processor;
    file >> first;
    return !file || first == processor;
}

}  // namespace

std::vector<int> usable_processors() {
    std::vector<int> list = processors_of_this_thread();
    std::stable_partition(list.begin(), list.end(), leads_its_core);
    return list;
}

PinnedThread::PinnedThread(int processor) : before_(processors_of_this_thread()) {
    if (!before_.empty()) move_this_thread({processor});
}

PinnedThread::~PinnedThread() {
    if (!before_.empty()) move_this_thread(before_);
}

#else

std::vector<int> usable_processors() {
    return {};
}
PinnedThread::PinnedThread(int) {}
PinnedThread::~PinnedThread() = default;

#endif

}  // namespace smelt
