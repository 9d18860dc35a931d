// The Metal backend: a record becomes a list of commands, a step one command buffer. Nothing is computed on
// the processor but the addresses of arguments.
#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstring>
#include <random>
#include <utility>

#include "backend/metal/compile.h"
#include "backend/metal/kv.h"
#include "backend/metal/running_steps.h"
#include "backend/metal_entry.h"
#include "backend/trace.h"
#include "base/cpu_info.h"

namespace smelt {

namespace {

using metal::Shared;

// What a block needs its first byte to be a multiple of: no member is larger than its alignment, and all but
// bytes add up to a multiple of it.
size_t alignment_of(int64_t block_bytes) {
    return block_bytes % 4 == 0 ? 4 : block_bytes % 2 == 0 ? 2 : 1;
}

class MetalBackend : public Backend {
 public:
    MetalBackend() : weights_(gpu_) { matrices_add_in_order_ = do_matrices_add_in_order(); }

    std::string_view name() const override { return "metal"; }
    std::string description() const override { return gpu_.description(); }
    Capabilities describe() const override {
        return {.fusions = {.add_rms_norm = true, .prepare_heads = true}, .max_steps = metal::max_steps};
    }

    uint64_t available_memory() const override {
        const uint64_t limit = gpu_.device().recommendedMaxWorkingSetSize(),
                       used = gpu_.device().currentAllocatedSize();
        return std::min(limit > used ? limit - used : 0, read_memory_info().available);
    }

    std::unique_ptr<Storage> map_file(std::span<const std::byte> bytes) override {
        return weights_.map(bytes);
    }

    Weight load(const WeightView& view, const WeightRole& role) override {
        auto storage = std::make_unique<metal::DeviceWeight>();
        if (role.use == WeightUse::vector) {
            std::vector<float> values(static_cast<size_t>(view.rows * view.cols));
            decode_row({view.format, view.data.data(), view.scales.data(), view.rows * view.cols}, values);
            storage->data = weights_.copy(std::as_bytes(std::span(values)));
            return {Format::F32, view.rows, view.cols, std::move(storage)};
        }
        const FormatInfo& info = format_info(view.format);
        const int64_t n_rows =
            (view.rows - 1) * view.row_step + 1;  // that lie between the first and the last
        storage->row_bytes = data_bytes(view.format, view.cols * view.row_step);
        storage->scale_row_bytes = scale_bytes(view.format, view.cols * view.row_step);
        storage->data = weights_.place(view.data.first(data_bytes(view.format, n_rows * view.cols)),
                                       alignment_of(info.block_bytes));
        if (info.planar) {
            storage->scales = weights_.place(view.scales.first(scale_bytes(view.format, n_rows * view.cols)),
                                             alignment_of(info.scale_bytes));
        }
        const bool whole_units = info.block_len > 1 || view.cols % 16 == 0;
        storage->aligned = whole_units && storage->data.offset % 16 == 0 && storage->row_bytes % 16 == 0;
        return {view.format, view.rows, view.cols, std::move(storage)};
    }

    std::unique_ptr<KvStorage> allocate_kv(const KvShape& shape) override {
        return std::make_unique<metal::MetalKv>(gpu_, running_, shape);
    }

    std::unique_ptr<Program> compile(const Record& record) override {
        metal::Compiler compiler(gpu_, matrices_add_in_order_);
        auto program = std::make_unique<metal::MetalProgram>(record);
        for (size_t i = 0; i < record.ops().size(); ++i) {
            std::visit([&](const auto& op) { compiler.add(op); }, record.ops()[i]);
            program->op_of_command.resize(compiler.n_commands(), static_cast<int>(i));
        }
        grow(Shared::workspace, record.workspace_bytes());
        for (const Shared s : {Shared::drawn, Shared::scratch, Shared::groups}) grow(s, compiler.needs(s));
        program->commands = compiler.take_commands();
        return program;
    }

    void launch(Program& any, const StepInput& input) override {
        const auto& program = static_cast<const metal::MetalProgram&>(any);
        CHECK(input.shape() == program.record.shape(), "an input of another shape class");
        running_.check();
        Slot& slot = slots_[n_launched_ % n_slots];
        slot.input.grow(gpu_, std::max<size_t>(input.bytes().size(), 1));
        slot.output.grow(gpu_, std::max<size_t>(program.results.n_bytes(), 1));
        slot.results = program.results.tensors();
        slot.counts = input.counts();
        std::memcpy(metal::host_bytes(slot.input.buffer()), input.bytes().data(), input.bytes().size());
        const auto pool = NS::TransferPtr(NS::AutoreleasePool::alloc()->init());
        std::span<const std::unique_ptr<metal::Command>> commands = program.commands;
        if (trace_ != nullptr) {
            run_timed(program, slot);
            commands = {};
        }
        MTL::CommandBuffer* step = encode(commands, slot);
        bring_results(*step, program, slot);
        running_.start(*step);
        ++n_launched_;
    }

    StepResult collect() override {
        CHECK(n_collected_ < n_launched_, "no step is under way");
        const Slot& slot = slots_[n_collected_++ % n_slots];
        running_.finish();
        return result_of(slot.results, metal::host_bytes(slot.output.buffer()), slot.counts);
    }

    void write(const Tensor& t, const void* bytes) override { std::memcpy(place(t), bytes, t.n_bytes()); }
    void read(const Tensor& t, void* bytes) override { std::memcpy(bytes, place(t), t.n_bytes()); }

    void set_trace(Trace* trace) override {
        trace_ = trace;
        if (trace != nullptr) stream_ = trace->add_stream("metal");
    }

 private:
    // Of a step: while one is under way, the host fills the next one's input, and reads the results of the
    // one that was collected last.
    struct Slot {
        metal::GrowingBuffer input, output;
        Record::Results results;
        StepCounts counts;
    };
    static constexpr size_t n_slots = metal::max_steps + 1;

    MTL::CommandBuffer* encode(std::span<const std::unique_ptr<metal::Command>> list, const Slot& slot) {
        MTL::CommandBuffer* commands = gpu_.queue().commandBuffer();
        if (list.empty()) return commands;
        // Each dispatch sees what those before it wrote.
        MTL::ComputeCommandEncoder* encoder = commands->computeCommandEncoder(MTL::DispatchTypeSerial);
        metal::StepEncoder step(*encoder, shared_, slot.input.buffer(), slot.counts);
        for (const auto& command : list) command->encode(step);
        encoder->endEncoding();
        return commands;
    }

    // Out of the workspace, which the next step overwrites.
    void bring_results(MTL::CommandBuffer& step, const metal::MetalProgram& program, const Slot& slot) {
        MTL::BlitCommandEncoder* copies = nullptr;
        program.results.each_copy(slot.counts, [&](size_t from, size_t to, size_t bytes) {
            if (copies == nullptr) copies = step.blitCommandEncoder();
            copies->copyFromBuffer(shared_[Shared::workspace].buffer(), from, slot.output.buffer(), to,
                                   bytes);
        });
        if (copies != nullptr) copies->endEncoding();
    }

    // Times of ops. Metal has them for a command buffer, so each command gets one and is waited for.
    void run_timed(const metal::MetalProgram& program, const Slot& slot) {
        const std::span commands(program.commands);
        const double began =
            std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
        double first = 0;  // the device's clock then
        std::vector<Trace::Timing> timings;
        for (size_t i = 0; i < commands.size(); ++i) {
            const auto ran = NS::RetainPtr(encode(commands.subspan(i, 1), slot));
            running_.run(*ran.get());
            if (i == 0) first = ran->GPUStartTime();
            timings.push_back({program.op_of_command[i], began + ran->GPUStartTime() - first,
                               began + ran->GPUEndTime() - first});
        }
        trace_->add_step(stream_, program.record, slot.counts, timings);
    }

    // Never under a step that runs: it would write to what is left behind.
    void grow(Shared s, size_t bytes) {
        if (bytes <= shared_[s].size() && shared_[s].buffer() != nullptr) return;
        running_.wait();
        shared_[s].grow(gpu_, std::max<size_t>(bytes, 1));
    }
    std::byte* place(const Tensor& t) {
        CHECK(t.dense() && t.space == Space::workspace);
        running_.wait();
        grow(Shared::workspace, t.offset + t.n_bytes());
        return metal::host_bytes(shared_[Shared::workspace].buffer(), t.offset);
    }

    // One product in both ways, of numbers of all magnitudes so that every order of additions rounds
    // differently.
    bool do_matrices_add_in_order() {
        constexpr int64_t n = 16, cols = 1040;
        std::mt19937 random(1);
        const auto numbers = [&] {
            std::vector<float> values(static_cast<size_t>(n * cols));
            for (float& v : values) {
                v = std::ldexp(static_cast<float>(random() % 65536) - 32768, static_cast<int>(random() % 24));
            }
            return values;
        };
        const std::vector<float> x_values = numbers(), w_values = numbers();
        const Weight w = load({Format::F32, n, cols, std::as_bytes(std::span(w_values)), {}}, {});
        Record record({});
        const Tensor x = record.take(DType::F32, RowsOf::fixed, {n, cols}),
                     out = record.take(DType::F32, RowsOf::fixed, {n, n});
        record.add(op::Matmul{.x = x, .products = {{.out = out, .w = &w}}, .n = 1});
        write(x, x_values.data());
        StepInput input;
        input.reset(record.shape());
        const auto product = [&](bool matrices) {
            matrices_add_in_order_ = matrices;
            launch(*compile(record), input);
            (void)collect();
            std::vector<uint32_t> bits(static_cast<size_t>(out.n_elements()));
            read(out, bits.data());
            return bits;
        };
        return product(false) == product(true);
    }

    metal::Gpu gpu_;
    metal::WeightMemory weights_;
    metal::SharedBuffers shared_;
    metal::RunningSteps running_;
    std::array<Slot, n_slots> slots_;
    size_t n_launched_ = 0, n_collected_ = 0;
    bool matrices_add_in_order_ = false;
    Trace* trace_ = nullptr;
    int stream_ = 0;  // of the trace
};

}  // namespace

BackendInfo metal_backend_info() {
    return {"metal", metal::Gpu::describe_default(), metal::Gpu::missing()};
}

std::unique_ptr<Backend> make_metal_backend(const BackendOptions& options) {
    (void)options;
    return std::make_unique<MetalBackend>();
}

}  // namespace smelt
