// A dispatch: pipeline, arguments, buffers, grid.
#include "backend/metal/step_encoder.h"

namespace smelt::metal {

namespace {

constexpr int64_t elements_per_group = 256;

}  // namespace

Grid each_element(int64_t row_len) {
    return {size(divide_up(row_len, elements_per_group)), size(elements_per_group)};
}

MTL::Buffer* StepEncoder::buffer_of(const Binding& b) const {
    if (b.buffer != nullptr) return b.buffer;
    return b.shared == Shared::input ? input_ : shared_[b.shared].buffer();
}

void StepEncoder::dispatch(const MTL::ComputePipelineState& kernel, const void* args, size_t args_size,
                           std::span<const Binding> buffers, const Grid& grid) {
    if (grid.groups.width * grid.groups.height * grid.groups.depth == 0) return;
    if (&kernel != current_) encoder_.setComputePipelineState(&kernel);
    current_ = &kernel;
    encoder_.setBytes(args, args_size, 0);
    for (size_t i = 0; i < buffers.size(); ++i) {
        const Binding& b = buffers[i];
        encoder_.setBuffer(buffer_of(b), b.offset, i + 1);
    }
    if (grid.threadgroup_bytes > 0) {
        encoder_.setThreadgroupMemoryLength((grid.threadgroup_bytes + 15) / 16 * 16, 0);
    }
    encoder_.dispatchThreadgroups(grid.groups, grid.threads);
}

}  // namespace smelt::metal
