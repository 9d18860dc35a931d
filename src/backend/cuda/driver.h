// The functions of NVIDIA's driver that the backend calls, opened at run time: nothing links libcuda, and
// nothing of CUDA's headers is needed. Types and numbers are those of the driver's stable interface.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "base/shared_library.h"

namespace smelt::cuda {

using Status = int;  // CUresult
using DeviceAddress = unsigned long long;
using Context = struct ContextTag*;
using Module = struct ModuleTag*;
using Function = struct FunctionTag*;
using Stream = struct StreamTag*;
using Event = struct EventTag*;
using Graph = struct GraphTag*;
using GraphExec = struct GraphExecTag*;

// Numbers of CUresult that are told apart.
namespace status {
inline constexpr Status success = 0, out_of_memory = 2, no_device = 100, no_binary = 209;
}
// Numbers of CUdevice_attribute.
namespace attribute {
inline constexpr int multiprocessors = 16, major = 75, minor = 76, shared_bytes_optin = 97;
}
// Of CUfunction_attribute.
inline constexpr int function_max_dynamic_shared_bytes = 8;
inline constexpr int capture_thread_local = 1;  // CUstreamCaptureMode
inline constexpr unsigned stream_non_blocking = 1;
inline constexpr unsigned event_default = 0, event_disable_timing = 2;

// CUlaunchAttribute and CUlaunchConfig.
struct LaunchAttribute {
    int id = 0;
    int padding = 0;
    union {
        char bytes[64] = {};
        int number;
    };
};
static_assert(sizeof(LaunchAttribute) == 72);
// The kernel may be set up while the one before it runs; it waits for that itself.
inline constexpr int launch_overlapping = 6;  // CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION
struct LaunchConfig {
    unsigned grid_x, grid_y, grid_z, block_x, block_y, block_z;
    unsigned shared_bytes;
    Stream stream;
    const LaunchAttribute* attributes;
    unsigned n_attributes;
};

// member, symbol, parameters
#define SMELT_CUDA_FUNCTIONS(X)                                                                         \
    X(init, cuInit, (unsigned flags))                                                                   \
    X(driver_version, cuDriverGetVersion, (int* version))                                               \
    X(error_name, cuGetErrorName, (Status status, const char** name))                                   \
    X(error_string, cuGetErrorString, (Status status, const char** text))                               \
    X(device_count, cuDeviceGetCount, (int* n))                                                         \
    X(device_get, cuDeviceGet, (int* device, int ordinal))                                              \
    X(device_name, cuDeviceGetName, (char* name, int size, int device))                                 \
    X(device_attribute, cuDeviceGetAttribute, (int* value, int attribute, int device))                  \
    X(device_memory, cuDeviceTotalMem_v2, (size_t * bytes, int device))                                 \
    X(context_retain, cuDevicePrimaryCtxRetain, (Context * context, int device))                        \
    X(context_release, cuDevicePrimaryCtxRelease_v2, (int device))                                      \
    X(context_set, cuCtxSetCurrent, (Context context))                                                  \
    X(memory_info, cuMemGetInfo_v2, (size_t * free, size_t * total))                                    \
    X(memory_allocate, cuMemAlloc_v2, (DeviceAddress * address, size_t bytes))                          \
    X(memory_free, cuMemFree_v2, (DeviceAddress address))                                               \
    X(host_allocate, cuMemHostAlloc, (void** memory, size_t bytes, unsigned flags))                     \
    X(host_free, cuMemFreeHost, (void* memory))                                                         \
    X(copy_in, cuMemcpyHtoDAsync_v2, (DeviceAddress to, const void* from, size_t bytes, Stream stream)) \
    X(copy_out, cuMemcpyDtoHAsync_v2, (void* to, DeviceAddress from, size_t bytes, Stream stream))      \
    X(copy_within, cuMemcpyDtoDAsync_v2,                                                                \
      (DeviceAddress to, DeviceAddress from, size_t bytes, Stream stream))                              \
    X(fill, cuMemsetD8Async, (DeviceAddress to, unsigned char value, size_t bytes, Stream stream))      \
    X(stream_create, cuStreamCreate, (Stream * stream, unsigned flags))                                 \
    X(stream_destroy, cuStreamDestroy_v2, (Stream stream))                                              \
    X(stream_synchronize, cuStreamSynchronize, (Stream stream))                                         \
    X(event_create, cuEventCreate, (Event * event, unsigned flags))                                     \
    X(event_destroy, cuEventDestroy_v2, (Event event))                                                  \
    X(event_record, cuEventRecord, (Event event, Stream stream))                                        \
    X(event_synchronize, cuEventSynchronize, (Event event))                                             \
    X(event_elapsed, cuEventElapsedTime, (float* milliseconds, Event begin, Event end))                 \
    X(module_load, cuModuleLoadData, (Module * module, const void* image))                              \
    X(module_unload, cuModuleUnload, (Module module))                                                   \
    X(module_function, cuModuleGetFunction, (Function * function, Module module, const char* name))     \
    X(function_attribute, cuFuncSetAttribute, (Function function, int attribute, int value))            \
    X(launch, cuLaunchKernelEx,                                                                         \
      (const LaunchConfig* config, Function function, void** parameters, void** extra))                 \
    X(capture_begin, cuStreamBeginCapture_v2, (Stream stream, int mode))                                \
    X(capture_end, cuStreamEndCapture, (Stream stream, Graph * graph))                                  \
    X(graph_destroy, cuGraphDestroy, (Graph graph))                                                     \
    X(graph_instantiate, cuGraphInstantiateWithFlags,                                                   \
      (GraphExec * exec, Graph graph, unsigned long long flags))                                        \
    X(graph_launch, cuGraphLaunch, (GraphExec exec, Stream stream))                                     \
    X(graph_exec_destroy, cuGraphExecDestroy, (GraphExec exec))

struct Driver {
#define X(member, symbol, parameters) Status(*member) parameters = nullptr;
    SMELT_CUDA_FUNCTIONS(X)
#undef X
    // "CUDA_ERROR_OUT_OF_MEMORY: out of memory"
    std::string text_of(Status s) const;
};

// Opens the driver and starts it. Null: `missing` says why. It stays open as long as the process lives.
std::unique_ptr<const Driver> open_driver(std::string& missing);

}  // namespace smelt::cuda
