// smelt convert: a model from one container into another, numbers unchanged where the target can hold them.
#include "apps/conversion_job.h"
#include "apps/hub_model.h"
#include "apps/values.h"
#include "apps/verbs.h"

namespace smelt {

Verb add_convert(CLI::App& smelt) {
    auto job = std::make_shared<ConversionJob>();
    CLI::App* verb =
        smelt.add_subcommand("convert", "Write a model as GGUF, Hugging Face folder, ONNX or qwen3.c file");
    verb->add_option("in", job->in, "Model folder, .gguf, .onnx, .bin or hub id")->required();
    verb->add_option("out", job->out,
                     "NAME.gguf, NAME.onnx, NAME.bin (qwen3.c), or a folder that does not exist yet")
        ->required();
    verb->add_option("-t,--threads", job->n_threads, "0: one per processor")->check(in_range(0, 1024));
    verb->add_option("--mmproj", job->mmproj, "Where the vision tower of the model goes, as a GGUF file")
        ->type_name("FILE");
    verb->add_option("--lora", job->lora, "Merge this adapter into the weights, times SCALE; may be repeated")
        ->type_name("PATH[:SCALE]");
    verb->add_flag("--force", job->force, "Write over a file that is there");
    verb->add_flag("--json", job->json, "Print the result as JSON");
    verb->footer(
        "Number formats stay, except what a container cannot hold: a folder gets f16 from quantized "
        "weights,\n"
        "GGUF gets q8_0 from qwen3.c's groups of 64, and a .bin is always that q8_0.\n"
        "Examples:\n"
        "  smelt convert models/demo-5m demo-5m.gguf\n"
        "  smelt convert demo-5m.gguf demo-5m-folder\n"
        "  smelt convert models/demo-vl demo-vl.gguf --mmproj mmproj-demo-vl.gguf\n"
        "  smelt convert models/demo-5m demo-5m.bin     writes demo-5m.bin.tokenizer and .template files "
        "too\n"
        "  smelt convert models/demo-5m demo-5m-onnx/model.onnx     writes genai_config.json and the "
        "tokenizer beside "
        "it");
    return {verb, [job] {
                job->in = local_model(job->in);
                run_conversion(*job);
            }};
}

}  // namespace smelt
