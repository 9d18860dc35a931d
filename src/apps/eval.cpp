// smelt eval: how well a model predicts a text, and how far it is from a reference model. What quantizing
// costs is judged by it.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <optional>
#include <thread>

#include "apps/device_options.h"
#include "apps/disk_size.h"
#include "apps/hub_model.h"
#include "apps/kv_option.h"
#include "apps/progress.h"
#include "apps/trace_file.h"
#include "apps/values.h"
#include "apps/verbs.h"
#include "base/error.h"
#include "base/json.h"
#include "base/mapped_file.h"
#include "base/units.h"
#include "lab/comparison.h"
#include "lab/divergence.h"
#include "lab/report.h"
#include "lab/windows.h"
#include "text/tokenizer.h"

namespace smelt {

namespace {

struct EvalOptions {
    std::string model, reference, report;
    std::vector<std::string> texts;
    int window = 512, n_windows = 0;
    bool special = false, json = false;
    KvFormats kv = {};
    DeviceOptions device;
};

// A text is a domain; its scores follow one another in windows of `targets` tokens.
struct Domain {
    std::string name;
    TextWindows windows;
    std::vector<TokenScore> scores = {};
};

std::vector<int32_t> read_text(const std::string& path, const Tokenizer& tokenizer, bool special) {
    const MappedFile file(path);
    return tokenizer.encode(file.text(), {.add_special = false, .parse_special = special});
}

std::vector<Domain> read_domains(const EvalOptions& o, const ModelFile& model, const ModelFile* reference) {
    const Tokenizer tokenizer = load_tokenizer(model);
    std::vector<Domain> domains;
    for (const std::string& path : o.texts) {
        const std::vector<int32_t> ids = read_text(path, tokenizer, o.special);
        if (static_cast<int>(ids.size()) < o.window) {
            throw Error("{}: expected at least one window of {} tokens, found {} tokens", path, o.window,
                        ids.size());
        }
        if (reference != nullptr && read_text(path, load_tokenizer(*reference), o.special) != ids) {
            throw Error(
                "{}: expected the token ids of {}, found others in {}: only models with one "
                "vocabulary can be compared",
                path, model.path.string(), reference->path.string());
        }
        domains.push_back({path, TextWindows(ids, o.window, o.n_windows)});
    }
    return domains;
}

void score_domains(const EvalOptions& o, Backend& backend, const Model& model, const Model* reference,
                   std::vector<Domain>& domains, ThreadPool& pool) {
    WindowReader reader(model, backend, o.window, o.kv);
    std::optional<WindowReader> reference_reader;
    if (reference != nullptr) reference_reader.emplace(*reference, backend, o.window, KvFormats{});
    uint64_t total = 0, done = 0;
    for (const Domain& d : domains) total += d.windows.ids.size();
    ProgressBar bar("eval", ProgressBar::Unit::tokens);
    std::vector<float> expected;
    for (Domain& d : domains) {
        for (size_t i = 0; i < d.windows.n(); ++i) {
            if (reference_reader) {
                const auto rows = reference_reader->logits(d.windows, i);
                expected.assign(rows.begin(), rows.end());
            }
            const auto scores = score_rows(reader.logits(d.windows, i), expected, d.windows.targets(i), pool);
            if (!std::ranges::all_of(scores, [](const TokenScore& s) { return std::isfinite(s.nll); })) {
                throw Error("{}: expected finite logits, found others in window {} of {}", o.model, i,
                            d.name);
            }
            d.scores.insert(d.scores.end(), scores.begin(), scores.end());
            bar.show(done += d.windows.window(i).size(), total);
        }
    }
}

Json to_json(const ScoreSummary& s, bool compared) {
    Json j = {{"tokens", s.n}, {"perplexity", s.perplexity}};
    if (!compared) return j;
    j.update(Json{{"reference_perplexity", s.reference_perplexity},
                  {"kl_mean", s.kl_mean},
                  {"kl_error", s.kl_error},
                  {"kl_median", s.kl_median},
                  {"kl_p99", s.kl_p99},
                  {"kl_max", s.kl_max},
                  {"top1", s.top1},
                  {"top5", s.top5}});
    return j;
}

// The same by position in the window, in eight parts of those that are scored.
std::vector<ReportPart> by_position(const std::vector<Domain>& domains) {
    constexpr size_t n_parts = 8;
    std::vector<ReportPart> parts;
    const size_t n = domains.front().windows.targets(0).size();
    const auto offset = static_cast<size_t>(domains.front().windows.first()) + 1;
    for (size_t p = 0; p < std::min(n, n_parts); ++p) {
        const size_t first = n * p / std::min(n, n_parts), end = n * (p + 1) / std::min(n, n_parts);
        std::vector<TokenScore> scores;
        for (const Domain& d : domains) {
            for (size_t i = 0; i < d.scores.size(); ++i) {
                if (i % n >= first && i % n < end) scores.push_back(d.scores[i]);
            }
        }
        parts.push_back(
            {static_cast<int>(offset + first), static_cast<int>(offset + end - 1), summarize(scores)});
    }
    return parts;
}

void print_json(const EvalOptions& o, uint64_t n_bytes, const ScoreSummary& all,
                const std::vector<Domain>& domains) {
    const bool compared = !o.reference.empty();
    Json j = {{"model", o.model}};
    if (compared) j["reference"] = o.reference;
    j["bytes"] = n_bytes;
    j["window"] = o.window;
    j.update(to_json(all, compared));
    j["positions"] = Json::array();
    for (const ReportPart& p : by_position(domains)) {
        Json part = {{"first", p.first}, {"last", p.last}};
        part.update(to_json(p.scores, compared));
        j["positions"].push_back(std::move(part));
    }
    j["texts"] = Json::array();
    for (const Domain& d : domains) {
        Json text = {{"text", d.name}, {"windows", d.windows.n()}};
        text.update(to_json(summarize(d.scores), compared));
        j["texts"].push_back(std::move(text));
    }
    fmt::print("{}\n", j.dump(2));
}

void print_row(const std::string& name, const ScoreSummary& s, bool compared) {
    fmt::print("{:<24} {:>8} {:>11.4f}", name, s.n, s.perplexity);
    if (compared) {
        fmt::print(" {:>9.5f} {:>8.4f} {:>7.2f} {:>7.2f}", s.kl_mean, s.kl_p99, 100 * s.top1, 100 * s.top5);
    }
    fmt::print("\n");
}

void print_table(const EvalOptions& o, uint64_t n_bytes, const ScoreSummary& all,
                 const std::vector<Domain>& domains) {
    const bool compared = !o.reference.empty();
    fmt::print("model       {}, {}\n", o.model, bytes_text(n_bytes));
    if (compared) {
        fmt::print("reference   {}, perplexity {:.4f}\n", o.reference, all.reference_perplexity);
    }
    fmt::print("{:<24} {:>8} {:>11}{}\n", "", "tokens", "perplexity",
               compared ? "   KL mean      p99  top-1 %  top-5 %" : "");
    print_row("all", all, compared);
    if (domains.size() > 1) {
        for (const Domain& d : domains) {
            print_row(std::filesystem::path(d.name).filename().string(), summarize(d.scores), compared);
        }
    }
    for (const ReportPart& p : by_position(domains)) {
        print_row(fmt::format("positions {} to {}", p.first, p.last), p.scores, compared);
    }
}

void report(const EvalOptions& o, const ModelFile& model, const ModelFile& reference, uint64_t n_bytes,
            const ScoreSummary& all, const std::vector<Domain>& domains, ThreadPool& pool) {
    std::string texts;
    for (const Domain& d : domains) texts += (texts.empty() ? "" : " ") + d.name;
    add_to_report(o.report, {.model = o.model,
                             .reference = o.reference,
                             .text = texts,
                             .bytes = n_bytes,
                             .n_weights = reference.n_weights(),
                             .scores = all,
                             .parts = by_position(domains),
                             .tensors = tensor_errors(reference, model, pool)});
}

void evaluate(const EvalOptions& o) {
    const std::string path = local_model(o.model);
    const auto file = open_model(path);
    const auto reference_file = o.reference.empty() ? nullptr : open_model(local_model(o.reference));
    std::vector<Domain> domains = read_domains(o, *file, reference_file.get());
    const auto backend = o.device.open();
    const auto load = [&](const std::shared_ptr<const ModelFile>& f) {
        return load_model(override_rope_scaling(f, o.device.rope_scaling), *backend);
    };
    const auto model = load(file);
    const auto reference = reference_file == nullptr ? nullptr : load(reference_file);
    if (reference && reference->config().vocab_size != model->config().vocab_size) {
        throw Error("{}: expected a vocabulary of {} tokens as {} has, found {}", o.reference,
                    model->config().vocab_size, o.model, reference->config().vocab_size);
    }
    ThreadPool pool(o.device.n_threads > 0
                        ? o.device.n_threads
                        : std::max(1, static_cast<int>(std::thread::hardware_concurrency())));
    score_domains(o, *backend, *model, reference.get(), domains, pool);

    std::vector<TokenScore> all;
    for (const Domain& d : domains) all.insert(all.end(), d.scores.begin(), d.scores.end());
    const uint64_t n_bytes = size_on_disk(path);
    if (o.json) {
        print_json(o, n_bytes, summarize(all), domains);
    } else {
        print_table(o, n_bytes, summarize(all), domains);
    }
    if (!o.report.empty()) report(o, *file, *reference_file, n_bytes, summarize(all), domains, pool);
}

}  // namespace

Verb add_eval(CLI::App& smelt) {
    auto o = std::make_shared<EvalOptions>();
    CLI::App* verb =
        smelt.add_subcommand("eval", "Perplexity on a text, and how far a model is from a reference");
    const auto group = [verb](const char* name) { verb->option_defaults()->group(name); };
    group("What is measured");
    add_model_argument(*verb, o->model)->required();
    verb->add_option("--text", o->texts,
                     "Text to predict; may be repeated, then each is also shown by itself")
        ->required()
        ->check(CLI::ExistingFile)
        ->type_name("FILE");
    verb->add_option("--reference", o->reference,
                     "Model with the same vocabulary to compare with: KL divergence, shared best tokens");
    group("The text");
    verb->add_option("--window", o->window, "Tokens read at a time; the second half is scored")
        ->check(in_range(4, 1 << 20))
        ->capture_default_str();
    verb->add_option("--windows", o->n_windows, "Only the first NUMBER windows of each text; 0: all")
        ->check(CLI::NonNegativeNumber)
        ->capture_default_str();
    verb->add_flag("--special,!--no-special", o->special,
                   "Special tokens in the text become their ids; default: they are text like any other");
    group("Model and device");
    add_kv_option(*verb, o->kv);
    add_model_options(*verb, o->device);
    group("Output");
    verb->add_flag("--json", o->json, "Print the result as JSON");
    verb->add_option("--report", o->report, "Add this model to the tables (CSV, Markdown) and plots in DIR")
        ->type_name("DIR")
        ->needs("--reference");
    group("Options");
    verb->footer(
        "Each window is read alone, from its first token on. KL is the sum over tokens of p log(p / q), p "
        "the "
        "reference's\n"
        "probabilities; top-5 is the share of the reference's five best tokens that are among the model's "
        "five.\n"
        "--kv is the model's cache; the reference has f16.\n"
        "Example:\n"
        "  smelt eval demo-q4_k_m.gguf --reference models/demo-5m --text heldout.txt --json");
    return {verb, [o] { run_traced(o->device, [&] { evaluate(*o); }); }};
}

}  // namespace smelt
