// The CUDA kernels as NVRTC sees them: each file compiles with nothing but what is built in. Needs NVRTC, no
// GPU.
#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <filesystem>

#include "backend/cuda/nvrtc.h"
#include "quant/format.h"

namespace smelt::cuda {
namespace {

TEST(CudaKernels, EveryFileCompilesAtRunTime) {
    std::string missing;
    if (describe_nvrtc(missing).empty()) GTEST_SKIP() << missing;
    const auto folder = std::filesystem::temp_directory_path() / "smelt_cuda_kernels_test";
    std::filesystem::remove_all(folder);
    for (const KernelUnit& unit : kernel_units()) {
        // One format of each way of loading: nvcc compiles them all.
        if (!unit.format.empty() && unit.format != "Q4_K" && unit.format != "BF16") continue;
        const CompileTarget target{
            .architecture = "sm_90a", .card = "a card", .driver_version = 13000, .cache = folder};
        std::vector<char> image;
        ASSERT_NO_THROW(image = compile_unit(unit, target)) << unit.name;
        EXPECT_GT(image.size(), 1000U) << unit.name;
        EXPECT_EQ(compile_unit(unit, target), image) << "from the cache";
    }
    EXPECT_FALSE(std::filesystem::is_empty(folder));
    std::filesystem::remove_all(folder);
}

TEST(CudaKernels, EveryFormatHasItsUnits) {
    for (const FormatInfo& f : all_formats()) {
        const auto n = std::ranges::count_if(kernel_units(), [&](const KernelUnit& u) {
            std::string name(u.format);
            std::ranges::transform(name, name.begin(), [](unsigned char c) { return std::tolower(c); });
            return name == f.name;
        });
        EXPECT_GE(n, 1) << f.name;
    }
}

}  // namespace
}  // namespace smelt::cuda
