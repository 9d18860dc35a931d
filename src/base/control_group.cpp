// Reads /proc/self/cgroup and the folders that it names.
#include "base/control_group.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <optional>
#include <sstream>
#include <vector>

namespace smelt {

namespace {

// Names of a version's files.
struct Files {
    const char *limit, *used, *active_pages, *inactive_pages;
};
constexpr Files version_1 = {"memory.limit_in_bytes", "memory.usage_in_bytes", "total_active_file",
                             "total_inactive_file"};
constexpr Files version_2 = {"memory.max", "memory.current", "active_file", "inactive_file"};

template <class T>
std::optional<T> number(std::istream&& in) {
    T value{};
    return in >> value ? std::optional<T>(value) : std::nullopt;
}

template <class T>
std::optional<T> number_in(const std::string& path) {
    return number<T>(std::ifstream(path));
}

// Of a file of names and values.
uint64_t value_in(const std::string& path, const std::string& name) {
    std::ifstream in(path);
    std::string key;
    uint64_t value = 0;
    while (in >> key >> value) {
        if (key == name) return value;
    }
    return 0;
}

void take_memory(ControlGroupLimits& limits, const std::string& folder, const Files& files) {
    const auto limit = number_in<uint64_t>(folder + files.limit);  // none where it says "max"
    if (!limit) return;
    // Cached file pages, mapped models among them, are given back when memory is needed.
    const uint64_t cached = value_in(folder + "memory.stat", files.active_pages) +
                            value_in(folder + "memory.stat", files.inactive_pages);
    const uint64_t charged = number_in<uint64_t>(folder + files.used).value_or(0);
    const uint64_t used = charged - std::min(charged, cached);
    limits.memory = std::min(limits.memory, *limit);
    limits.available = std::min(limits.available, *limit - std::min(*limit, used));
}

// Microseconds of processor time in each period, "max" or -1 where there is no quota.
void take_cores(ControlGroupLimits& limits, const std::string& folder) {
    std::optional<double> quota, period;
    if (std::ifstream both(folder + "cpu.max"); both) {
        std::string first, second;
        both >> first >> second;
        quota = number<double>(std::istringstream(first));
        period = number<double>(std::istringstream(second));
    } else {
        quota = number_in<double>(folder + "cpu.cfs_quota_us");
        period = number_in<double>(folder + "cpu.cfs_period_us");
    }
    if (!quota || !period || *quota <= 0 || *period <= 0) return;
    const double cores = std::min(std::round(*quota / *period), double{std::numeric_limits<int>::max()});
    const int n = std::max(1, static_cast<int>(cores));
    limits.cores = limits.cores == 0 ? n : std::min(limits.cores, n);
}

// "/a/b" -> "/a/b/", "/a/", "/": a group is bound by those above it. A path of which a container sees only
// the end has no such folder; its root has the limits then.
std::vector<std::string> with_parents(std::string path) {
    std::vector<std::string> all;
    while (!path.empty() && path != "/") {
        all.push_back(path + "/");
        path.resize(path.find_last_of('/'));
    }
    all.emplace_back("/");
    return all;
}

}  // namespace

ControlGroupLimits read_control_group(const std::string& membership, const std::string& root) {
    ControlGroupLimits limits;
    std::ifstream in(membership);
    // "4:memory:/user.slice" for each hierarchy of version 1, "0::/user.slice" for version 2.
    for (std::string line; std::getline(in, line);) {
        const size_t first = line.find(':');
        const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
        if (second == std::string::npos) continue;
        std::string controllers = ",";
        controllers += line.substr(first + 1, second - first - 1);
        controllers += ',';
        const auto has = [&](const char* name) { return controllers.find(name) != std::string::npos; };
        for (const std::string& group : with_parents(line.substr(second + 1))) {
            if (controllers == ",,") {
                for (const std::string& hierarchy : {root, root + "/unified"}) {
                    take_memory(limits, hierarchy + group, version_2);
                    take_cores(limits, hierarchy + group);
                }
            }
            if (has(",memory,")) take_memory(limits, root + "/memory" + group, version_1);
            if (has(",cpu,")) take_cores(limits, root + "/cpu" + group);
        }
    }
    return limits;
}

}  // namespace smelt
