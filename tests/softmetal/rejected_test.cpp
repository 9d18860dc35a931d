// What Metal's validation rejects, and what it leaves undefined, is an error of the software device that
// names the kernel and the place.
#include <unistd.h>

#include "softmetal/rig.h"

namespace softmetal {
namespace {

// The violation says all of these.
#define EXPECT_VIOLATION(call, ...)                                                                   \
    {                                                                                                 \
        const std::string what = violation([&] { call; });                                            \
        for (const char* part : {__VA_ARGS__}) EXPECT_NE(what.find(part), std::string::npos) << what; \
    }

class Rejected : public Metal {
 protected:
    NS::SharedPtr<MTL::Buffer> out = buffer(std::vector<float>(64));
    NS::SharedPtr<MTL::ComputePipelineState> write = pipeline("write_at");
    MTL::CommandBuffer* commands = queue->commandBuffer();
    MTL::ComputeCommandEncoder* encoder = commands->computeCommandEncoder();

    void write_at(int32_t index, MTL::Buffer* to, NS::UInteger offset = 0) {
        MTL::CommandBuffer* c = queue->commandBuffer();
        MTL::ComputeCommandEncoder* e = c->computeCommandEncoder();
        e->setComputePipelineState(write.get());
        e->setBuffer(to, offset, 0);
        e->setBytes(&index, 4, 1);
        e->dispatchThreadgroups({1, 1, 1}, {1, 1, 1});
        e->endEncoding();
        c->commit();
        c->waitUntilCompleted();
    }
};

// --- Kernels ---

TEST_F(Rejected, IndicesOutOfBounds) {
    write_at(63, out.get());
    EXPECT_VIOLATION(write_at(64, out.get()), "kernel write_at", "buffer 0 (out)", "index 64 of 64");
    EXPECT_VIOLATION(write_at(-1, out.get()), "buffer 0 (out)", "index -1 of 64");
    EXPECT_VIOLATION(write_at(62, out.get(), 8), "index 62 of 62");
    EXPECT_VIOLATION(write_at(-1, out.get(), 8), "index -1 of 62");
    EXPECT_VIOLATION(write_at(1 << 30, out.get()), "index 1073741824 of 64");
    write_at(61, out.get(), 8);
}

TEST_F(Rejected, APieceOfABufferBoundsItsKernels) {
    out->addDebugMarker(text("activations"), NS::Range(16, 32));
    write_at(7, out.get(), 16);
    EXPECT_VIOLATION(write_at(8, out.get(), 16), "activations", "index 8 of 8");
    out->addDebugMarker(text("logits"), NS::Range(16, 64));
    EXPECT_VIOLATION(write_at(16, out.get(), 16), "logits", "index 16 of 16");
    out->removeAllDebugMarkers();
    write_at(16, out.get(), 16);
}

TEST_F(Rejected, ThreadgroupMemoryOutOfBounds) {
    const auto at = [&](int32_t i) {
        run({.kernel = "write_shared_at", .buffers = {out}, .threads = 1, .bytes = raw(i)});
    };
    at(7);
    EXPECT_VIOLATION(at(8), "kernel write_shared_at", "threadgroup array numbers", "index 8 of 8");
    EXPECT_VIOLATION(at(-1), "index -1 of 8");
}

TEST_F(Rejected, ThreadgroupArgumentOutOfBounds) {
    const auto x = buffer(std::vector<float>(160));
    EXPECT_VIOLATION(
        run({.kernel = "group_sum", .buffers = {out, x}, .threads = 160, .threadgroup_bytes = 16}),
        "threadgroup memory 0", "index 4 of 4");
}

TEST_F(Rejected, ThreadgroupMemoryStartsWithoutMeaning) {
    run({.kernel = "read_unwritten", .buffers = {out}, .threads = 1});
    EXPECT_NE(values<float>(out)[0], values<float>(out)[0]) << "not a NaN";
}

TEST_F(Rejected, TooMuchThreadgroupMemory) {
    EXPECT_VIOLATION(run({.kernel = "too_much_memory", .buffers = {out}, .threads = 1}), "32772", "32768");
    encoder->setComputePipelineState(pipeline("group_sum").get());
    encoder->setThreadgroupMemoryLength(32768 + 16, 0);
    EXPECT_VIOLATION(encoder->dispatchThreadgroups({1, 1, 1}, {32, 1, 1}),
                     "32784 bytes of threadgroup memory");
    EXPECT_VIOLATION(encoder->setThreadgroupMemoryLength(24, 0), "multiple of 16");
}

TEST_F(Rejected, MisalignedAccess) {
    const auto bytes = buffer(std::vector<uint8_t>(64));
    const auto at = [&](uint32_t i) {
        run({.kernel = "read_as_uint4", .buffers = {out, bytes}, .threads = 1, .bytes = raw(i)});
    };
    at(16);
    EXPECT_VIOLATION(at(4), "misaligned", "buffer 1 (bytes)", "16 bytes at byte 4");
    EXPECT_VIOLATION(at(52), "out of bounds");
}

TEST_F(Rejected, BarriersThatNotAllThreadsReach) {
    const auto mode = [&](uint32_t m) {
        run({.kernel = "diverge", .buffers = {out}, .threads = 64, .bytes = raw(m)});
    };
    EXPECT_VIOLATION(mode(0), "kernel diverge", "barrier", "basic.metal");
    EXPECT_VIOLATION(mode(1), "barrier", "returned");
    EXPECT_VIOLATION(mode(2), "barrier at", "while others wait at the barrier at");
    EXPECT_VIOLATION(mode(3), "simd_sum");
    EXPECT_VIOLATION(mode(4), "simd_sum", "returned");
    mode(5);
}

TEST_F(Rejected, AMissingBarrierIsARace) {
    const auto numbers = buffer(std::vector<uint32_t>(64));
    run({.kernel = "neighbours", .buffers = {numbers}, .threads = 64, .bytes = raw(uint32_t{1})});
    EXPECT_EQ(values<uint32_t>(numbers)[6], 49U);
    EXPECT_VIOLATION(
        run({.kernel = "neighbours", .buffers = {numbers}, .threads = 64, .bytes = raw(uint32_t{0})}),
        "kernel neighbours", "no barrier between");
}

TEST_F(Rejected, TheDeviceWorksAfterAViolation) {
    for (int i = 0; i < 3; ++i) {
        EXPECT_VIOLATION(write_at(64, out.get()), "index 64");
        write_at(5, out.get());
    }
    EXPECT_EQ(values<float>(out)[5], 1);
}

// --- Encoding ---

TEST_F(Rejected, UnboundArguments) {
    MTL::CommandBuffer* c = queue->commandBuffer();
    MTL::ComputeCommandEncoder* e = c->computeCommandEncoder();
    e->setComputePipelineState(write.get());
    e->setBuffer(out.get(), 0, 0);
    e->dispatchThreadgroups({1, 1, 1}, {1, 1, 1});
    e->endEncoding();
    c->commit();
    EXPECT_VIOLATION(c->waitUntilCompleted(), "kernel write_at", "buffer(1)", "index");
    EXPECT_VIOLATION(run({.kernel = "group_sum", .buffers = {out, out}, .threads = 32}), "threadgroup(0)",
                     "partial");
}

TEST_F(Rejected, GridsAndThreadgroups) {
    EXPECT_VIOLATION(encoder->dispatchThreadgroups({1, 1, 1}, {1, 1, 1}), "no pipeline");
    encoder->setComputePipelineState(write.get());
    EXPECT_VIOLATION(encoder->dispatchThreadgroups({1, 1, 1}, {32, 33, 1}), "1056 threads");
    EXPECT_VIOLATION(encoder->dispatchThreadgroups({1, 1, 1}, {0, 1, 1}), "0 threads");
    EXPECT_VIOLATION(encoder->dispatchThreadgroups({1, 0, 1}, {1, 1, 1}), "empty grid");
}

TEST_F(Rejected, BindingsOutOfRange) {
    EXPECT_VIOLATION(encoder->setBuffer(out.get(), 256, 0), "offset 256", "256 bytes");
    EXPECT_VIOLATION(encoder->setBuffer(out.get(), 2, 0), "multiple of 4");
    EXPECT_VIOLATION(encoder->setBuffer(out.get(), 0, 31), "index 31");
    const std::vector<char> bytes(4097);
    EXPECT_VIOLATION(encoder->setBytes(bytes.data(), 4097, 0), "4097 bytes");
    EXPECT_VIOLATION(encoder->setBufferOffset(4, 3), "no buffer");
}

TEST_F(Rejected, CallsOutOfOrder) {
    EXPECT_VIOLATION(commands->computeCommandEncoder(), "has not ended");
    EXPECT_VIOLATION(commands->commit(), "has not ended");
    encoder->endEncoding();
    EXPECT_VIOLATION(encoder->setBuffer(out.get(), 0, 0), "has ended");
    EXPECT_VIOLATION(encoder->endEncoding(), "has ended");
    EXPECT_VIOLATION(commands->waitUntilCompleted(), "not committed");
    commands->commit();
    EXPECT_VIOLATION(commands->commit(), "before");
    EXPECT_VIOLATION(commands->computeCommandEncoder(), "committed");
    commands->waitUntilCompleted();
}

// --- Memory ---

TEST_F(Rejected, Buffers) {
    const NS::UInteger most = device->maxBufferLength();
    EXPECT_VIOLATION(device->newBuffer(most + 1, MTL::ResourceStorageModeShared), "maxBufferLength");
    EXPECT_VIOLATION(device->newBuffer(0, MTL::ResourceStorageModeShared), "length 0");
    const auto page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
    alignas(65536) static char memory[131072];
    EXPECT_VIOLATION(device->newBuffer(memory + 64, page, MTL::ResourceStorageModeShared, nullptr),
                     "aligned to a page");
    EXPECT_VIOLATION(device->newBuffer(memory, page + 64, MTL::ResourceStorageModeShared, nullptr),
                     "no whole pages");
    const auto hidden = NS::TransferPtr(device->newBuffer(64, MTL::ResourceStorageModePrivate));
    EXPECT_VIOLATION(hidden->contents(), "private");
}

TEST_F(Rejected, MoreMemoryThanThereIsGivesNull) {
    const auto held = settings();
    settings().memory = 1 << 20;
    EXPECT_EQ(device->newBuffer(2 << 20, MTL::ResourceStorageModeShared), nullptr);
    settings() = held;
}

TEST_F(Rejected, UseAfterRelease) {
    MTL::Buffer* gone = device->newBuffer(64, MTL::ResourceStorageModeShared);
    gone->release();
    EXPECT_VIOLATION(gone->contents(), "released before");
    EXPECT_VIOLATION(gone->release(), "released before");
    EXPECT_VIOLATION(encoder->setBuffer(gone, 0, 0), "released before");
}

TEST_F(Rejected, UnretainedCommandsUseAReleasedBuffer) {
    MTL::Buffer* gone = device->newBuffer(64, MTL::ResourceStorageModeShared);
    MTL::CommandBuffer* c = queue->commandBufferWithUnretainedReferences();
    MTL::ComputeCommandEncoder* e = c->computeCommandEncoder();
    const int32_t index = 0;
    e->setComputePipelineState(write.get());
    e->setBuffer(gone, 0, 0);
    e->setBytes(&index, 4, 1);
    e->dispatchThreadgroups({1, 1, 1}, {1, 1, 1});
    e->endEncoding();
    c->commit();
    gone->release();
    EXPECT_VIOLATION(c->waitUntilCompleted(), "released before");
}

TEST_F(Rejected, AutoreleaseWithoutAPool) {
    pool.reset();
    EXPECT_VIOLATION(queue->commandBuffer(), "no pool");
    pool = NS::TransferPtr(NS::AutoreleasePool::alloc()->init());
}

// --- Libraries ---

TEST_F(Rejected, UnknownKernelsAndSources) {
    NS::Error* error = nullptr;
    EXPECT_EQ(library->newFunction(text("no_such"), nullptr, &error), nullptr);
    ASSERT_NE(error, nullptr);
    EXPECT_NE(std::string(error->localizedDescription()->utf8String()).find("no_such"), std::string::npos);
    EXPECT_EQ(device->newLibrary(text("// other.metal\n"), nullptr, &error), nullptr);
    const auto constants = NS::TransferPtr(MTL::FunctionConstantValues::alloc()->init());
    const float wrong = 1;
    constants->setConstantValue(&wrong, MTL::DataTypeFloat, NS::UInteger{0});
    EXPECT_VIOLATION(library->newFunction(text("scale"), constants.get(), nullptr), "negate", "another type");
    const auto of_file = NS::TransferPtr(device->newLibrary(text("// basic.metal\n..."), nullptr, nullptr));
    EXPECT_TRUE(NS::TransferPtr(of_file->newFunction(text("scale"))));
}

TEST(NoDevice, IsNull) {
    settings().present = false;
    EXPECT_EQ(MTL::CreateSystemDefaultDevice(), nullptr);
    settings().present = true;
}

}  // namespace
}  // namespace softmetal
