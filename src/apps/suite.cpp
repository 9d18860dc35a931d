// First each model is run for a moment on each device; from that follows what all cases take together, which
// is said before the first of them and decides how often each is measured.
#include "apps/suite.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "apps/bench_ops.h"
#include "apps/suite_cases.h"
#include "apps/suite_rows.h"
#include "apps/suite_target.h"
#include "apps/version.h"
#include "base/atomic_file.h"
#include "base/cpu_info.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mapped_file.h"
#include "base/peak_rate.h"
#include "report/csv.h"
#include "report/tables.h"

namespace smelt {

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point t) {
    return std::chrono::duration<double>(Clock::now() - t).count();
}

std::vector<std::string> split(const std::string& text) {
    std::vector<std::string> parts;
    for (size_t begin = 0; begin <= text.size();) {
        const size_t end = std::min(text.find(',', begin), text.size());
        if (end > begin) parts.push_back(text.substr(begin, end - begin));
        begin = end + 1;
    }
    return parts;
}

std::string short_name(const std::string& model) {
    std::string path = model;
    while (path.ends_with('/')) path.pop_back();
    return path.substr(path.rfind('/') + 1);
}

class Suite {
 public:
    explicit Suite(const SuiteOptions& o) : o_(o), limit_(o.seconds > 0 ? o.seconds : o.quick ? 60 : 1200) {
        std::set<std::string> names;
        for (const std::string& m : o.models) {
            models_.emplace_back(short_name(m), SuiteModel{.name = m});
            names.insert(short_name(m));
        }
        if (!o.shape.empty()) {
            models_.emplace_back(
                o.shape,
                SuiteModel{.name = o.shape, .is_shape = true, .format = o.format, .n_layers = o.n_layers});
        }
        if (names.size() < o.models.size())
            throw CLI::ValidationError("--suite", "expected models of different names");
        devices_ = o.device.device_map.empty() ? split(o.device.device) : std::vector{o.device.device};
        if (std::set(devices_.begin(), devices_.end()).size() < devices_.size())
            throw CLI::ValidationError("--device", "expected each device once");
        if (devices_.empty()) throw CLI::ValidationError("--device", "expected the name of a device");
    }

    Json run() {
        begin_result();
        calibrate();
        plan();
        for (const SuiteCase& c : cases_) {
            if (done_.contains(c.id())) continue;
            measure(c);
            save();
        }
        target_.reset();
        add_speed_ups();
        result_["seconds"] = result_.value("seconds", 0.0) + seconds_since(began_);
        save();
        return result_;
    }

 private:
    const Json& rates(const std::string& model, const std::string& device) const {
        for (const Json& r : result_.at("calibration")) {
            if (r.at("model") == model && r.at("device") == device) return r;
        }
        throw Error("{} on {}: was not measured", model, device);
    }

    void read_result(const Json& settings) {
        result_ = parse_json(MappedFile(o_.resume).text(), o_.resume);
        try {
            if (result_.at("suite") != 1) throw Error("{}: expected the result of a suite", o_.resume);
            if (result_.at("settings") != settings) {
                throw Error("{}: expected the result of the settings {}, found {}", o_.resume,
                            to_string(settings), to_string(result_.at("settings")));
            }
            for (const char* list : {"rows", "ops"}) {
                for (const Json& row : result_.at(list)) done_.insert(row.at("id").get<std::string>());
            }
        } catch (const Json::exception& e) {
            throw Error("{}: expected the result of a suite: {}", o_.resume, e.what());
        }
    }

    void begin_result() {
        std::vector<std::string> names;
        for (const auto& [name, model] : models_) names.push_back(name);
        const Json settings = {{"models", names},
                               {"devices", devices_},
                               {"format", o_.shape.empty() ? "" : o_.format},
                               {"layers", o_.n_layers},
                               {"quick", o_.quick},
                               {"kv", to_string(o_.kv)},
                               {"threads", o_.device.n_threads}};
        if (!o_.resume.empty() && std::filesystem::exists(o_.resume)) {
            read_result(settings);
            result_["skipped"] = Json::array();
            spdlog::info("{}: has {} results already", o_.resume, done_.size());
            return;
        }
        result_ = {{"suite", 1},
                   {"smelt", version()},
                   {"started", date_and_time()},
                   {"command", command()},
                   {"settings", settings},
                   {"machine", describe_machine(o_.device.n_threads)},
                   {"devices", Json::array()},
                   {"models", Json::array()},
                   {"calibration", Json::array()},
                   {"rows", Json::array()},
                   {"ops", Json::array()},
                   {"skipped", Json::array()}};
    }

    std::string command() const {
        std::string text = "smelt bench";
        for (const std::string& m : o_.models) text += " " + m;
        text += " --suite";
        if (!o_.shape.empty()) text += fmt::format(" --shape {} --format {}", o_.shape, o_.format);
        if (o_.n_layers > 0) text += fmt::format(" --layers {}", o_.n_layers);
        if (o_.quick) text += " --quick";
        if (o_.device.n_threads > 0) text += fmt::format(" --threads {}", o_.device.n_threads);
        return text + " --device " + o_.device.device;
    }

    const SuiteModel& model_of(const std::string& name) const {
        return std::ranges::find(models_, name, &std::pair<std::string, SuiteModel>::first)->second;
    }

    DeviceOptions device(const std::string& name, int n_threads) const {
        DeviceOptions d = o_.device;
        d.device = name;
        if (n_threads > 0) d.n_threads = n_threads;
        return d;
    }

    std::unique_ptr<SuiteTarget> open(const std::string& model, const std::string& device_name,
                                      int n_threads = 0, const std::string& format = "") const {
        SuiteModel m = model_of(model);
        if (!format.empty()) m.format = format;
        constexpr int most = 6144;  // tokens of the longest case, and some
        return std::make_unique<SuiteTarget>(m, device(device_name, n_threads), o_.kv,
                                             o_.quick ? 1024 : most);
    }

    // Rates for the plan.
    void calibrate() {
        if (!result_["calibration"].empty()) return;
        for (const auto& [name, model] : models_) {
            for (const std::string& d : devices_) {
                target_.reset();
                const auto start = Clock::now();
                target_ = open(name, d);
                const double open_seconds = seconds_since(start);
                target_of_ = SuiteCase{.kind = "", .model = name, .device = d}.target();
                const SuiteRequest request = {target_.get(), make_request(*target_, 96, 12)};
                run_requests({&request, 1});
                const SuiteRun r = run_requests({&request, 1});
                const FinishEvent& f = r.answers[0].finish;
                result_["calibration"].push_back(
                    {{"model", name},
                     {"device", d},
                     {"open_seconds", open_seconds},
                     {"context", target_->runner().shape().n_ctx},
                     {"prefill", f.n_prompt / std::max(f.queued + f.prefill, 1e-6)},
                     {"decode", std::max(f.n_generated - 1, 1) / std::max(f.decode, 1e-6)}});
                if (d == devices_.front()) {
                    Json about = target_->describe();
                    about["name"] = name;
                    result_["models"].push_back(std::move(about));
                }
                if (name == models_.front().first) {
                    result_["devices"].push_back(
                        {{"name", d}, {"description", target_->backend().description()}});
                }
            }
        }
    }

    // How much larger than with a byte a weight a model is that was measured in some format.
    static double size_factor(const SuiteCase& c) {
        const auto bytes = static_cast<double>(data_bytes(*format_from_name(c.format), 256));
        return std::max(1.5, bytes / 256);
    }
    // Seconds of one run, and of what comes before the first.
    double run_seconds(const SuiteCase& c) const {
        const std::string model = c.together ? models_.front().first : c.model;
        const Json& r = rates(model, c.device);
        const double prompt = c.prompt > 0 ? c.prompt : 20 + 0.3 * static_cast<double>(c.question.size());
        double t = prompt * c.streams / r.at("prefill").get<double>() +
                   c.answer * c.streams / (r.at("decode").get<double>() * std::min(c.streams, 3));
        if (c.kind == "format") t *= size_factor(c);
        if (c.kind == "threads") t *= std::max(1.0, static_cast<double>(n_cores()) / c.threads);
        if (c.strategy == "beam") t *= 3;
        if (c.kind == "start") t += r.at("open_seconds").get<double>();
        if (c.kind == "ops") t *= 2;
        return c.together ? t * static_cast<double>(models_.size()) : t;
    }
    double first_seconds(const SuiteCase& c) const {
        const std::string model = c.together ? models_.front().first : c.model;
        const double open = rates(model, c.device).at("open_seconds");
        if (c.kind == "format") return 3 * open * size_factor(c);
        // How fast the processor multiplies, for the roof.
        if (c.kind == "ops" && c.device == "cpu") return open + 5;
        return c.kind == "threads" || c.kind == "start" || c.kind == "ops" ? open : 0;
    }
    // With the run that does not count.
    double case_seconds(const SuiteCase& c, int n_runs) const {
        return first_seconds(c) + run_seconds(c) * (n_runs + (warms_up(c) ? 1 : 0));
    }
    bool warms_up(const SuiteCase& c) const { return run_seconds(c) < 2; }
    int n_cores() const {
        return o_.device.n_threads > 0 ? o_.device.n_threads : read_cpu_info().physical_cores;
    }

    void plan() {
        SuiteScope scope{.models = {},
                         .devices = devices_,
                         .kinds = o_.kinds,
                         .formats = o_.formats,
                         .n_ctx = 1 << 20,
                         .n_cores = n_cores(),
                         .quick = o_.quick,
                         .has_text = o_.shape.empty()};
        for (const auto& [name, model] : models_) scope.models.push_back(name);
        for (const Json& r : result_["calibration"])
            scope.n_ctx = std::min(scope.n_ctx, r.at("context").get<int>());
        if (scope.formats.empty()) {
            scope.formats = o_.quick ? std::vector<std::string>{"f16", "q8_0", "q4_0"}
                                     : std::vector<std::string>{"f32",  "f16",  "bf16", "q8_0",
                                                                "q6_k", "q4_k", "q4_0", "mxfp4"};
        }
        cases_ = suite_cases(scope);
        n_ctx_ = scope.n_ctx;
        n_runs_ = o_.n_runs;
        const auto all = [&] {
            double t = 0;
            for (const SuiteCase& c : cases_) t += done_.contains(c.id()) ? 0 : case_seconds(c, n_runs_);
            return t;
        };
        // Other programs may run too.
        const double most = 0.8 * limit_;
        while (n_runs_ > 1 && all() > most) --n_runs_;
        while (cases_.size() > 1 && all() > most) {
            const auto longest = std::ranges::max_element(cases_, {}, [&](const SuiteCase& c) {
                return done_.contains(c.id()) ? 0 : case_seconds(c, n_runs_);
            });
            skip(*longest, fmt::format("time: it takes about {:.0f} s, and --seconds {:.0f} are for all",
                                       case_seconds(*longest, n_runs_), limit_));
            cases_.erase(longest);
        }
        expected_ = all();
        n_left_ = static_cast<size_t>(
            std::ranges::count_if(cases_, [&](const SuiteCase& c) { return !done_.contains(c.id()); }));
        n_cases_ = n_left_;
        result_["plan"] = {{"cases", cases_.size()}, {"runs", n_runs_}, {"seconds", std::round(expected_)}};
        spdlog::info("{} cases, {} to {} runs of each: about {:.0f} s (--seconds {:.0f})", n_left_, n_runs_,
                     o_.n_runs, expected_, limit_);
        planned_ = Clock::now();
    }

    void skip(const SuiteCase& c, const std::string& reason) {
        result_["skipped"].push_back({{"case", c.text()}, {"id", c.id()}, {"reason", reason}});
    }

    void measure(const SuiteCase& c) {
        --n_left_;
        // What came before says how good the estimates are.
        const double used = seconds_since(planned_), factor = estimated_ > 1 ? used / estimated_ : 1;
        const double left = factor * std::max(0.0, expected_ - estimated_);
        const double estimate = case_seconds(c, n_runs_);
        // What the cases before did not use is for more runs.
        share_ = std::max(0.0, expected_ - used) * estimate / std::max(expected_ - estimated_, 1e-9);
        estimated_ += estimate;
        spdlog::info("{} of {}  {}  ({:.0f} s left)", n_cases_ - n_left_, n_cases_, c.text(), left);
        if (seconds_since(planned_) + case_seconds(c, 1) > 1.3 * limit_ + 5)
            return skip(c, "time: the cases before it took longer than expected");
        if (c.prompt + c.answer > n_ctx_) {
            return skip(
                c, fmt::format("context: it needs {} tokens, the model has {}", c.prompt + c.answer, n_ctx_));
        }
        try {
            if (c.together) return measure_together(c);
            if (c.kind == "start") return measure_start(c);
            if (c.kind == "ops") return measure_ops(c);
            if (target_of_ != c.target() || !target_) {
                target_.reset();
                target_ = open(c.model, c.device, c.threads, c.format);
                target_of_ = c.target();
            }
            const std::vector<const SuiteTarget*> targets = {target_.get()};
            for (Json& row : measure_rows(c, targets, {c.model})) result_["rows"].push_back(std::move(row));
        } catch (const Error& e) {
            target_.reset();
            skip(c, e.what());
        }
    }

    std::vector<Json> measure_rows(const SuiteCase& c, const std::vector<const SuiteTarget*>& targets,
                                   const std::vector<std::string>& names) const {
        std::vector<SuiteRequest> requests;
        for (const SuiteTarget* t : targets) {
            for (int s = 0; s < c.streams; ++s) requests.push_back({t, make_request(*t, c)});
        }
        std::vector<SuiteRun> runs;
        const auto start = Clock::now();
        const auto has_time = [&] {
            const double used = seconds_since(start), one = used / static_cast<double>(runs.size() + 1);
            return static_cast<int>(runs.size()) < n_runs_ ? used < 2 * case_seconds(c, n_runs_) + 0.5
                                                           : used + one < share_;
        };
        if (warms_up(c)) run_requests(requests);
        do {
            runs.push_back(run_requests(requests));
        } while (static_cast<int>(runs.size()) < o_.n_runs && has_time());
        std::vector<Json> rows;
        for (size_t i = 0; i < targets.size(); ++i) {
            rows.push_back(make_row(c, *targets[i], names[i], runs, i * static_cast<size_t>(c.streams)));
        }
        return rows;
    }

    void measure_together(const SuiteCase& c) {
        target_.reset();
        std::vector<std::unique_ptr<SuiteTarget>> targets;
        std::vector<const SuiteTarget*> pointers;
        std::vector<std::string> names;
        for (const auto& [name, model] : models_) {
            targets.push_back(open(name, c.device));
            pointers.push_back(targets.back().get());
            names.push_back(name);
        }
        for (Json& row : measure_rows(c, pointers, names)) result_["rows"].push_back(std::move(row));
    }

    void measure_start(const SuiteCase& c) {
        target_.reset();
        Series whole, opening;
        for (int i = 0; i < std::min(n_runs_, 3); ++i) {
            const auto start = Clock::now();
            const auto target = open(c.model, c.device);
            opening.values.push_back(seconds_since(start));
            const SuiteRequest request = {target.get(), make_request(*target, c.prompt, 1)};
            run_requests({&request, 1});
            whole.values.push_back(seconds_since(start));
        }
        result_["rows"].push_back({{"id", c.id()},
                                   {"kind", c.kind},
                                   {"model", c.model},
                                   {"device", c.device},
                                   {"prompt", c.prompt},
                                   {"seconds", whole.json()},
                                   {"open_seconds", opening.json()}});
    }

    void measure_ops(const SuiteCase& c) {
        target_.reset();
        Trace trace;
        const DeviceOptions d = device(c.device, 0);
        BackendOptions options = d.backend();
        options.trace = &trace;
        WrittenFile written;
        const auto file = open_suite_model(model_of(c.model), d.n_threads, written);
        const auto backend = make_backend(d.name(), options);
        const auto model = load_model(override_rope_scaling(file, d.rope_scaling), *backend);
        Json ops = ops_json(c.model, *model, *backend, trace,
                            {.n_prompt = c.prompt,
                             .n_decode = c.answer,
                             .depth = 0,
                             .n_runs = std::min(n_runs_, 3),
                             .kv = o_.kv});
        ops["id"] = c.id();
        ops["device"] = c.device;
        if (c.device == "cpu") {
            double most = 0;
            for (const PeakRate& r : measure_peak_rates(n_cores())) most = std::max(most, r.operations_per_s);
            ops["roof_flops_per_s"] = most;
            ops["roof_bytes_per_s"] = result_["machine"]["read_bytes_per_s"];
        }
        result_["ops"].push_back(std::move(ops));
    }

    // Against the same work on the first device.
    void add_speed_ups() {
        if (devices_.size() < 2) return;
        const std::string first = "@" + devices_.front();
        for (Json& row : result_["rows"]) {
            const std::string id = row.at("id");
            const std::string base_id = id.substr(0, id.rfind('@')) + first;
            for (const Json& base : result_["rows"]) {
                const auto a = number_at(row, "tokens_per_s"), b = number_at(base, "tokens_per_s");
                if (id == base_id || base.at("id") != base_id || base.at("model") != row.at("model") || !a ||
                    !b)
                    continue;
                row["speed_up"] = *a / *b;
            }
        }
    }

    void save() const {
        if (o_.resume.empty()) return;
        AtomicFile file(o_.resume);
        file.write(result_.dump(1));
        file.write("\n");
        file.commit();
    }

    const SuiteOptions& o_;
    double limit_;
    std::vector<std::pair<std::string, SuiteModel>> models_;  // as the command line has them
    std::vector<std::string> devices_;
    std::vector<SuiteCase> cases_;
    std::set<std::string> done_;
    std::unique_ptr<SuiteTarget> target_;
    std::string target_of_;
    int n_runs_ = 1, n_ctx_ = 0;
    double expected_ = 0, estimated_ = 0;  // seconds of all cases, of those before
    double share_ = 0;                     // seconds that the case may use
    size_t n_left_ = 0, n_cases_ = 0;
    Clock::time_point began_ = Clock::now(), planned_ = began_;
    Json result_;
};

}  // namespace

void add_suite_options(CLI::App& verb, SuiteOptions& o) {
    CLI::Option* suite = verb.add_flag(
        "--suite", o.wanted,
        "Measure models, or a --shape, on each --device of a list in many ways, as one result for smelt "
        "report");
    verb.add_option("models", o.models, "Further models of --suite");
    verb.add_flag("--quick", o.quick, "Fewer and shorter cases: about a minute for a small model")
        ->needs(suite);
    verb.add_option("--seconds", o.seconds, "What the suite may take; default: 60 with --quick, else 1200")
        ->check(in_range(1.0, 1e6))
        ->needs(suite);
    verb.add_option("--resume", o.resume,
                    "Keep results in FILE, case by case; those that it has are not measured again")
        ->check(named_file())
        ->type_name("FILE")
        ->needs(suite);
    verb.add_option("--only", o.kinds, fmt::format("Kinds of cases: {}", fmt::join(suite_kinds(), ", ")))
        ->check(CLI::IsMember(suite_kinds()))
        ->delimiter(',')
        ->needs(suite);
    verb.add_option("--formats", o.formats, "Number formats to compare; default: some")
        ->delimiter(',')
        ->needs(suite);
    verb.add_flag("--csv", o.csv, "Print the suite's rows as CSV")->needs(suite);
}

void bench_suite(const SuiteOptions& o) {
    for (const std::string& f : o.formats) {
        if (!format_from_name(f)) throw CLI::ValidationError("--formats", "not a number format: " + f);
    }
    const Json result = Suite(o).run();
    if (o.json) return fmt::print("{}\n", result.dump(1));
    if (o.csv) return fmt::print("{}", suite_csv(result));
    print_suite(result);
}

}  // namespace smelt
