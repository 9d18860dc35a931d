// The CUDA backend's host side on the software GPU: every call of the driver fails once, and each time the
// error names the device, nothing is leaked, and the next backend works. Run with LD_LIBRARY_PATH at the
// software driver.
#include <dlfcn.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "backend/backend.h"
#include "softcuda/softcuda.h"

namespace smelt {
namespace {

softcuda::Control* control() {
    static softcuda::Control* const found = [] {
        void* library = ::dlopen("libcuda.so.1", RTLD_NOW);
        void* function = library == nullptr ? nullptr : ::dlsym(library, "softcuda_control");
        return function == nullptr ? nullptr : reinterpret_cast<softcuda::Control* (*)()>(function)();
    }();
    return found;
}

class CudaFaults : public testing::Test {
 protected:
    void SetUp() override {
        if (control() == nullptr) GTEST_SKIP() << "LD_LIBRARY_PATH has no software GPU";
        *control() = {};
    }
};

// Loads a weight, runs three steps of a small record, reads and writes a cache.
void work() {
    const auto be = make_backend("cuda");
    std::vector<float> values(32 * 64);
    std::iota(values.begin(), values.end(), 0.0f);
    const Weight w = be->load({Format::F32, 32, 64, std::as_bytes(std::span(values)), {}}, {});
    const auto kv = be->allocate_kv({.k_format = Format::F32,
                                     .v_format = Format::F32,
                                     .n_blocks = 2,
                                     .block_len = 4,
                                     .n_heads = 1,
                                     .k_dim = 8,
                                     .v_dim = 8});
    Record record(StepShape{.n_tokens = 2, .n_seqs = 1});
    const Tensor x = record.take(DType::F32, RowsOf::tokens, {2, 64}),
                 out = record.take(DType::F32, RowsOf::tokens, {2, 32});
    record.add(op::Matmul{.x = x, .products = {{.out = out, .w = &w}}, .n = 1});
    record.results.hidden = out;
    const auto program = be->compile(record);
    be->write(x, values.data());
    StepInput input;
    input.reset(record.shape());
    input.counts() = {.n_tokens = 2, .n_seqs = 1};
    for (int i = 0; i < 3; ++i) {
        be->launch(*program, input);
        const StepResult r = be->collect();
        ASSERT_EQ(r.hidden.size(), 64U);
        double sum = 0;
        for (size_t c = 0; c < 64; ++c)
            sum += static_cast<double>(values[c]) * static_cast<double>(values[c]);
        if (control()->runs_kernels) {
            EXPECT_FLOAT_EQ(r.hidden[0], static_cast<float>(sum));
        }
    }
    std::vector<std::byte> block(kv->shape().block_bytes(), std::byte{7}), back(block.size());
    kv->write_block(0, block);
    const BlockPair copy{0, 1};
    kv->copy_blocks({&copy, 1});
    kv->read_block(1, back);
    EXPECT_EQ(back, block);
}

TEST_F(CudaFaults, NothingIsLeft) {
    work();
    EXPECT_EQ(control()->live(), 0);
    EXPECT_EQ(control()->n_launches, 3);
    EXPECT_EQ(control()->n_graph_launches, 3);
}

TEST_F(CudaFaults, EveryCallFailsOnce) {
    control()->runs_kernels = false;
    work();
    const int64_t n_calls = control()->n_calls;
    ASSERT_GT(n_calls, 40);
    // out of memory; unknown to smelt; the device is lost
    for (const int status : {2, 304, 719}) {
        for (int64_t i = 0; i < n_calls; ++i) {
            *control() = {.runs_kernels = false, .fail_after = i, .fail_with = status};
            std::string text;
            try {
                work();
            } catch (const Error& e) {
                text = e.what();
            }
            // What gives back tells nobody.
            if (text.empty()) continue;
            EXPECT_TRUE(text.starts_with("device cuda: ")) << text;
            EXPECT_EQ(control()->live(), 0) << "call " << i << ", " << control()->failed << ": " << text;
        }
        *control() = {.runs_kernels = false};
        work();
        EXPECT_EQ(control()->live(), 0);
    }
}

TEST_F(CudaFaults, SaysWhatIsMissing) {
    const auto missing = [] {
        for (const BackendInfo& info : list_backends()) {
            if (info.name == "cuda") return info.missing;
        }
        return std::string("no cuda");
    };
    EXPECT_EQ(missing(), "");
    *control() = {.driver_version = 11040};
    EXPECT_NE(missing().find("too old: expected one of CUDA 12.0 or newer, found 11.4"), std::string::npos)
        << missing();
    *control() = {.present = false};
    EXPECT_NE(missing().find("finds no GPU"), std::string::npos) << missing();
    *control() = {.major = 7, .minor = 5};
    EXPECT_NE(missing().find("compute capability 8.0 or newer, found 7.5"), std::string::npos) << missing();
    EXPECT_THROW((void)make_backend("cuda"), Error);
}

TEST_F(CudaFaults, MemoryIsAnErrorWithNumbers) {
    const auto be = make_backend("cuda");
    try {
        (void)be->allocate_kv(
            {.n_blocks = 1 << 20, .block_len = 64, .n_heads = 8, .k_dim = 128, .v_dim = 128});
        FAIL();
    } catch (const Error& e) {
        EXPECT_NE(std::string(e.what()).find("MiB are free"), std::string::npos) << e.what();
    }
}

// The process lives, and every step says what happened.
TEST_F(CudaFaults, ALostDeviceStaysLost) {
    const auto be = make_backend("cuda");
    Record record(StepShape{.n_tokens = 1, .n_seqs = 1});
    const Tensor x = record.take(DType::F32, RowsOf::tokens, {1, 64}),
                 y = record.take(DType::F32, RowsOf::tokens, {1, 64});
    record.add(op::Add{.x = x, .y = y});
    const auto program = be->compile(record);
    StepInput input;
    input.reset(record.shape());
    input.counts() = {.n_tokens = 1, .n_seqs = 1};
    be->launch(*program, input);
    (void)be->collect();
    control()->fail_after = control()->n_calls + 4;
    control()->fail_with = 719;
    for (int i = 0; i < 2; ++i) {
        try {
            be->launch(*program, input);
            (void)be->collect();
            FAIL();
        } catch (const Error& e) {
            EXPECT_NE(std::string(e.what()).find("lost"), std::string::npos) << e.what();
        }
    }
}

}  // namespace
}  // namespace smelt
