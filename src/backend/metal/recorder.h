// A step as a list of dispatches, encoded into one command buffer with one encoder when it is submitted.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <string>
#include <vector>

#include "backend/metal/memory.h"

namespace smelt::metal {

// Threadgroups, and threads in each.
struct Grid {
    MTL::Size groups, threads;
    size_t threadgroup_bytes = 0;
};
// So many threads, in rows of them.
Grid each_element(int64_t row_len, int64_t n_rows);

class Recorder {
 public:
    explicit Recorder(Gpu& g) : gpu(g), scratch(g) {}

    // `args` is what kernel_args.h has for the kernel; the buffers follow it in the kernel's order.
    template <class Args>
    void add(const MTL::ComputePipelineState& kernel, const Args& args,
             std::initializer_list<Binding> buffers, const Grid& grid) {
        static_assert(sizeof(Args) <= 4096);  // what setBytes takes
        add(kernel, &args, sizeof(args), buffers, grid);
    }
    bool empty() const { return dispatches_.empty(); }
    size_t size() const { return dispatches_.size(); }
    void drop_last();
    void clear();
    // Runs the record and clears it. A command buffer that fails leaves the device lost: this and all that
    // follow throw Error.
    void run();

    Gpu& gpu;
    Scratch scratch;
    // Whether products of simdgroup matrices have the bits of the other kernels; found out on the device.
    bool matrices_add_in_order = false;

 private:
    static constexpr size_t max_buffers = 20;
    struct Dispatch {
        const MTL::ComputePipelineState* kernel;
        size_t args_offset, args_size;
        std::array<Binding, max_buffers> buffers;
        size_t n_buffers;
        Grid grid;
    };
    void add(const MTL::ComputePipelineState& kernel, const void* args, size_t args_size,
             std::initializer_list<Binding> buffers, const Grid& grid);

    std::vector<Dispatch> dispatches_;
    std::vector<std::byte> args_;
    std::string lost_;  // why; empty while the device works
};

}  // namespace smelt::metal
