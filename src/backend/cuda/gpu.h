// One NVIDIA GPU as a backend has it: context, stream, kernels by name, and what errors mean.
#pragma once

#include <filesystem>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>

#include "backend/cuda/driver.h"
#include "base/error.h"
#include "quant/format.h"

namespace smelt::cuda {

// What doctor says, without a context.
struct GpuInfo {
    std::string name;
    int multiprocessors = 0, major = 0, minor = 0, driver_version = 0;
    int shared_bytes = 0;  // that a block may ask for
    uint64_t memory = 0;
    std::string missing;  // why it cannot be used; empty when it can
};
GpuInfo describe_gpu();
// "NVIDIA H200, 140 GiB, 132 multiprocessors, compute capability 9.0, driver for CUDA 13.0"
std::string to_string(const GpuInfo& info);

class Gpu {
 public:
    // Throws Error with what is missing.
    explicit Gpu(std::filesystem::path cache);
    ~Gpu();
    Gpu(const Gpu&) = delete;
    Gpu& operator=(const Gpu&) = delete;

    const Driver& driver() const { return *driver_; }
    const GpuInfo& info() const { return info_; }
    Stream stream() const { return stream_; }

    // Before calls to the driver: contexts are current for a thread.
    void make_current() const;
    // Throws Error naming the call. A fault of the device leaves it lost: everything after throws too.
    void check(Status s, std::string_view call) const;
    void check_lost() const;
    // Waits for everything that was started.
    void wait() const;

    // Loads the kernel's module when first used: unit "matmul", kernel "matmul_1", and the format where the
    // unit has one.
    Function kernel(std::string_view unit, std::string_view name);
    Function kernel(std::string_view unit, std::string_view name, Format format);

    uint64_t free_memory() const;

    // As in C++: "Q8_0".
    static std::string_view identifier(Format f);

 private:
    Module load(const std::string& unit);

    std::unique_ptr<const Driver> driver_;
    GpuInfo info_;
    std::filesystem::path cache_;
    int device_ = 0;
    Context context_ = nullptr;
    Stream stream_ = nullptr;
    mutable std::string lost_;  // why; empty while the device works
    std::unordered_map<std::string, Module> modules_;
    std::unordered_map<std::string, Function> functions_;
};

}  // namespace smelt::cuda
