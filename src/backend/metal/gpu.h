// The Metal device: its queue, and its kernels compiled once and specialised when first used.
#pragma once

#include <Metal/Metal.hpp>
#if __has_include(<Metal/MTLResidencySet.hpp>)
#include <Metal/MTLResidencySet.hpp>
#define SMELT_RESIDENCY_SETS  // metal-cpp of macOS 15 or newer
#endif
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "quant/format.h"

namespace smelt::metal {

// What [[function_constant]]s of attention and the cache's kernels are set to.
struct CacheFormats {
    Format k, v;
};

using Buffer = NS::SharedPtr<MTL::Buffer>;

// Buffers that stay in the GPU's reach while their model is loaded, so that no step waits for the system to
// map them again: from macOS 15 on. Elsewhere it does nothing.
class ResidencySet {
 public:
    ResidencySet(MTL::Device& device, MTL::CommandQueue& queue);
    ~ResidencySet();
    ResidencySet(const ResidencySet&) = delete;
    ResidencySet& operator=(const ResidencySet&) = delete;
    void add(const Buffer& buffer);
    void remove(const Buffer& buffer);

#ifdef SMELT_RESIDENCY_SETS
 private:
    NS::SharedPtr<MTL::CommandQueue> queue_;
    NS::SharedPtr<MTL::ResidencySet> set_;
#endif
};

class Gpu {
 public:
    Gpu();  // throws Error with missing()

    MTL::Device& device() const { return *device_.get(); }
    MTL::CommandQueue& queue() const { return *queue_.get(); }
    // May be kept longer than this object.
    std::shared_ptr<ResidencySet> residency() const { return residency_; }

    const MTL::ComputePipelineState& pipeline(const std::string& kernel);
    const MTL::ComputePipelineState& pipeline(const std::string& kernel, CacheFormats formats);

    // "Apple M1 Max, 32 GB of memory, 21 GB of them for the GPU, macOS 15.5"
    std::string description() const;
    // Why the default device cannot be used; empty when it can.
    static std::string missing();
    static std::string describe_default();

 private:
    const MTL::ComputePipelineState& make(const std::string& key, const std::string& kernel,
                                          const MTL::FunctionConstantValues* constants);

    NS::SharedPtr<MTL::Device> device_;
    NS::SharedPtr<MTL::CommandQueue> queue_;
    std::shared_ptr<ResidencySet> residency_;
    std::vector<NS::SharedPtr<MTL::Library>> libraries_;
    std::unordered_map<std::string, MTL::Library*> library_of_;  // by kernel
    std::unordered_map<std::string, NS::SharedPtr<MTL::ComputePipelineState>> pipelines_;
};

}  // namespace smelt::metal
