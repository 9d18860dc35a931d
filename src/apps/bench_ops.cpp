// Runs a prompt and decode steps under a trace: once as the device runs them, and once with fused ops taken
// apart, for the parts that are not to be seen otherwise.
#include "apps/bench_ops.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <set>

#include "apps/trace_file.h"
#include "base/error.h"
#include "base/json.h"

namespace smelt {

namespace {

struct OpRow {
    std::string name, shape;
    bool part = false;            // of a fused op, run apart
    double per_step = 0;          // how often
    double seconds = 0;           // of one, median
    double share = 0;             // of the time in ops of a step
    double bytes = 0, flops = 0;  // a second
};
struct Phase {
    std::string name;
    int n_tokens = 0, n_steps = 0;
    std::vector<OpRow> rows = {};
    double step_seconds = 0;  // in ops
};

double median(std::vector<double> v) {
    const auto middle = v.begin() + static_cast<std::ptrdiff_t>(v.size() / 2);
    std::ranges::nth_element(v, middle);
    return *middle;
}

// Rows by op and shape, the longest first.
std::vector<OpRow> rows_of(const Trace::Contents& trace, int n_steps) {
    std::vector<std::vector<double>> times(trace.texts.size());
    for (const Trace::Event& e : trace.events) times[static_cast<size_t>(e.text)].push_back(e.end - e.begin);
    const double all = std::accumulate(trace.sums.begin(), trace.sums.end(), 0.0,
                                       [](double t, const Trace::Sum& s) { return t + s.seconds; });
    std::vector<OpRow> rows;
    for (size_t i = 0; i < trace.texts.size(); ++i) {
        const Trace::Sum& s = trace.sums[i];
        const double seconds = std::max(s.seconds, 1e-12);
        rows.push_back({.name = trace.texts[i].name,
                        .shape = trace.texts[i].shape.substr(trace.texts[i].name.size() + 1),
                        .per_step = static_cast<double>(s.n) / n_steps,
                        .seconds = times[i].empty() ? s.seconds / static_cast<double>(s.n) : median(times[i]),
                        .share = s.seconds / std::max(all, 1e-12),
                        .bytes = s.bytes / seconds,
                        .flops = s.flops / seconds});
    }
    std::ranges::stable_sort(rows, [](const OpRow& a, const OpRow& b) { return a.share > b.share; });
    return rows;
}

class OpsBench {
 public:
    OpsBench(const Model& model, Backend& backend, Trace& trace, const OpsBenchOptions& o)
        : model_(model), backend_(backend), trace_(trace), o_(o) {}

    std::vector<Phase> measure() {
        std::vector<Phase> phases = run(Fuse::as_device_has);
        for (const Phase& apart : run(Fuse::nothing)) {
            Phase& phase = *std::ranges::find(phases, apart.name, &Phase::name);
            std::set<std::string> fused;
            for (const OpRow& row : phase.rows) fused.insert(row.name + row.shape);
            for (OpRow row : apart.rows) {
                if (fused.contains(row.name + row.shape)) continue;
                row.part = true;
                row.share = row.per_step * row.seconds / phase.step_seconds;
                phase.rows.push_back(std::move(row));
            }
        }
        return phases;
    }

 private:
    std::vector<Phase> run(Fuse fuse) {
        const int n_ctx = std::max({1, o_.n_prompt, o_.depth + o_.n_decode});
        SequenceRunner sequence(model_, backend_, n_ctx, o_.kv, fuse);
        std::vector<int32_t> ids;
        for (int i = 0; i < n_ctx; ++i)
            ids.push_back(static_cast<int32_t>((int64_t{i} * 7919 + 11) % model_.config().vocab_size));
        const std::span<const int32_t> all(ids);
        std::vector<Phase> phases;
        const auto add = [&](const char* name, int n_tokens, int n_steps, auto&& step) {
            if (n_steps == 0 || n_tokens == 0) return;
            step();  // brings weights and activations into memory
            trace_.take();
            for (int i = 0; i < o_.n_runs; ++i) step();
            const Trace::Contents contents = trace_.take();
            if (contents.texts.empty()) throw Error("device {}: does not time its ops", backend_.name());
            const int n = n_steps * o_.n_runs;
            Phase p{name, n_tokens, n, rows_of(contents, n)};
            for (const Trace::Sum& s : contents.sums) p.step_seconds += s.seconds / p.n_steps;
            phases.push_back(std::move(p));
        };
        add("prefill", o_.n_prompt, 1, [&] {
            sequence.rewind(0);
            sequence.feed(all.first(static_cast<size_t>(o_.n_prompt)), SequenceRunner::Logits::last);
        });
        if (o_.depth > 0) {
            sequence.rewind(0);
            sequence.feed(all.first(static_cast<size_t>(o_.depth)), SequenceRunner::Logits::none);
        }
        add("decode", 1, o_.n_decode, [&] {
            sequence.rewind(o_.depth);
            for (int i = 0; i < o_.n_decode; ++i)
                sequence.feed(all.subspan(static_cast<size_t>(o_.depth + i), 1),
                              SequenceRunner::Logits::last);
        });
        return phases;
    }

    const Model& model_;
    Backend& backend_;
    Trace& trace_;
    const OpsBenchOptions& o_;
};

void print_phase(const Phase& p) {
    fmt::print("\n{}: {} token{} a step, {:.3f} ms in ops\n", p.name, p.n_tokens, p.n_tokens == 1 ? "" : "s",
               p.step_seconds * 1e3);
    const auto header = [](const char* title) {
        fmt::print("{:<15} {:>6} {:>11} {:>7}  {:>13}  {:>16}  {}\n", title, "a step", "time, us", "share",
                   "bytes", "arithmetic", "shape");
    };
    header("op");
    bool in_parts = false;
    for (const OpRow& r : p.rows) {
        if (r.part && !in_parts) header("parts, if apart");
        in_parts = r.part;
        fmt::print("{:<15} {:>6.4g} {:>11.2f} {:>5.1f} %  {:>13}  {:>16}  {}\n", r.name, r.per_step,
                   r.seconds * 1e6, 100 * r.share, rate_text(r.bytes, "B"), rate_text(r.flops, "FLOP"),
                   r.shape);
    }
}

Json json_of(const Phase& p) {
    Json ops = Json::array();
    for (const OpRow& r : p.rows) {
        Json row = {{"op", r.name},           {"shape", r.shape},     {"part_of_fused_op", r.part},
                    {"per_step", r.per_step}, {"seconds", r.seconds}, {"share", r.share},
                    {"bytes_per_s", r.bytes}};
        if (r.flops > 0) row["flops_per_s"] = r.flops;
        ops.push_back(std::move(row));
    }
    return {{"phase", p.name},
            {"tokens_per_step", p.n_tokens},
            {"steps", p.n_steps},
            {"seconds_per_step", p.step_seconds},
            {"ops", std::move(ops)}};
}

Json json_of(const std::string& name, const Model& model, const Backend& backend, const OpsBenchOptions& o,
             const std::vector<Phase>& phases) {
    Json list = Json::array();
    for (const Phase& p : phases) list.push_back(json_of(p));
    return {{"model", name},
            {"architecture", model.config().architecture},
            {"device", backend.name()},
            {"device_description", backend.description()},
            {"kv", to_string(o.kv)},
            {"depth", o.depth},
            {"runs", o.n_runs},
            {"phases", std::move(list)}};
}

}  // namespace

Json ops_json(const std::string& name, const Model& model, Backend& backend, Trace& trace,
              const OpsBenchOptions& o) {
    return json_of(name, model, backend, o, OpsBench(model, backend, trace, o).measure());
}

void bench_ops(const std::string& name, const Model& model, Backend& backend, Trace& trace,
               const OpsBenchOptions& o) {
    const std::vector<Phase> phases = OpsBench(model, backend, trace, o).measure();
    if (o.json) return fmt::print("{}\n", json_of(name, model, backend, o, phases).dump(2));
    fmt::print("model      {}\ndevice     {}: {}\n", name, backend.name(), backend.description());
    for (const Phase& p : phases) print_phase(p);
    fmt::print("\ntimes are medians, of {} run{}; rates are of all the time of an op\n", o.n_runs,
               o.n_runs == 1 ? "" : "s");
}

}  // namespace smelt
