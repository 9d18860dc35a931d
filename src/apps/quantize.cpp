// smelt quantize: a model with its matrices in another number format.
#include <fmt/format.h>

#include "apps/conversion_job.h"
#include "apps/hub_model.h"
#include "apps/values.h"
#include "apps/verbs.h"

namespace smelt {

namespace {

// Empty for a format that a file can be written in.
std::string what_is_wrong_with(const std::string& name) {
    const auto format = format_from_name(name);
    if (format && format_info(*format).can_encode && format_info(*format).gguf_id >= 0) return {};
    return fmt::format("{} {}; formats to write are {}", name,
                       format ? "is for reading only" : "is no number format", encodable_names());
}

}  // namespace

Verb add_quantize(CLI::App& smelt) {
    struct Options {
        ConversionJob job;
        std::string format;
    };
    auto o = std::make_shared<Options>();
    CLI::App* verb =
        smelt.add_subcommand("quantize", "Write a model with its weights in another number format");
    verb->add_option("in", o->job.in, "Model folder, .gguf, .bin or hub id")->required();
    verb->add_option("out", o->job.out, "NAME.gguf, NAME.bin (qwen3.c), or a folder that does not exist yet")
        ->required();
    verb->add_option("-f,--format", o->format, "Of the matrices; norms and biases stay floats")
        ->required()
        ->check([](const std::string& name) { return what_is_wrong_with(name); });
    verb->add_option("-t,--threads", o->job.n_threads, "0: one per processor")->check(in_range(0, 1024));
    verb->add_flag("--force", o->job.force, "Write over a file that is there");
    verb->add_flag("--json", o->job.json, "Print the result as JSON");
    verb->footer(
        "Bits per weight: f32 32, f16 and bf16 16, q8_0 8.5, q4_0 4.5, mxfp4 4.25. A matrix whose rows are "
        "no multiple "
        "of\n"
        "the format's block stays f16 or as it was. A .bin holds q8_0 with groups of 64, as qwen3.c writes "
        "it.\n"
        "Examples:\n"
        "  smelt quantize models/demo-23m demo-23m-q8_0.gguf --format q8_0\n"
        "  smelt quantize models/demo-23m demo-23m.bin --format q8_0");
    return {verb, [o] {
                o->job.format = format_from_name(o->format);
                o->job.in = local_model(o->job.in);
                run_conversion(o->job);
            }};
}

}  // namespace smelt
