// smelt triton-config: a config.pbtxt for Triton's smelt backend, written for a model or read as it reads it.
#include <fmt/format.h>

#include <cstdio>
#include <filesystem>

#include "apps/hub_model.h"
#include "apps/values.h"
#include "apps/verbs.h"
#include "base/atomic_file.h"
#include "base/error.h"
#include "base/mapped_file.h"
#include "engine/kv_formats.h"
#include "files/model_file.h"
#include "triton/model_config.h"
#include "triton/text_protobuf.h"

namespace smelt {

namespace {

namespace fs = std::filesystem;

struct Options {
    std::string model, repository, check;
    TritonConfigChoice choice;
};

// What a file comes to on this machine, a line each.
void print_meaning(const std::string& path) {
    const TritonConfig c = read_triton_config(parse_text_protobuf(MappedFile(path).text(), path));
    const ChatModelOptions& open = c.open;
    fmt::print("name: {}\nmodel: {}\ndevice: {}\nKV cache: {}\nsequences at a time: {}\nresponses: {}\n",
               c.name,
               !c.model_path.empty()  ? c.model_path
               : !c.file_name.empty() ? c.file_name + " in the version's folder"
                                      : "what is in the version's folder",
               open.device, to_string(open.kv), open.engine.scheduler.max_seqs,
               c.decoupled ? "one or several" : "one");
    if (!c.quantization.empty()) fmt::print("weights: {}\n", to_string(c.quantization.front()));
    for (const std::string& w : c.warnings) fmt::print("warning: {}\n", w);
}

void write_config(Options& o) {
    const fs::path path = fs::absolute(local_model(o.model)).lexically_normal();
    open_model(path);  // a folder that is none is found here rather than by Triton
    TritonConfigChoice& choice = o.choice;
    choice.model_path = path.string();
    if (choice.name.empty()) {
        const fs::path last = path.filename().empty() ? path.parent_path() : path;
        choice.name = last.extension() == ".gguf" || last.extension() == ".bin" ? last.stem().string()
                                                                                : last.filename().string();
    }
    const std::string text = write_triton_config(choice);
    read_triton_config(parse_text_protobuf(text, "config.pbtxt"));  // throws what the backend would
    if (o.repository.empty()) {
        std::fwrite(text.data(), 1, text.size(), stdout);
        return;
    }
    const fs::path folder = fs::path(o.repository) / choice.name;
    fs::create_directories(folder / "1");
    AtomicFile file(folder / "config.pbtxt");
    file.write(text);
    file.commit();
    fmt::print("{}\n", (folder / "config.pbtxt").string());
}

}  // namespace

Verb add_triton_config(CLI::App& smelt) {
    auto o = std::make_shared<Options>();
    CLI::App* verb = smelt.add_subcommand(
        "triton-config", "Write a model's configuration for Triton's smelt backend, or check one");
    CLI::Option* model = add_model_argument(*verb, o->model);
    model->required(false);
    verb->add_option(
            "--repository", o->repository,
            "Triton's model repository: FOLDER/NAME/config.pbtxt and FOLDER/NAME/1 are made; default: "
            "print it")
        ->type_name("FOLDER");
    verb->add_option("--check", o->check,
                     "Print what this config.pbtxt comes to here, or what is wrong with it")
        ->check(CLI::ExistingFile)
        ->type_name("FILE")
        ->excludes(model);
    verb->add_option("--name", o->choice.name, "What Triton calls the model; default: the model's own name");
    verb->add_option("--max-batch-size", o->choice.max_batch_size, "Answers that are computed at a time")
        ->check(in_range(1, 1024))
        ->capture_default_str();
    verb->add_option("--device", o->choice.device, "Device: auto, or a name that `smelt doctor` lists")
        ->capture_default_str();
    verb->add_option(
            "--quantization", o->choice.quantization,
            "MODEL_QUANTIZATION: int4, int8, fp16, bf16, or a format that smelt quantize writes; Triton "
            "makes such a file when it loads the model")
        ->type_name("FORMAT");
    verb->add_option("--ctx", o->choice.n_ctx, "Tokens of a prompt with its answer; 0: as the model has it")
        ->check(in_range(0, 1 << 30))
        ->capture_default_str();
    verb->footer(
        "Examples:\n"
        "  smelt triton-config models/demo-23m --repository /srv/triton/models\n"
        "  smelt triton-config --check /srv/triton/models/demo-23m/config.pbtxt");
    return {verb, [o] {
                if (o->model.empty() == o->check.empty())
                    throw CLI::ValidationError("triton-config", "give either a model or --check");
                o->check.empty() ? write_config(*o) : print_meaning(o->check);
            }};
}

}  // namespace smelt
