// Finds the device, compiles the kernels' text, specialises pipelines.
#include "backend/metal/gpu.h"

#include <fmt/format.h>

#include "backend/metal/kernel_sources.h"
#include "base/cpu_info.h"
#include "base/error.h"

namespace smelt::metal {

namespace {

NS::String* text_of(const std::string& s) {
    return NS::String::string(s.c_str(), NS::UTF8StringEncoding);
}
std::string reason_of(const NS::Error* error) {
    return error == nullptr ? "no reason given" : error->localizedDescription()->utf8String();
}

class Pool {
 public:
    Pool() : pool_(NS::AutoreleasePool::alloc()->init()) {}
    ~Pool() { pool_->release(); }
    Pool(const Pool&) = delete;
    Pool& operator=(const Pool&) = delete;

 private:
    NS::AutoreleasePool* pool_;
};

// Simdgroup matrices and bfloat came with the M1's family and Metal 3.
bool is_new_enough(MTL::Device& device) {
    return device.supportsFamily(MTL::GPUFamilyApple7) && device.supportsFamily(MTL::GPUFamilyMetal3);
}

std::string describe(MTL::Device& device) {
    const auto gigabytes = [](uint64_t bytes) { return (bytes + (uint64_t{1} << 29)) >> 30; };
    const NS::String* system = NS::ProcessInfo::processInfo()->operatingSystemVersionString();
    return fmt::format("{}, {} GB of memory, recommended working set {} GB, macOS {}",
                       device.name()->utf8String(), gigabytes(read_memory_info().total),
                       gigabytes(device.recommendedMaxWorkingSetSize()), system->utf8String());
}

}  // namespace

std::string Gpu::missing() {
    const Pool pool;
    const auto device = NS::TransferPtr(MTL::CreateSystemDefaultDevice());
    if (!device) {
        return "no Metal device: the hardware is not Apple's, or this is a virtual machine or a container "
               "without its GPU, or macOS or its drivers are damaged or older than macOS 14";
    }
    if (!is_new_enough(*device.get())) {
        return fmt::format("{}: expected an Apple GPU of the M1's family or newer with Metal 3",
                           device->name()->utf8String());
    }
    return "";
}

std::string Gpu::describe_default() {
    const Pool pool;
    const auto device = NS::TransferPtr(MTL::CreateSystemDefaultDevice());
    return device ? describe(*device.get()) : "Apple GPU";
}

#ifdef SMELT_RESIDENCY_SETS
ResidencySet::ResidencySet(MTL::Device& device, MTL::CommandQueue& queue) : queue_(NS::RetainPtr(&queue)) {
    // Built with the headers of macOS 15, run on 14: the class is not there.
    if (!NS::ProcessInfo::processInfo()->isOperatingSystemAtLeastVersion({15, 0, 0})) return;
    const auto descriptor = NS::TransferPtr(MTL::ResidencySetDescriptor::alloc()->init());
    NS::Error* error = nullptr;
    set_ = NS::TransferPtr(device.newResidencySet(descriptor.get(), &error));
    if (set_) queue.addResidencySet(set_.get());  // null: it goes without
}
ResidencySet::~ResidencySet() {
    if (set_) queue_->removeResidencySet(set_.get());
}
void ResidencySet::add(const Buffer& buffer) {
    if (!set_) return;
    set_->addAllocation(buffer.get());
    set_->commit();
}
void ResidencySet::remove(const Buffer& buffer) {
    if (!set_) return;
    set_->removeAllocation(buffer.get());
    set_->commit();
}
#else
ResidencySet::ResidencySet(MTL::Device&, MTL::CommandQueue&) {}
ResidencySet::~ResidencySet() = default;
void ResidencySet::add(const Buffer&) {}
void ResidencySet::remove(const Buffer&) {}
#endif

Gpu::Gpu() {
    if (const std::string reason = missing(); !reason.empty()) throw Error("device metal: {}", reason);
    const Pool pool;
    device_ = NS::TransferPtr(MTL::CreateSystemDefaultDevice());
    queue_ = NS::TransferPtr(device_->newCommandQueue());
    if (!queue_) throw Error("device metal: {} has no command queue left", device_->name()->utf8String());
    residency_ = std::make_shared<ResidencySet>(*device_.get(), *queue_.get());

    const auto options = NS::TransferPtr(MTL::CompileOptions::alloc()->init());
    // Results must not depend on how a compiler reorders floats.
    options->setFastMathEnabled(false);
    options->setLanguageVersion(MTL::LanguageVersion3_1);
    for (const char* source : metal_kernel_sources()) {
        NS::Error* error = nullptr;
        auto library = NS::TransferPtr(device_->newLibrary(text_of(source), options.get(), &error));
        if (!library) throw Error("device metal: a kernel file does not compile: {}", reason_of(error));
        const NS::Array* names = library->functionNames();
        for (NS::UInteger i = 0; i < names->count(); ++i) {
            library_of_[names->object<NS::String>(i)->utf8String()] = library.get();
        }
        libraries_.push_back(std::move(library));
    }
}

const MTL::ComputePipelineState& Gpu::make(const std::string& key, const std::string& kernel,
                                           const MTL::FunctionConstantValues* constants) {
    const auto library = library_of_.find(kernel);
    CHECK(library != library_of_.end(), "no kernel {}", kernel);
    NS::Error* error = nullptr;
    const auto function = NS::TransferPtr(
        constants == nullptr ? library->second->newFunction(text_of(kernel))
                             : library->second->newFunction(text_of(kernel), constants, &error));
    if (!function) throw Error("device metal: kernel {}: {}", key, reason_of(error));
    auto pipeline = NS::TransferPtr(device_->newComputePipelineState(function.get(), &error));
    if (!pipeline) throw Error("device metal: kernel {}: {}", key, reason_of(error));
    return *pipelines_.emplace(key, std::move(pipeline)).first->second.get();
}

const MTL::ComputePipelineState& Gpu::pipeline(const std::string& kernel) {
    const auto found = pipelines_.find(kernel);
    if (found != pipelines_.end()) return *found->second.get();
    const Pool pool;
    return make(kernel, kernel, nullptr);
}

const MTL::ComputePipelineState& Gpu::pipeline(const std::string& kernel, CacheFormats formats) {
    const std::string key = fmt::format("{} {} {}", kernel, to_string(formats.k), to_string(formats.v));
    const auto found = pipelines_.find(key);
    if (found != pipelines_.end()) return *found->second.get();
    const Pool pool;
    const auto constants = NS::TransferPtr(MTL::FunctionConstantValues::alloc()->init());
    const auto k = static_cast<int32_t>(formats.k), v = static_cast<int32_t>(formats.v);
    constants->setConstantValue(&k, MTL::DataTypeInt, NS::UInteger{0});
    constants->setConstantValue(&v, MTL::DataTypeInt, NS::UInteger{1});
    return make(key, kernel, constants.get());
}

std::string Gpu::description() const {
    const Pool pool;
    return describe(*device_.get());
}

}  // namespace smelt::metal
