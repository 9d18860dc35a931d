// The reference backend: runs the ops of a record one after the other. What each of them computes is in
// reference.cpp and reference_sequences.cpp.
#include <chrono>
#include <cstring>
#include <utility>

#include "backend/backend.h"
#include "backend/reference_steps.h"
#include "backend/trace.h"
#include "base/cpu_info.h"

namespace smelt {

using reference::HostKv;
using reference::HostWeight;

namespace {

struct ReferenceProgram : Program {
    explicit ReferenceProgram(const Record& r) : record(r) {}
    Record record;
};

class ReferenceBackend : public Backend {
 public:
    std::string_view name() const override { return "reference"; }
    std::string description() const override { return "scalar reference, one thread"; }
    uint64_t available_memory() const override { return read_memory_info().available; }

    Weight load(const WeightView& view, const WeightRole& role) override {
        auto storage = std::make_unique<HostWeight>();
        if (role.use != WeightUse::vector) {
            storage->data = view.data;
            storage->scales = view.scales;
            storage->row_step = view.row_step;
            return {view.format, view.rows, view.cols, std::move(storage)};
        }
        storage->owned.resize(static_cast<size_t>(view.rows * view.cols) * sizeof(float));
        decode_row(
            {view.format, view.data.data(), view.scales.data(), view.rows * view.cols},
            {reinterpret_cast<float*>(storage->owned.data()), static_cast<size_t>(view.rows * view.cols)});
        storage->data = storage->owned;
        return {Format::F32, view.rows, view.cols, std::move(storage)};
    }

    std::unique_ptr<KvStorage> allocate_kv(const KvShape& shape) override {
        return std::make_unique<HostKv>(shape);
    }

    std::unique_ptr<Program> compile(const Record& record) override {
        if (workspace_.size() < record.workspace_bytes()) workspace_.resize(record.workspace_bytes());
        return std::make_unique<ReferenceProgram>(record);
    }

    void launch(Program& program, const StepInput& input) override {
        record_ = &static_cast<ReferenceProgram&>(program).record;
        input_ = &input;
    }

    StepResult collect() override {
        CHECK(record_ != nullptr, "no step is under way");
        const Record& record = *std::exchange(record_, nullptr);
        reference::Steps steps(workspace_.data(), *input_, drawn_);
        std::vector<Trace::Timing> timings;
        for (size_t i = 0; i < record.ops().size(); ++i) {
            const double begin = now();
            std::visit([&](const auto& op) { steps.run(op); }, record.ops()[i]);
            timings.push_back({static_cast<int>(i), begin, now()});
        }
        if (trace_ != nullptr) trace_->add_step(stream_, record, input_->counts(), timings);
        const StepResult result = result_of(record.results, workspace_.data(), input_->counts());
        drawn_.assign(result.tokens.begin(), result.tokens.end());
        return result;
    }

    void write(const Tensor& t, const void* bytes) override { std::memcpy(place(t), bytes, t.n_bytes()); }
    void read(const Tensor& t, void* bytes) override { std::memcpy(bytes, place(t), t.n_bytes()); }
    void set_trace(Trace* trace) override {
        trace_ = trace;
        if (trace != nullptr) stream_ = trace->add_stream("reference");
    }

 private:
    static double now() {
        return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
    }
    std::byte* place(const Tensor& t) {
        CHECK(t.dense() && t.space == Space::workspace);
        if (workspace_.size() < t.offset + t.n_bytes()) workspace_.resize(t.offset + t.n_bytes());
        return workspace_.data() + t.offset;
    }

    std::vector<std::byte> workspace_;
    std::vector<int32_t> drawn_;  // by the last step
    const Record* record_ = nullptr;
    const StepInput* input_ = nullptr;
    Trace* trace_ = nullptr;
    int stream_ = 0;  // of the trace
};

}  // namespace

std::unique_ptr<Backend> make_reference_backend() {
    return std::make_unique<ReferenceBackend>();
}

}  // namespace smelt
