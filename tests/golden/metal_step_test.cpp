// The Metal backend as a whole, on the software device: what a step costs in command buffers and dispatches,
// files larger than a buffer, and a device that fails or is not there.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <future>
#include <limits>
#include <map>
#include <numeric>
#include <sstream>

#include "backend/metal_entry.h"
#include "engine/engine.h"
#include "engine/forward.h"
#include "sampling/sampler.h"
#include "softmetal/softmetal.h"

namespace smelt {
namespace {

const std::vector<int32_t> prompt = {5, 17, 3, 200, 41, 99, 7};

std::shared_ptr<const ModelFile> demo() {
    return open_model(SMELT_MODELS "/demo-5m");
}
std::vector<float> logits_of(Backend& backend) {
    return forward_logits(*load_model(demo(), backend), backend, prompt);
}

// The table in docs/ARCHITECTURE.md.
const std::vector<std::string> layer_kernels = {"add_rms_norm",  "matmul_bf16_1", "prepare_heads",
                                                "attention_4",   "matmul_bf16_1", "add_rms_norm",
                                                "matmul_bf16_1", "silu_mul",      "matmul_bf16_1"};

TEST(MetalStep, DecodeIsOneCommandBufferOfNineDispatchesALayer) {
    const auto backend = make_metal_backend({});
    const auto model = load_model(demo(), *backend);
    SequenceRunner sequence(*model, *backend, 16, {Format::F16, Format::F16});
    sequence.feed(prompt, SequenceRunner::Logits::last);
    softmetal::trace() = {};
    const int32_t token = 11;
    sequence.next({&token, 1});
    const softmetal::Trace& trace = softmetal::trace();
    EXPECT_EQ(trace.command_buffers, 1);
    EXPECT_EQ(trace.encoders, 2);  // the second one copies the results
    std::vector<std::string> expected = {"embed_bf16", "rope_table"};
    for (int64_t il = 0; il < model->config().n_layers; ++il) {
        expected.insert(expected.end(), layer_kernels.begin(), layer_kernels.end());
        if (il == 0) expected[2] = "rms_norm";  // nothing to add yet
    }
    for (const char* last : {"add_rms_norm", "matmul_bf16_1", "sample"}) expected.emplace_back(last);
    EXPECT_EQ(trace.kernels, expected);
    EXPECT_LE(layer_kernels.size(), 10u);
}

// Programs of larger classes leave those before them as they are, though they moved the workspace.
TEST(MetalStep, ProgramsShareAWorkspaceThatGrows) {
    const auto backend = make_metal_backend({});
    const auto model = load_model(demo(), *backend);
    const auto in_chunks = [&](const std::vector<size_t>& chunks) {
        SequenceRunner sequence(*model, *backend, 32, {Format::F32, Format::F32});
        std::vector<float> logits;
        size_t at = 0;
        for (const size_t n : chunks) {
            const auto row = sequence.feed(std::span(prompt).subspan(at, n), SequenceRunner::Logits::last);
            logits.assign(row.begin(), row.end());
            at += n;
        }
        return logits;
    };
    const std::vector<float> whole = in_chunks({7});
    EXPECT_EQ(in_chunks({1, 2, 3, 1}), whole);
    EXPECT_EQ(in_chunks({1, 1, 1, 4}), whole);
}

// Positions beyond a span are split over threadgroups and merged. That this leaves the bits as they are is
// the conformance suite's to say.
TEST(MetalStep, LongContextsTakeOneDispatchMoreALayer) {
    const auto backend = make_metal_backend({});
    const auto model = load_model(demo(), *backend);
    constexpr int position = 519, block_len = 16, n_blocks = 64;
    DeviceRunner runner(*model, *backend, {.n_ctx = 1024, .n_blocks = n_blocks, .block_len = block_len});
    std::vector<int32_t> blocks(n_blocks);
    std::iota(blocks.begin(), blocks.end(), 0);
    const int32_t token = 5;
    Batch batch;
    batch.add_sequence({&token, 1}, position, blocks, block_len);
    batch.logits_rows = {0};
    batch.all_logits = true;
    softmetal::trace() = {};
    runner.launch(batch);
    (void)runner.collect();
    const auto& kernels = softmetal::trace().kernels;
    EXPECT_EQ(std::ranges::count(kernels, "attention_merge"), model->config().n_layers);
    EXPECT_EQ(kernels.size(), static_cast<size_t>(model->config().n_layers) * 10 + 4);
    EXPECT_EQ(softmetal::trace().command_buffers, 1);
}

// A prompt goes through simdgroup matrices where it fills them.
TEST(MetalStep, PromptsUseSimdgroupMatrices) {
    const auto backend = make_metal_backend({});
    const auto model = load_model(demo(), *backend);
    std::vector<int32_t> ids(19);
    for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>(i * 37);
    SequenceRunner sequence(*model, *backend, 32, {Format::F16, Format::F16});
    softmetal::trace() = {};
    sequence.feed(ids, SequenceRunner::Logits::last);
    const auto& kernels = softmetal::trace().kernels;
    EXPECT_EQ(std::ranges::count(kernels, "matmul_tiles_bf16"), model->config().n_layers * 4);
    EXPECT_EQ(softmetal::trace().command_buffers, 1);
}

TEST(MetalStep, WeightsStayWhereTheFileIsMapped) {
    const auto backend = make_metal_backend({});
    const auto device = NS::TransferPtr(MTL::CreateSystemDefaultDevice());
    const size_t before = device->currentAllocatedSize();
    const auto file = demo();
    const auto model = load_model(file, *backend);
    // Norms and frequencies are copied into one chunk; the file is aliased by one buffer.
    const size_t page_rounding = 16384;
    EXPECT_LE(device->currentAllocatedSize() - before,
              (size_t{8} << 20) + file->mappings.at(0)->bytes().size() + page_rounding);
}

TEST(MetalStep, AFileLargerThanABufferHasTheSameBits) {
    const auto backend = make_metal_backend({});
    const std::vector<float> expected = logits_of(*backend);
    const auto before = softmetal::settings();
    softmetal::settings().max_buffer_length = size_t{9} << 20;  // below the file's, above any tensor's
    const auto split = make_metal_backend({});
    const std::vector<float> got = logits_of(*split);
    softmetal::settings() = before;
    EXPECT_EQ(got, expected);
}

// The host sees device memory in memory.cpp alone; what goes through host_bytes() is what is uploaded and
// read out, and decoding is for vectors, once, when a model is loaded.
TEST(MetalStep, NothingIsComputedOnTheProcessor) {
    std::map<std::string, std::vector<std::string>> users;
    for (const auto& entry : std::filesystem::directory_iterator(SMELT_SOURCE "/src/backend/metal")) {
        if (entry.path().extension() == ".metal") continue;
        std::istringstream lines(std::string(MappedFile(entry.path()).text()));
        for (std::string line; std::getline(lines, line);) {
            for (const char* call :
                 {"contents()", "host_bytes(", "decode_row(", "backend/cpu", "ThreadPool"}) {
                if (line.find(call) != std::string::npos) users[call].push_back(entry.path().filename());
            }
        }
    }
    for (auto& [call, files] : users) std::ranges::sort(files);
    using Files = std::vector<std::string>;
    EXPECT_EQ(users["contents()"], (Files{"memory.cpp", "memory.cpp"}));  // zeroed; host_bytes()
    // Tables of experts; blocks of the cache; a buffer that grows, weights that are copied; a step's input
    // and results, read() and write()
    EXPECT_EQ(users["host_bytes("],
              (Files{"compile_experts.cpp", "kv.cpp", "memory.cpp", "memory.cpp", "memory.cpp", "memory.h",
                     "metal_backend.cpp", "metal_backend.cpp", "metal_backend.cpp"}));
    EXPECT_EQ(users["decode_row("], Files{"metal_backend.cpp"});
    EXPECT_EQ(users["backend/cpu"], Files{});
    EXPECT_EQ(users["ThreadPool"], Files{});
}

std::string error_of(const auto& f) {
    try {
        f();
    } catch (const Error& e) {
        return e.what();
    }
    return "";
}

TEST(MetalStep, AFailedCommandBufferLosesTheDeviceAndNothingElse) {
    const auto backend = make_metal_backend({});
    const auto model = load_model(demo(), *backend);
    const std::vector<float> expected = forward_logits(*model, *backend, prompt);
    SequenceRunner sequence(*model, *backend, 16, {Format::F16, Format::F16});
    softmetal::fail_command_buffer(0, MTL::CommandBufferErrorDeviceRemoved);
    const auto feed = [&] { sequence.feed(prompt, SequenceRunner::Logits::last); };
    const std::string lost = error_of(feed);
    EXPECT_NE(lost.find("device metal: lost: "), std::string::npos) << lost;
    EXPECT_EQ(error_of(feed), lost);  // and stays so
    const auto another = make_metal_backend({});
    EXPECT_EQ(logits_of(*another), expected);
}

// Weights and the cache, as long as they are there; macOS 14 has no residency sets.
TEST(MetalStep, AModelStaysResident) {
    const auto before = softmetal::settings();
    for (const int macos : {15, 14}) {
        softmetal::settings().macos = macos;
        const size_t nothing = softmetal::resident_bytes();
        {
            const auto backend = make_metal_backend({});
            const auto file = demo();
            const auto model = load_model(file, *backend);
            const size_t weights = softmetal::resident_bytes() - nothing;
            const DeviceRunner runner(*model, *backend, {.n_ctx = 64, .n_blocks = 4});
            const size_t with_cache = softmetal::resident_bytes() - nothing;
            if (macos == 14) {
                EXPECT_EQ(with_cache, 0u);
            } else {
                EXPECT_GE(weights, file->mappings.at(0)->bytes().size());
                EXPECT_GT(with_cache, weights);
            }
        }
        EXPECT_EQ(softmetal::resident_bytes(), nothing);
    }
    softmetal::settings() = before;
}

// What a step leaves to do on the host is to look at the tokens.
TEST(MetalStep, TokensAreDrawnOnTheDevice) {
    const auto backend = make_metal_backend({});
    const auto model = load_model(demo(), *backend);
    DeviceRunner runner(*model, *backend, {.n_ctx = 16, .n_blocks = 1, .block_len = 16});
    const std::vector<int32_t> ids = {5, 17, 3};
    const int32_t block = 0;
    Batch batch;
    batch.add_sequence(ids, 0, {&block, 1}, 16);
    batch.logits_rows = {1, 2};
    batch.all_logits = true;
    batch.n_top = 4;
    batch.draws = {{.temperature = 0, .draws = 1, .logprob = 1},
                   {.temperature = 1.5f, .top_k = 40, .top_p = 0.9f, .draws = 1, .random = {12345, 678910}}};
    softmetal::trace() = {};
    runner.launch(batch);
    const StepResult result = runner.collect();
    EXPECT_EQ(softmetal::trace().command_buffers, 1);
    EXPECT_EQ(std::ranges::count(softmetal::trace().kernels, "sample"), 1);
    const auto vocab_size = static_cast<size_t>(model->config().vocab_size);
    ASSERT_EQ(result.logits.size(), 2 * vocab_size);
    ASSERT_EQ(result.tokens.size(), 2u);
    Sampler sampler(static_cast<int>(vocab_size));
    for (const size_t row : {0u, 1u}) {
        std::vector<float> logits(vocab_size);
        std::ranges::copy(result.logits.subspan(row * vocab_size, vocab_size), logits.begin());
        float logprob = 0, log_sum[2] = {};
        EXPECT_EQ(result.tokens[row], sampler.draw(logits, batch.draws[row], {}, {}, logprob, log_sum));
        if (row == 0) {
            EXPECT_NEAR(result.logprobs[row], logprob, 1e-5);
            EXPECT_NEAR(result.log_sums[2 * row] + result.log_sums[2 * row + 1], log_sum[0], 1e-5);
        }
        std::vector<float> sorted = logits;
        std::ranges::sort(sorted, std::greater());
        for (size_t i = 0; i < 4; ++i) EXPECT_EQ(result.top_logits[4 * row + i], sorted[i]);
    }
    // the next step's input without the host
    const int32_t first = result.tokens[1], drawn = -1 - 1;
    const auto logits_after = [&](int32_t id) {
        batch.clear();
        batch.add_sequence({&id, 1}, 3, {&block, 1}, 16);
        batch.logits_rows = {0};
        batch.all_logits = true;
        runner.launch(batch);
        const std::span<const float> logits = runner.collect().logits;
        return std::vector<float>(logits.begin(), logits.end());
    };
    const std::vector<float> by_device = logits_after(drawn);
    EXPECT_EQ(logits_after(first), by_device);
}

// The requests end with the device's error, and the engine goes on answering, with errors.
TEST(MetalStep, AnEngineOutlivesItsDevice) {
    const auto backend = make_metal_backend({});
    const auto model = load_model(demo(), *backend);
    Engine engine(
        std::make_unique<DeviceRunner>(*model, *backend, DeviceRunnerOptions{.n_ctx = 64, .n_blocks = 16}));
    const auto answer = [&] {
        std::promise<FinishEvent> finished;
        const auto taken = engine.submit({.tokens = prompt, .max_tokens = 3, .sink = [&](const Event& e) {
                                              if (const auto* end = std::get_if<FinishEvent>(&e)) {
                                                  finished.set_value(*end);
                                              }
                                          }});
        EXPECT_TRUE(std::holds_alternative<RequestId>(taken));
        return finished.get_future().get();
    };
    EXPECT_EQ(answer().reason, FinishReason::length);
    softmetal::fail_command_buffer(0, MTL::CommandBufferErrorDeviceRemoved);
    for (int i = 0; i < 2; ++i) {
        const FinishEvent end = answer();
        EXPECT_EQ(end.reason, FinishReason::error);
        EXPECT_EQ(end.failure, Failure::device);
        EXPECT_NE(end.error.find("device metal: lost: "), std::string::npos) << end.error;
    }
}

TEST(MetalStep, TooLittleMemoryIsRefusedWithTheSize) {
    const auto backend = make_metal_backend({});
    const KvShape shape{
        .n_blocks = int64_t{1} << 30, .block_len = 16, .n_heads = 8, .k_dim = 128, .v_dim = 128};
    const std::string error = error_of([&] { (void)backend->allocate_kv(shape); });
    EXPECT_NE(error.find(std::to_string(shape.n_bytes())), std::string::npos) << error;
}

TEST(MetalStep, WithoutADeviceThereAreReasons) {
    const auto before = softmetal::settings();
    softmetal::settings().present = false;
    const BackendInfo info = metal_backend_info();
    const std::string error = error_of([] { (void)make_metal_backend({}); });
    softmetal::settings() = before;
    for (const char* reason : {"hardware", "virtual machine", "container", "drivers", "macOS 14"}) {
        EXPECT_NE(info.missing.find(reason), std::string::npos) << info.missing;
    }
    EXPECT_NE(error.find(info.missing), std::string::npos) << error;
    EXPECT_EQ(metal_backend_info().missing, "");
    EXPECT_NE(metal_backend_info().description.find("working set"), std::string::npos);
}

}  // namespace
}  // namespace smelt
