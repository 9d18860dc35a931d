// The one list of verbs. Each is a file that adds its options to the command line and says what to run.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>

// in the order in which --help shows them; add_NAME stands in NAME.cpp
#define VERBS(X)  \
    X(run)        \
    X(serve)      \
    X(pull)       \
    X(list)       \
    X(rm)         \
    X(inspect)    \
    X(convert)    \
    X(quantize)   \
    X(tokenize)   \
    X(detokenize) \
    X(template)   \
    X(logits)     \
    X(bench)      \
    X(doctor)     \
    X(completion) \
    X(manual)

namespace smelt {

struct Verb {
    CLI::App* app;
    // Called once after parsing, when the user chose this verb. Throws Error for what fails (exit 1) and
    // CLI::ValidationError for options that contradict each other (exit 2). Results to stdout, messages to
    // stderr.
    std::function<void()> run;
};

#define X(name) Verb add_##name(CLI::App& smelt);
VERBS(X)
#undef X

}  // namespace smelt
