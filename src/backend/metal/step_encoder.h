// Encodes the dispatches of one step into its command buffer. What depends on the step (how many rows there
// are, where the shared buffers lie) comes in here; all else was settled when the record was compiled.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "backend/metal/memory.h"
#include "backend/step_input.h"

namespace smelt::metal {

inline uint32_t u32(int64_t n) {
    CHECK(n >= 0 && n <= UINT32_MAX, "{}", n);
    return static_cast<uint32_t>(n);
}
inline int64_t divide_up(int64_t n, int64_t by) {
    return (n + by - 1) / by;
}

// Threadgroups, and threads in each.
struct Grid {
    MTL::Size groups, threads;
    size_t threadgroup_bytes = 0;  // of the kernel's threadgroup argument
};
inline MTL::Size size(int64_t x, int64_t y = 1, int64_t z = 1) {
    return {u32(x), u32(y), u32(z)};
}
// A thread for each element of rows; how many rows there are, the step says.
Grid each_element(int64_t row_len);

class StepEncoder {
 public:
    StepEncoder(MTL::ComputeCommandEncoder& encoder, const SharedBuffers& shared, MTL::Buffer* input,
                const StepCounts& counts)
        : counts_(counts), encoder_(encoder), shared_(shared), input_(input) {}

    const StepCounts& counts() const { return counts_; }
    int64_t rows(const Tensor& t) const { return counts_.rows(t); }
    // `args` is what kernel_args.h has for the kernel; the buffers follow it in the kernel's order. Nothing
    // happens where the grid is empty.
    template <class Args>
    void dispatch(const MTL::ComputePipelineState& kernel, const Args& args, std::span<const Binding> buffers,
                  const Grid& grid) {
        static_assert(sizeof(Args) <= 4096);  // what setBytes takes
        dispatch(kernel, &args, sizeof(args), buffers, grid);
    }

 private:
    void dispatch(const MTL::ComputePipelineState& kernel, const void* args, size_t args_size,
                  std::span<const Binding> buffers, const Grid& grid);

    const StepCounts counts_;
    MTL::ComputeCommandEncoder& encoder_;
    MTL::Buffer* buffer_of(const Binding& b) const;

    const SharedBuffers& shared_;
    MTL::Buffer* input_;
    const MTL::ComputePipelineState* current_ = nullptr;
};

}  // namespace smelt::metal
