// The list of backends, best first, with the reason for each that is not here.
#include "backend/backend.h"
#include "backend/cpu/cpu_backend.h"
#include "backend/cuda/cuda_backend.h"
#include "backend/metal_entry.h"
#include "backend/multi_device.h"

namespace smelt {

std::vector<BackendInfo> list_backends() {
    return {{"cpu", describe_cpu_backend({}), ""},
            metal_backend_info(),
            cuda_backend_info(),
            {"reference", make_reference_backend()->description(), ""}};
}

namespace {

// A GPU before the CPU, which is everywhere; whether Metal's is one, the build knows.
std::string_view best_device() {
    if (cuda_backend_info().missing.empty()) return "cuda";
    for (const BackendInfo& info : list_backends()) {
        if (info.name == SMELT_BEST_DEVICE && info.missing.empty()) return SMELT_BEST_DEVICE;
    }
    return "cpu";
}

std::unique_ptr<Backend> make_untraced(std::string_view name, const BackendOptions& options) {
    const bool is_map = name.find_first_of(",=") != std::string_view::npos;
    if (options.tensor_parallel != 1) {
        if (is_map) throw Error("tensor parallelism: expected one device, found the map {}", name);
        return make_partners(name, options);
    }
    if (name == "auto") name = options.isa.empty() ? best_device() : "cpu";
    if (!options.isa.empty() && name != "cpu" && !is_map) {
        throw Error("instruction set {}: the CPU's kernels have one, the device is {}", options.isa, name);
    }
    if (name == "cpu") return make_cpu_backend(options);
    if (name == "metal") return make_metal_backend(options);
    if (name == "cuda") return make_cuda_backend(options);
    if (name == "reference") return make_reference_backend();
    if (is_map) return make_mapped_backend(name, options);
    std::string usable = "auto";
    for (const BackendInfo& info : list_backends()) {
        if (info.name == name && !info.missing.empty()) throw Error("device {}: {}", name, info.missing);
        if (info.missing.empty()) usable += ", " + info.name;
    }
    throw Error("device {}: expected one of {}", name, usable);
}

}  // namespace

std::unique_ptr<Backend> make_backend(std::string_view name, const BackendOptions& options) {
    BackendOptions of_parts = options;
    of_parts.trace = nullptr;  // a map hands it to its devices itself
    auto backend = make_untraced(name, of_parts);
    backend->set_trace(options.trace);
    return backend;
}

}  // namespace smelt
