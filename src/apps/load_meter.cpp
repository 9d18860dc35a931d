// GPUs are asked through NVML. The energy of processors is a file.
#include "apps/load_meter.h"

#include <fmt/format.h>
#include <sys/utsname.h>

#include <atomic>
#include <ctime>
#include <fstream>
#include <vector>

#include "base/bandwidth.h"
#include "base/cpu_info.h"
#include "base/nvml.h"
#include "base/process_use.h"

namespace smelt {

namespace {

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

// Samples of a thread, summed up GPU by GPU.
struct LoadMeter::Cards {
    struct Sum {
        double percent = 0, watts = 0;
        int n = 0;
    };
    std::vector<Sum> sums;
    std::atomic<bool> stop = false;
    std::thread thread;

    explicit Cards(size_t n) : sums(n), thread([this] { sample(); }) {}
    void sample() {
        do {
            const std::vector<GpuState> gpus = read_gpus();
            for (size_t i = 0; i < std::min(gpus.size(), sums.size()); ++i) {
                if (!gpus[i].busy_percent) continue;
                sums[i].percent += *gpus[i].busy_percent;
                sums[i].watts += gpus[i].watts.value_or(0);
                ++sums[i].n;
            }
            std::this_thread::sleep_for(std::chrono::milliseconds(50));
        } while (!stop);
    }

    ~Cards() {
        stop = true;
        if (thread.joinable()) thread.join();
    }
};

LoadMeter::LoadMeter()
    : began_(std::chrono::steady_clock::now()),
      cpu_seconds_(read_process_use().cpu_seconds),
      joules_(processor_joules()) {
    if (const size_t n = read_gpus().size(); n > 0) cards_ = std::make_unique<Cards>(n);
}

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
    for (const GpuState& gpu : read_gpus()) names += (names.empty() ? "" : ", ") + gpu.name;
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
