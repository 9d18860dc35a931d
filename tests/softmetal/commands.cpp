// Queues, command buffers and encoders of the software Metal device.
#include <chrono>
#include <cstring>
#include <thread>

#include "softmetal/execute.h"
#include "softmetal/softmetal.h"

namespace softmetal {

namespace {
struct Failure {
    int after;
    MTL::CommandBufferError error;
};
std::vector<Failure> failures;

double seconds() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}
NS::String* string_of(const std::string& text) {
    return NS::String::string(text.c_str(), NS::UTF8StringEncoding);
}
}  // namespace

void fail_command_buffer(int n, MTL::CommandBufferError error) {
    failures.push_back({n, error});
}

Trace& trace() {
    static Trace t;
    return t;
}

}  // namespace softmetal

namespace MTL {

using softmetal::reject;
using softmetal::string_of;

// --- Queue ---

NS::String* CommandQueue::label() const {
    return string_of(label_);
}
void CommandQueue::setLabel(const NS::String* label) {
    label_ = label->utf8String();
}
CommandBuffer* CommandQueue::commandBuffer() {
    alive("CommandQueue::commandBuffer");
    CommandBuffer* b = new CommandBuffer();
    b->queue_ = retain();
    return b->autorelease();
}
CommandBuffer* CommandQueue::commandBufferWithUnretainedReferences() {
    CommandBuffer* b = commandBuffer();
    b->retains_ = false;
    return b;
}
void CommandQueue::run_until(CommandBuffer* last) {
    for (;;) {
        if (committed_.empty()) return;
        CommandBuffer* next = committed_.front();
        committed_.erase(committed_.begin());
        const bool done = next == last;
        try {
            next->execute();
        } catch (...) {
            next->release();
            throw;
        }
        next->release();
        if (done) return;
    }
}

// --- Command buffer ---

NS::String* CommandBuffer::label() const {
    return string_of(label_);
}
void CommandBuffer::setLabel(const NS::String* label) {
    label_ = label->utf8String();
}
void CommandBuffer::encoder_begins(const char* method) {
    alive(method);
    if (status_ >= CommandBufferStatusCommitted)
        reject(std::string(method) + ": the command buffer is committed");
    if (open_ != nullptr) reject(std::string(method) + ": the encoder before has not ended");
}
ComputeCommandEncoder* CommandBuffer::computeCommandEncoder() {
    return computeCommandEncoder(DispatchTypeSerial);
}
ComputeCommandEncoder* CommandBuffer::computeCommandEncoder(DispatchType type) {
    encoder_begins("CommandBuffer::computeCommandEncoder");
    ComputeCommandEncoder* e = new ComputeCommandEncoder();
    e->buffer_ = this;
    e->type_ = type;
    open_ = e;
    encoders_.push_back(e->retain());
    return e->autorelease();
}
BlitCommandEncoder* CommandBuffer::blitCommandEncoder() {
    encoder_begins("CommandBuffer::blitCommandEncoder");
    BlitCommandEncoder* e = new BlitCommandEncoder();
    e->buffer_ = this;
    open_ = e;
    encoders_.push_back(e->retain());
    return e->autorelease();
}
void CommandBuffer::addCompletedHandler(const HandlerFunction& handler) {
    alive("CommandBuffer::addCompletedHandler");
    if (status_ >= CommandBufferStatusCommitted)
        reject("addCompletedHandler: the command buffer is committed");
    handlers_.push_back(handler);
}
void CommandBuffer::enqueue() {
    if (status_ != CommandBufferStatusNotEnqueued) reject("enqueue: the command buffer is enqueued");
    status_ = CommandBufferStatusEnqueued;
}
void CommandBuffer::commit() {
    alive("CommandBuffer::commit");
    if (status_ >= CommandBufferStatusCommitted) reject("commit: the command buffer was committed before");
    if (open_ != nullptr) reject("commit: an encoder has not ended");
    status_ = CommandBufferStatusCommitted;
    queue_->committed_.push_back(retain());
    if (!handlers_.empty()) queue_->run_until(this);
}
void CommandBuffer::waitUntilScheduled() {
    if (status_ < CommandBufferStatusCommitted)
        reject("waitUntilScheduled: the command buffer is not committed");
}
void CommandBuffer::waitUntilCompleted() {
    alive("CommandBuffer::waitUntilCompleted");
    if (status_ < CommandBufferStatusCommitted)
        reject("waitUntilCompleted: the command buffer is not committed");
    if (status_ < CommandBufferStatusCompleted) queue_->run_until(this);
}
CommandBufferStatus CommandBuffer::status() {
    alive("CommandBuffer::status");
    if (status_ == CommandBufferStatusCommitted) queue_->run_until(this);
    return status_;
}
void CommandBuffer::use(NS::Object* object) {
    if (object == nullptr || !retains_) return;
    if (auto* buffer = dynamic_cast<Buffer*>(object)) {
        buffer->retain();
        used_.push_back([buffer] { buffer->release(); });
    } else if (auto* pipeline = dynamic_cast<ComputePipelineState*>(object)) {
        pipeline->retain();
        used_.push_back([pipeline] { pipeline->release(); });
    }
}
void CommandBuffer::execute() {
    start_ = softmetal::seconds();
    ++softmetal::trace().command_buffers;
    softmetal::trace().encoders += static_cast<int>(encoders_.size());
    CommandBufferError failed = CommandBufferErrorNone;
    std::erase_if(softmetal::failures, [&](softmetal::Failure& f) {
        if (f.after-- == 0) failed = f.error;
        return f.after < 0;
    });
    status_ = CommandBufferStatusError;  // also when a command throws
    if (failed == CommandBufferErrorNone) {
        for (const auto& command : commands_) command();
        status_ = CommandBufferStatusCompleted;
    } else {
        error_ = NS::Error::make("MTLCommandBufferErrorDomain", static_cast<NS::Integer>(failed),
                                 "software Metal device: injected failure " + std::to_string(failed))
                     ->retain();
    }
    commands_.clear();
    for (const auto& release : used_) release();
    used_.clear();
    end_ = softmetal::seconds();
    for (const HandlerFunction& handler : handlers_) handler(this);
}
void CommandBuffer::dispose() {
    commands_.clear();
    for (const auto& release : used_) release();
    used_.clear();
    for (CommandEncoder* e : encoders_) e->release();
    encoders_.clear();
    if (error_) error_->release();
    queue_->release();
}

// --- Encoders ---

void CommandEncoder::open(const char* method) const {
    alive(method);
    if (ended_) reject(std::string(method) + ": the encoder has ended");
}
void CommandEncoder::endEncoding() {
    open("endEncoding");
    flush();
    ended_ = true;
    buffer_->open_ = nullptr;
}

void ComputeCommandEncoder::setComputePipelineState(const ComputePipelineState* state) {
    open("setComputePipelineState");
    if (state == nullptr) reject("setComputePipelineState: no pipeline");
    pipeline_ = const_cast<ComputePipelineState*>(state);
    pipeline_->retain()->release();  // alive
    buffer_->use(pipeline_);
}
void ComputeCommandEncoder::setBuffer(const Buffer* buffer, NS::UInteger offset, NS::UInteger index) {
    open("setBuffer");
    if (index >= softmetal::Launch::max_buffers) reject("setBuffer: index " + std::to_string(index));
    if (buffer != nullptr && offset >= buffer->length())
        reject("setBuffer: offset " + std::to_string(offset) + " in a buffer of " +
               std::to_string(buffer->length_) + " bytes");
    if (offset % 4 != 0) reject("setBuffer: offset " + std::to_string(offset) + " is no multiple of 4");
    bound_[index] = {const_cast<Buffer*>(buffer), offset, nullptr};
    buffer_->use(bound_[index].buffer);
}
void ComputeCommandEncoder::setBufferOffset(NS::UInteger offset, NS::UInteger index) {
    open("setBufferOffset");
    if (index >= softmetal::Launch::max_buffers || bound_[index].buffer == nullptr)
        reject("setBufferOffset: no buffer is bound to index " + std::to_string(index));
    setBuffer(bound_[index].buffer, offset, index);
}
void ComputeCommandEncoder::setBuffers(const Buffer* const buffers[], const NS::UInteger offsets[],
                                       NS::Range range) {
    for (NS::UInteger i = 0; i < range.length; ++i) setBuffer(buffers[i], offsets[i], range.location + i);
}
void ComputeCommandEncoder::setBytes(const void* bytes, NS::UInteger length, NS::UInteger index) {
    open("setBytes");
    if (index >= softmetal::Launch::max_buffers) reject("setBytes: index " + std::to_string(index));
    if (length == 0 || length > 4096)
        reject("setBytes: " + std::to_string(length) + " bytes, 1 to 4096 are possible");
    const char* data = static_cast<const char*>(bytes);
    bound_[index] = {nullptr, 0, std::make_shared<std::vector<char>>(data, data + length)};
}
void ComputeCommandEncoder::setThreadgroupMemoryLength(NS::UInteger length, NS::UInteger index) {
    open("setThreadgroupMemoryLength");
    if (index >= softmetal::Launch::max_buffers)
        reject("setThreadgroupMemoryLength: index " + std::to_string(index));
    if (length % 16 != 0)
        reject("setThreadgroupMemoryLength: " + std::to_string(length) + " bytes are no multiple of 16");
    threadgroup_bytes_[index] = length;
}
void ComputeCommandEncoder::memoryBarrier(BarrierScope) {
    open("memoryBarrier");
    flush();
}
void ComputeCommandEncoder::memoryBarrier(const Resource* const[], NS::UInteger) {
    open("memoryBarrier");
    flush();
}
void ComputeCommandEncoder::useResource(const Resource* resource, ResourceUsage) {
    open("useResource");
    buffer_->use(const_cast<Resource*>(resource));
}
void ComputeCommandEncoder::useResources(const Resource* const resources[], NS::UInteger count,
                                         ResourceUsage usage) {
    for (NS::UInteger i = 0; i < count; ++i) useResource(resources[i], usage);
}
void ComputeCommandEncoder::dispatchThreadgroups(Size groups, Size per_group) {
    dispatch(
        "dispatchThreadgroups",
        {groups.width * per_group.width, groups.height * per_group.height, groups.depth * per_group.depth},
        groups, per_group);
}
void ComputeCommandEncoder::dispatchThreads(Size threads, Size per_group) {
    const auto groups = [](NS::UInteger n, NS::UInteger per) { return per == 0 ? 0 : (n + per - 1) / per; };
    dispatch("dispatchThreads", threads,
             {groups(threads.width, per_group.width), groups(threads.height, per_group.height),
              groups(threads.depth, per_group.depth)},
             per_group);
}

softmetal::Range ComputeCommandEncoder::range_of(const Bound& bound, const softmetal::Slot& slot) const {
    const std::string what = "buffer " + std::to_string(slot.index) + " (" + slot.name;
    if (bound.bytes) return {bound.bytes->data(), bound.bytes->size(), what + ", bytes)"};
    if (bound.buffer == nullptr) return {nullptr, 0, what + ")"};
    std::string label = bound.buffer->label_;
    NS::UInteger length = bound.buffer->length_ - bound.offset;
    for (const Buffer::Marker& m : bound.buffer->markers_) {
        if (m.begin != bound.offset) continue;
        length = m.length;
        label = m.name;
    }
    return {bound.buffer->memory_ + bound.offset, length, what + (label.empty() ? ")" : ", " + label + ")")};
}

void ComputeCommandEncoder::dispatch(const char* method, Size threads, Size groups, Size per_group) {
    open(method);
    if (pipeline_ == nullptr) reject(std::string(method) + ": no pipeline is set");
    const std::string kernel = std::string(method) + " of kernel " + pipeline_->kernel_->name;
    const NS::UInteger n = per_group.width * per_group.height * per_group.depth;
    if (n == 0 || n > pipeline_->max_threads_)
        reject(kernel + ": " + std::to_string(n) + " threads in a threadgroup, 1 to " +
               std::to_string(pipeline_->max_threads_) + " are possible");
    if (groups.width == 0 || groups.height == 0 || groups.depth == 0) reject(kernel + ": an empty grid");
    if (threads.width > UINT32_MAX || threads.height > UINT32_MAX || threads.depth > UINT32_MAX)
        reject(kernel + ": a grid beyond 32 bits");
    if (pipeline_->whole_simdgroups_ && n % 32 != 0)
        reject(kernel + ": " + std::to_string(n) +
               " threads in a threadgroup, which the pipeline says is a multiple of 32");
    auto launch = std::make_shared<softmetal::Launch>();
    launch->kernel = pipeline_->kernel_;
    const auto dim3 = [](Size s) {
        return softmetal::Dim3{static_cast<uint32_t>(s.width), static_cast<uint32_t>(s.height),
                               static_cast<uint32_t>(s.depth)};
    };
    launch->threads = dim3(threads);
    launch->per_threadgroup = dim3(per_group);
    launch->threadgroups = dim3(groups);
    size_t memory = 0;
    std::vector<Bound> bound;
    for (const softmetal::Slot& slot : pipeline_->kernel_->slots) {
        if (slot.kind == softmetal::Slot::threadgroup) {
            launch->threadgroup_bytes[slot.index] = threadgroup_bytes_[slot.index];
            memory += threadgroup_bytes_[slot.index];
        } else {
            const Bound& b = bound_[slot.index];
            launch->buffers[slot.index] = range_of(b, slot);
            bound.push_back(b);
        }
    }
    if (memory > 32768)
        reject(kernel + ": " + std::to_string(memory) + " bytes of threadgroup memory, 32768 are possible");
    ComputePipelineState* pipeline = pipeline_;
    auto command = [launch, pipeline, bound] {
        for (const Bound& b : bound)
            if (b.buffer) b.buffer->length();  // alive
        pipeline->retain()->release();
        softmetal::trace().kernels.push_back(launch->kernel->name);
        softmetal::execute(*launch, *pipeline->file_, pipeline->constants_);
    };
    if (type_ == DispatchTypeConcurrent)
        unordered_.push_back(command);
    else
        buffer_->commands_.push_back(command);
}

// Between barriers a concurrent encoder promises no order; here the last comes first.
void ComputeCommandEncoder::flush() {
    while (!unordered_.empty()) {
        buffer_->commands_.push_back(std::move(unordered_.back()));
        unordered_.pop_back();
    }
}

void BlitCommandEncoder::copyFromBuffer(const Buffer* source, NS::UInteger from, const Buffer* destination,
                                        NS::UInteger to, NS::UInteger size) {
    open("copyFromBuffer");
    if (from > source->length() || size > source->length() - from || to > destination->length() ||
        size > destination->length() - to)
        reject("copyFromBuffer: outside a buffer");
    if (source == destination && from < to + size && to < from + size)
        reject("copyFromBuffer: source and destination overlap");
    buffer_->use(const_cast<Buffer*>(source));
    buffer_->use(const_cast<Buffer*>(destination));
    buffer_->commands_.push_back([=] {
        source->length(), destination->length();
        std::memcpy(destination->memory_ + to, source->memory_ + from, size);
    });
}
void BlitCommandEncoder::fillBuffer(const Buffer* buffer, NS::Range range, uint8_t value) {
    open("fillBuffer");
    if (range.location > buffer->length() || range.length > buffer->length() - range.location)
        reject("fillBuffer: outside the buffer");
    buffer_->use(const_cast<Buffer*>(buffer));
    buffer_->commands_.push_back([=] {
        buffer->length();
        std::memset(buffer->memory_ + range.location, value, range.length);
    });
}

}  // namespace MTL
