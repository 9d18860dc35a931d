// Runs the dispatches of the software Metal device on an NVIDIA GPU instead: the same host code and kernels, there
// compiled by nvcc. Memory is pinned memory of the host, which the GPU reads over the bus: for checks, not for timing.
#include "softmetal/execute.h"

#include <cstdint>
#include <cstring>
#include <mutex>

#include "metal_stdlib"

namespace softmetal {

constinit thread_local Simdgroup* simdgroup = nullptr;

namespace {

void check(cudaError_t error, const char* what) {
    if (error != cudaSuccess) reject(std::string(what) + ": " + cudaGetErrorString(error));
}

}  // namespace

[[noreturn]] void report_index(const char* what, int64_t index, int64_t size) {
    reject(std::string(what) + ": index " + std::to_string(index) + ", size " + std::to_string(size));
}

char* allocate(size_t bytes) {
    void* p = nullptr;
    if (cudaHostAlloc(&p, bytes, cudaHostAllocMapped) != cudaSuccess) {
        cudaGetLastError();
        return nullptr;
    }
    std::memset(p, 0, bytes);
    return static_cast<char*>(p);
}

void free(char* memory, size_t) {
    check(cudaFreeHost(memory), "cudaFreeHost");
}

// Weights of a mapped file, which nobody changes.
char* adopt(char* memory, size_t bytes) {
    char* copy = allocate(bytes);
    if (copy == nullptr) reject("adopt: no memory");
    std::memcpy(copy, memory, bytes);
    return copy;
}

void execute(const Launch& launch, const Registration& file, const Constants& constants) {
    static std::mutex one_at_a_time;
    const std::lock_guard lock(one_at_a_time);
    for (const FunctionConstant& c : file.constants) {
        const uint32_t zero = 0;
        const size_t bytes = c.type == DataType::Bool || c.type == DataType::Char || c.type == DataType::UChar ? 1 : 4;
        const uint32_t* value = &zero;
        for (const auto& [constant, bits] : constants)
            if (constant == &c) value = &bits;
        check(cudaMemcpy(c.value, value, bytes, cudaMemcpyHostToDevice), c.name);
    }
    check_bound(launch);
    CudaLaunch arguments{};
    arguments.threads = launch.threads;
    size_t shared = 0;
    int references = 0;
    for (const Slot& slot : launch.kernel->slots) {
        const Range& bound = launch.buffers[slot.index];
        if (slot.kind == Slot::threadgroup) {
            arguments.threadgroup_offset[slot.index] = static_cast<uint32_t>(shared);
            shared += launch.threadgroup_bytes[slot.index];
        } else if (slot.kind == Slot::reference) {
            const size_t bytes = std::min<size_t>(bound.size, CudaLaunch::reference_bytes);
            std::memcpy(arguments.references[references++], bound.begin, bytes);
        } else {
            arguments.buffers[slot.index] = bound.begin;
        }
    }
    void* parameters[] = {&arguments};
    const Dim3 &g = launch.threadgroups, &t = launch.per_threadgroup;
    check(cudaLaunchKernel(launch.kernel->function, dim3(g.x, g.y, g.z), dim3(t.x, t.y, t.z), parameters, shared, nullptr),
          launch.kernel->name);
    check(cudaDeviceSynchronize(), launch.kernel->name);
}

}  // namespace softmetal
