// smelt pull: a model of the Hugging Face hub onto this disk.
#include <fmt/format.h>

#include "apps/hub_model.h"
#include "apps/verbs.h"
#include "base/error.h"
#include "base/json.h"

namespace smelt {

namespace {

struct PullOptions {
    std::string model, revision;
    bool json = false;
};

void pull(const PullOptions& o) {
    auto id = parse_hub_id(o.model);
    if (!id) id = parse_hub_id("hf:" + o.model);  // here no path is meant
    if (!o.revision.empty())
        id = parse_hub_id(
            fmt::format("hf:{}@{}{}{}", id->repo, o.revision, id->file.empty() ? "" : ":", id->file));
    const std::string path = pull_with_progress(hub_options(), *id).string();
    if (o.json) {
        fmt::print("{}\n", to_string(Json{{"model", id->text()}, {"path", path}}));
    } else {
        fmt::print("{}\n", path);
    }
}

}  // namespace

Verb add_pull(CLI::App& smelt) {
    auto o = std::make_shared<PullOptions>();
    CLI::App* verb = smelt.add_subcommand("pull", "Fetch a model from the Hugging Face hub");
    verb->add_option("model", o->model,
                     "ORG/NAME, with @REVISION for a branch, tag or commit, and :FILE for a GGUF file or its "
                     "quantization")
        ->required();
    verb->add_option("--revision", o->revision, "Branch, tag or commit");
    verb->add_flag("--json", o->json, "Print JSON");
    verb->footer(
        "Prints the path. Fetches only what a model needs and is not here; goes on where an earlier pull "
        "ended.\n"
        "HF_TOKEN is for models with terms; HF_HOME, HF_HUB_CACHE and HF_ENDPOINT work as in Hugging Face's "
        "tools,\n"
        "which share the files.\n\n"
        "Examples:\n  smelt pull Qwen/Qwen3-0.6B\n  smelt pull Qwen/Qwen3-0.6B-GGUF:Q8_0\n"
        "  smelt run $(smelt pull Qwen/Qwen3-0.6B)");
    return {verb, [o] { pull(*o); }};
}

}  // namespace smelt
