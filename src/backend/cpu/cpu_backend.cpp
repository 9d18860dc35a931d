// Compiles records into stages and runs them on a team of threads. Weights alias the model file.
#include "backend/cpu/cpu_backend.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "backend/cpu/compile.h"
#include "backend/cpu/isa.h"
#include "backend/cpu/packer.h"
#include "backend/cpu/sampler_pool.h"
#include "backend/trace.h"

namespace smelt {

namespace {

constexpr int max_threads = 1024;

struct CpuChoice {
    const cpu::Isa* isa;
    int n_threads;
};
CpuChoice choose(const BackendOptions& options) {
    const CpuInfo info = read_cpu_info();
    if (options.n_threads < 0 || options.n_threads > max_threads) {
        throw Error("threads: expected 1 to {}, got {}", max_threads, options.n_threads);
    }
    return {&cpu::choose_isa(options.isa, info),
            options.n_threads > 0 ? options.n_threads : std::min(info.physical_cores, max_threads)};
}
std::string text_of(const CpuChoice& c) {
    return fmt::format("{} thread{}, {}", c.n_threads, c.n_threads == 1 ? "" : "s", c.isa->title);
}

// The stages of a record, and the record's lists of weights, which they point into.
struct CpuProgram : Program {
    explicit CpuProgram(const Record& r) : record(r) {}
    Record record;
    cpu::StageList stages;
};

class CpuBackend : public Backend {
 public:
    CpuBackend(const CpuChoice& choice, bool repack)
        : choice_(choice),
          pool_(choice.n_threads),
          packer_(*choice.isa->kernels, pool_, repack),
          scratch_(choice.n_threads) {}
    ~CpuBackend() override {
        if (running_ != nullptr) running_->stages.finish(pool_);
    }

    std::string_view name() const override { return "cpu"; }
    std::string description() const override { return text_of(choice_); }
    Capabilities describe() const override {
        return {.fusions = {.add_rms_norm = true, .prepare_heads = true, .gated_matmul = true}};
    }
    uint64_t available_memory() const override { return read_memory_info().available; }

    Weight load(const WeightView& view, const WeightRole& role) override {
        auto storage = std::make_unique<cpu::HostWeight>();
        if (role.use != WeightUse::vector) {
            storage->data = view.data.data();
            storage->scales = view.scales.data();
            storage->row_step = view.row_step;
            Weight w{view.format, view.rows, view.cols, std::move(storage)};
            if (role.use == WeightUse::matrix && running_ == nullptr) packer_.pack(w);
            return w;
        }
        const int64_t n = view.rows * view.cols;
        storage->owned.resize(static_cast<size_t>(n));
        decode_row({view.format, view.data.data(), view.scales.data(), n}, storage->owned);
        storage->data = reinterpret_cast<const std::byte*>(storage->owned.data());
        return {Format::F32, view.rows, view.cols, std::move(storage)};
    }

    std::unique_ptr<KvStorage> allocate_kv(const KvShape& shape) override {
        CHECK(std::ranges::find(kv_formats, shape.k_format) != std::end(kv_formats) &&
              std::ranges::find(kv_formats, shape.v_format) != std::end(kv_formats));
        return std::make_unique<cpu::HostKv>(shape);
    }

    std::unique_ptr<Program> compile(const Record& record) override {
        auto program = std::make_unique<CpuProgram>(record);
        const cpu::Compiler compiler{
            *choice_.isa->kernels, choice_.n_threads, program->stages, scratch_, samplers_, packer_};
        for (size_t i = 0; i < record.ops().size(); ++i) {
            program->stages.begin_op(static_cast<int>(i));
            std::visit([&](const auto& op) { cpu::compile(compiler, op); }, record.ops()[i]);
        }
        program->stages.end();
        scratch_.reserve();
        reserve_workspace(record.workspace_bytes());
        drawn_.reserve(static_cast<size_t>(record.shape().n_logits));
        return program;
    }

    void launch(Program& program, const StepInput& input) override {
        CHECK(running_ == nullptr, "a step is under way");
        running_ = &static_cast<CpuProgram&>(program);
        const cpu::Frame frame{.workspace = workspace_ ? workspace_->data : nullptr,
                               .input = input.bytes().data(),
                               .drawn_before = drawn_.data(),
                               .n_drawn_before = static_cast<int64_t>(drawn_.size()),
                               .counts = input.counts(),
                               .scratch = &scratch_,
                               .launch = ++n_launches_};
        counts_ = frame.counts;
        timings_.clear();
        running_->stages.start(frame, pool_, trace_ == nullptr ? nullptr : &timings_);
    }

    // The caller's own thread works too, from here on.
    StepResult collect() override {
        CHECK(running_ != nullptr, "no step is under way");
        CpuProgram& program = *running_;
        program.stages.finish(pool_);
        running_ = nullptr;
        if (trace_ != nullptr) trace_->add_step(stream_, program.record, counts_, timings_);
        const StepResult result =
            result_of(program.record.results, workspace_ ? workspace_->data : nullptr, counts_);
        drawn_.assign(result.tokens.begin(), result.tokens.end());
        return result;
    }

    void write(const Tensor& t, const void* bytes) override { std::memcpy(place(t), bytes, t.n_bytes()); }
    void read(const Tensor& t, void* bytes) override { std::memcpy(bytes, place(t), t.n_bytes()); }
    void set_trace(Trace* trace) override {
        trace_ = trace;
        if (trace != nullptr) stream_ = trace->add_stream("cpu: " + description());
    }

 private:
    std::byte* place(const Tensor& t) {
        CHECK(t.dense() && t.space == Space::workspace);
        reserve_workspace(t.offset + t.n_bytes());
        return workspace_->data + t.offset;
    }
    // What is in the workspace is kept.
    void reserve_workspace(size_t n_bytes) {
        if (n_bytes <= workspace_bytes_) return;
        CHECK(running_ == nullptr);
        auto larger = std::make_unique<cpu::HostStorage>(n_bytes);
        if (workspace_ != nullptr) std::memcpy(larger->data, workspace_->data, workspace_bytes_);
        workspace_ = std::move(larger);
        workspace_bytes_ = n_bytes;
    }

    CpuChoice choice_;
    ThreadPool pool_;
    cpu::Packer packer_;
    cpu::Scratch scratch_;
    cpu::SamplerPool samplers_;
    std::unique_ptr<cpu::HostStorage> workspace_;
    size_t workspace_bytes_ = 0;
    CpuProgram* running_ = nullptr;
    StepCounts counts_;  // of the step that was launched last
    std::vector<int32_t> drawn_;
    uint64_t n_launches_ = 0;
    Trace* trace_ = nullptr;
    int stream_ = 0;  // of the trace
    std::vector<cpu::StageList::Timing> timings_;
};

}  // namespace

std::unique_ptr<Backend> make_cpu_backend(const BackendOptions& options) {
    return std::make_unique<CpuBackend>(choose(options), options.repack);
}

std::string describe_cpu_backend(const BackendOptions& options) {
    return text_of(choose(options));
}

}  // namespace smelt
