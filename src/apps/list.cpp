// smelt list: the pulled models.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "apps/hub_model.h"
#include "apps/verbs.h"
#include "base/json.h"
#include "base/units.h"

namespace smelt {

namespace {

Json model_json(const CachedModel& m) {
    return {{"model", m.repo},          {"bytes", m.n_bytes}, {"partial_bytes", m.n_partial},
            {"revisions", m.revisions}, {"files", m.files},   {"path", m.path.string()}};
}

void print_model(const CachedModel& m) {
    std::vector<std::string> revisions;
    for (const std::string& r : m.revisions) revisions.push_back(r.size() == 40 ? r.substr(0, 8) : r);
    const std::string partial =
        m.n_partial > 0 ? fmt::format(", {} of it not finished", bytes_text(m.n_partial)) : "";
    fmt::print("{:<50} {:>10}  {}{}\n", m.repo, bytes_text(m.n_bytes), fmt::join(revisions, " "), partial);
    for (const std::string& name : m.files) {
        if (name.ends_with(".gguf")) fmt::print("  :{}\n", name);
    }
}

void print_names(const CachedModel& m) {
    bool has_gguf = false;
    for (const std::string& name : m.files) {
        if (!name.ends_with(".gguf")) continue;
        fmt::print("{}:{}\n", m.repo, name);
        has_gguf = true;
    }
    if (!has_gguf) fmt::print("{}\n", m.repo);
}

}  // namespace

Verb add_list(CLI::App& smelt) {
    struct Options {
        bool json = false, names = false;
    };
    auto o = std::make_shared<Options>();
    CLI::App* verb = smelt.add_subcommand("list", "List the models that were pulled");
    verb->alias("ls");
    verb->add_flag("--names", o->names, "Print what run and serve take, a line each");
    verb->add_flag("--json", o->json, "Print JSON");
    verb->footer(
        "Other tools' models in the same cache are listed as well.\n\nExamples:\n  smelt list\n  smelt list "
        "--json");
    return {verb, [o] {
                const HubOptions options = hub_options();
                const auto models = list_cached(options);
                Json all = Json::array();
                for (const CachedModel& m : models) {
                    if (o->names) {
                        print_names(m);
                    } else if (o->json) {
                        all.push_back(model_json(m));
                    } else {
                        print_model(m);
                    }
                }
                if (o->json) fmt::print("{}\n", to_string(all));
                if (models.empty() && !o->names && !o->json) {
                    fmt::print(stderr, "no models in {}; smelt pull ORG/NAME fetches one\n",
                               options.cache.string());
                }
            }};
}

}  // namespace smelt
