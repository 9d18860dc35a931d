// smelt doctor: what this machine has, what smelt will use of it, and why not the rest.
#include <fmt/format.h>

#include <algorithm>

#include "apps/device_options.h"
#include "apps/doctor_check.h"
#include "apps/verbs.h"
#include "apps/version.h"
#include "base/bandwidth.h"
#include "base/cpu_info.h"
#include "base/error.h"
#include "base/json.h"
#include "base/nvml.h"
#include "base/peak_rate.h"
#include "base/units.h"

namespace smelt {

namespace {

struct DoctorOptions {
    DeviceOptions device;
    bool json = false, check = false, measure = false;
};

struct Findings {
    CpuInfo cpu;
    MemoryInfo memory;
    int n_threads;
    double bandwidth;  // bytes a second
    std::string bandwidth_way;
    std::vector<PeakRate> peak_rates;  // with --measure
    std::vector<BackendInfo> devices;
    std::vector<GpuState> gpus;
    std::string used, used_description;
};

Findings examine(const DoctorOptions& o) {
    Findings f{.cpu = read_cpu_info(),
               .memory = read_memory_info(),
               .n_threads = o.device.n_threads,
               .bandwidth = 0,
               .bandwidth_way = {},
               .peak_rates = {},
               .devices = list_backends(),
               .gpus = read_gpus(),
               .used = {},
               .used_description = {}};
    if (f.n_threads == 0) f.n_threads = f.cpu.physical_cores;
    {
        BandwidthProbe probe(f.n_threads);
        f.bandwidth = probe.measure();
        f.bandwidth_way = probe.way();
    }
    if (o.measure) f.peak_rates = measure_peak_rates(f.n_threads);
    const auto backend = o.device.open();
    f.used = backend->name();
    f.used_description = backend->description();
    return f;
}

std::string compiler() {
#if defined(__clang__)
    return fmt::format("clang {}.{}.{}", __clang_major__, __clang_minor__, __clang_patchlevel__);
#else
    return fmt::format("g++ {}.{}.{}", __GNUC__, __GNUC_MINOR__, __GNUC_PATCHLEVEL__);
#endif
}

// Of libraries whose headers say it; they come with the system.
std::vector<std::pair<std::string, std::string>> libraries() {
    const auto dotted = [](int major, int minor, int patch) {
        return fmt::format("{}.{}.{}", major, minor, patch);
    };
    return {{"fmt", dotted(FMT_VERSION / 10000, FMT_VERSION / 100 % 100, FMT_VERSION % 100)},
            {"nlohmann_json",
             dotted(NLOHMANN_JSON_VERSION_MAJOR, NLOHMANN_JSON_VERSION_MINOR, NLOHMANN_JSON_VERSION_PATCH)},
            {"CLI11", CLI11_VERSION}};
}

std::string joined(const std::vector<std::string>& words) {
    std::string text;
    for (const std::string& w : words) text += (text.empty() ? "" : " ") + w;
    return text.empty() ? "none that smelt knows" : text;
}

// "NVIDIA H200, driver 580.1, 3.2 GB of 150 GB in use, 7 % busy, 61 °C, 50 W"
std::string gpu_text(const GpuState& gpu) {
    std::string text = fmt::format("{}, driver {}", gpu.name, gpu.driver);
    if (gpu.memory_used && gpu.memory_total)
        text += fmt::format(", {} of {} in use", bytes_text(*gpu.memory_used), bytes_text(*gpu.memory_total));
    if (gpu.busy_percent) text += fmt::format(", {:.0f} % busy", *gpu.busy_percent);
    if (gpu.celsius) text += fmt::format(", {:.0f} °C", *gpu.celsius);
    if (gpu.watts) text += fmt::format(", {:.0f} W", *gpu.watts);
    return text;
}

void print_text(const Findings& f) {
    const CpuInfo& c = f.cpu;
    fmt::print("processor  {}\n", c.model.empty() ? "unknown" : c.model);
    fmt::print("           {} cores, {} threads for this process\n", c.physical_cores, c.logical_cores);
    if (c.l2_bytes > 0) {
        fmt::print("           caches: {} L1, {} L2, {} L3\n", bytes_text(c.l1d_bytes),
                   bytes_text(c.l2_bytes), bytes_text(c.l3_bytes));
    }
    fmt::print("           {}\n", joined(c.features));
    fmt::print("memory     {}, {} of it free\n", bytes_text(f.memory.total), bytes_text(f.memory.available));
    fmt::print(
        "           {}/s read with {} thread{}: what a token costs at best is the weights divided by this\n",
        bytes_text(static_cast<uint64_t>(f.bandwidth)), f.n_threads, f.n_threads == 1 ? "" : "s");
    fmt::print("           ({})\n", f.bandwidth_way);
    const char* peak_title = "peak rates";
    for (const PeakRate& r : f.peak_rates) {
        fmt::print("{:<10} {:<17} {:<4} {:10.1f} billion operations a second\n", peak_title,
                   r.instruction_set, r.type, r.operations_per_s / 1e9);
        peak_title = "";
    }
    const char* title = "devices";
    for (const BackendInfo& d : f.devices) {
        fmt::print("{:<10} {:<10} {}\n", title, d.name,
                   d.missing.empty() ? d.description : d.description + ", not usable: " + d.missing);
        title = "";
    }
    title = "GPUs";
    for (const GpuState& gpu : f.gpus) {
        fmt::print("{:<10} {}\n", title, gpu_text(gpu));
        title = "";
    }
    fmt::print("versions   smelt {}, built with {}\n", version(), compiler());
    std::string list;
    for (const auto& [name, number] : libraries()) {
        list += fmt::format("{}{} {}", list.empty() ? "" : ", ", name, number);
    }
    fmt::print("           {}\n", list);
    fmt::print("used       {}: {}\n", f.used, f.used_description);
}

void print_json(const Findings& f) {
    Json devices = Json::array();
    for (const BackendInfo& d : f.devices) {
        Json device = {{"name", d.name}, {"description", d.description}, {"usable", d.missing.empty()}};
        if (!d.missing.empty()) device["missing"] = d.missing;
        devices.push_back(device);
    }
    Json versions = Json::object();
    for (const auto& [name, number] : libraries()) versions[name] = number;
    Json j = {{"processor",
               {{"model", f.cpu.model},
                {"physical_cores", f.cpu.physical_cores},
                {"logical_cores", f.cpu.logical_cores},
                {"l1d_bytes", f.cpu.l1d_bytes},
                {"l2_bytes", f.cpu.l2_bytes},
                {"l3_bytes", f.cpu.l3_bytes},
                {"features", f.cpu.features}}},
              {"memory",
               {{"total_bytes", f.memory.total},
                {"available_bytes", f.memory.available},
                {"read_bytes_per_s", f.bandwidth},
                {"read_threads", f.n_threads},
                {"read_way", f.bandwidth_way}}},
              {"devices", devices},
              {"gpus", gpus_json(f.gpus)},
              {"versions", {{"smelt", version()}, {"compiler", compiler()}, {"libraries", versions}}},
              {"used", {{"device", f.used}, {"description", f.used_description}}}};
    if (!f.peak_rates.empty()) {
        Json peaks = Json::array();
        for (const PeakRate& r : f.peak_rates) {
            peaks.push_back({{"instruction_set", r.instruction_set},
                             {"type", r.type},
                             {"operations_per_s", r.operations_per_s},
                             {"threads", f.n_threads}});
        }
        j["peak_rates"] = peaks;
    }
    fmt::print("{}\n", j.dump(2));
}

void run(const DoctorOptions& o) {
    if (o.check) return check_device(o.device, o.json);
    const Findings f = examine(o);
    o.json ? print_json(f) : print_text(f);
}

}  // namespace

Verb add_doctor(CLI::App& smelt) {
    auto o = std::make_shared<DoctorOptions>();
    CLI::App* verb = smelt.add_subcommand("doctor", "Show what this machine has and what smelt uses of it");
    add_device_options(*verb, o->device);
    verb->add_flag(
        "--check", o->check,
        "Compare every op, number format and architecture on the device with the scalar reference");
    verb->add_flag("--measure", o->measure,
                   "Also measure how fast the processor multiplies with each instruction set");
    verb->add_flag("--json", o->json, "Print JSON");
    verb->footer(
        "Examples:\n  smelt doctor\n  smelt doctor --check --device cpu\n  smelt doctor --threads 1 --json | "
        "jq .memory.read_bytes_per_s");
    return {verb, [o] { run(*o); }};
}

}  // namespace smelt
