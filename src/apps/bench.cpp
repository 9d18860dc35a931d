// smelt bench: how fast a model runs here. Prefill and decode rates with their spread, bytes of weights read
// against the memory bandwidth measured in between, and a hash of the last logits, so that a change that
// alters numbers cannot pass as a speed-up.
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <chrono>
#include <filesystem>
#include <optional>

#include "apps/bench_batch.h"
#include "apps/bench_compare.h"
#include "apps/bench_drafts.h"
#include "apps/bench_ops.h"
#include "apps/bench_serve.h"
#include "apps/device_options.h"
#include "apps/draft_options.h"
#include "apps/hub_model.h"
#include "apps/kv_option.h"
#include "apps/series.h"
#include "apps/shapes.h"
#include "apps/suite.h"
#include "apps/trace_file.h"
#include "apps/values.h"
#include "apps/verbs.h"
#include "base/bandwidth.h"
#include "base/cpu_info.h"
#include "base/error.h"
#include "base/json.h"
#include "chat/draft_file.h"
#include "engine/forward.h"
#include "files/writers.h"

namespace smelt {

namespace {

struct BenchOptions {
    std::string model, shape, format = "q8_0", save;
    KvFormats kv = {};
    int n_prompt = 512, n_decode = 64, depth = 0, chunk = 512, n_runs = 5, n_layers = 0;
    std::vector<int> batch = {};
    bool json = false, list_shapes = false, report = false, ops = false;
    DeviceOptions device;
    DraftFlags drafts = {};
    ServeBenchOptions serve;
    SuiteOptions suite;
    CompareOptions compare;

    bool has_drafts() const { return drafts.speculate != "off" || !drafts.model.empty(); }
};

struct Result {
    Series prefill, decode, bandwidth;  // tokens/s, tokens/s, bytes/s
    uint64_t logits_hash = 0;
};

// What decode reads of the best that the memory gave; nothing where the weights may have come out of a cache.
std::optional<double> bandwidth_share(const Model& model, const Result& r) {
    if (model.step_bytes() < 2 * read_cpu_info().all_l3_bytes) return std::nullopt;
    return r.decode.median() * static_cast<double>(model.step_bytes()) / r.bandwidth.max();
}

uint64_t hash(std::span<const float> values) {
    uint64_t h = 0xcbf29ce484222325u;  // FNV-1a
    for (const float v : values) h = (h ^ std::bit_cast<uint32_t>(v)) * 0x100000001b3u;
    return h;
}

// Token ids that are the same every time; which ones does not matter for speed.
std::vector<int32_t> some_ids(int n, int64_t vocab_size) {
    std::vector<int32_t> ids;
    for (int i = 0; i < n; ++i) ids.push_back(static_cast<int32_t>((int64_t{i} * 7919 + 11) % vocab_size));
    return ids;
}

double seconds(auto&& work) {
    const auto start = std::chrono::steady_clock::now();
    work();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

void feed_in_chunks(SequenceRunner& sequence, std::span<const int32_t> ids, int chunk) {
    while (!ids.empty()) {
        const size_t n = std::min(ids.size(), static_cast<size_t>(chunk));
        sequence.feed(ids.first(n),
                      n == ids.size() ? SequenceRunner::Logits::last : SequenceRunner::Logits::none);
        ids = ids.subspan(n);
    }
}

Result measure(const BenchOptions& o, const Model& model, Backend& backend) {
    SequenceRunner sequence(model, backend, std::max(o.n_prompt, o.depth + o.n_decode + 1), o.kv);
    const int64_t vocab = model.config().vocab_size;
    const std::vector<int32_t> prompt = some_ids(o.n_prompt, vocab), context = some_ids(o.depth, vocab),
                               first = some_ids(1, vocab);
    const auto prefill = [&] { feed_in_chunks(sequence, prompt, o.chunk); };
    BandwidthProbe probe(o.device.n_threads > 0 ? o.device.n_threads : read_cpu_info().physical_cores);
    probe.measure();
    Result result;
    const auto decode = [&] { sequence.continue_with(first[0], o.n_decode); };
    const auto fill_context = [&] {
        // Prompt and context begin alike, so the prompt's KV serves as context as far as it goes.
        sequence.rewind(std::min(sequence.position(), o.depth));
        feed_in_chunks(sequence, std::span(context).subspan(static_cast<size_t>(sequence.position())),
                       o.chunk);
    };

    // The first run of each brings weights and activations into memory and is not counted. Bandwidth is
    // probed between the runs, because on a shared machine it changes from minute to minute.
    for (int run = 0; run <= o.n_runs; ++run) {
        if (o.n_prompt > 0) {
            sequence.rewind(0);
            const double t = seconds(prefill);
            if (run > 0) result.prefill.values.push_back(o.n_prompt / t);
        }
        if (o.n_decode > 0) {
            fill_context();
            const double t = seconds(decode);
            if (run > 0) result.decode.values.push_back(o.n_decode / t);
        }
        if (run > 0) result.bandwidth.values.push_back(probe.measure());
    }
    if (o.n_decode == 0) return result;
    // Of one step more, behind all that was drawn.
    result.logits_hash = hash(sequence.feed(first, SequenceRunner::Logits::last));
    return result;
}

std::string rate(const Series& s) {
    return fmt::format("{:9.2f} tok/s  ({:.2f} to {:.2f})", s.median(), s.min(), s.max());
}

void print_table(const BenchOptions& o, const std::string& name, const Model& model, const Backend& backend,
                 const Result& r) {
    fmt::print("model      {}, {:.1f} MB of weights, {:.1f} MB read a token\n", name,
               static_cast<double>(model.weight_bytes()) / 1e6,
               static_cast<double>(model.step_bytes()) / 1e6);
    fmt::print("device     {}: {}\n", backend.name(), backend.description());
    fmt::print("memory     {:9.2f} GB/s   ({:.2f} to {:.2f}) read, measured between the runs\n",
               r.bandwidth.median() / 1e9, r.bandwidth.min() / 1e9, r.bandwidth.max() / 1e9);
    if (!r.prefill.values.empty()) fmt::print("prefill    {}  {} tokens\n", rate(r.prefill), o.n_prompt);
    if (!r.decode.values.empty()) {
        const double bytes = r.decode.median() * static_cast<double>(model.step_bytes());
        fmt::print("decode     {}  {} tokens behind {}\n", rate(r.decode), o.n_decode, o.depth);
        const auto share = bandwidth_share(model, r);
        fmt::print("           {:9.2f} GB/s   of weights, {}\n", bytes / 1e9,
                   share ? fmt::format("{:.0f} % of the memory's best", 100 * *share)
                         : "part of them from the caches");
        fmt::print("logits     {:016x}  hash of the last\n", r.logits_hash);
    }
    fmt::print("           median of {} runs (worst to best)\n", o.n_runs);
}

void print_json(const BenchOptions& o, const std::string& name, const Model& model, const Backend& backend,
                const Result& r) {
    Json j = {{"model", name},
              {"architecture", model.config().architecture},
              {"weight_bytes", model.weight_bytes()},
              {"weight_bytes_per_token", model.step_bytes()},
              {"device", backend.name()},
              {"device_description", backend.description()},
              {"kv", to_string(o.kv)},
              {"runs", o.n_runs},
              {"bandwidth_bytes_per_s", r.bandwidth.json()}};
    if (!r.prefill.values.empty()) {
        j["prefill"] = {{"tokens", o.n_prompt}, {"chunk", o.chunk}, {"tokens_per_s", r.prefill.json()}};
    }
    if (!r.decode.values.empty()) {
        const double bytes = r.decode.median() * static_cast<double>(model.step_bytes());
        j["decode"] = {{"tokens", o.n_decode},
                       {"depth", o.depth},
                       {"tokens_per_s", r.decode.json()},
                       {"weight_bytes_per_s", bytes},
                       {"bandwidth_share", nullptr}};
        if (const auto share = bandwidth_share(model, r)) j["decode"]["bandwidth_share"] = *share;
        j["logits_hash"] = fmt::format("{:016x}", r.logits_hash);
    }
    fmt::print("{}\n", j.dump(2));
}

void print_shapes(bool as_json) {
    Json list = Json::array();
    for (const Shape& s : list_shapes()) {
        const int64_t n = n_parameters(s);
        list.push_back(
            {{"name", s.name}, {"architecture", s.architecture}, {"layers", s.n_layers}, {"parameters", n}});
        if (!as_json)
            fmt::print("{:<18} {:<10} {:3} layers  {:>15} parameters\n", s.name, s.architecture, s.n_layers,
                       n);
    }
    if (as_json) fmt::print("{}\n", list.dump(2));
}

std::shared_ptr<const ModelFile> make_shape(const BenchOptions& o, std::string& name) {
    const auto format = format_from_name(o.format);
    if (!format) throw CLI::ValidationError("--format", "not a number format: " + o.format);
    Shape shape = find_shape(o.shape);
    std::string cut;
    if (o.n_layers > shape.n_layers) {
        throw CLI::ValidationError("--layers", fmt::format("{} has {} layers", o.shape, shape.n_layers));
    }
    if (o.n_layers > 0) {
        cut = fmt::format("{} of {} layers, ", o.n_layers, shape.n_layers);
        shape = with_layers(std::move(shape), o.n_layers);
    }
    name = fmt::format("{} {}, {}random weights", o.shape, o.format, cut);
    return make_random_model(shape, *format);
}

// For other programs, which get the same bytes to work on. Without a vocabulary: "none" is GGUF's word for
// it.
void save(const BenchOptions& o, const ModelFile& file) {
    Metadata vocabulary;
    vocabulary.set("tokenizer.ggml.model", std::string("none"));
    write_gguf(file, o.save, vocabulary, {.n_threads = std::max(o.device.n_threads, 1)});
    fmt::print("{}: {:.1f} MB\n", o.save, static_cast<double>(std::filesystem::file_size(o.save)) / 1e6);
}

// Rows of the tables in docs/METAL.md: models from small to large in the formats that people use, as far as
// memory goes; or one shape.
void report(BenchOptions o) {
    const std::vector<std::string> shapes =
        o.shape.empty()
            ? std::vector<std::string>{"qwen3-0.6b", "qwen3-4b", "qwen3-8b", "qwen3-30b-a3b", "qwen3-32b"}
            : std::vector<std::string>{o.shape};
    fmt::print("smelt {}, {}\n\n", SMELT_VERSION, o.device.open()->description());
    fmt::print(
        "| model | format | prefill of {}, tok/s | decode, tok/s | weights read, GB/s "
        "|\n|---|---|---|---|---|\n",
        o.n_prompt);
    for (const std::string& shape : shapes) {
        for (const char* format : {"q8_0", "q4_0", "mxfp4"}) {
            o.shape = shape;
            o.format = format;
            std::string name;
            const auto backend = o.device.open();
            const double needed = static_cast<double>(n_parameters(find_shape(shape))) / 32 *
                                  static_cast<double>(data_bytes(*format_from_name(format), 32));
            if (o.n_layers == 0 && needed > 0.9 * static_cast<double>(backend->available_memory())) {
                fmt::print("| {} | {} | {:.1f} GB do not fit | | |\n", shape, format, needed / 1e9);
                continue;
            }
            const auto model = load_model(make_shape(o, name), *backend);
            const Result r = measure(o, *model, *backend);
            const auto cell = [](const Series& s) {
                return s.values.empty() ? ""
                                        : fmt::format("{:.1f} ({:.1f}–{:.1f})", s.median(), s.min(), s.max());
            };
            const double bytes =
                r.decode.values.empty() ? 0 : r.decode.median() * static_cast<double>(model->step_bytes());
            fmt::print("| {} | {} | {} | {} | {:.1f} |\n", shape, format, cell(r.prefill), cell(r.decode),
                       bytes / 1e9);
            std::fflush(stdout);
        }
    }
}

void measure_drafts(const BenchOptions& o, const std::string& name, const ModelFile& file, const Model& model,
                    Backend& backend) {
    DraftBenchOptions options{.drafts = o.drafts.options(), .n_runs = o.n_runs, .kv = o.kv, .json = o.json};
    std::optional<Tokenizer> tokenizer;
    if (o.shape.empty()) {
        tokenizer.emplace(load_tokenizer(file));
        options.encode = [&](const std::string& text) { return tokenizer->encode(text); };
    }
    OpenedDraft draft;
    if (!o.drafts.model.empty()) {
        draft = open_draft_model(local_model(o.drafts.model), tokenizer ? &*tokenizer : nullptr,
                                 model.config(), backend);
    }
    bench_drafts(name, model, draft.model.get(), backend, options);
}

void run_suite(const BenchOptions& o) {
    if (o.report || o.ops || !o.batch.empty() || o.has_drafts() || !o.save.empty() ||
        o.device.trace != nullptr)
        throw CLI::ValidationError("--suite",
                                   "is without --report, --ops, --batch, --speculate, --save and --trace");
    if (o.model.empty() == o.shape.empty())
        throw CLI::ValidationError("--suite", "give models or one --shape");
    SuiteOptions suite = o.suite;
    if (!o.model.empty()) suite.models.insert(suite.models.begin(), o.model);
    suite.shape = o.shape;
    suite.format = o.format;
    suite.n_layers = o.n_layers;
    suite.json = o.json;
    suite.n_runs = o.n_runs;
    suite.kv = o.kv;
    suite.device = o.device;
    bench_suite(suite);
}

void run_comparison(const BenchOptions& o) {
    if (!o.shape.empty() || o.suite.wanted || !o.serve.target.empty() || o.device.trace != nullptr)
        throw CLI::ValidationError("--compare", "is without --shape, --suite, --serve and --trace");
    CompareOptions compare = o.compare;
    compare.model = o.model;
    compare.served_model = o.serve.model;
    compare.n_tokens = o.serve.n_decode;
    compare.n_rounds = o.n_runs;
    compare.json = o.json;
    bench_compare(compare);
}

void run(const BenchOptions& o) {
    if (o.ops && (o.report || o.list_shapes || !o.serve.target.empty() || o.device.trace != nullptr))
        throw CLI::ValidationError("--ops", "is without --report, --list-shapes, --serve and --trace");
    if (o.list_shapes) return print_shapes(o.json);
    if (!o.compare.servers.empty()) return run_comparison(o);
    if (!o.serve.target.empty()) {
        ServeBenchOptions serve = o.serve;
        serve.json = o.json;
        serve.device = o.device;
        return bench_serve(serve);
    }
    if (o.suite.wanted) return run_suite(o);
    if (!o.suite.models.empty())
        throw CLI::ValidationError("bench", "expected one model; several are for --suite");
    if (!o.batch.empty() && (o.report || o.ops))
        throw CLI::ValidationError("--batch", "is without --report and --ops");
    if (o.has_drafts() && (o.report || o.ops || !o.batch.empty()))
        throw CLI::ValidationError("--speculate", "is without --report, --ops and --batch");
    if (!o.save.empty() && (o.shape.empty() || o.report))
        throw CLI::ValidationError("--save", "is for the random weights of a --shape");
    if (o.report && o.model.empty()) return report(o);
    if (o.report || o.model.empty() == o.shape.empty()) {
        throw CLI::ValidationError("bench", o.report ? "--report is for shapes, not for a MODEL"
                                                     : "give a MODEL, --shape or --serve");
    }
    std::shared_ptr<const ModelFile> file;
    std::string name = o.model;
    if (o.shape.empty()) {
        file = open_model(local_model(o.model));
    } else {
        file = make_shape(o, name);
    }
    if (!o.save.empty()) return save(o, *file);
    Trace trace;
    BackendOptions options = o.device.backend();
    if (o.ops) options.trace = &trace;
    const auto backend = make_backend(o.device.name(), options);
    const auto model = load_model(override_rope_scaling(file, o.device.rope_scaling), *backend);
    if (o.ops) {
        return bench_ops(name, *model, *backend, trace,
                         {.n_prompt = o.n_prompt,
                          .n_decode = o.n_decode,
                          .depth = o.depth,
                          .n_runs = o.n_runs,
                          .kv = o.kv,
                          .json = o.json});
    }
    if (o.has_drafts()) return measure_drafts(o, name, *file, *model, *backend);
    if (!o.batch.empty()) {
        return bench_batch(name, *model, *backend,
                           {.n_seqs = o.batch,
                            .n_decode = std::max(o.n_decode, 1),
                            .depth = o.depth,
                            .chunk = o.chunk,
                            .n_runs = o.n_runs,
                            .kv = o.kv,
                            .json = o.json});
    }
    const Result result = measure(o, *model, *backend);
    (o.json ? print_json : print_table)(o, name, *model, *backend, result);
}

}  // namespace

Verb add_bench(CLI::App& smelt) {
    auto o = std::make_shared<BenchOptions>();
    CLI::App* verb = smelt.add_subcommand("bench", "Measure prefill and decode speed");
    std::string shapes;
    for (const Shape& s : list_shapes()) shapes += (shapes.empty() ? "" : ", ") + s.name;
    const auto group = [verb](const char* name) { verb->option_defaults()->group(name); };
    const auto count = [verb](const char* name, int& value, int min, const char* doc) {
        verb->add_option(name, value, doc)->check(in_range(min, 1 << 20))->capture_default_str();
    };
    group("What is measured");
    add_model_argument(*verb, o->model);
    verb->add_option("--shape", o->shape,
                     "Instead of a model: random weights of a known shape (" + shapes + ")");
    verb->add_option("--format", o->format, "Number format of the random weights")->capture_default_str();
    verb->add_option("--layers", o->n_layers, "Only the first layers of the shape, where memory is short")
        ->check(in_range(1, 1000));
    verb->add_option("--batch", o->batch,
                     "Decode with this many sequences at once; a list (1,4,16,64) gives one row each")
        ->check(CLI::Range(1, 1024))
        ->delimiter(',');
    verb->add_flag(
        "--ops", o->ops,
        "Measure each op of the model by itself, in a prefill step of --prompt tokens and in decode");
    verb->add_flag("--report", o->report, "Measure shapes and formats from small to large and print a table");
    verb->add_flag("--list-shapes", o->list_shapes, "Only print the shapes and their sizes");
    verb->add_option("--save", o->save, "Only write the random weights of --shape, for other programs")
        ->type_name("FILE.gguf");
    group("A suite of measurements");
    add_suite_options(*verb, o->suite);
    group("How much");
    count("-p,--prompt", o->n_prompt, 0, "Tokens of prefill; 0: none");
    count("-n,--decode", o->n_decode, 0, "Tokens of decode; 0: none");
    count("-d,--depth", o->depth, 0, "Tokens in the context before decode begins");
    count("--chunk", o->chunk, 1, "Tokens of a prefill step");
    verb->add_option("-r,--runs", o->n_runs, "Runs that count, after one that does not")
        ->check(in_range(1, 1000))
        ->capture_default_str();
    group("Or a server");
    verb->add_option("--serve", o->serve.target,
                     "Server to measure: http://HOST:PORT, or a model to serve for this");
    verb->add_option("--served-model", o->serve.model, "The model's name there; default: the first one");
    verb->add_option("--clients", o->serve.clients, "Clients at once; a list gives one measurement each")
        ->check(in_range(1, 4096))
        ->delimiter(',')
        ->capture_default_str();
    count("--requests", o->serve.n_requests, 1, "Requests of each client, one after the other");
    count("--words", o->serve.n_prompt, 1, "Words in a prompt");
    count("--tokens", o->serve.n_decode, 2, "Tokens in an answer");
    verb->add_option("--good-ttft", o->serve.good_ttft_ms,
                     "A request is good if its first token comes within this many ms")
        ->check(in_range(0.0, 1e9));
    verb->add_option("--good-tpot", o->serve.good_tpot_ms, "... and each further token within this many ms")
        ->check(in_range(0.0, 1e9));
    group("Or several servers");
    add_compare_options(*verb, o->compare);
    group("Model and device");
    add_kv_option(*verb, o->kv);
    add_model_options(*verb, o->device);
    group("Drafts");
    add_draft_options(*verb, o->drafts);
    group("Output");
    verb->add_flag("--json", o->json, "Print JSON");
    group("Options");
    verb->footer(
        "Examples:\n  smelt bench models/demo-23m\n  smelt bench --shape qwen3-0.6b --format q8_0 -p 512 -n "
        "64\n"
        "  smelt bench --shape qwen3-4b --format q4_0 -p 0 --depth 4096 --json\n"
        "  smelt bench --shape gpt-oss-20b --format mxfp4 --layers 4\n"
        "  smelt bench --shape qwen3-0.6b --format q4_0 --ops\n"
        "  smelt bench --shape qwen3-0.6b --format q4_k --batch 1,4,16,64\n"
        "  smelt bench models/demo-23m --speculate lookup --draft-model models/demo-5m\n"
        "  smelt bench --shape qwen3-4b --format q4_0 --save qwen3-4b-q4_0.gguf\n"
        "  smelt bench --report --device metal\n"
        "  smelt bench models/demo-5m models/demo-23m --suite --quick\n"
        "  smelt bench --shape qwen3-4b --format q4_0 --suite --device cpu,cuda --resume result.json\n"
        "  smelt bench models/demo-23m --compare smelt=http://127.0.0.1:8080 other=http://127.0.0.1:8081\n"
        "  smelt bench --serve models/demo-23m --clients 1,8,32 --good-ttft 200");
    return {verb, [o] { run_traced(o->device, [&] { run(*o); }); }};
}

}  // namespace smelt
