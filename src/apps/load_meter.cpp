// NVML is opened at run time; its types and numbers are those of nvml.h. The energy of processors is a file.
#include "apps/load_meter.h"

#include <fmt/format.h>
#include <sys/utsname.h>

#include <atomic>
#include <ctime>
#include <fstream>
#include <vector>

#include "base/bandwidth.h"
#include "base/cpu_info.h"
#include "base/process_use.h"
#include "base/shared_library.h"

namespace smelt {

namespace {

using Card = struct CardTag*;
struct Utilization {
    unsigned gpu, memory;  // percent of the time in which a kernel ran, or memory moved
};

#define NVML_FUNCTIONS(X)                                                    \
    X(nvmlInit_v2, ())                                                       \
    X(nvmlDeviceGetCount_v2, (unsigned* n))                                  \
    X(nvmlDeviceGetHandleByIndex_v2, (unsigned index, Card* card))           \
    X(nvmlDeviceGetUtilizationRates, (Card card, Utilization * utilization)) \
    X(nvmlDeviceGetPowerUsage, (Card card, unsigned* milliwatts))            \
    X(nvmlDeviceGetName, (Card card, char* name, unsigned n))

// The functions, and the cards that they see; without cards where there is no NVML.
struct Nvml {
#define X(name, parameters) int(*name) parameters = nullptr;
    NVML_FUNCTIONS(X)
#undef X
    std::vector<Card> cards;

    Nvml() {
        const SharedLibrary library{"libnvidia-ml.so.1"};
        if (!library) return;
        std::string missing;
#define X(name, parameters) library.find(name, #name, missing);
        NVML_FUNCTIONS(X)
#undef X
        unsigned n = 0;
        if (!missing.empty() || nvmlInit_v2() != 0 || nvmlDeviceGetCount_v2(&n) != 0) return;
        for (unsigned i = 0; i < n; ++i) {
            Card card = nullptr;
            if (nvmlDeviceGetHandleByIndex_v2(i, &card) == 0) cards.push_back(card);
        }
    }
};

const Nvml& nvml() {
    static const Nvml library;
    return library;
}

// Joules since some time; only root may read them on most systems.
std::optional<double> processor_joules() {
    double sum = 0;
    bool any = false;
    for (int package = 0; package < 16; ++package) {
        std::ifstream file(fmt::format("/sys/class/powercap/intel-rapl:{}/energy_uj", package));
        double microjoules = 0;
        if (!(file >> microjoules)) break;
        sum += microjoules / 1e6;
        any = true;
    }
    return any ? std::optional(sum) : std::nullopt;
}

}  // namespace

// Samples of a thread, summed up card by card.
struct LoadMeter::Cards {
    struct Sum {
        double percent = 0, watts = 0;
        int n = 0;
    };
    std::vector<Sum> sums = std::vector<Sum>(nvml().cards.size());
    std::atomic<bool> stop = false;
    std::thread thread{[this] {
        do {
            for (size_t i = 0; i < sums.size(); ++i) {
                Utilization busy{};
                unsigned milliwatts = 0;
                if (nvml().nvmlDeviceGetUtilizationRates(nvml().cards[i], &busy) != 0) continue;
                if (nvml().nvmlDeviceGetPowerUsage(nvml().cards[i], &milliwatts) != 0) milliwatts = 0;
                sums[i].percent += busy.gpu;
                sums[i].watts += milliwatts / 1e3;
                ++sums[i].n;
            }
            std::this_thread::sleep_for(std::chrono::milliseconds(50));
        } while (!stop);
    }};

    ~Cards() {
        stop = true;
        if (thread.joinable()) thread.join();
    }
};

LoadMeter::LoadMeter()
    : cards_(nvml().cards.empty() ? nullptr : std::make_unique<Cards>()),
      began_(std::chrono::steady_clock::now()),
      cpu_seconds_(read_process_use().cpu_seconds),
      joules_(processor_joules()) {}

LoadMeter::~LoadMeter() = default;

Load LoadMeter::finish() {
    const double wall = std::chrono::duration<double>(std::chrono::steady_clock::now() - began_).count();
    const double cpu = read_process_use().cpu_seconds - cpu_seconds_;
    Load load{.cpu_percent = 100 * cpu / std::max(wall, 1e-9) / std::max(read_cpu_info().logical_cores, 1),
              .gpu_percent = {},
              .watts = {}};
    // A counter that went over its end says nothing.
    if (const auto now = processor_joules(); now && joules_ && *now > *joules_)
        load.watts = (*now - *joules_) / wall;
    if (!cards_) return load;
    cards_->stop = true;
    cards_->thread.join();
    for (const Cards::Sum& s : cards_->sums) {
        if (s.n == 0 || s.percent / s.n < load.gpu_percent.value_or(-1)) continue;
        load.gpu_percent = s.percent / s.n;
        if (s.watts > 0) load.watts = s.watts / s.n;
    }
    return load;
}

std::string card_names() {
    std::string names;
    for (const Card card : nvml().cards) {
        char name[96] = {};
        if (nvml().nvmlDeviceGetName(card, name, sizeof name - 1) == 0)
            names += (names.empty() ? "" : ", ") + std::string(name);
    }
    return names;
}

std::string date_and_time() {
    const std::time_t now = std::time(nullptr);
    char text[32];
    std::strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", std::localtime(&now));
    return text;
}

std::string processor_name() {
    return read_cpu_info().model;
}

Json describe_machine(int n_threads) {
    const CpuInfo cpu = read_cpu_info();
    struct utsname system {};
    uname(&system);
    std::string features;
    for (const std::string& f : cpu.features) features += (features.empty() ? "" : " ") + f;
    Json machine = {
        {"processor", cpu.model},
        {"physical_cores", cpu.physical_cores},
        {"logical_cores", cpu.logical_cores},
        {"features", features},
        {"memory_bytes", read_memory_info().total},
        {"read_bytes_per_s", BandwidthProbe(n_threads > 0 ? n_threads : cpu.physical_cores).measure()},
        {"system", fmt::format("{} {} {}", system.sysname, system.release, system.machine)}};
    if (const std::string cards = card_names(); !cards.empty()) machine["gpu"] = cards;
    return machine;
}

}  // namespace smelt
