// The CUDA backend: a record becomes a list of launches, these a CUDA graph. Nothing is computed on the
// processor but the addresses of arguments.
#include "backend/cuda/cuda_backend.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <utility>

#include "backend/cuda/compile.h"
#include "backend/cuda/kernel_files.h"
#include "backend/cuda/kv.h"
#include "backend/cuda/nvrtc.h"
#include "backend/cuda/tile_weights.h"
#include "backend/trace.h"

namespace smelt {

namespace {

using namespace cuda;

// Of one shape class. Launches hold addresses: when a shared buffer has moved, they are made anew.
struct CudaProgram : Program {
    CudaProgram(std::shared_ptr<const Gpu> g, const Record& r)
        : gpu(std::move(g)), record(r), results(r.results) {}
    ~CudaProgram() override {
        if (graph != nullptr) gpu->driver().graph_exec_destroy(graph);
    }
    std::shared_ptr<const Gpu> gpu;
    Record record;
    std::vector<KernelLaunch> launches;
    GraphExec graph = nullptr;
    uint64_t generation = 0;
    PackedResults results;  // in pinned memory
};

// Steps under way: the host fills the next one's input while the card works on this one's. The results of the
// one that was collected last stay beside them.
constexpr int max_steps = 2;
constexpr size_t n_slots = max_steps + 1;
struct Slot {
    std::unique_ptr<PinnedBuffer> input, output;
    Event done = nullptr;
    Record::Results results;
    StepCounts counts;
};

class CudaBackend : public Backend {
 public:
    explicit CudaBackend(const BackendOptions& options)
        : gpu_(std::make_shared<Gpu>(options.cache_folder)),
          shared_(gpu_),
          weights_(gpu_),
          overlaps_(gpu_->info().major >= 9) {}
    ~CudaBackend() override {
        // What was launched may still use memory that goes away now.
        gpu_->driver().stream_synchronize(gpu_->stream());
        for (const Event e : events_) gpu_->driver().event_destroy(e);
        for (const Slot& s : slots_) {
            if (s.done != nullptr) gpu_->driver().event_destroy(s.done);
        }
    }

    std::string_view name() const override { return "cuda"; }
    std::string description() const override { return to_string(gpu_->info()); }
    Capabilities describe() const override {
        return {.fusions = {.add_rms_norm = true, .prepare_heads = true, .gated_matmul = true},
                .max_steps = max_steps};
    }
    uint64_t available_memory() const override { return gpu_->free_memory(); }

    Weight load(const WeightView& view, const WeightRole& role) override {
        auto storage = std::make_unique<DeviceWeight>();
        if (role.use == WeightUse::vector) {
            std::vector<float> values(static_cast<size_t>(view.rows * view.cols));
            decode_row({view.format, view.data.data(), view.scales.data(), view.rows * view.cols}, values);
            storage->data = weights_.copy(std::as_bytes(std::span(values)));
            return {Format::F32, view.rows, view.cols, std::move(storage)};
        }
        const FormatInfo& info = format_info(view.format);
        storage->row_bytes = data_bytes(view.format, view.cols);
        storage->scale_row_bytes = scale_bytes(view.format, view.cols);
        if (role.use == WeightUse::matrix && has_tiles(view.format)) {
            const WeightRows from{
                weights_.pass_rows(0, view.data, storage->row_bytes, view.rows, view.row_step),
                info.planar
                    ? weights_.pass_rows(1, view.scales, storage->scale_row_bytes, view.rows, view.row_step)
                    : nullptr,
                storage->row_bytes, storage->scale_row_bytes};
            storage->tiles = make_tiles(*gpu_, weights_, view.format, view.rows, view.cols, from);
            return {view.format, view.rows, view.cols, std::move(storage)};
        }
        storage->data = weights_.copy_rows(view.data, storage->row_bytes, view.rows, view.row_step);
        if (info.planar)
            storage->scales =
                weights_.copy_rows(view.scales, storage->scale_row_bytes, view.rows, view.row_step);
        const bool whole_units = info.block_len > 1 || view.cols % unit_len == 0;
        storage->aligned = whole_units && storage->row_bytes % 16 == 0;
        return {view.format, view.rows, view.cols, std::move(storage)};
    }

    std::unique_ptr<KvStorage> allocate_kv(const KvShape& shape) override {
        return std::make_unique<CudaKv>(gpu_, shape);
    }

    std::unique_ptr<Program> compile(const Record& record) override {
        gpu_->make_current();
        weights_.end_passing();
        auto program = std::make_unique<CudaProgram>(gpu_, record);
        grow(Shared::workspace, record.workspace_bytes());
        grow(Shared::input, record.inputs().n_bytes);
        build(*program);
        return program;
    }

    void launch(Program& any, const StepInput& input) override {
        auto& program = static_cast<CudaProgram&>(any);
        CHECK(n_launched_ - n_collected_ < size_t{max_steps}, "{} steps are under way", max_steps);
        CHECK(input.shape() == program.record.shape(), "an input of another shape class");
        gpu_->check_lost();
        gpu_->make_current();
        if (program.generation != shared_.generation()) build(program);
        Slot& slot = slots_[n_launched_ % n_slots];
        const Driver& driver = gpu_->driver();
        if (slot.done == nullptr)
            gpu_->check(driver.event_create(&slot.done, event_disable_timing), "cuEventCreate");
        const size_t bytes = input.bytes().size();
        if (slot.input == nullptr || slot.input->size() < bytes)
            slot.input = std::make_unique<PinnedBuffer>(gpu_, bytes);
        const size_t result_bytes = program.results.n_bytes();
        if (result_bytes > 0 && (slot.output == nullptr || slot.output->size() < result_bytes))
            slot.output = std::make_unique<PinnedBuffer>(gpu_, result_bytes);
        std::memcpy(slot.input->data(), input.bytes().data(), bytes);
        slot.counts = input.counts();
        slot.results = program.results.tensors();
        gpu_->check(driver.copy_in(shared_.address(Shared::input), slot.input->data(), bytes, gpu_->stream()),
                    "cuMemcpyHtoDAsync");
        if (trace_ != nullptr) {
            run_timed(program, slot.counts);
        } else {
            if (program.graph == nullptr) make_graph(program);
            gpu_->check(driver.graph_launch(program.graph, gpu_->stream()), "cuGraphLaunch");
        }
        bring_results(program, slot);
        gpu_->check(driver.event_record(slot.done, gpu_->stream()), "cuEventRecord");
        ++n_launched_;
    }

    StepResult collect() override {
        CHECK(n_collected_ < n_launched_, "no step is under way");
        const Slot& slot = slots_[n_collected_++ % n_slots];
        gpu_->make_current();
        gpu_->check(gpu_->driver().event_synchronize(slot.done), "cuEventSynchronize");
        return result_of(slot.results, slot.output == nullptr ? nullptr : slot.output->data(), slot.counts);
    }

    void write(const Tensor& t, const void* bytes) override {
        const DeviceAddress to = place(t);
        gpu_->check(gpu_->driver().copy_in(to, bytes, t.n_bytes(), gpu_->stream()), "cuMemcpyHtoDAsync");
        gpu_->wait();
    }
    void read(const Tensor& t, void* bytes) override {
        const DeviceAddress from = place(t);
        gpu_->check(gpu_->driver().copy_out(bytes, from, t.n_bytes(), gpu_->stream()), "cuMemcpyDtoHAsync");
        gpu_->wait();
    }

    void set_trace(Trace* trace) override {
        trace_ = trace;
        if (trace != nullptr) stream_number_ = trace->add_stream("cuda");
    }

 private:
    void grow(Shared s, size_t bytes) { shared_.grow(s, std::max<size_t>(bytes, 1)); }

    DeviceAddress place(const Tensor& t) {
        CHECK(t.dense() && t.space == Space::workspace);
        gpu_->make_current();
        grow(Shared::workspace, t.offset + t.n_bytes());
        return shared_.address(Shared::workspace) + t.offset;
    }

    // Launches for where the shared buffers lie now.
    void build(CudaProgram& program) {
        if (program.graph != nullptr) {
            gpu_->wait();
            gpu_->check(gpu_->driver().graph_exec_destroy(std::exchange(program.graph, nullptr)),
                        "cuGraphExecDestroy");
        }
        Compiler compiler(gpu_, weights_, shared_, program.record);
        const uint64_t before = shared_.generation();
        program.launches = compiler.compile();
        for (const Shared s : {Shared::drawn, Shared::scratch, Shared::groups, Shared::counters})
            grow(s, compiler.needs(s));
        if (shared_.generation() != before) program.launches = compiler.compile();
        program.generation = shared_.generation();
    }

    void start(const KernelLaunch& l) const {
        // The driver copies the arguments.
        void* parameters[] = {const_cast<std::byte*>(l.args.data())};
        // Without asking a block has 48 KB, with its static variables, which take 16 KB at most.
        constexpr size_t usual_shared_bytes = 32 * 1024;
        if (l.grid.shared_bytes > usual_shared_bytes) {
            gpu_->check(gpu_->driver().function_attribute(l.function, function_max_dynamic_shared_bytes,
                                                          static_cast<int>(l.grid.shared_bytes)),
                        "cuFuncSetAttribute");
        }
        LaunchAttribute overlapping{.id = launch_overlapping, .number = 1};
        const LaunchConfig config{u32(l.grid.x),
                                  u32(l.grid.y),
                                  u32(l.grid.z),
                                  l.grid.threads,
                                  1,
                                  1,
                                  u32(static_cast<int64_t>(l.grid.shared_bytes)),
                                  gpu_->stream(),
                                  &overlapping,
                                  overlaps_ ? 1u : 0u};
        gpu_->check(gpu_->driver().launch(&config, l.function, parameters, nullptr), "cuLaunchKernelEx");
    }

    void make_graph(CudaProgram& program) const {
        const Driver& driver = gpu_->driver();
        gpu_->check(driver.capture_begin(gpu_->stream(), capture_thread_local), "cuStreamBeginCapture");
        Graph graph = nullptr;
        try {
            for (const KernelLaunch& l : program.launches) start(l);
        } catch (...) {
            if (driver.capture_end(gpu_->stream(), &graph) == status::success && graph != nullptr)
                driver.graph_destroy(graph);
            throw;
        }
        gpu_->check(driver.capture_end(gpu_->stream(), &graph), "cuStreamEndCapture");
        const Status made = driver.graph_instantiate(&program.graph, graph, 0);
        driver.graph_destroy(graph);
        if (made != status::success) program.graph = nullptr;
        gpu_->check(made, "cuGraphInstantiate");
    }

    // Rows that this step has, to pinned memory.
    void bring_results(const CudaProgram& program, const Slot& slot) const {
        program.results.each_copy(slot.counts, [&](size_t from, size_t to, size_t bytes) {
            gpu_->check(
                gpu_->driver().copy_out(slot.output->data() + to, shared_.address(Shared::workspace) + from,
                                        bytes, gpu_->stream()),
                "cuMemcpyDtoHAsync");
        });
    }

    // Times of ops: launches one by one, an event after each, and a wait at the end.
    void run_timed(const CudaProgram& program, const StepCounts& counts) {
        const Driver& driver = gpu_->driver();
        while (events_.size() < program.launches.size() + 1) {
            Event e = nullptr;
            gpu_->check(driver.event_create(&e, event_default), "cuEventCreate");
            events_.push_back(e);
        }
        gpu_->wait();
        const double began =
            std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
        gpu_->check(driver.event_record(events_[0], gpu_->stream()), "cuEventRecord");
        for (size_t i = 0; i < program.launches.size(); ++i) {
            start(program.launches[i]);
            gpu_->check(driver.event_record(events_[i + 1], gpu_->stream()), "cuEventRecord");
        }
        gpu_->wait();
        std::vector<Trace::Timing> timings;
        double begin = began;
        for (size_t i = 0; i < program.launches.size(); ++i) {
            float milliseconds = 0;
            gpu_->check(driver.event_elapsed(&milliseconds, events_[0], events_[i + 1]),
                        "cuEventElapsedTime");
            const double end = began + static_cast<double>(milliseconds) / 1000;
            timings.push_back({program.launches[i].op, begin, end});
            begin = end;
        }
        trace_->add_step(stream_number_, program.record, counts, timings);
    }

    std::shared_ptr<Gpu> gpu_;
    SharedBuffers shared_;
    WeightMemory weights_;
    const bool overlaps_;  // kernels begin before the one before them has ended, up to where they wait
    std::array<Slot, n_slots> slots_;
    size_t n_launched_ = 0, n_collected_ = 0;
    Trace* trace_ = nullptr;
    int stream_number_ = 0;
    std::vector<Event> events_;
};

}  // namespace

BackendInfo cuda_backend_info() {
    const GpuInfo info = describe_gpu();
    std::string description = to_string(info), missing = info.missing;
    if (missing.empty()) {
        const bool built_in =
            std::ranges::all_of(kernel_units(), [](const KernelUnit& u) { return !u.fatbin.empty(); });
        std::string no_nvrtc;
        const std::string nvrtc = describe_nvrtc(no_nvrtc);
        if (!built_in) missing = no_nvrtc;
        description += built_in ? ", kernels built in" : ", kernels compiled by " + nvrtc;
    }
    return {"cuda", description, missing};
}

std::unique_ptr<Backend> make_cuda_backend(const BackendOptions& options) {
    return std::make_unique<CudaBackend>(options);
}

}  // namespace smelt
