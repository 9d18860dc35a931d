// What cmake/cuda.cmake makes of kernels/: machine code where nvcc was there, and always the text, for NVRTC.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

namespace smelt::cuda {

// A module of kernels: a .cu file, for one format of weights or for all.
struct KernelUnit {
    std::string_view name;              // "matmul_Q8_0"
    std::string_view file;              // "backend/cuda/kernels/matmul.cu"
    std::string_view format;            // "Q8_0"; empty: the file has none
    std::span<const std::byte> fatbin;  // empty: built without nvcc
};
std::span<const KernelUnit> kernel_units();

// The text of the kernels and of every header that they include.
struct KernelFile {
    const char* name;  // as in #include
    const char* text;
};
std::span<const KernelFile> kernel_files();

}  // namespace smelt::cuda
