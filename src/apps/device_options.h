// The options that every verb with a device has.
#pragma once

#include <CLI/CLI.hpp>
#include <memory>
#include <string>

#include "backend/backend.h"

namespace smelt {

struct DeviceOptions {
    std::string device = "auto";
    int n_threads = 0;

    std::unique_ptr<Backend> open() const { return make_backend(device, {.n_threads = n_threads}); }
};

inline void add_device_options(CLI::App& verb, DeviceOptions& o) {
    verb.add_option("--device", o.device, "Device: auto, or a name that `smelt doctor` lists")
        ->capture_default_str();
    verb.add_option("-t,--threads", o.n_threads, "CPU threads; 0: one per physical core")
        ->check(CLI::Range(0, 1024))
        ->capture_default_str();
}

}  // namespace smelt
