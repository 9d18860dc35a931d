// The command `smelt`: parses the line, runs one verb, turns failures into one line and an exit code.
// 0: done. 1: it failed. 2: the command line is wrong. Another: a verb's own, thrown as CLI::RuntimeError.
#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <new>
#include <string>
#include <vector>

#include "apps/help_text.h"
#include "apps/peer_flags.h"
#include "apps/remedy.h"
#include "apps/usage.h"
#include "apps/verbs.h"
#include "apps/version.h"
#include "base/error.h"
#include "base/log.h"

namespace smelt {

namespace {

int run(int argc, char** argv) {
    CLI::App app("smelt runs large language models on this machine.", "smelt");
    app.set_version_flag("--version", version());
    app.require_subcommand(1);
    app.formatter(std::make_shared<HelpText>());
    app.fallthrough();
    bool verbose = false, quiet = false;
    app.add_flag("-v,--verbose", verbose, "More messages on stderr");
    app.add_flag("-q,--quiet", quiet, "Errors only on stderr, no progress bars");
    app.footer("smelt help VERB explains a verb with examples.");

    std::vector<Verb> verbs;
#define X(name, group_name)           \
    verbs.push_back(add_##name(app)); \
    verbs.back().app->group(group_name);
    VERBS(X)
#undef X

    std::string chosen;
    try {
        Translation line = translate_peer_flags(app, {argv + 1, argv + argc});
        chosen = line.verb;
        std::ranges::reverse(line.arguments);  // as CLI11 wants them
        app.parse(std::move(line.arguments));
        init_log(quiet ? LogLevel::quiet : verbose ? LogLevel::verbose : LogLevel::normal);
        for (const std::string& warning : line.warnings) spdlog::warn("{}", warning);
        for (const Verb& verb : verbs) {
            if (verb.app->parsed()) verb.run();
        }
    } catch (const CLI::RuntimeError& e) {
        return e.get_exit_code();
    } catch (const CLI::Success& e) {  // --help, --version
        return app.exit(e);
    } catch (const CLI::ParseError& e) {
        fmt::print(stderr, "smelt: {}\n", printable(usage_text(e, chosen), Lines::one));
        return 2;
    } catch (const Error& e) {
        fmt::print(stderr, "smelt: {}{}\n", printable(e.what(), Lines::many), remedy_for(e.what()));
        return 1;
    } catch (const std::bad_alloc&) {
        fmt::print(stderr, "smelt: out of memory\n");
        return 1;
    } catch (const std::exception& e) {
        // A thread or a file descriptor that the system has no room for.
        fmt::print(stderr, "smelt: {}\n", printable(e.what(), Lines::many));
        return 1;
    }
    return std::fflush(stdout) == 0 ? 0 : 1;
}

// Without memory there may be no exception either: that is an error too, and no signal. Before static objects
// are made.
[[gnu::constructor(101)]] void end_without_memory() {
    std::set_terminate([] {
        try {
            if (std::current_exception() != nullptr) throw;
        } catch (const std::bad_alloc&) {
        } catch (...) {
            std::abort();
        }
        std::fputs("smelt: out of memory\n", stderr);
        std::_Exit(1);
    });
}

}  // namespace

}  // namespace smelt

int main(int argc, char** argv) {
    // A file that may grow no further is an error with a name, not the end of the process.
    std::signal(SIGXFSZ, SIG_IGN);
    return smelt::run(argc, argv);
}
