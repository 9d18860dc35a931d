// What tests set and see of the software GPU, beyond the driver's own interface: found by dlsym("softcuda").
#pragma once

#include <cstddef>
#include <cstdint>

namespace softcuda {

struct Control {
    bool present = true;  // false: cuInit finds no device
    int driver_version = 13000;
    int major = 9, minor = 0;
    size_t memory = size_t{8} << 30;
    bool runs_kernels = true;  // false: launches are counted alone
    // The call that comes after so many others fails with this; -1: none does.
    int64_t fail_after = -1;
    int fail_with = 2;
    const char* failed = nullptr;  // which one did
    int64_t n_calls = 0, n_launches = 0, n_graph_launches = 0;
    // What was made and not yet given back.
    int64_t allocations = 0, pinned = 0, streams = 0, events = 0, modules = 0, graphs = 0, contexts = 0;
    size_t allocated = 0;
    int64_t live() const { return allocations + pinned + streams + events + modules + graphs + contexts; }
};

}  // namespace softcuda

extern "C" softcuda::Control* softcuda_control();
