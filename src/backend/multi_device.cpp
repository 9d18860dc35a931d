// Two ways to say where weights are, and the loop over phases.
#include "backend/multi_device.h"

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>

#include "backend/cut_weight.h"
#include "backend/device_map.h"
#include "backend/fusion.h"
#include "backend/moves.h"
#include "backend/placed_kv.h"
#include "backend/placement.h"
#include "base/cpu_info.h"
#include "base/thread_pool.h"

namespace smelt {

namespace {

struct Files : Storage {
    std::vector<std::unique_ptr<Storage>> parts;
};

// A weight with what it needs besides the devices' parts.
struct MultiWeight : PlacedWeight {
    struct Shares {
        Split split;
        std::vector<Weight> on;
    };
    std::vector<CutWeight> cut;  // pieces that devices may read from
    std::vector<float> values;   // of a vector that partners may have to cut
    std::vector<std::unique_ptr<Shares>> shares;
};

struct MultiProgram : Program {
    struct Part {
        int device = 0;
        std::unique_ptr<Program> program;
    };
    struct Phase {
        std::vector<Part> parts;
        std::vector<Move> moves;
    };
    struct Result {
        Tensor tensor;
        int device = 0;
        size_t offset = 0;  // in the bytes that come back
    };
    std::vector<Phase> phases;
    std::vector<int> holder;
    std::vector<Result> results;
    Record::Results result_tensors;  // in those bytes
    size_t result_bytes = 0;
};

class MultiDevice : public Backend {
 public:
    MultiDevice(std::vector<std::unique_ptr<Backend>> devices, bool partners, int rest)
        : backends_(std::move(devices)),
          devices_{.n = static_cast<int>(backends_.size()),
                   .partners = partners,
                   .rest = rest,
                   .vector_share = [this](const Weight& w, const Split& split,
                                          int device) { return vector_share(w, split, device); }},
          pool_(devices_.n) {}
    ~MultiDevice() override {
        {
            const std::lock_guard lock(mutex_);
            stop_ = true;
        }
        changed_.notify_all();
        if (thread_.joinable()) thread_.join();
    }

    // Steps are made by a thread of their own, which moves data through the host's memory.
    Capabilities describe() const override {
        Capabilities all{.max_steps = max_steps};
        for (const auto& b : backends_) {
            const Capabilities own = b->describe();
            all.max_steps = std::min(all.max_steps, own.max_steps);
            all.two_classes = all.two_classes || own.two_classes;
        }
        return all;
    }

    // Of the device that has least. Devices of one host have the same memory, and how a KV cache is spread
    // over others is known when it is allocated.
    uint64_t available_memory() const override {
        uint64_t least = UINT64_MAX;
        for (const auto& b : backends_) least = std::min(least, b->available_memory());
        return least;
    }
    std::unique_ptr<Storage> map_file(std::span<const std::byte> bytes) override {
        auto files = std::make_unique<Files>();
        for (auto& b : backends_) files->parts.push_back(b->map_file(bytes));
        return files;
    }

    std::unique_ptr<Program> compile(const Record& record) override {
        wait();
        Placement placement = place(record, devices_);
        auto program = std::make_unique<MultiProgram>();
        for (Phase& phase : placement.phases) {
            MultiProgram::Phase& to = program->phases.emplace_back();
            for (int d = 0; d < devices_.n; ++d) {
                const Record& part = phase.parts[static_cast<size_t>(d)];
                // Even where there is no work, so that the workspace has room for what moves there.
                auto compiled = at(d).compile(fuse(part, at(d).describe().fusions));
                if (!part.ops().empty()) to.parts.push_back({d, std::move(compiled)});
            }
            to.moves = std::move(phase.moves);
        }
        program->holder = std::move(placement.holder);
        program->result_tensors = record.results;
        Record::Results& r = program->result_tensors;
        for (Tensor* t :
             {&r.tokens, &r.logprobs, &r.log_sums, &r.top_ids, &r.top_logits, &r.logits, &r.hidden}) {
            if (!*t) continue;
            const int device = program->holder[static_cast<size_t>(t->buffer)];
            program->results.push_back({*t, device, program->result_bytes});
            t->offset = program->result_bytes;
            program->result_bytes += (t->n_bytes() + 15) / 16 * 16;
        }
        return program;
    }

    void launch(Program& program, const StepInput& input) override {
        {
            const std::lock_guard lock(mutex_);
            CHECK(n_launched_ - n_collected_ < static_cast<uint64_t>(max_steps), "{} steps are under way",
                  max_steps);
            Step& step = steps_[n_launched_++ % max_steps];
            step.program = &static_cast<MultiProgram&>(program);
            step.input = &input;
            step.error = nullptr;
            if (!thread_.joinable()) thread_ = std::thread([this] { work(); });
        }
        changed_.notify_all();
    }

    StepResult collect() override {
        std::unique_lock lock(mutex_);
        CHECK(n_collected_ < n_launched_, "no step is under way");
        changed_.wait(lock, [&] { return n_done_ > n_collected_; });
        const Step& step = steps_[n_collected_++ % max_steps];
        if (step.error != nullptr) std::rethrow_exception(step.error);
        return step.result;
    }

    void write(const Tensor& t, const void* bytes) override {
        wait();
        for (auto& b : backends_) b->write(t, bytes);
    }
    void read(const Tensor& t, void* bytes) override {
        wait();
        const auto buffer = static_cast<size_t>(t.buffer);
        const int d = t.buffer >= 0 && buffer < holder_.size() ? holder_[buffer] : 0;
        CHECK(d >= 0, "no device has all of the tensor");
        at(d).read(t, bytes);
    }
    void set_trace(Trace* trace) override {
        for (auto& b : backends_) b->set_trace(trace);
    }

 protected:
    int n_devices() const { return devices_.n; }
    Backend& at(int d) { return *backends_[static_cast<size_t>(d)]; }
    const Backend& at(int d) const { return *backends_[static_cast<size_t>(d)]; }
    // For the steps that were launched.
    void wait() {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [&] { return n_done_ == n_launched_; });
    }

    Weight finish(std::unique_ptr<MultiWeight> w, const WeightView& view) {
        Weight result{.format = view.format, .rows = view.rows, .cols = view.cols, .storage = nullptr};
        for (const Weight& part : w->on) {
            if (part) result.format = part.format;
        }
        result.storage = std::move(w);
        return result;
    }

 private:
    const Weight* vector_share(const Weight& w, const Split& split, int device) {
        auto& multi = *static_cast<MultiWeight*>(w.storage.get());
        CHECK(split.length() == w.cols, "a vector of {}, shares of {}", w.cols, split.length());
        MultiWeight::Shares* shares = nullptr;
        for (const auto& s : multi.shares) {
            if (s->split.same(split, devices_.n)) shares = s.get();
        }
        if (shares == nullptr) {
            shares = multi.shares.emplace_back(std::make_unique<MultiWeight::Shares>()).get();
            shares->split = split;
            const WeightView all{.format = Format::F32,
                                 .rows = w.rows,
                                 .cols = w.cols,
                                 .data = std::as_bytes(std::span(multi.values)),
                                 .scales = {}};
            for (int d = 0; d < devices_.n; ++d) {
                const CutWeight own = cut_weight(all, CutBy::columns, split, d, devices_.n);
                shares->on.push_back(at(d).load(own.view, {.use = WeightUse::vector}));
            }
        }
        return &shares->on[static_cast<size_t>(device)];
    }

    static constexpr int max_steps = 2;
    struct Step {
        const MultiProgram* program = nullptr;
        const StepInput* input = nullptr;
        std::vector<std::byte> bytes;  // that come back
        StepResult result;
        std::exception_ptr error;
    };

    // Of the thread: one step after the other.
    void work() {
        std::unique_lock lock(mutex_);
        while (true) {
            changed_.wait(lock, [&] { return stop_ || n_done_ < n_launched_; });
            if (n_done_ == n_launched_) return;
            Step& step = steps_[n_done_ % max_steps];
            lock.unlock();
            try {
                make(step);
            } catch (...) {
                step.error = std::current_exception();
                drawn_.clear();
            }
            lock.lock();
            ++n_done_;
            changed_.notify_all();
        }
    }

    void make(Step& step) {
        input_ = with_drawn(*step.input);
        const MultiProgram& program = *step.program;
        const StepCounts& counts = input_->counts();
        for (const MultiProgram::Phase& phase : program.phases) {
            run(phase);
            for (const Move& m : phase.moves) moves_.make(m, counts);
        }
        holder_ = program.holder;
        if (step.bytes.size() < program.result_bytes) step.bytes.resize(program.result_bytes);
        for (const MultiProgram::Result& r : program.results) {
            const Tensor t = rows_now(r.tensor, counts);
            if (t.n_rows() > 0) at(r.device).read(t, step.bytes.data() + r.offset);
        }
        step.result = result_of(program.result_tensors, step.bytes.data(), counts);
        drawn_.assign(step.result.tokens.begin(), step.result.tokens.end());
    }

    // The input with the tokens that the step before drew, which one device alone knows. A row for which none
    // could be drawn has ended, and what is computed of it is thrown away: it gets any token.
    const StepInput* with_drawn(const StepInput& input) {
        const auto* ids = reinterpret_cast<const int32_t*>(input.bytes().data() + input.tensors().ids.offset);
        const auto n = static_cast<size_t>(input.counts().n_tokens);
        if (std::none_of(ids, ids + n, [](int32_t id) { return id < 0; })) return &input;
        own_input_ = input;
        for (int32_t& id : own_input_.of(own_input_.tensors().ids).first(n)) {
            if (id >= 0) continue;
            const auto row = static_cast<size_t>(-1 - id);
            id = row < drawn_.size() ? std::max(drawn_[row], 0) : 0;
        }
        return &own_input_;
    }

    // All devices at once. The first error is thrown once every device has ended its part.
    void run(const MultiProgram::Phase& phase) {
        const auto run_part = [&](const MultiProgram::Part& part) {
            at(part.device).launch(*part.program, *input_);
            (void)at(part.device).collect();
        };
        if (phase.parts.size() == 1) return run_part(phase.parts[0]);
        errors_.assign(phase.parts.size(), nullptr);
        pool_.run([&](int member) {
            const auto i = static_cast<size_t>(member);
            if (i >= phase.parts.size()) return;
            try {
                run_part(phase.parts[i]);
            } catch (...) {
                errors_[i] = std::current_exception();
            }
        });
        for (const std::exception_ptr& e : errors_) {
            if (e != nullptr) std::rethrow_exception(e);
        }
    }

    std::vector<std::unique_ptr<Backend>> backends_;
    Devices devices_;
    ThreadPool pool_;

    std::mutex mutex_;
    std::condition_variable changed_;
    // Guarded by mutex_; but the thread alone has the step that it makes.
    uint64_t n_launched_ = 0, n_done_ = 0, n_collected_ = 0;
    bool stop_ = false;
    Step steps_[max_steps];

    // Of the thread, while a step is under way.
    const StepInput* input_ = nullptr;
    StepInput own_input_;
    std::vector<int32_t> drawn_;  // by the last step
    std::vector<int> holder_;     // of the last step's buffers
    std::vector<std::exception_ptr> errors_;
    Moves moves_{backends_};

    std::thread thread_;
};

// Devices that a map names, once each.
struct MappedDevices {
    using Open = std::function<std::unique_ptr<Backend>(const std::string&)>;
    std::vector<std::string> names;
    std::vector<std::unique_ptr<Backend>> backends;
    std::vector<int> of_entries;

    MappedDevices(const DeviceMap& map, const Open& open) {
        (void)number(map.rest, open);
        for (const DeviceMap::Entry& e : map.entries) of_entries.push_back(number(e.device, open));
    }
    int number(const std::string& name, const Open& open) {
        const auto it = std::ranges::find(names, name);
        if (it != names.end()) return static_cast<int>(it - names.begin());
        if (names.size() == max_devices) throw Error("device map: expected at most {} devices", max_devices);
        names.push_back(name);
        backends.push_back(open(name));
        return static_cast<int>(names.size()) - 1;
    }
};

class Mapped : public MultiDevice {
 public:
    Mapped(const DeviceMap& map, MappedDevices devices)
        : MultiDevice(std::move(devices.backends), false, 0), map_(map), targets_(devices.of_entries) {
        used_.resize(targets_.size());
    }

    std::string_view name() const override { return "map"; }
    std::string description() const override {
        std::string text;
        for (int d = 0; d < n_devices(); ++d)
            text += fmt::format("{}{} ({})", d == 0 ? "" : " and ", at(d).name(), at(d).description());
        return text;
    }

    Weight load(const WeightView& view, const WeightRole& role) override {
        auto w = std::make_unique<MultiWeight>();
        w->on.resize(static_cast<size_t>(n_devices()));
        const int d = device_of(role.layer, role.expert);
        w->on[static_cast<size_t>(d)] = at(d).load(view, role);
        return finish(std::move(w), view);
    }

    std::unique_ptr<KvStorage> allocate_kv(const KvShape& shape) override {
        // The weights are in.
        for (size_t i = 0; i < used_.size(); ++i) {
            if (used_[i]) continue;
            throw Error("device map: {}: the model has no such {}", map_.entries[i].text,
                        map_.entries[i].experts ? "weights" : "layers");
        }
        std::vector<std::unique_ptr<KvStorage>> on(static_cast<size_t>(n_devices()));
        const int d = device_of(shape.layer, false);
        on[static_cast<size_t>(d)] = at(d).allocate_kv(shape);
        return std::make_unique<PlacedKv>(shape, std::move(on), false, [this] { wait(); });
    }

 private:
    // Experts before layers.
    int device_of(int64_t layer, bool expert) {
        for (const bool experts : {true, false}) {
            for (size_t i = 0; i < targets_.size(); ++i) {
                const DeviceMap::Entry& e = map_.entries[i];
                const bool fits = experts ? expert : layer >= e.first_layer && layer <= e.last_layer;
                if (e.experts != experts || !fits) continue;
                used_[i] = true;
                return targets_[i];
            }
        }
        return 0;
    }

    DeviceMap map_;
    std::vector<int> targets_;  // one an entry
    std::vector<bool> used_;
};

class Partners : public MultiDevice {
 public:
    explicit Partners(std::vector<std::unique_ptr<Backend>> devices)
        : MultiDevice(std::move(devices), true, 0) {}

    std::string_view name() const override { return at(0).name(); }
    std::string description() const override {
        return fmt::format("{} partners of {} each", n_devices(), at(0).description());
    }

    Weight load(const WeightView& view, const WeightRole& role) override {
        auto w = std::make_unique<MultiWeight>();
        const auto load_all = [&](std::vector<Weight>& to) {
            for (int d = 0; d < n_devices(); ++d) to.push_back(at(d).load(view, role));
        };
        if (role.use == WeightUse::vector) {
            load_all(w->on);
            w->values.resize(static_cast<size_t>(view.rows * view.cols));
            decode_row({view.format, view.data.data(), view.scales.data(), view.rows * view.cols}, w->values);
            return finish(std::move(w), view);
        }
        const auto split = split_of(view, role.cut, n_devices());
        if (!split) {
            load_all(w->on);
            return finish(std::move(w), view);
        }
        w->by = role.cut.by;
        w->split = *split;
        WeightRole matrix = role;
        if (role.use == WeightUse::embedding) {
            load_all(w->whole);
            matrix.use = WeightUse::matrix;
        }
        for (int d = 0; d < n_devices(); ++d) {
            const CutWeight& own = w->cut.emplace_back(cut_weight(view, role.cut.by, *split, d, n_devices()));
            w->on.push_back(at(d).load(own.view, matrix));
        }
        return finish(std::move(w), view);
    }

    std::unique_ptr<KvStorage> allocate_kv(const KvShape& shape) override {
        const int n = n_devices();
        if (shape.cut_by_head && shape.n_heads < n && n % shape.n_heads != 0) {
            throw Error(
                "tensor parallelism: layer {} has {} KV heads: expected at most as many partners or a "
                "multiple "
                "of them, found {}",
                shape.layer, shape.n_heads, n);
        }
        std::vector<std::unique_ptr<KvStorage>> on;
        for (int d = 0; d < n; ++d) {
            KvShape own = shape;
            own.cut_by_head = false;
            if (shape.cut_by_head) own.n_heads = Split{1, 1, shape.n_heads}.share(d, n).n;
            on.push_back(at(d).allocate_kv(own));
        }
        return std::make_unique<PlacedKv>(shape, std::move(on), shape.cut_by_head, [this] { wait(); });
    }
};

}  // namespace

std::unique_ptr<Backend> make_mapped_backend(
    std::string_view text, const std::function<std::unique_ptr<Backend>(const std::string&)>& open) {
    const DeviceMap map = parse_device_map(text);
    return std::make_unique<Mapped>(map, MappedDevices(map, open));
}

std::unique_ptr<Backend> make_mapped_backend(std::string_view text, const BackendOptions& options) {
    return make_mapped_backend(text, [&](const std::string& name) { return make_backend(name, options); });
}

std::unique_ptr<Backend> make_partners(std::vector<std::unique_ptr<Backend>> devices) {
    return std::make_unique<Partners>(std::move(devices));
}

std::unique_ptr<Backend> make_partners(std::string_view device, const BackendOptions& options) {
    const int n = options.tensor_parallel;
    if (n < 1 || n > max_devices) {
        throw Error("tensor parallelism: expected 1 to {} partners, found {}", max_devices, n);
    }
    const int threads = options.n_threads > 0 ? options.n_threads : read_cpu_info().physical_cores;
    BackendOptions each = options;
    each.tensor_parallel = 1;
    each.n_threads = std::max(1, threads / n);
    std::vector<std::unique_ptr<Backend>> devices;
    for (int i = 0; i < n; ++i) devices.push_back(make_backend(device, each));
    return make_partners(std::move(devices));
}

}  // namespace smelt
