// smelt stop: a running server gives back the memory of a model. It keeps the name: the next request for it
// loads the model again.
#include <fmt/format.h>

#include "apps/running_server.h"
#include "apps/verbs.h"

namespace smelt {

Verb add_stop(CLI::App& smelt) {
    struct Options {
        RunningServer server;
        std::string model;
    };
    auto o = std::make_shared<Options>();
    CLI::App* verb =
        smelt.add_subcommand("stop", "Unload a model of a running server until the next request for it");
    verb->add_option("model", o->model, "Its name, as smelt ps lists it")->required();
    add_server_options(*verb, o->server, "--admin-key", "SMELT_ADMIN_KEY");
    verb->footer(
        "The server needs --admin-key-file, and this verb a key of that file. Ctrl-C or SIGTERM ends a "
        "server.\n"
        "Examples:\n  smelt stop large\n  SMELT_ADMIN_KEY=$(cat admin.key) smelt stop large --url "
        "http://127.0.0.1:9000");
    return {verb, [o] {
                o->server.ask("POST", "/admin/unload", {{"name", o->model}, {"keep_name", true}});
                fmt::print("{}: unloaded\n", o->model);
            }};
}

}  // namespace smelt
