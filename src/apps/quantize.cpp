// smelt quantize: a model with its matrices in other number formats, and what that costs.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <thread>

#include "apps/conversion_job.h"
#include "apps/device_options.h"
#include "apps/hub_model.h"
#include "apps/progress.h"
#include "apps/values.h"
#include "apps/verbs.h"
#include "base/atomic_file.h"
#include "base/error.h"
#include "base/json.h"
#include "base/mapped_file.h"
#include "base/units.h"
#include "lab/allocation.h"
#include "lab/built_in_text.h"
#include "lab/calibrated.h"
#include "lab/collected.h"
#include "lab/comparison.h"
#include "text/tokenizer.h"

namespace smelt {

namespace {

struct QuantizeOptions {
    ConversionJob job;
    std::string out_option, format, automatic, recipe, save_recipe, sensitivity, calibration, imatrix,
        save_imatrix;
    int n_windows = 128;
    bool evaluate = true, tensors = false;
    DeviceOptions device;
    int n_threads() const {
        return job.n_threads > 0 ? job.n_threads
                                 : std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
    }
};

std::string what_is_wrong_with(const std::string& name) {
    return fmt::format("{} {}; formats to write are {}", name,
                       format_from_name(name) ? "is for reading only" : "is no number format",
                       quantization_names());
}

constexpr int calibration_window = 512;

TextWindows calibration_windows(const QuantizeOptions& o, const ModelFile& model, int n_ctx) {
    const Tokenizer tokenizer = load_tokenizer(model);
    const int length = std::min(calibration_window, n_ctx);
    std::vector<int32_t> ids;
    std::string name = "the built-in text";
    if (o.calibration.empty() || o.calibration == "default") {
        ids = tokenizer.encode(calibration_text(), {.parse_special = false});
    } else {
        ids = tokenizer.encode(MappedFile(o.calibration).text(), {.parse_special = false});
        name = o.calibration;
    }
    if (static_cast<int>(ids.size()) < 2 * length) {
        throw Error("{}: expected at least {} tokens for calibration, found {}", name, 2 * length,
                    ids.size());
    }
    return TextWindows(ids, length, o.n_windows);
}

int context_of(const ModelFile& model) {
    const std::string* architecture = model.metadata.get_string("general.architecture");
    const auto n =
        architecture == nullptr ? std::nullopt : model.metadata.get_int(*architecture + ".context_length");
    return n && *n >= 8 ? static_cast<int>(std::min<int64_t>(*n, 1 << 20)) : calibration_window;
}

// "4.25" bits a weight, "2.3GB", "14831136B": bytes of the file.
uint64_t budget_of(const std::string& text, const ModelFile& model) {
    size_t used = 0;
    double value = 0;
    try {
        value = std::stod(text, &used);
    } catch (const std::exception&) {
        used = 0;
    }
    const std::string unit = text.substr(used);
    const double scale = unit.empty()   ? 0
                         : unit == "B"  ? 1
                         : unit == "kB" ? 1e3
                         : unit == "MB" ? 1e6
                         : unit == "GB" ? 1e9
                                        : -1;
    if (used == 0 || scale < 0 || !(value > 0)) {
        throw Error("--auto {}: expected bits a weight (4.25) or a size (14831136B, 2.3GB)", text);
    }
    if (scale > 0) return static_cast<uint64_t>(value * scale);
    double n = 0;
    for (const TensorView& t : model.tensors) n += static_cast<double>(t.n_elements());
    return static_cast<uint64_t>(value * n / 8);
}

// What a GGUF file of the model takes beside its weights: metadata, vocabulary, padding.
uint64_t overhead_of(const ModelFile& model, ConversionJob job) {
    job.formats = make_mix(model, "q8_0");
    return gguf_size(model, job) - bytes_of(model, job.formats);
}

void check_out(QuantizeOptions& o) {
    if (!o.out_option.empty()) {
        if (!o.job.out.empty()) throw CLI::ValidationError("--output", "the output is given twice");
        o.job.out = o.out_option;
    }
    if (o.job.out.empty()) throw CLI::ValidationError("out", "expected a name to write: OUT or -o OUT");
    check_target(o.job);
}

struct TensorErrors {
    double largest = 0, median = 0;
    std::vector<TensorError> tensors;
};

TensorErrors compare_with(const ModelFile& original, const ModelFile& written, const QuantizeOptions& o) {
    ThreadPool pool(o.n_threads());
    TensorErrors c{.tensors = tensor_errors(original, written, pool)};
    std::vector<double> errors;
    for (const TensorError& t : c.tensors) errors.push_back(t.relative);
    std::ranges::sort(errors);
    if (!errors.empty()) {
        c.largest = errors.back();
        c.median = errors[errors.size() / 2];
    }
    return c;
}

std::optional<ScoreSummary> judge(const std::shared_ptr<const ModelFile>& original,
                                  const std::shared_ptr<const ModelFile>& written, const QuantizeOptions& o) {
    if (!o.evaluate) return std::nullopt;
    const Tokenizer tokenizer = load_tokenizer(*original);
    const int length = std::min(calibration_window, context_of(*original));
    const std::vector<int32_t> ids = tokenizer.encode(evaluation_text(), {.parse_special = false});
    const TextWindows windows(ids, length, 4);
    if (windows.n() == 0) return std::nullopt;
    const auto backend = o.device.open();
    return compare_models(original, written, *backend, windows, o.n_threads());
}

void print_result(const QuantizeOptions& o, const std::string& container, uint64_t n_bytes, uint64_t n,
                  double seconds, const TensorErrors& c, const std::optional<ScoreSummary>& s) {
    const double bits = 8 * static_cast<double>(n_bytes) / static_cast<double>(n);
    if (o.job.json) {
        Json j = {{"output", o.job.out},      {"container", container},  {"bytes", n_bytes},
                  {"seconds", seconds},       {"bits_per_weight", bits}, {"largest_error", c.largest},
                  {"median_error", c.median}, {"tensors", Json::array()}};
        for (const TensorError& t : c.tensors) {
            j["tensors"].push_back({{"name", t.name},
                                    {"format", std::string(to_string(t.format))},
                                    {"relative_error", t.relative},
                                    {"largest_error", t.largest}});
        }
        if (s) {
            j["kl_mean"] = s->kl_mean;
            j["top1"] = s->top1;
        }
        fmt::print("{}\n", j.dump(2));
        return;
    }
    if (o.tensors) {
        for (const TensorError& t : c.tensors) {
            fmt::print("{:<32} {:<8} relative error {:.5f}, largest {:.3g}\n", t.name, to_string(t.format),
                       t.relative, t.largest);
        }
    }
    fmt::print("{}: {}, {} in {:.1f} s, {:.2f} bits a weight\n", o.job.out, container, bytes_text(n_bytes),
               seconds, bits);
    fmt::print("relative error of a tensor: {:.5f} at most, {:.5f} in the middle\n", c.largest, c.median);
    if (s) {
        fmt::print("built-in text: KL {:.5f} from the original, the same best token {:.1f} % of the time\n",
                   s->kl_mean, 100 * s->top1);
    }
}

// From the file where there is one, else measured, and written there.
Sensitivity sensitivity_of(const QuantizeOptions& o, const std::shared_ptr<const ModelFile>& model,
                           Backend& backend, const TextWindows& windows) {
    if (!o.sensitivity.empty() && std::filesystem::exists(o.sensitivity)) {
        return read_sensitivity(*model, MappedFile(o.sensitivity).text(), o.sensitivity);
    }
    ProgressBar bar("sensitivity", ProgressBar::Unit::tensors);
    SensitivityOptions options{.n_threads = o.n_threads()};
    options.progress = [&](size_t done, size_t total) { bar.show(done, total); };
    Sensitivity sensitivity = measure_sensitivity(model, backend, windows, options);
    if (!o.sensitivity.empty()) {
        AtomicFile file(o.sensitivity);
        file.write(write_sensitivity(sensitivity));
        file.commit();
    }
    return sensitivity;
}

std::shared_ptr<const ModelFile> round_by_text(const QuantizeOptions& o,
                                               const std::shared_ptr<const ModelFile>& model,
                                               Backend& backend, const TextWindows& windows) {
    FormatMap rounded = o.job.formats;
    std::erase_if(rounded, [](const auto& entry) { return !Compensator::can_round(entry.second); });
    ProgressBar bar("rounding", ProgressBar::Unit::tensors);
    CalibrationOptions c{.n_threads = o.n_threads()};
    if (o.job.packed) c.rounding.q4_z_group = o.job.packed->group_size;
    c.progress = [&](size_t done, size_t total) { bar.show(done, total); };
    return with_tensors(*model, rounded, round_calibrated(model, backend, windows, rounded, c));
}

// The original, or the same with tensors that are rounded already.
std::shared_ptr<const ModelFile> prepare(QuantizeOptions& o, const std::shared_ptr<const ModelFile>& model) {
    const bool calibrated = !o.calibration.empty() || !o.automatic.empty();
    if (!o.imatrix.empty()) {
        o.job.importance = std::make_shared<const Importance>(importance_of(read_imatrix(o.imatrix)));
    }
    std::unique_ptr<Backend> backend;
    std::optional<TextWindows> windows;
    if (calibrated) {
        backend = o.device.open();
        windows = calibration_windows(o, *model, context_of(*model));
    }
    if (!o.save_imatrix.empty()) {
        ImportanceMatrix matrix = collect_importance(model, *backend, *windows);
        matrix.text = o.calibration == "default" ? "" : o.calibration;
        write_imatrix(matrix, o.save_imatrix);
    }
    if (!o.automatic.empty()) {
        const uint64_t budget = budget_of(o.automatic, *model), overhead = overhead_of(*model, o.job);
        if (budget <= overhead)
            throw Error("--auto {}: {} are text and metadata alone", o.automatic, bytes_text(overhead));
        o.job.formats = allocate(*model, sensitivity_of(o, model, *backend, *windows), budget - overhead);
    } else if (!o.recipe.empty()) {
        o.job.formats = read_recipe(*model, MappedFile(o.recipe).text(), o.recipe);
    } else {
        o.job.formats = make_mix(*model, o.format);
    }
    if (!o.save_recipe.empty()) {
        AtomicFile file(o.save_recipe);
        file.write(write_recipe(o.job.formats));
        file.commit();
    }
    return calibrated ? round_by_text(o, model, *backend, *windows) : model;
}

// GPTQ's and AWQ's files: the matrices of layers with 4 bits in groups as large as all rows allow.
std::shared_ptr<const ModelFile> prepare_packed(QuantizeOptions& o,
                                                const std::shared_ptr<const ModelFile>& model) {
    for (const TensorView& t : model->tensors) {
        if (!t.name.starts_with("blk.") || !takes_format(t)) continue;
        if (t.shape.size() != 2) {
            throw Error(
                "{}: tensor {}: expected a matrix, found experts in one tensor; {} has no layout for them",
                o.job.in, t.name, o.format);
        }
        while (t.row_len() % o.job.packed->group_size != 0 && o.job.packed->group_size > 32)
            o.job.packed->group_size /= 2;
        o.job.formats[t.name] = Format::Q4_Z;
    }
    if (o.calibration.empty()) o.calibration = "default";
    const auto backend = o.device.open();
    return round_by_text(o, model, *backend, calibration_windows(o, *model, context_of(*model)));
}

void quantize(QuantizeOptions& o) {
    check_out(o);
    if (o.automatic.empty() && o.recipe.empty() && o.format.empty()) {
        throw CLI::ValidationError("--format", "expected --format, --auto or --recipe");
    }
    const auto started = std::chrono::steady_clock::now();
    o.device.n_threads = o.job.n_threads;
    o.job.in = local_model(o.job.in);
    const auto model = open_model(o.job.in);
    uint64_t n_bytes = 0;
    if (o.format == "gptq" || o.format == "awq") {
        if (target_container(o.job.out) != Container::hugging_face || !o.imatrix.empty())
            throw Error("{}: {} is for a new folder, by a text: expected no other ending, and no --imatrix",
                        o.job.out, o.format);
        o.job.packed = PackedOptions{.layout = o.format == "gptq" ? PackedLayout::gptq : PackedLayout::awq};
        n_bytes = write_model(*prepare_packed(o, model), o.job);
    } else if (target_container(o.job.out) == Container::gguf) {
        n_bytes = write_model(*prepare(o, model), o.job);
    } else {
        if (!o.automatic.empty() || !o.recipe.empty() || !o.calibration.empty() || !o.imatrix.empty()) {
            throw Error(
                "{}: --auto, --recipe, --calibration and --imatrix write GGUF alone, expected NAME.gguf",
                o.job.out);
        }
        o.job.format = format_from_name(o.format);
        if (!o.job.format)
            throw Error("{}: {} is a mix of formats, which GGUF alone holds", o.job.out, o.format);
        n_bytes = write_model(*model, o.job);
    }
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
    const auto written = open_model(o.job.out);
    print_result(o, written->container_version, n_bytes, model->n_weights(), seconds,
                 compare_with(*model, *written, o), judge(model, written, o));
}

}  // namespace

Verb add_quantize(CLI::App& smelt) {
    auto o = std::make_shared<QuantizeOptions>();
    CLI::App* verb =
        smelt.add_subcommand("quantize", "Write a model with its weights in other number formats");
    const auto group = [verb](const char* name) { verb->option_defaults()->group(name); };
    group("Models");
    verb->add_option("in", o->job.in, "Model folder, .gguf, .bin or hub id")->required();
    verb->add_option("out", o->job.out,
                     "NAME.gguf, NAME.onnx, NAME.bin (qwen3.c), or a folder that does not exist yet");
    verb->add_option("-o,--output", o->out_option, "The same as OUT");
    group("Formats");
    verb->add_option_function<std::string>(
            "-f,--format",
            [o](const std::string& text) {
                const auto name = format_name_of(text);
                if (!name) throw CLI::ValidationError("--format", what_is_wrong_with(text));
                o->format = *name;
            },
            "Number format of the matrices, in any spelling: q4_k_m, q8_0, int4, ...; norms and biases stay "
            "floats")
        ->type_name("FORMAT");
    verb->add_option("--auto", o->automatic,
                     "Choose a format for each tensor so that all fit SIZE: 4.25 (bits a weight), 2.3GB or "
                     "14831136B (the file)")
        ->type_name("SIZE")
        ->excludes("--format");
    verb->add_option("--recipe", o->recipe, "Take the tensors' formats from a file that --save-recipe wrote")
        ->check(CLI::ExistingFile)
        ->excludes("--format")
        ->excludes("--auto");
    verb->add_option("--save-recipe", o->save_recipe, "Write the tensors' formats as TOML")
        ->type_name("FILE");
    verb->add_option("--sensitivity", o->sensitivity,
                     "With --auto: keep its measurements in FILE and read them from there next time")
        ->type_name("FILE")
        ->needs("--auto");
    group("Rounding");
    verb->add_option("--calibration", o->calibration,
                     "Calibrate the rounding on this text; --auto has a built-in one")
        ->type_name("FILE");
    verb->add_option("--imatrix", o->imatrix,
                     "Calibrate on an importance matrix of llama.cpp (GGUF or .dat) instead of a text")
        ->check(CLI::ExistingFile)
        ->excludes("--calibration")
        ->excludes("--auto");
    verb->add_option("--save-imatrix", o->save_imatrix,
                     "With --calibration: write the importance matrix of the text, NAME.gguf or NAME.dat")
        ->type_name("FILE")
        ->needs("--calibration");
    verb->add_option("--calibration-windows", o->n_windows, "Most windows of 512 tokens to calibrate on")
        ->check(in_range(2, 100000))
        ->capture_default_str();
    group("Output");
    verb->add_flag("--force", o->job.force, "Write over a file that is there");
    verb->add_flag("--eval,!--no-eval", o->evaluate,
                   "Compare with the original on a built-in text (default)");
    verb->add_flag("--tensors", o->tensors, "Print the error of each tensor");
    verb->add_flag("--json", o->job.json, "Print the result as JSON");
    group("Device");
    verb->add_option("--device", o->device.device, "Device for calibration and comparison")
        ->capture_default_str();
    verb->add_option("-t,--threads", o->job.n_threads, "0: one per processor")->check(in_range(0, 1024));
    group("Options");
    verb->footer(
        "Without --calibration each weight is rounded by itself. With it (--auto has it always), weights "
        "make up for\n"
        "the errors of those before them. A matrix whose rows are no multiple of the format's block gets a "
        "format of\n"
        "blocks of 32, or stays f16 or as it was. A .bin holds q8_0 with groups of 64, as qwen3.c writes "
        "it.\n"
        "docs/QUANTIZATION.md has formats, sizes and what they cost.\n"
        "Examples:\n"
        "  smelt quantize models/demo-5m demo-5m-q4_k_m.gguf --format q4_k_m\n"
        "  smelt quantize models/demo-5m --auto 4.5 --calibration text.txt -o demo-5m-4.5.gguf\n"
        "  smelt quantize models/demo-5m demo-5m-q8_0.bin --format q8_0");
    return {verb, [o] { quantize(*o); }};
}

}  // namespace smelt
