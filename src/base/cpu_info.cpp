// Linux: cpuid or the auxiliary vector, /proc and /sys. macOS: sysctl.
#include "base/cpu_info.h"

#include <algorithm>
#include <fstream>
#include <set>
#include <sstream>
#include <thread>
#include <utility>

#include "base/affinity.h"
#include "base/control_group.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__linux__)
#include <sched.h>
#include <unistd.h>
#if defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif
#elif defined(__APPLE__)
#include <mach/mach.h>
#include <sys/sysctl.h>
#endif

namespace smelt {

namespace {

#if defined(__x86_64__)

struct CpuId {
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
};
CpuId cpuid(unsigned leaf, unsigned sub = 0) {
    CpuId r;
    __get_cpuid_count(leaf, sub, &r.eax, &r.ebx, &r.ecx, &r.edx);
    return r;
}

// Register state that the system saves: bit 2 AVX, bits 5..7 AVX-512, bits 17, 18 AMX.
unsigned enabled_state() {
    unsigned low = 0, high = 0;
    asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

std::vector<std::string> read_features() {
    const CpuId one = cpuid(1), seven = cpuid(7), seven_one = cpuid(7, 1);
    const unsigned state = (one.ecx >> 27 & 1) != 0 ? enabled_state() : 0;
    const bool avx = (state & 0x6) == 0x6, avx512 = (state & 0xe6) == 0xe6,
               amx = (state & 0x60000) == 0x60000;
    const auto bit = [](unsigned word, int i) { return (word >> i & 1) != 0; };
    const std::pair<const char*, bool> known[] = {
        {"sse4_2", bit(one.ecx, 20)},
        {"avx", avx && bit(one.ecx, 28)},
        {"f16c", avx && bit(one.ecx, 29)},
        {"fma", avx && bit(one.ecx, 12)},
        {"avx2", avx && bit(seven.ebx, 5)},
        {"avx_vnni", avx && bit(seven_one.eax, 4)},
        {"avx512f", avx512 && bit(seven.ebx, 16)},
        {"avx512dq", avx512 && bit(seven.ebx, 17)},
        {"avx512bw", avx512 && bit(seven.ebx, 30)},
        {"avx512vl", avx512 && bit(seven.ebx, 31)},
        {"avx512_vnni", avx512 && bit(seven.ecx, 11)},
        {"avx512_bf16", avx512 && bit(seven_one.eax, 5)},
        {"avx512_fp16", avx512 && bit(seven.edx, 23)},
        {"amx_tile", amx && bit(seven.edx, 24)},
        {"amx_int8", amx && bit(seven.edx, 25)},
        {"amx_bf16", amx && bit(seven.edx, 22)},
    };
    std::vector<std::string> result;
    for (const auto& [name, there] : known) {
        if (there) result.emplace_back(name);
    }
    return result;
}

#elif defined(__aarch64__) && defined(__linux__)

std::vector<std::string> read_features() {
    const unsigned long first = getauxval(AT_HWCAP), second = getauxval(AT_HWCAP2);
    std::vector<std::string> result = {"neon"};
    if ((first & HWCAP_ASIMDHP) != 0) result.emplace_back("fp16");
    if ((first & HWCAP_ASIMDDP) != 0) result.emplace_back("dotprod");
    if ((first & HWCAP_SVE) != 0) result.emplace_back("sve");
    if ((second & HWCAP2_I8MM) != 0) result.emplace_back("i8mm");
    if ((second & HWCAP2_BF16) != 0) result.emplace_back("bf16");
    return result;
}

#elif defined(__APPLE__)

bool sysctl_flag(const char* name) {
    int value = 0;
    size_t size = sizeof value;
    return sysctlbyname(name, &value, &size, nullptr, 0) == 0 && value != 0;
}
std::vector<std::string> read_features() {
    std::vector<std::string> result = {"neon"};
    if (sysctl_flag("hw.optional.arm.FEAT_FP16")) result.emplace_back("fp16");
    if (sysctl_flag("hw.optional.arm.FEAT_DotProd")) result.emplace_back("dotprod");
    if (sysctl_flag("hw.optional.arm.FEAT_I8MM")) result.emplace_back("i8mm");
    if (sysctl_flag("hw.optional.arm.FEAT_BF16")) result.emplace_back("bf16");
    return result;
}

#else

std::vector<std::string> read_features() {
    return {};
}

#endif

#if defined(__linux__)

std::string first_line(const std::string& path) {
    std::ifstream file(path);
    std::string line;
    std::getline(file, line);
    return line;
}

// The value after "key   : " of the first line that starts so.
std::string proc_value(const char* path, std::string_view key) {
    std::ifstream file(path);
    for (std::string line; std::getline(file, line);) {
        if (!line.starts_with(key)) continue;
        const size_t start = line.find_first_not_of(": \t", key.size());
        return start == std::string::npos ? "" : line.substr(start);
    }
    return "";
}

uint64_t number_of(const std::string& text, uint64_t otherwise) {
    uint64_t value = 0;
    std::istringstream in(text);
    return in >> value ? value : otherwise;
}

void read_cores(CpuInfo& info) {
    cpu_set_t allowed;
    CPU_ZERO(&allowed);
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return;
    info.logical_cores = std::max(1, CPU_COUNT(&allowed));
    std::set<std::pair<std::string, std::string>> cores;  // package, core
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
        if (!CPU_ISSET(cpu, &allowed)) continue;
        const std::string topology = "/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/";
        const std::string core = first_line(topology + "core_id");
        cores.emplace(first_line(topology + "physical_package_id"),
                      core.empty() ? std::to_string(cpu) : core);
    }
    info.physical_cores = std::max<int>(1, static_cast<int>(cores.size()));
    if (const int quota = read_control_group().cores; quota > 0) {
        info.physical_cores = std::min(info.physical_cores, quota);
    }
}

// The C library adds up all last-level caches of some processors; here is one core's, and those of all cores.
void read_last_level_caches(CpuInfo& info) {
    std::set<std::string> caches;
    for (const int cpu : usable_processors()) {
        const std::string cache = "/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/cache/index3/";
        const uint64_t kib = number_of(first_line(cache + "size"), 0);  // "32768K"
        if (kib == 0) continue;
        info.l3_bytes = kib << 10;
        if (caches.insert(first_line(cache + "shared_cpu_list")).second) info.all_l3_bytes += kib << 10;
    }
    if (info.all_l3_bytes == 0) info.all_l3_bytes = info.l3_bytes;
}

void read_system(CpuInfo& info) {
    info.model = proc_value("/proc/cpuinfo", "model name");
    read_cores(info);
    const auto bytes = [](int name) { return static_cast<size_t>(std::max(0L, sysconf(name))); };
    info.l1d_bytes = bytes(_SC_LEVEL1_DCACHE_SIZE);
    info.l2_bytes = bytes(_SC_LEVEL2_CACHE_SIZE);
    info.l3_bytes = bytes(_SC_LEVEL3_CACHE_SIZE);
    read_last_level_caches(info);
}

#elif defined(__APPLE__)

size_t sysctl_number(const char* name) {
    uint64_t value = 0;
    size_t size = sizeof value;
    return sysctlbyname(name, &value, &size, nullptr, 0) == 0 ? static_cast<size_t>(value) : 0;
}

// Cores of the performance level where there are two kinds: the slower ones would hold up every barrier.
void read_system(CpuInfo& info) {
    char model[256] = {};
    size_t size = sizeof model - 1;
    if (sysctlbyname("machdep.cpu.brand_string", model, &size, nullptr, 0) == 0) info.model = model;
    info.logical_cores = std::max(1, static_cast<int>(sysctl_number("hw.logicalcpu")));
    const size_t fast = sysctl_number("hw.perflevel0.physicalcpu");
    info.physical_cores = std::max(1, static_cast<int>(fast > 0 ? fast : sysctl_number("hw.physicalcpu")));
    info.l1d_bytes = sysctl_number("hw.perflevel0.l1dcachesize");
    info.l2_bytes = sysctl_number("hw.perflevel0.l2cachesize");
}

#else

void read_system(CpuInfo& info) {
    info.logical_cores = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
    info.physical_cores = info.logical_cores;
}

#endif

}  // namespace

bool CpuInfo::has(std::string_view feature) const {
    return std::find(features.begin(), features.end(), feature) != features.end();
}

CpuInfo read_cpu_info() {
    CpuInfo info;
    info.features = read_features();
    read_system(info);
    return info;
}

#if defined(__linux__)

MemoryInfo read_memory_info() {
    constexpr uint64_t kib = 1024;
    MemoryInfo info{number_of(proc_value("/proc/meminfo", "MemTotal:"), 0) * kib,
                    number_of(proc_value("/proc/meminfo", "MemAvailable:"), 0) * kib};
    const ControlGroupLimits group = read_control_group();
    info.total = std::min(info.total, group.memory);
    info.available = std::min(info.available, group.available);
    return info;
}

#elif defined(__APPLE__)

MemoryInfo read_memory_info() {
    vm_statistics64_data_t pages{};
    mach_msg_type_number_t count = HOST_VM_INFO64_COUNT;
    const kern_return_t result =
        host_statistics64(mach_host_self(), HOST_VM_INFO64, reinterpret_cast<host_info64_t>(&pages), &count);
    const uint64_t free_pages = result == KERN_SUCCESS ? pages.free_count + pages.inactive_count : 0;
    return {sysctl_number("hw.memsize"), free_pages * sysctl_number("hw.pagesize")};
}

#else

MemoryInfo read_memory_info() {
    return {};
}

#endif

}  // namespace smelt
