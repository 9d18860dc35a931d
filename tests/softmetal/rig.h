// What the tests of the software device stand on: a device, a queue, the test kernels, and a dispatch in one
// call.
#pragma once

#include <gtest/gtest.h>

#include <Metal/Metal.hpp>
#include <cstring>
#include <string>
#include <vector>

#include "softmetal/softmetal.h"

namespace softmetal {

class Metal : public testing::Test {
 protected:
    NS::SharedPtr<NS::AutoreleasePool> pool = NS::TransferPtr(NS::AutoreleasePool::alloc()->init());
    NS::SharedPtr<MTL::Device> device = NS::TransferPtr(MTL::CreateSystemDefaultDevice());
    NS::SharedPtr<MTL::CommandQueue> queue = NS::TransferPtr(device->newCommandQueue());
    NS::SharedPtr<MTL::Library> library = NS::TransferPtr(device->newDefaultLibrary());

    static NS::String* text(const char* s) { return NS::String::string(s, NS::UTF8StringEncoding); }

    NS::SharedPtr<MTL::ComputePipelineState> pipeline(
        const char* kernel, const MTL::FunctionConstantValues* constants = nullptr) {
        const auto function = NS::TransferPtr(library->newFunction(text(kernel), constants, nullptr));
        EXPECT_TRUE(function) << kernel;
        return NS::TransferPtr(device->newComputePipelineState(function.get(), nullptr));
    }

    template <class T>
    NS::SharedPtr<MTL::Buffer> buffer(const std::vector<T>& values) {
        return NS::TransferPtr(
            device->newBuffer(values.data(), values.size() * sizeof(T), MTL::ResourceStorageModeShared));
    }
    template <class T>
    static std::vector<T> values(const NS::SharedPtr<MTL::Buffer>& b) {
        std::vector<T> v(b->length() / sizeof(T));
        std::memcpy(v.data(), b->contents(), v.size() * sizeof(T));
        return v;
    }

    struct Dispatch {
        const char* kernel;
        std::vector<NS::SharedPtr<MTL::Buffer>> buffers;
        unsigned groups = 1, threads = 32;
        std::string bytes = {};  // bound behind the buffers
        unsigned threadgroup_bytes = 0;
        const MTL::FunctionConstantValues* constants = nullptr;
    };
    void run(const Dispatch& d) {
        const auto state = pipeline(d.kernel, d.constants);
        MTL::CommandBuffer* commands = queue->commandBuffer();
        MTL::ComputeCommandEncoder* encoder = commands->computeCommandEncoder();
        encoder->setComputePipelineState(state.get());
        for (size_t i = 0; i < d.buffers.size(); ++i) encoder->setBuffer(d.buffers[i].get(), 0, i);
        if (!d.bytes.empty()) encoder->setBytes(d.bytes.data(), d.bytes.size(), d.buffers.size());
        if (d.threadgroup_bytes != 0) encoder->setThreadgroupMemoryLength(d.threadgroup_bytes, 0);
        encoder->dispatchThreadgroups({d.groups, 1, 1}, {d.threads, 1, 1});
        encoder->endEncoding();
        commands->commit();
        commands->waitUntilCompleted();
        EXPECT_EQ(commands->status(), MTL::CommandBufferStatusCompleted);
    }
    // What the device says of it.
    template <class Call>
    static std::string violation(Call call) {
        try {
            call();
        } catch (const Violation& v) {
            return v.what();
        }
        return "nothing";
    }
    template <class T>
    static std::string raw(const T& value) {
        return {reinterpret_cast<const char*>(&value), sizeof value};
    }
};

}  // namespace softmetal
