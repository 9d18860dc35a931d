// The options that every verb with a device has, and those of the verbs that run a model on it.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdlib>
#include <memory>
#include <string>

#include "apps/values.h"
#include "backend/backend.h"
#include "model/rope.h"

namespace smelt {

// Where kernels that were compiled for a card are kept; "": there is no home.
inline std::string kernel_cache_folder() {
    const char* cache = std::getenv("XDG_CACHE_HOME");
    if (cache != nullptr && *cache != '\0') return std::string(cache) + "/smelt/kernels";
    const char* home = std::getenv("HOME");
    return home != nullptr && *home != '\0' ? std::string(home) + "/.cache/smelt/kernels" : "";
}

struct DeviceOptions {
    std::string device = "auto";
    int n_threads = 0;
    std::string isa = {};
    bool no_repack = false;
    std::string device_map = {}, rope_scaling = {};
    std::string mmproj = {};  // of verbs that take pictures
    int tensor_parallel = 1;
    std::string trace_file = {};  // empty: none
    Trace* trace = nullptr;       // see run_traced()

    // What make_backend() takes.
    std::string name() const { return device_map.empty() ? device : device + "," + device_map; }
    BackendOptions backend() const {
        return {.n_threads = n_threads,
                .isa = isa,
                .repack = !no_repack,
                .tensor_parallel = tensor_parallel,
                .trace = trace,
                .cache_folder = kernel_cache_folder()};
    }
    std::unique_ptr<Backend> open() const { return make_backend(name(), backend()); }
};

// {"rope_type": "yarn", "factor": 4, "original_max_position_embeddings": 32768}, as config.json and vLLM
// write it, in our own form; any other text as it is. Throws CLI::ValidationError.
std::string rope_scaling_text(const std::string& text);

inline void add_device_options(CLI::App& verb, DeviceOptions& o) {
    verb.add_option("--device", o.device, "Device: auto, or a name that `smelt doctor` lists")
        ->capture_default_str();
    verb.add_option("-t,--threads", o.n_threads, "CPU threads; 0: one per physical core")
        ->check(in_range(0, 1024))
        ->capture_default_str();
    verb.add_option(
            "--isa", o.isa,
            "Instruction set of the CPU's kernels, as `smelt doctor` names them; default: the best here")
        ->type_name("NAME");
}

inline void add_model_options(CLI::App& verb, DeviceOptions& o) {
    add_device_options(verb, o);
    verb.add_option(
        "--device-map", o.device_map,
        "Layers, or the experts of all layers, on other devices: 0-11=cpu,12-=reference,experts=cpu");
    verb.add_flag("--no-repack", o.no_repack,
                  "Let the CPU read weights as the file holds them: it starts sooner and takes less memory, "
                  "but is slower");
    verb.add_option("--tensor-parallel", o.tensor_parallel,
                    "Split every weight that can be cut over this many partners of the same device")
        ->check(in_range(1, 32))
        ->capture_default_str();
    verb.add_option("--rope-scaling", o.rope_scaling,
                    "Stretch the context: yarn[,factor=4,original=32768], linear[,factor=2], none, or the "
                    "JSON of config.json; default: as the model says")
        ->transform([](const std::string& text) { return rope_scaling_text(text); });
    verb.add_option("--trace", o.trace_file,
                    "Write the time of every op of every step as a Chrome trace, and their sums to stderr")
        ->type_name("FILE");
}

inline void add_mmproj_option(CLI::App& verb, DeviceOptions& o) {
    verb.add_option("--mmproj", o.mmproj,
                    "The vision tower of a GGUF model, where it is a file of its own (mmproj)")
        ->check(CLI::ExistingFile)
        ->type_name("FILE");
}

}  // namespace smelt
