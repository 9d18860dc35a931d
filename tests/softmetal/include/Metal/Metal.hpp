// Metal of the software device: classes and calls of Apple's metal-cpp for hosts of compute kernels, with its
// names and signatures. What Metal's validation would reject throws softmetal::Violation.
#pragma once

#include <Foundation/Foundation.hpp>
#include <functional>

#include "softmetal/launch.h"

using CFTimeInterval = double;

namespace MTL {

class Buffer;
class CommandBuffer;
class CommandQueue;
class ComputeCommandEncoder;
class ComputePipelineState;
class Device;
class Function;
class FunctionConstantValues;
class Library;
class ResidencySet;

struct Size {
    Size() = default;
    Size(NS::UInteger w, NS::UInteger h, NS::UInteger d) : width(w), height(h), depth(d) {}
    static Size Make(NS::UInteger w, NS::UInteger h, NS::UInteger d) { return {w, h, d}; }
    NS::UInteger width, height, depth;
};

enum ResourceOptions : NS::UInteger {
    ResourceStorageModeShared = 0,
    ResourceCPUCacheModeDefaultCache = 0,
    ResourceCPUCacheModeWriteCombined = 1,
    ResourceStorageModeManaged = 16,
    ResourceStorageModePrivate = 32,
    ResourceHazardTrackingModeUntracked = 256,
    ResourceHazardTrackingModeTracked = 512,
};
constexpr ResourceOptions operator|(ResourceOptions a, ResourceOptions b) {
    return static_cast<ResourceOptions>(static_cast<NS::UInteger>(a) | static_cast<NS::UInteger>(b));
}
enum StorageMode : NS::UInteger {
    StorageModeShared = 0,
    StorageModeManaged = 1,
    StorageModePrivate = 2,
    StorageModeMemoryless = 3
};
enum DispatchType : NS::UInteger { DispatchTypeSerial = 0, DispatchTypeConcurrent = 1 };
enum BarrierScope : NS::UInteger {
    BarrierScopeBuffers = 1,
    BarrierScopeTextures = 2,
    BarrierScopeRenderTargets = 4
};
enum ResourceUsage : NS::UInteger { ResourceUsageRead = 1, ResourceUsageWrite = 2 };
constexpr ResourceUsage operator|(ResourceUsage a, ResourceUsage b) {
    return static_cast<ResourceUsage>(static_cast<NS::UInteger>(a) | static_cast<NS::UInteger>(b));
}
enum GPUFamily : NS::Integer {
    GPUFamilyApple4 = 1004,
    GPUFamilyApple5 = 1005,
    GPUFamilyApple6 = 1006,
    GPUFamilyApple7 = 1007,
    GPUFamilyApple8 = 1008,
    GPUFamilyApple9 = 1009,
    GPUFamilyMac2 = 2002,
    GPUFamilyCommon3 = 3003,
    GPUFamilyMetal3 = 5001,
};
enum LanguageVersion : NS::UInteger {
    LanguageVersion3_0 = 196608,
    LanguageVersion3_1 = 196609,
    LanguageVersion3_2 = 196610
};
enum DataType : NS::UInteger {
    DataTypeNone = 0,
    DataTypeFloat = 3,
    DataTypeHalf = 16,
    DataTypeInt = 29,
    DataTypeUInt = 33,
    DataTypeShort = 37,
    DataTypeUShort = 41,
    DataTypeChar = 45,
    DataTypeUChar = 49,
    DataTypeBool = 53,
};
enum CommandBufferStatus : NS::UInteger {
    CommandBufferStatusNotEnqueued = 0,
    CommandBufferStatusEnqueued = 1,
    CommandBufferStatusCommitted = 2,
    CommandBufferStatusScheduled = 3,
    CommandBufferStatusCompleted = 4,
    CommandBufferStatusError = 5,
};
enum CommandBufferError : NS::UInteger {
    CommandBufferErrorNone = 0,
    CommandBufferErrorInternal = 1,
    CommandBufferErrorTimeout = 2,
    CommandBufferErrorPageFault = 3,
    CommandBufferErrorAccessRevoked = 4,
    CommandBufferErrorNotPermitted = 7,
    CommandBufferErrorOutOfMemory = 8,
    CommandBufferErrorInvalidResource = 9,
    CommandBufferErrorDeviceRemoved = 11,
};
enum LibraryError : NS::UInteger { LibraryErrorCompileFailure = 3, LibraryErrorFunctionNotFound = 5 };

Device* CreateSystemDefaultDevice();
NS::Array* CopyAllDevices();

class Device : public NS::Referencing<Device> {
 public:
    NS::String* name() const;
    uint64_t registryID() const { return 1; }
    Size maxThreadsPerThreadgroup() const { return {1024, 1024, 1024}; }
    bool hasUnifiedMemory() const { return true; }
    uint64_t recommendedMaxWorkingSetSize() const;
    NS::UInteger maxBufferLength() const;
    NS::UInteger maxThreadgroupMemoryLength() const { return 32768; }
    NS::UInteger currentAllocatedSize() const;
    bool supportsFamily(GPUFamily family);
    CommandQueue* newCommandQueue();
    CommandQueue* newCommandQueue(NS::UInteger maxCommandBufferCount);
    ResidencySet* newResidencySet(const class ResidencySetDescriptor* descriptor, NS::Error** error);
    Buffer* newBuffer(NS::UInteger length, ResourceOptions options);  // zeroed; null when there is no memory
    Buffer* newBuffer(const void* pointer, NS::UInteger length, ResourceOptions options);  // a copy
    // The memory itself.
    Buffer* newBuffer(const void* pointer, NS::UInteger length, ResourceOptions options,
                      const std::function<void(void*, NS::UInteger)>& deallocator);
    // Every kernel of the program; of a source, those of the file that its first line names.
    Library* newDefaultLibrary();
    Library* newLibrary(const NS::String* source, const class CompileOptions* options, NS::Error** error);
    ComputePipelineState* newComputePipelineState(const Function* function, NS::Error** error);
    ComputePipelineState* newComputePipelineState(const class ComputePipelineDescriptor* descriptor,
                                                  NS::UInteger options, void* reflection, NS::Error** error);
};

class Allocation : public NS::Referencing<Allocation> {
 public:
    NS::UInteger allocatedSize() const;
};

class Resource : public NS::Referencing<Resource, Allocation> {
 public:
    NS::String* label() const;
    void setLabel(const NS::String* label);
    StorageMode storageMode() const { return mode_; }

 protected:
    std::string label_;
    StorageMode mode_ = StorageModeShared;
};

class Buffer : public NS::Referencing<Buffer, Resource> {
 public:
    NS::UInteger length() const;
    void* contents();
    uint64_t gpuAddress() const;
    void didModifyRange(NS::Range range);
    // A piece that begins where a kernel's argument does bounds what the kernel may touch there.
    void addDebugMarker(const NS::String* marker, NS::Range range);
    void removeAllDebugMarkers();

 private:
    friend class Device;
    friend class Allocation;
    friend class ComputeCommandEncoder;
    friend class BlitCommandEncoder;
    struct Marker {
        std::string name;
        NS::UInteger begin, length;
    };
    void dispose() override;
    char* memory_ = nullptr;
    NS::UInteger length_ = 0;
    bool owned_ = false;
    std::function<void(void*, NS::UInteger)> deallocator_;
    std::vector<Marker> markers_;
};

class ResidencySetDescriptor : public NS::Copying<ResidencySetDescriptor> {
 public:
    static ResidencySetDescriptor* alloc() { return new ResidencySetDescriptor(); }
    ResidencySetDescriptor* init() { return this; }
    void setInitialCapacity(NS::UInteger) {}
    void setLabel(const NS::String*) {}
};

// What is added and removed counts from the next commit() on. Holds what it contains.
class ResidencySet : public NS::Referencing<ResidencySet> {
 public:
    void addAllocation(const Allocation* allocation);
    void removeAllocation(const Allocation* allocation);
    bool containsAllocation(const Allocation* allocation);
    NS::UInteger allocationCount() const { return pending_.size(); }
    uint64_t allocatedSize() const;  // committed
    void commit();
    void requestResidency();
    void endResidency() {}

 private:
    void dispose() override;
    std::vector<Allocation*> pending_, committed_;
};

class CompileOptions : public NS::Copying<CompileOptions> {
 public:
    static CompileOptions* alloc() { return new CompileOptions(); }
    CompileOptions* init() { return this; }
    LanguageVersion languageVersion() const { return version_; }
    void setLanguageVersion(LanguageVersion version) { version_ = version; }
    bool fastMathEnabled() const { return fast_; }
    void setFastMathEnabled(bool fast) { fast_ = fast; }

 private:
    LanguageVersion version_ = LanguageVersion3_1;
    bool fast_ = true;
};

class FunctionConstantValues : public NS::Copying<FunctionConstantValues> {
 public:
    static FunctionConstantValues* alloc() { return new FunctionConstantValues(); }
    FunctionConstantValues* init() { return this; }
    void setConstantValue(const void* value, DataType type, NS::UInteger index);
    void setConstantValue(const void* value, DataType type, const NS::String* name);
    void reset() { values_.clear(); }

 private:
    friend class Library;
    struct Value {
        NS::UInteger index;
        std::string name;  // or empty: by index
        DataType type;
        uint32_t bits;
    };
    std::vector<Value> values_;
};

class Function : public NS::Referencing<Function> {
 public:
    NS::String* name() const;

 private:
    friend class Device;
    friend class Library;
    const softmetal::Kernel* kernel_ = nullptr;
    const softmetal::Registration* file_ = nullptr;
    std::vector<std::pair<const softmetal::FunctionConstant*, uint32_t>> constants_;
};

class Library : public NS::Referencing<Library> {
 public:
    NS::String* label() const;
    void setLabel(const NS::String* label);
    Function* newFunction(const NS::String* name);
    Function* newFunction(const NS::String* name, const FunctionConstantValues* values, NS::Error** error);
    NS::Array* functionNames() const;

 private:
    friend class Device;
    std::vector<const softmetal::Registration*> files_;
    std::string label_;
};

class ComputePipelineDescriptor : public NS::Copying<ComputePipelineDescriptor> {
 public:
    static ComputePipelineDescriptor* alloc() { return new ComputePipelineDescriptor(); }
    ComputePipelineDescriptor* init() { return this; }
    void setLabel(const NS::String*) {}
    void setComputeFunction(const Function* function) { function_ = function; }
    void setMaxTotalThreadsPerThreadgroup(NS::UInteger n) { max_threads_ = n; }
    void setThreadGroupSizeIsMultipleOfThreadExecutionWidth(bool is) { whole_simdgroups_ = is; }

 private:
    friend class Device;
    const Function* function_ = nullptr;
    NS::UInteger max_threads_ = 1024;
    bool whole_simdgroups_ = false;
};

class ComputePipelineState : public NS::Referencing<ComputePipelineState> {
 public:
    NS::UInteger maxTotalThreadsPerThreadgroup() const { return max_threads_; }
    NS::UInteger threadExecutionWidth() const { return 32; }
    NS::UInteger staticThreadgroupMemoryLength() const { return 0; }  // is known when a kernel runs

 private:
    friend class Device;
    friend class ComputeCommandEncoder;
    const softmetal::Kernel* kernel_ = nullptr;
    const softmetal::Registration* file_ = nullptr;
    std::vector<std::pair<const softmetal::FunctionConstant*, uint32_t>> constants_;
    NS::UInteger max_threads_ = 1024;
    bool whole_simdgroups_ = false;
};

class CommandQueue : public NS::Referencing<CommandQueue> {
 public:
    NS::String* label() const;
    void setLabel(const NS::String* label);
    CommandBuffer* commandBuffer();
    CommandBuffer* commandBufferWithUnretainedReferences();
    void addResidencySet(const ResidencySet* set);
    void removeResidencySet(const ResidencySet* set);

 private:
    friend class Device;
    friend class CommandBuffer;
    void run_until(CommandBuffer* last);
    std::vector<CommandBuffer*> committed_;
    std::string label_;
};

using HandlerFunction = std::function<void(CommandBuffer*)>;

class CommandBuffer : public NS::Referencing<CommandBuffer> {
 public:
    NS::String* label() const;
    void setLabel(const NS::String* label);
    CommandQueue* commandQueue() const { return queue_; }
    ComputeCommandEncoder* computeCommandEncoder();
    ComputeCommandEncoder* computeCommandEncoder(DispatchType type);
    class BlitCommandEncoder* blitCommandEncoder();
    void addCompletedHandler(const HandlerFunction& handler);
    void enqueue();
    // Nothing runs before somebody waits: what the host reads earlier is old, as it may be on a device.
    void commit();
    void waitUntilScheduled();
    void waitUntilCompleted();
    CommandBufferStatus status();
    NS::Error* error() const { return error_; }
    CFTimeInterval GPUStartTime() const { return start_; }
    CFTimeInterval GPUEndTime() const { return end_; }
    CFTimeInterval kernelStartTime() const { return start_; }
    CFTimeInterval kernelEndTime() const { return end_; }

 private:
    friend class CommandQueue;
    friend class CommandEncoder;
    friend class ComputeCommandEncoder;
    friend class BlitCommandEncoder;
    void dispose() override;
    void encoder_begins(const char* method);
    void use(NS::Object* object);
    void execute();

    CommandQueue* queue_ = nullptr;
    bool retains_ = true;
    CommandBufferStatus status_ = CommandBufferStatusNotEnqueued;
    NS::Error* error_ = nullptr;
    class CommandEncoder* open_ = nullptr;  // the encoder that has not ended
    std::vector<class CommandEncoder*> encoders_;
    std::vector<std::function<void()>> used_;  // releases
    std::vector<std::function<void()>> commands_;
    std::vector<HandlerFunction> handlers_;
    CFTimeInterval start_ = 0, end_ = 0;
    std::string label_;
};

class CommandEncoder : public NS::Referencing<CommandEncoder> {
 public:
    void endEncoding();
    void setLabel(const NS::String*) {}
    void pushDebugGroup(const NS::String*) {}
    void popDebugGroup() {}
    void insertDebugSignpost(const NS::String*) {}

 protected:
    friend class CommandBuffer;
    void open(const char* method) const;
    virtual void flush() {}
    CommandBuffer* buffer_ = nullptr;
    bool ended_ = false;
};

class ComputeCommandEncoder : public NS::Referencing<ComputeCommandEncoder, CommandEncoder> {
 public:
    DispatchType dispatchType() const { return type_; }
    void setComputePipelineState(const ComputePipelineState* state);
    void setBuffer(const Buffer* buffer, NS::UInteger offset, NS::UInteger index);
    void setBufferOffset(NS::UInteger offset, NS::UInteger index);
    void setBuffers(const Buffer* const buffers[], const NS::UInteger offsets[], NS::Range range);
    void setBytes(const void* bytes, NS::UInteger length, NS::UInteger index);
    void setThreadgroupMemoryLength(NS::UInteger length, NS::UInteger index);
    void dispatchThreadgroups(Size threadgroupsPerGrid, Size threadsPerThreadgroup);
    void dispatchThreads(Size threadsPerGrid, Size threadsPerThreadgroup);
    void memoryBarrier(BarrierScope scope);
    void memoryBarrier(const Resource* const resources[], NS::UInteger count);
    void useResource(const Resource* resource, ResourceUsage usage);
    void useResources(const Resource* const resources[], NS::UInteger count, ResourceUsage usage);

 private:
    friend class CommandBuffer;
    struct Bound {
        Buffer* buffer = nullptr;
        NS::UInteger offset = 0;
        std::shared_ptr<std::vector<char>> bytes;
    };
    void dispatch(const char* method, Size threads, Size groups, Size per_group);
    void flush() override;
    softmetal::Range range_of(const Bound& bound, const softmetal::Slot& slot) const;

    DispatchType type_ = DispatchTypeSerial;
    ComputePipelineState* pipeline_ = nullptr;
    Bound bound_[softmetal::Launch::max_buffers];
    size_t threadgroup_bytes_[softmetal::Launch::max_buffers] = {};
    std::vector<std::function<void()>> unordered_;  // since the last barrier
};

class BlitCommandEncoder : public NS::Referencing<BlitCommandEncoder, CommandEncoder> {
 public:
    void copyFromBuffer(const Buffer* source, NS::UInteger sourceOffset, const Buffer* destination,
                        NS::UInteger destinationOffset, NS::UInteger size);
    void fillBuffer(const Buffer* buffer, NS::Range range, uint8_t value);
};

}  // namespace MTL
