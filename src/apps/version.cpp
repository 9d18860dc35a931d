// smelt version: as --version.
#include "apps/version.h"

#include <fmt/format.h>

#include "apps/verbs.h"

namespace smelt {

Verb add_version(CLI::App& smelt) {
    CLI::App* verb = smelt.add_subcommand("version", "Print the version");
    verb->footer("Examples:\n  smelt version");
    return {verb, [] { fmt::print("{}\n", version()); }};
}

}  // namespace smelt
