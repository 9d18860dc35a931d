// The software GPU: the functions of NVIDIA's driver that the backend opens, over memory of the host. Work is
// done when it is launched.
#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "backend/cuda/driver.h"
#include "softcuda/dialect.h"
#include "softcuda/softcuda.h"
#include "softmetal/execute.h"
#include "softmetal/softmetal.h"

#undef threadIdx
#undef blockIdx
#undef blockDim
#undef gridDim

namespace softcuda {

Index block_index, block_size, n_blocks;

namespace {

Control control;
alignas(128) char dynamic_memory[227 * 1024];

// As a Hopper card with one multiprocessor, so that kernels whose blocks wait for each other run: one block.
const bool is_hopper = std::getenv("SOFTCUDA_HOPPER") != nullptr;

std::map<std::string, const Registered*>& kernels() {
    static std::map<std::string, const Registered*> all;
    return all;
}

struct Launched {
    const Registered* kernel;
    softmetal::Dim3 grid, block;
    std::vector<char> args;
};
struct SoftStream {
    bool captures = false;
    std::vector<Launched> captured;
};
struct SoftGraph {
    std::vector<Launched> launches;
};
struct SoftEvent {
    std::chrono::steady_clock::time_point at;
};
std::map<char*, size_t> memory;  // by first byte
int fault = 0;                   // what a device that is lost answers

constexpr int invalid_value = 1, out_of_memory = 2, no_device = 100, not_found = 500, launch_failed = 719;

// Counts a call; what it answers instead of its work.
int begin(const char* call) {
    const int64_t number = control.n_calls++;
    if (control.fail_after >= 0 && number == control.fail_after) {
        control.failed = call;
        if (control.fail_with >= 700) fault = control.fail_with;
        return control.fail_with;
    }
    return 0;
}
#define BEGIN                                              \
    if (const int failed = begin(__func__); failed != 0) { \
        return failed;                                     \
    }                                                      \
    if (fault != 0) return fault

// Whether [at, at + bytes) lies in one allocation.
bool is_inside(const void* at, size_t bytes) {
    char* const first = static_cast<char*>(const_cast<void*>(at));
    auto after = memory.upper_bound(first);
    if (after == memory.begin()) return false;
    --after;
    return first + bytes <= after->first + after->second;
}

const softmetal::Registration& registration() {
    static const softmetal::Registration none("softcuda", {}, {});
    return none;
}

const Launched* current = nullptr;

int run(const Launched& l) {
    ++control.n_launches;
    if (!control.runs_kernels) return 0;
    const softmetal::Kernel kernel{
        l.kernel->name,
        [](const softmetal::Launch& launch, const softmetal::ThreadId& id) {
            const auto& g = id.threadgroup_position_in_grid;
            block_index = {g.x, g.y, g.z};
            block_size = {launch.per_threadgroup.x, 1, 1};
            n_blocks = {launch.threadgroups.x, launch.threadgroups.y, launch.threadgroups.z};
            current->kernel->run(current->args.data());
        },
        {},
        nullptr};
    softmetal::Launch launch;
    launch.kernel = &kernel;
    launch.threadgroups = l.grid;
    launch.per_threadgroup = l.block;
    launch.threads = {l.grid.x * l.block.x, l.grid.y, l.grid.z};
    current = &l;
    softmetal::settings().n_threads = 1;  // shared memory is variables of the process
    try {
        softmetal::execute(launch, registration(), {});
    } catch (const std::exception& e) {
        std::fprintf(stderr, "softcuda: %s: %s\n", l.kernel->name, e.what());
        fault = launch_failed;
        return fault;
    }
    return 0;
}

}  // namespace

Registered::Registered(const char* n, size_t bytes, unsigned most, void (*r)(const void*))
    : name(n), args_bytes(bytes), most_threads(most), run(r) {
    kernels()[n] = this;
}
void* dynamic_shared() {
    return dynamic_memory;
}

}  // namespace softcuda

using namespace softcuda;

extern "C" {

Control* softcuda_control() {
    return &control;
}

int cuInit(unsigned) {
    fault = 0;
    BEGIN;
    return control.present ? 0 : no_device;
}
int cuDriverGetVersion(int* version) {
    *version = control.driver_version;
    return 0;
}
int cuGetErrorName(int status, const char** name) {
    *name = status == out_of_memory ? "CUDA_ERROR_OUT_OF_MEMORY"
            : status == 719         ? "CUDA_ERROR_LAUNCH_FAILED"
            : status == 999         ? "CUDA_ERROR_UNKNOWN"
                                    : "CUDA_ERROR_OTHER";
    return 0;
}
int cuGetErrorString(int, const char** text) {
    *text = "as the test asked for";
    return 0;
}
int cuDeviceGetCount(int* n) {
    BEGIN;
    *n = control.present ? 1 : 0;
    return 0;
}
int cuDeviceGet(int* device, int ordinal) {
    BEGIN;
    *device = ordinal;
    return 0;
}
int cuDeviceGetName(char* name, int size, int) {
    BEGIN;
    std::strncpy(name, "Software GPU", static_cast<size_t>(size));
    return 0;
}
int cuDeviceGetAttribute(int* value, int attribute, int) {
    BEGIN;
    *value = attribute == 16   ? (is_hopper ? 1 : 8)
             : attribute == 75 ? control.major
             : attribute == 76 ? control.minor
                               : (is_hopper ? 227 : 96) * 1024;
    return 0;
}
int cuDeviceTotalMem_v2(size_t* bytes, int) {
    BEGIN;
    *bytes = control.memory;
    return 0;
}
int cuDevicePrimaryCtxRetain(void** context, int) {
    BEGIN;
    *context = &control;
    ++control.contexts;
    return 0;
}
int cuDevicePrimaryCtxRelease_v2(int) {
    --control.contexts;
    return 0;
}
int cuCtxSetCurrent(void*) {
    BEGIN;
    return 0;
}
int cuMemGetInfo_v2(size_t* free, size_t* total) {
    BEGIN;
    *total = control.memory;
    *free = control.memory - std::min(control.memory, control.allocated);
    return 0;
}
int cuMemAlloc_v2(unsigned long long* address, size_t bytes) {
    BEGIN;
    if (bytes == 0) return invalid_value;
    if (control.allocated + bytes > control.memory) return out_of_memory;
    void* block = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
    if (block == nullptr) return out_of_memory;
    std::memset(block, 0x5b, std::min(bytes, size_t{1} << 20));  // not zeros
    memory[static_cast<char*>(block)] = bytes;
    control.allocated += bytes;
    ++control.allocations;
    *address = reinterpret_cast<unsigned long long>(block);
    return 0;
}
int cuMemFree_v2(unsigned long long address) {
    const auto found = memory.find(reinterpret_cast<char*>(address));
    if (found == memory.end()) return invalid_value;
    control.allocated -= found->second;
    --control.allocations;
    std::free(found->first);
    memory.erase(found);
    return fault;
}
int cuMemHostAlloc(void** to, size_t bytes, unsigned) {
    BEGIN;
    *to = std::malloc(bytes);
    ++control.pinned;
    return *to == nullptr ? out_of_memory : 0;
}
int cuMemFreeHost(void* from) {
    if (from == nullptr) return invalid_value;
    std::free(from);
    --control.pinned;
    return fault;
}
int cuMemcpyHtoDAsync_v2(unsigned long long to, const void* from, size_t bytes, void*) {
    BEGIN;
    if (!is_inside(reinterpret_cast<void*>(to), bytes)) return invalid_value;
    std::memcpy(reinterpret_cast<void*>(to), from, bytes);
    return 0;
}
int cuMemcpyDtoHAsync_v2(void* to, unsigned long long from, size_t bytes, void*) {
    BEGIN;
    if (!is_inside(reinterpret_cast<void*>(from), bytes)) return invalid_value;
    std::memcpy(to, reinterpret_cast<void*>(from), bytes);
    return 0;
}
int cuMemcpyDtoDAsync_v2(unsigned long long to, unsigned long long from, size_t bytes, void*) {
    BEGIN;
    if (!is_inside(reinterpret_cast<void*>(to), bytes) || !is_inside(reinterpret_cast<void*>(from), bytes))
        return invalid_value;
    std::memmove(reinterpret_cast<void*>(to), reinterpret_cast<void*>(from), bytes);
    return 0;
}
int cuMemsetD8Async(unsigned long long to, unsigned char value, size_t bytes, void*) {
    BEGIN;
    if (!is_inside(reinterpret_cast<void*>(to), bytes)) return invalid_value;
    std::memset(reinterpret_cast<void*>(to), value, bytes);
    return 0;
}
int cuStreamCreate(void** stream, unsigned) {
    BEGIN;
    *stream = new SoftStream;
    ++control.streams;
    return 0;
}
int cuStreamDestroy_v2(void* stream) {
    delete static_cast<SoftStream*>(stream);
    --control.streams;
    return fault;
}
int cuStreamSynchronize(void*) {
    BEGIN;
    return 0;
}
int cuEventCreate(void** event, unsigned) {
    BEGIN;
    *event = new SoftEvent;
    ++control.events;
    return 0;
}
int cuEventDestroy_v2(void* event) {
    delete static_cast<SoftEvent*>(event);
    --control.events;
    return fault;
}
int cuEventRecord(void* event, void*) {
    BEGIN;
    static_cast<SoftEvent*>(event)->at = std::chrono::steady_clock::now();
    return 0;
}
int cuEventSynchronize(void*) {
    BEGIN;
    return 0;
}
int cuEventElapsedTime(float* milliseconds, void* from, void* to) {
    BEGIN;
    *milliseconds = std::chrono::duration<float, std::milli>(static_cast<SoftEvent*>(to)->at -
                                                             static_cast<SoftEvent*>(from)->at)
                        .count();
    return 0;
}
int cuModuleLoadData(void** module, const void*) {
    BEGIN;
    *module = new int(0);
    ++control.modules;
    return 0;
}
int cuModuleUnload(void* module) {
    delete static_cast<int*>(module);
    --control.modules;
    return fault;
}
int cuModuleGetFunction(void** function, void*, const char* name) {
    BEGIN;
    const auto found = kernels().find(name);
    if (found == kernels().end()) return not_found;
    *function = const_cast<Registered*>(found->second);
    return 0;
}
int cuFuncSetAttribute(void* function, int attribute, int value) {
    BEGIN;
    if (attribute == smelt::cuda::function_max_dynamic_shared_bytes)
        static_cast<Registered*>(function)->most_shared_bytes = static_cast<size_t>(value);
    return 0;
}
int cuLaunchKernelEx(const smelt::cuda::LaunchConfig* config, void* function, void** parameters, void**) {
    BEGIN;
    const auto [gx, gy, gz, bx, by, bz, shared_bytes, stream_tag, attributes, n_attributes] = *config;
    void* stream = stream_tag;
    const auto& kernel = *static_cast<const Registered*>(function);
    if (gx == 0 || gy == 0 || gz == 0 || gy > 65535 || gz > 65535 || bx == 0 || bx > kernel.most_threads ||
        by != 1 || bz != 1 || shared_bytes > sizeof(dynamic_memory) ||
        shared_bytes > kernel.most_shared_bytes) {
        return invalid_value;
    }
    const char* args = static_cast<const char*>(parameters[0]);
    Launched l{&kernel, {gx, gy, gz}, {bx, 1, 1}, std::vector<char>(args, args + kernel.args_bytes)};
    auto& s = *static_cast<SoftStream*>(stream);
    if (!s.captures) return run(l);
    s.captured.push_back(std::move(l));
    return 0;
}
int cuStreamBeginCapture_v2(void* stream, int) {
    BEGIN;
    static_cast<SoftStream*>(stream)->captures = true;
    return 0;
}
int cuStreamEndCapture(void* stream, void** graph) {
    auto& s = *static_cast<SoftStream*>(stream);
    s.captures = false;
    if (const int failed = begin(__func__); failed != 0) {
        s.captured.clear();
        return failed;
    }
    *graph = new SoftGraph{std::move(s.captured)};
    s.captured.clear();
    ++control.graphs;
    return 0;
}
int cuGraphDestroy(void* graph) {
    delete static_cast<SoftGraph*>(graph);
    --control.graphs;
    return fault;
}
int cuGraphInstantiateWithFlags(void** exec, void* graph, unsigned long long) {
    BEGIN;
    *exec = new SoftGraph(*static_cast<SoftGraph*>(graph));
    ++control.graphs;
    return 0;
}
int cuGraphLaunch(void* exec, void*) {
    BEGIN;
    ++control.n_graph_launches;
    for (const Launched& l : static_cast<SoftGraph*>(exec)->launches) {
        if (const int failed = run(l); failed != 0) return 0;  // the step's end tells
    }
    return 0;
}
int cuGraphExecDestroy(void* exec) {
    delete static_cast<SoftGraph*>(exec);
    --control.graphs;
    return fault;
}

}  // extern "C"
