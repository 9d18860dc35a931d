// smelt ps: the models of a server that runs, and what they do.
#include <fmt/format.h>

#include "apps/running_server.h"
#include "apps/verbs.h"
#include "base/units.h"

namespace smelt {

namespace {

struct PsOptions {
    RunningServer server;
    bool json = false;
};

void print_models(const Json& models, const Json& performance) {
    fmt::print("{:<24} {:<7} {:>10} {:>10} {:>9} {:>10} {:>9}  {}\n", "NAME", "STATE", "WEIGHTS", "KV CACHE",
               "CONTEXT", "UNDER WAY", "TOKENS/S", "DEVICE");
    for (const Json& m : models) {
        const std::string name = m.at("name");
        Json under_way;
        for (const Json& p : performance.at("models")) {
            if (p.at("name") == name) under_way = p.at("requests").at("under_way");
        }
        const bool loaded = m.contains("context");
        fmt::print("{:<24} {:<7} {:>10} {:>10} {:>9} {:>10} {:>9.1f}  {}\n", name,
                   m.at("state").get<std::string>(),
                   loaded ? bytes_text(m.at("weight_bytes").get<uint64_t>()) : "-",
                   loaded ? bytes_text(m.at("kv_bytes").get<uint64_t>()) : "-",
                   loaded ? to_string(m.at("context")) : "-", to_string(under_way),
                   m.at("tokens_per_second_alone").get<double>(), m.value("device", "-"));
    }
}

void run(const PsOptions& o) {
    const Json models = o.server.ask("GET", "/models"), performance = o.server.ask("GET", "/performance");
    if (o.json) return fmt::print("{}\n", models.dump(2));
    print_models(models.at("models"), performance);
}

}  // namespace

Verb add_ps(CLI::App& smelt) {
    auto o = std::make_shared<PsOptions>();
    CLI::App* verb = smelt.add_subcommand("ps", "List the models of a running server and what they do");
    add_server_options(*verb, o->server, "--api-key", "SMELT_API_KEY");
    verb->add_flag("--json", o->json, "Print JSON");
    verb->footer("Examples:\n  smelt ps\n  smelt ps --url http://127.0.0.1:9000");
    return {verb, [o] { run(*o); }};
}

}  // namespace smelt
