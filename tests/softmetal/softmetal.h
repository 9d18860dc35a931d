// What tests set and see of the software Metal device, beyond Metal's own interface.
#pragma once

#include <Metal/Metal.hpp>
#include <string>
#include <vector>

namespace softmetal {

struct Settings {
    uint64_t max_buffer_length = uint64_t{8} << 30;
    uint64_t working_set = uint64_t{12} << 30;
    uint64_t memory = uint64_t{16} << 30;  // newBuffer gives null beyond
    int n_threads = 0;                     // of the host; 0: all
    bool present = true;                   // false: CreateSystemDefaultDevice gives null
    int macos = 15;                        // 14: no residency sets
};
Settings& settings();

// The command buffer that is executed after `n` others ends with this error instead of its work.
void fail_command_buffer(int n, MTL::CommandBufferError error);

// Bytes of buffers in committed residency sets of queues.
size_t resident_bytes();

// What was executed since the last reset.
struct Trace {
    int command_buffers = 0, encoders = 0;
    std::vector<std::string> kernels;  // one a dispatch
};
Trace& trace();

}  // namespace softmetal
