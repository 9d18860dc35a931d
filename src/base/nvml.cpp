// Types and numbers are those of nvml.h.
#include "base/nvml.h"

#include <chrono>
#include <mutex>
#include <thread>
#include <utility>

#include "base/shared_library.h"

namespace smelt {

namespace {

using Gpu = struct GpuTag*;
struct Utilization {
    unsigned gpu, memory;  // percent of the time in which a kernel ran, or memory moved
};
struct Memory {
    unsigned long long total, free, used;
};
constexpr unsigned text_size = 96;

#define NVML_FUNCTIONS(X)                                                  \
    X(nvmlInit_v2, ())                                                     \
    X(nvmlSystemGetDriverVersion, (char* version, unsigned n))             \
    X(nvmlDeviceGetCount_v2, (unsigned* n))                                \
    X(nvmlDeviceGetHandleByIndex_v2, (unsigned index, Gpu* gpu))           \
    X(nvmlDeviceGetName, (Gpu gpu, char* name, unsigned n))                \
    X(nvmlDeviceGetMemoryInfo, (Gpu gpu, Memory * memory))                 \
    X(nvmlDeviceGetUtilizationRates, (Gpu gpu, Utilization * utilization)) \
    X(nvmlDeviceGetTemperature, (Gpu gpu, int sensor, unsigned* celsius))  \
    X(nvmlDeviceGetPowerUsage, (Gpu gpu, unsigned* milliwatts))

// The functions, and the GPUs that they see.
struct Nvml {
#define X(name, parameters) int(*name) parameters = nullptr;
    NVML_FUNCTIONS(X)
#undef X
    struct Known {
        Gpu gpu;
        std::string name;
    };
    std::vector<Known> gpus;
    std::string driver;

    Nvml() {
        const SharedLibrary library{"libnvidia-ml.so.1"};
        if (!library) return;
        std::string missing;
#define X(name, parameters) library.find(name, #name, missing);
        NVML_FUNCTIONS(X)
#undef X
        unsigned n = 0;
        if (!missing.empty() || nvmlInit_v2() != 0 || nvmlDeviceGetCount_v2(&n) != 0) return;
        char text[text_size] = {};
        if (nvmlSystemGetDriverVersion(text, text_size - 1) == 0) driver = text;
        for (unsigned i = 0; i < n; ++i) {
            Gpu gpu = nullptr;
            char name[text_size] = {};
            if (nvmlDeviceGetHandleByIndex_v2(i, &gpu) != 0) continue;
            if (nvmlDeviceGetName(gpu, name, text_size - 1) != 0) name[0] = '\0';
            gpus.push_back({gpu, name});
        }
    }

    GpuState state_of(const Known& known) const {
        GpuState s{.name = known.name,
                   .driver = driver,
                   .memory_used = {},
                   .memory_total = {},
                   .busy_percent = {},
                   .celsius = {},
                   .watts = {}};
        Memory memory{};
        if (nvmlDeviceGetMemoryInfo(known.gpu, &memory) == 0) {
            s.memory_used = memory.used;
            s.memory_total = memory.total;
        }
        Utilization busy{};
        if (nvmlDeviceGetUtilizationRates(known.gpu, &busy) == 0) s.busy_percent = busy.gpu;
        unsigned n = 0;
        constexpr int of_the_chip = 0;
        if (nvmlDeviceGetTemperature(known.gpu, of_the_chip, &n) == 0) s.celsius = n;
        if (nvmlDeviceGetPowerUsage(known.gpu, &n) == 0) s.watts = n / 1e3;
        return s;
    }
};

}  // namespace

std::vector<GpuState> read_gpus() {
    static const Nvml& nvml = *new Nvml;  // never destroyed, as below
    std::vector<GpuState> states;
    for (const Nvml::Known& gpu : nvml.gpus) states.push_back(nvml.state_of(gpu));
    return states;
}

std::vector<GpuState> recent_gpus() {
    using Clock = std::chrono::steady_clock;
    struct Recent {
        std::mutex mutex;
        std::vector<GpuState> gpus = read_gpus();
        Clock::time_point read = Clock::now();
        bool is_reading = false;
    };
    // Never destroyed: a thread may still wait for the driver when the process ends.
    static Recent& recent = *new Recent;
    const std::lock_guard lock(recent.mutex);
    if (!recent.gpus.empty() && !recent.is_reading && Clock::now() - recent.read >= std::chrono::seconds(1)) {
        recent.is_reading = true;
        std::thread([] {
            std::vector<GpuState> now = read_gpus();
            const std::lock_guard lock_of_thread(recent.mutex);
            recent.gpus = std::move(now);
            recent.read = Clock::now();
            recent.is_reading = false;
        }).detach();
    }
    return recent.gpus;
}

Json gpus_json(const std::vector<GpuState>& gpus) {
    Json list = Json::array();
    const auto or_null = [](const auto& value) { return value ? Json(*value) : Json(nullptr); };
    for (const GpuState& gpu : gpus) {
        list.push_back({{"name", gpu.name},
                        {"driver", gpu.driver},
                        {"memory_used_bytes", or_null(gpu.memory_used)},
                        {"memory_total_bytes", or_null(gpu.memory_total)},
                        {"busy_percent", or_null(gpu.busy_percent)},
                        {"celsius", or_null(gpu.celsius)},
                        {"watts", or_null(gpu.watts)}});
    }
    return list;
}

}  // namespace smelt
