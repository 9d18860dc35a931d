// The Metal backend as a whole, on the software device: what a step costs in command buffers and dispatches,
// files larger than a buffer, and a device that fails or is not there.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <future>
#include <limits>
#include <map>
#include <sstream>

#include "backend/metal_entry.h"
#include "engine/engine.h"
#include "engine/forward.h"
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
    sequence.feed({&token, 1}, SequenceRunner::Logits::last);
    const softmetal::Trace& trace = softmetal::trace();
    EXPECT_EQ(trace.command_buffers, 1);
    EXPECT_EQ(trace.encoders, 1);
    std::vector<std::string> expected = {"embed_bf16", "rope_table"};
    for (int64_t il = 0; il < model->config().n_layers; ++il) {
        expected.insert(expected.end(), layer_kernels.begin(), layer_kernels.end());
        if (il == 0) expected[2] = "rms_norm";  // nothing to add yet
    }
    for (const char* last : {"add_rms_norm", "matmul_bf16_1"}) expected.emplace_back(last);
    EXPECT_EQ(trace.kernels, expected);
    EXPECT_LE(layer_kernels.size(), 10u);
}

// Positions beyond a span are split over threadgroups and merged. That this leaves the bits as they are is
// the conformance suite's to say.
TEST(MetalStep, LongContextsTakeOneDispatchMoreALayer) {
    const auto backend = make_metal_backend({});
    const auto model = load_model(demo(), *backend);
    constexpr int position = 519, block_len = 16, n_blocks = 64;
    DeviceRunner runner(*model, *backend, {.n_ctx = 1024, .n_blocks = n_blocks, .block_len = block_len});
    Batch batch;
    batch.ids = {5};
    batch.positions = batch.slots = {position};
    batch.seq_start = {0, 1};
    for (int i = 0; i < n_blocks; ++i) batch.block_table.push_back(i);
    batch.max_blocks = n_blocks;
    batch.max_kv_len = position + 1;
    batch.logits_rows = {0};
    softmetal::trace() = {};
    std::vector<float> logits;
    runner.run(batch, logits);
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
    // write() at once and staged, read(), the block numbers of copy_kv_blocks(); a copy of weights; tables of
    // experts
    EXPECT_EQ(users["host_bytes("],
              (Files{"memory.cpp", "memory.cpp", "memory.h", "metal_backend.cpp", "metal_backend.cpp",
                     "metal_backend.cpp", "metal_backend.cpp", "record_matmul.cpp"}));
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

// A step whose draws need few logits brings these alone to the host.
TEST(MetalStep, GreedyAndTopKStepsReadFewLogits) {
    const auto backend = make_metal_backend({});
    const auto model = load_model(demo(), *backend);
    DeviceRunner runner(*model, *backend, {.n_ctx = 16, .n_blocks = 1, .block_len = 16});
    Batch batch;
    batch.ids = {5, 17, 3};
    batch.positions = batch.slots = {0, 1, 2};
    batch.seq_start = {0, 3};
    batch.block_table = {0};
    batch.max_blocks = 1;
    batch.max_kv_len = 3;
    batch.logits_rows = {1, 2};
    std::vector<float> all, best;
    runner.run(batch, all);
    batch.n_best = 4;
    softmetal::trace() = {};
    runner.run(batch, best);
    EXPECT_EQ(softmetal::trace().kernels.back(), "top_k");
    EXPECT_EQ(softmetal::trace().command_buffers, 1);
    ASSERT_EQ(best.size(), all.size());
    const auto vocab_size = static_cast<size_t>(model->config().vocab_size);
    for (const size_t row : {0u, 1u}) {
        std::vector<float> sorted(all.begin() + static_cast<ptrdiff_t>(row * vocab_size),
                                  all.begin() + static_cast<ptrdiff_t>((row + 1) * vocab_size));
        std::ranges::sort(sorted, std::greater());
        size_t n_known = 0;
        for (size_t i = row * vocab_size; i < (row + 1) * vocab_size; ++i) {
            if (best[i] == -std::numeric_limits<float>::infinity()) continue;
            ++n_known;
            EXPECT_EQ(best[i], all[i]);
            EXPECT_GE(best[i], sorted[3]);
        }
        EXPECT_EQ(n_known, 4u);
    }
}

// Reads whole rows whatever is asked for.
struct WholeRows : DeviceRunner {
    using DeviceRunner::DeviceRunner;
    void run(const Batch& batch, std::vector<float>& logits) override {
        Batch whole = batch;
        whole.n_best = 0;
        DeviceRunner::run(whole, logits);
    }
};

TEST(MetalStep, FewLogitsGiveTheSameTokens) {
    const auto backend = make_metal_backend({});
    const auto model = load_model(demo(), *backend);
    const DeviceRunnerOptions options{.n_ctx = 64, .n_blocks = 16};
    Engine few(std::make_unique<DeviceRunner>(*model, *backend, options));
    const auto tokens = [&](Engine& engine, const SamplingParams& sampling) {
        std::vector<int32_t> ids;
        std::promise<void> finished;
        const auto sink = [&](const Event& e) {
            if (const auto* token = std::get_if<TokenEvent>(&e)) ids.push_back(token->id);
            if (std::holds_alternative<FinishEvent>(e)) finished.set_value();
        };
        const auto taken =
            engine.submit({.tokens = prompt, .sampling = sampling, .max_tokens = 5, .sink = sink});
        EXPECT_TRUE(std::holds_alternative<RequestId>(taken));
        finished.get_future().wait();
        return ids;
    };
    const std::vector<SamplingParams> cases = {
        {.temperature = 0},
        {.top_k = 5, .seed = 7},
        {.temperature = 1.5f, .top_k = 40, .top_p = 0.9f, .seed = 8},
        {.temperature = 2, .top_k = 20, .min_p = 0.1f, .seed = 9},
        {.top_k = 8, .typical_p = 0.8f, .xtc_probability = 0.5f, .seed = 10}};
    softmetal::trace() = {};
    std::vector<std::vector<int32_t>> got;
    for (const SamplingParams& p : cases) got.push_back(tokens(few, p));
    few.stop();
    EXPECT_EQ(std::ranges::count(softmetal::trace().kernels, "top_k"), 5 * std::ssize(cases));
    Engine whole(std::make_unique<WholeRows>(*model, *backend, options));
    softmetal::trace() = {};
    for (size_t i = 0; i < cases.size(); ++i) EXPECT_EQ(tokens(whole, cases[i]), got[i]) << i;
    whole.stop();
    EXPECT_EQ(std::ranges::count(softmetal::trace().kernels, "top_k"), 0);
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
    const std::string error = error_of([&] { (void)backend->allocate(size_t{1} << 50); });
    EXPECT_NE(error.find(std::to_string(size_t{1} << 50)), std::string::npos) << error;
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
