// Encodes and runs a record.
#include "backend/metal/recorder.h"

#include <algorithm>

namespace smelt::metal {

namespace {

constexpr NS::UInteger elements_per_group = 256;

MTL::Size size_of(int64_t x, int64_t y, int64_t z) {
    return {static_cast<NS::UInteger>(x), static_cast<NS::UInteger>(y), static_cast<NS::UInteger>(z)};
}

}  // namespace

Grid each_element(int64_t row_len, int64_t n_rows) {
    const auto width = static_cast<int64_t>(elements_per_group);
    return {size_of((row_len + width - 1) / width, n_rows, 1), MTL::Size(elements_per_group, 1, 1)};
}

void Recorder::add(const MTL::ComputePipelineState& kernel, const void* args, size_t args_size,
                   std::initializer_list<Binding> buffers, const Grid& grid) {
    CHECK(buffers.size() <= max_buffers);
    if (grid.groups.width * grid.groups.height * grid.groups.depth == 0) return;
    Dispatch d{&kernel, args_.size(), args_size, {}, buffers.size(), grid};
    std::copy(buffers.begin(), buffers.end(), d.buffers.begin());
    const auto* bytes = static_cast<const std::byte*>(args);
    args_.insert(args_.end(), bytes, bytes + args_size);
    dispatches_.push_back(d);
}

void Recorder::drop_last() {
    args_.resize(dispatches_.back().args_offset);
    dispatches_.pop_back();
}

void Recorder::clear() {
    dispatches_.clear();
    args_.clear();
    scratch.reset();
}

void Recorder::run() {
    if (!lost_.empty()) {
        clear();
        throw Error("device metal: lost: {}", lost_);
    }
    if (dispatches_.empty()) return;
    const auto pool = NS::TransferPtr(NS::AutoreleasePool::alloc()->init());
    MTL::CommandBuffer* commands = gpu.queue().commandBuffer();
    // Each dispatch sees what those before it wrote.
    MTL::ComputeCommandEncoder* encoder = commands->computeCommandEncoder(MTL::DispatchTypeSerial);
    const MTL::ComputePipelineState* current = nullptr;
    for (const Dispatch& d : dispatches_) {
        if (d.kernel != current) encoder->setComputePipelineState(d.kernel);
        current = d.kernel;
        encoder->setBytes(args_.data() + d.args_offset, d.args_size, 0);
        for (size_t i = 0; i < d.n_buffers; ++i) {
            encoder->setBuffer(d.buffers[i].buffer, d.buffers[i].offset, i + 1);
        }
        if (d.grid.threadgroup_bytes > 0) {
            encoder->setThreadgroupMemoryLength((d.grid.threadgroup_bytes + 15) / 16 * 16, 0);
        }
        encoder->dispatchThreadgroups(d.grid.groups, d.grid.threads);
    }
    encoder->endEncoding();
    commands->commit();
    commands->waitUntilCompleted();
    clear();
    if (commands->status() == MTL::CommandBufferStatusCompleted) return;
    const NS::Error* error = commands->error();
    lost_ = error == nullptr ? "a command buffer failed" : error->localizedDescription()->utf8String();
    throw Error("device metal: lost: {}", lost_);
}

}  // namespace smelt::metal
