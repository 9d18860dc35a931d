// The software Metal device runs kernels as Metal does.
#include <algorithm>

#include "base/half.h"
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

TEST_F(Metal, SimdgroupMatrices) {
    // Small whole numbers, exact in half.
    std::vector<uint16_t> a(256);
    std::vector<float> left(256), b(256), expected(256);
    for (int i = 0; i < 256; ++i) {
        left[static_cast<size_t>(i)] = static_cast<float>(i % 7 - 3);
        a[static_cast<size_t>(i)] = smelt::f32_to_f16(left[static_cast<size_t>(i)]);
        b[static_cast<size_t>(i)] = static_cast<float>(i % 5 + i / 100);
    }
    for (size_t row = 0; row < 16; ++row)
        for (size_t column = 0; column < 16; ++column)
            for (size_t k = 0; k < 16; ++k)
                expected[row * 16 + column] += left[row * 16 + k] * b[column * 16 + k];
    const auto c = buffer(std::vector<float>(256));
    run({.kernel = "matmul_16", .buffers = {c, buffer(a), buffer(b)}, .threads = 128});
    EXPECT_EQ(values<float>(c), expected);
}

TEST_F(Metal, FunctionsOfASimdgroup) {
    std::vector<uint32_t> x(64);
    for (uint32_t i = 0; i < 64; ++i) x[i] = i * 7 % 64;
    const auto out = buffer(std::vector<uint32_t>(64 * 16));
    run({.kernel = "simd_functions", .buffers = {out, buffer(x)}, .groups = 1, .threads = 64});
    const auto got = values<uint32_t>(out);
    for (uint32_t i = 0; i < 64; ++i) {
        const uint32_t first = i / 32 * 32, lane = i % 32;
        uint32_t sum = 0, most = 0, least = 64, before = 0, ballot = 0, mask = 0;
        bool five = false;
        for (uint32_t l = 0; l < 32; ++l) {
            const uint32_t v = x[first + l];
            if (l < lane) before += v;
            sum += v;
            most = std::max(most, v);
            least = std::min(least, v);
            ballot |= v % 3 == 0 ? 1U << l : 0;
            mask |= 1U << v % 32;
            five = five || v == 5;
        }
        const uint32_t expected[] = {sum,
                                     most,
                                     least,
                                     before + x[i],
                                     before,
                                     x[first + 31 - lane],
                                     x[first + (lane ^ 1)],
                                     x[lane == 31 ? i : i + 1],
                                     x[lane == 0 ? i : i - 1],
                                     x[first + 3],
                                     x[first],
                                     ballot,
                                     1,
                                     five ? 1U : 0,
                                     mask,
                                     sum};
        for (size_t f = 0; f < 16; ++f)
            EXPECT_EQ(got[i * 16 + f], expected[f]) << "thread " << i << ", output " << f;
    }
}

TEST_F(Metal, HalfBfloatVectorsAndBits) {
    std::vector<uint16_t> h(4), b(4);
    for (int i = 0; i < 4; ++i) {
        h[static_cast<size_t>(i)] = smelt::f32_to_f16(static_cast<float>(i) + 1.5F);
        b[static_cast<size_t>(i)] = smelt::f32_to_bf16(static_cast<float>(i) + 1);
    }
    const auto hb = buffer(h), bb = buffer(b), out = buffer(std::vector<float>(12));
    run({.kernel = "small_floats", .buffers = {hb, bb, out}, .threads = 1});
    EXPECT_EQ(values<float>(out), (std::vector<float>{2048, 2049, 1, 5, 2, 1.5F + 25 + 350 + 4500, 18, 3,
                                                      127 - 2, 200 + 0xbc, -6 + 0, 2}));
    EXPECT_EQ(values<uint16_t>(hb)[0], 0x7bff);
    EXPECT_EQ(values<uint16_t>(hb)[1], 0x7c00);
    EXPECT_EQ(values<uint16_t>(bb)[0], 0x4049);
}

TEST_F(Metal, Atomics) {
    std::vector<uint32_t> x(1024);
    for (uint32_t i = 0; i < 1024; ++i) x[i] = i * 37 % 1024;
    const auto counters = buffer(std::vector<uint32_t>(2));
    run({.kernel = "count", .buffers = {counters, buffer(x)}, .groups = 16, .threads = 64});
    EXPECT_EQ(values<uint32_t>(counters), (std::vector<uint32_t>{1024, 1023}));
}

TEST_F(Metal, ThreadgroupsAtTheEdgeAreSmaller) {
    const auto out = buffer(std::vector<uint32_t>(5 * 3));
    const auto state = pipeline("position_2d");
    MTL::CommandBuffer* commands = queue->commandBuffer();
    MTL::ComputeCommandEncoder* encoder = commands->computeCommandEncoder();
    encoder->setComputePipelineState(state.get());
    encoder->setBuffer(out.get(), 0, 0);
    encoder->dispatchThreads({5, 3, 1}, {2, 2, 1});
    encoder->endEncoding();
    commands->commit();
    commands->waitUntilCompleted();
    EXPECT_EQ(values<uint32_t>(out), (std::vector<uint32_t>{2, 12, 10002, 10012, 20001,     //
                                                            102, 112, 10102, 10112, 20101,  //
                                                            1000002, 1000012, 1010002, 1010012, 1020001}));
}

TEST_F(Metal, NothingRunsBeforeTheHostWaits) {
    const auto out = buffer<float>({0});
    const auto state = pipeline("write_at");
    MTL::CommandBuffer* commands = queue->commandBuffer();
    MTL::ComputeCommandEncoder* encoder = commands->computeCommandEncoder();
    const int32_t index = 0;
    encoder->setComputePipelineState(state.get());
    encoder->setBuffer(out.get(), 0, 0);
    encoder->setBytes(&index, 4, 1);
    encoder->dispatchThreadgroups({1, 1, 1}, {1, 1, 1});
    encoder->endEncoding();
    commands->commit();
    EXPECT_EQ(values<float>(out)[0], 0);
    commands->waitUntilCompleted();
    EXPECT_EQ(values<float>(out)[0], 1);
    EXPECT_GE(commands->GPUEndTime(), commands->GPUStartTime());
}

TEST_F(Metal, BuffersAreZeroedAndAliasMemory) {
    const auto fresh = NS::TransferPtr(device->newBuffer(100, MTL::ResourceStorageModeShared));
    EXPECT_EQ(values<char>(fresh), std::vector<char>(100));
    alignas(65536) static float memory[65536 / 4];
    bool freed = false;
    {
        const auto alias =
            NS::TransferPtr(device->newBuffer(memory, sizeof memory, MTL::ResourceStorageModeShared,
                                              [&](void*, NS::UInteger) { freed = true; }));
        EXPECT_EQ(alias->contents(), memory);
        run({.kernel = "write_at", .buffers = {alias}, .threads = 1, .bytes = raw(int32_t{2})});
    }
    EXPECT_EQ(memory[2], 1);
    EXPECT_TRUE(freed);
}

TEST_F(Metal, AFailedCommandBufferSaysWhy) {
    const auto out = buffer<float>({0});
    fail_command_buffer(0, MTL::CommandBufferErrorPageFault);
    const auto state = pipeline("write_at");
    MTL::CommandBuffer* commands = queue->commandBuffer();
    MTL::ComputeCommandEncoder* encoder = commands->computeCommandEncoder();
    encoder->endEncoding();
    commands->commit();
    commands->waitUntilCompleted();
    EXPECT_EQ(commands->status(), MTL::CommandBufferStatusError);
    ASSERT_NE(commands->error(), nullptr);
    EXPECT_EQ(commands->error()->code(), MTL::CommandBufferErrorPageFault);
    EXPECT_NE(std::string(commands->error()->localizedDescription()->utf8String()), "");
    run({.kernel = "write_at", .buffers = {out}, .threads = 1, .bytes = raw(int32_t{0})});
    EXPECT_EQ(values<float>(out)[0], 1) << "the one behind it works";
}

TEST_F(Metal, TheTraceCountsDispatches) {
    trace() = {};
    const auto out = buffer<float>({0});
    run({.kernel = "write_at", .buffers = {out}, .threads = 1, .bytes = raw(int32_t{0})});
    EXPECT_EQ(trace().command_buffers, 1);
    EXPECT_EQ(trace().encoders, 1);
    EXPECT_EQ(trace().kernels, std::vector<std::string>{"write_at"});
}

}  // namespace
}  // namespace softmetal
