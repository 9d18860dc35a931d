// The software Metal device runs kernels as Metal does.
#include "softmetal/rig.h"

namespace softmetal {
namespace {

struct ScaleArgs {
    uint32_t n;
    float factor;
};

TEST_F(Metal, AKernelWithATableAndAnArgumentStruct) {
    const auto x = buffer<float>({1, 2, 3, 4, 5}), out = buffer<float>(std::vector<float>(5));
    run({.kernel = "scale", .buffers = {out, x}, .groups = 1, .threads = 32, .bytes = raw(ScaleArgs{5, 10})});
    EXPECT_EQ(values<float>(out), (std::vector<float>{10, 40, 120, 320, 50}));
}

TEST_F(Metal, FunctionConstants) {
    const auto x = buffer<float>({1, 2}), out = buffer<float>(std::vector<float>(2));
    const auto constants = NS::TransferPtr(MTL::FunctionConstantValues::alloc()->init());
    const bool negate = true;
    const uint32_t extra = 7;
    constants->setConstantValue(&negate, MTL::DataTypeBool, NS::UInteger{0});
    constants->setConstantValue(&extra, MTL::DataTypeUInt, text("extra"));
    const Dispatch d{
        .kernel = "scale", .buffers = {out, x}, .bytes = raw(ScaleArgs{2, 1}), .constants = constants.get()};
    run(d);
    EXPECT_EQ(values<float>(out), (std::vector<float>{-8, -11}));
    run({.kernel = "scale", .buffers = {out, x}, .bytes = raw(ScaleArgs{2, 1})});
    EXPECT_EQ(values<float>(out), (std::vector<float>{1, 4})) << "constants of one pipeline reach another";
}

TEST_F(Metal, SimdSumsBarriersAndThreadgroupMemory) {
    std::vector<float> numbers(4 * 160);
    for (size_t i = 0; i < numbers.size(); ++i) numbers[i] = static_cast<float>(i);
    const auto x = buffer(numbers), out = buffer<float>(std::vector<float>(4));
    run({.kernel = "group_sum", .buffers = {out, x}, .groups = 4, .threads = 160, .threadgroup_bytes = 64});
    const float first = 159 * 160 / 2;
    EXPECT_EQ(values<float>(out), (std::vector<float>{first, first + 25600, first + 51200, first + 76800}));
}

TEST_F(Metal, InstancesOfATemplate) {
    std::vector<int32_t> numbers(512);
    for (size_t i = 0; i < numbers.size(); ++i) numbers[i] = static_cast<int32_t>(i);
    const auto x = buffer(numbers);
    run({.kernel = "reverse_int", .buffers = {x}, .groups = 2, .threads = 256});
    const auto got = values<int32_t>(x);
    EXPECT_EQ(got[0], 255);
    EXPECT_EQ(got[255], 0);
    EXPECT_EQ(got[256], 511);
}

TEST_F(Metal, OutOfBoundsNamesKernelBufferAndIndex) {
    const auto x = buffer<float>({1, 2, 3}), out = buffer<float>(std::vector<float>(4));
    const std::string what = violation([&] {
        run({.kernel = "scale", .buffers = {out, x}, .bytes = raw(ScaleArgs{4, 1})});
    });
    EXPECT_NE(what.find("kernel scale"), std::string::npos) << what;
    EXPECT_NE(what.find("buffer 1 (x)"), std::string::npos) << what;
    EXPECT_NE(what.find("index 3 of 3"), std::string::npos) << what;
}

}  // namespace
}  // namespace softmetal
