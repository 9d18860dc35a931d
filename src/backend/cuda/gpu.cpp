// Finds the GPU, starts a context, loads kernels.
#include "backend/cuda/gpu.h"

#include <fmt/format.h>

#include <algorithm>

#include "backend/cuda/kernel_files.h"
#include "backend/cuda/nvrtc.h"
#include "base/log.h"
#include "base/memory_error.h"

namespace smelt::cuda {

namespace {

constexpr int least_major = 8;  // Ampere

// Of the first device, with an open driver.
GpuInfo info_of(const Driver& driver) {
    GpuInfo info;
    int device = 0;
    char name[256] = {};
    size_t memory = 0;
    for (const Status s : {driver.device_get(&device, 0), driver.device_name(name, sizeof(name), device),
                           driver.device_memory(&memory, device), driver.driver_version(&info.driver_version),
                           driver.device_attribute(&info.multiprocessors, attribute::multiprocessors, device),
                           driver.device_attribute(&info.shared_bytes, attribute::shared_bytes_optin, device),
                           driver.device_attribute(&info.major, attribute::major, device),
                           driver.device_attribute(&info.minor, attribute::minor, device)}) {
        if (s != status::success && info.missing.empty())
            info.missing = fmt::format("the GPU cannot be looked at: {}", driver.text_of(s));
    }
    info.name = name;
    info.memory = memory;
    if (info.missing.empty() && info.major < least_major) {
        info.missing = fmt::format("{}: expected compute capability {}.0 or newer, found {}.{}", info.name,
                                   least_major, info.major, info.minor);
    }
    return info;
}

// Machine code that NVRTC makes for this very card. With Hopper come its own instructions.
std::string architecture_of(const GpuInfo& info) {
    return fmt::format("sm_{}{}{}", info.major, info.minor, info.major == 9 ? "a" : "");
}

}  // namespace

std::string_view Gpu::identifier(Format f) {
    static constexpr std::string_view names[] = {
#define X(name, ...) #name,
        QUANT_FORMATS(X)
#undef X
    };
    return names[static_cast<size_t>(f)];
}

GpuInfo describe_gpu() {
    GpuInfo info;
    std::string missing;
    const auto driver = open_driver(missing);
    if (driver == nullptr) {
        info.name = "NVIDIA GPU";
        info.missing = missing;
        return info;
    }
    return info_of(*driver);
}

std::string to_string(const GpuInfo& info) {
    if (info.memory == 0) return info.name;
    return fmt::format("{}, {:.0f} GiB, {} multiprocessors, compute capability {}.{}, driver for CUDA {}.{}",
                       info.name, static_cast<double>(info.memory) / 0x1p30, info.multiprocessors, info.major,
                       info.minor, info.driver_version / 1000, info.driver_version % 1000 / 10);
}

Gpu::Gpu(std::filesystem::path cache) : cache_(std::move(cache)) {
    std::string missing;
    driver_ = open_driver(missing);
    if (driver_ == nullptr) throw Error("device cuda: {}", missing);
    info_ = info_of(*driver_);
    if (!info_.missing.empty()) throw Error("device cuda: {}", info_.missing);
    check(driver_->device_get(&device_, 0), "cuDeviceGet");
    check(driver_->context_retain(&context_, device_), "cuDevicePrimaryCtxRetain");
    try {
        make_current();
        check(driver_->stream_create(&stream_, stream_non_blocking), "cuStreamCreate");
    } catch (...) {
        driver_->context_release(device_);
        throw;
    }
}

Gpu::~Gpu() {
    driver_->context_set(context_);
    for (const auto& [name, module] : modules_) driver_->module_unload(module);
    driver_->stream_destroy(stream_);
    driver_->context_release(device_);
}

void Gpu::make_current() const {
    check(driver_->context_set(context_), "cuCtxSetCurrent");
}

void Gpu::check_lost() const {
    if (!lost_.empty()) throw Error("device cuda: lost: {}", lost_);
}

void Gpu::check(Status s, std::string_view call) const {
    if (s == status::success) return;
    const std::string text = fmt::format("{}: {}", call, driver_->text_of(s));
    if (s == status::out_of_memory) {
        size_t free = 0, total = 0;
        if (driver_->memory_info(&free, &total) != status::success) free = 0;
        throw MemoryError("device cuda: {}; {} MiB of {} MiB are free", text, free >> 20, info_.memory >> 20);
    }
    // From here on the driver answers every call in this context with the same error.
    constexpr Status first_fault = 700, last_fault = 799;
    const bool is_fault = (s >= first_fault && s <= last_fault) || s == 214 /* ECC */ || s == 999;
    if (is_fault && lost_.empty()) lost_ = text;
    throw Error("device cuda: {}{}", is_fault ? "lost: " : "", text);
}

void Gpu::wait() const {
    make_current();
    check(driver_->stream_synchronize(stream_), "cuStreamSynchronize");
}

uint64_t Gpu::free_memory() const {
    size_t free = 0, total = 0;
    make_current();
    check(driver_->memory_info(&free, &total), "cuMemGetInfo");
    return free;
}

Module Gpu::load(const std::string& name) {
    const auto units = kernel_units();
    const auto unit = std::ranges::find(units, name, &KernelUnit::name);
    CHECK(unit != units.end(), "no kernels {}", name);
    Module module = nullptr;
    if (!unit->fatbin.empty()) {
        const Status s = driver_->module_load(&module, unit->fatbin.data());
        if (s == status::success) return module;
        if (s == status::out_of_memory) check(s, "cuModuleLoadData");
        spdlog::info("device cuda: the kernels that were built in do not fit ({}); they are compiled anew",
                     driver_->text_of(s));
    }
    const std::vector<char> image = compile_unit(*unit, {.architecture = architecture_of(info_),
                                                         .card = info_.name,
                                                         .driver_version = info_.driver_version,
                                                         .cache = cache_});
    check(driver_->module_load(&module, image.data()), "cuModuleLoadData");
    return module;
}

Function Gpu::kernel(std::string_view unit, std::string_view name) {
    const auto found = functions_.find(std::string(name));
    if (found != functions_.end()) return found->second;
    make_current();
    auto module = modules_.find(std::string(unit));
    if (module == modules_.end()) module = modules_.emplace(unit, load(std::string(unit))).first;
    Function function = nullptr;
    check(driver_->module_function(&function, module->second, std::string(name).c_str()),
          "cuModuleGetFunction");
    return functions_.emplace(name, function).first->second;
}

Function Gpu::kernel(std::string_view unit, std::string_view name, Format format) {
    return kernel(fmt::format("{}_{}", unit, identifier(format)),
                  fmt::format("{}_{}", name, identifier(format)));
}

}  // namespace smelt::cuda
