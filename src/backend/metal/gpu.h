// The Metal device: its queue, and its kernels compiled once and specialised when first used.
#pragma once

#include <Metal/Metal.hpp>
#include <cstdint>
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

class Gpu {
 public:
    Gpu();  // throws Error with missing()

    MTL::Device& device() const { return *device_.get(); }
    MTL::CommandQueue& queue() const { return *queue_.get(); }

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
    std::vector<NS::SharedPtr<MTL::Library>> libraries_;
    std::unordered_map<std::string, MTL::Library*> library_of_;  // by kernel
    std::unordered_map<std::string, NS::SharedPtr<MTL::ComputePipelineState>> pipelines_;
};

}  // namespace smelt::metal
