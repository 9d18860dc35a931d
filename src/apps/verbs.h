// The one list of verbs. Each is a file that adds its options to the command line and says what to run.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>

// in the order in which --help shows them, with the group there; add_NAME is in NAME.cpp
#define VERBS(X)                      \
    X(run, "Talk to models")          \
    X(serve, "Talk to models")        \
    X(ps, "Talk to models")           \
    X(stop, "Talk to models")         \
    X(pull, "Get models")             \
    X(list, "Get models")             \
    X(rm, "Get models")               \
    X(convert, "Get models")          \
    X(quantize, "Get models")         \
    X(triton_config, "Get models")    \
    X(inspect, "Look inside")         \
    X(tokenize, "Look inside")        \
    X(detokenize, "Look inside")      \
    X(template, "Look inside")        \
    X(logits, "Look inside")          \
    X(eval, "Measure and check")      \
    X(bench, "Measure and check")     \
    X(report, "Measure and check")    \
    X(check_api, "Measure and check") \
    X(doctor, "Measure and check")    \
    X(help, "About smelt")            \
    X(version, "About smelt")         \
    X(completion, "About smelt")      \
    X(manual, "About smelt")

namespace smelt {

struct Verb {
    CLI::App* app;
    // Called once after parsing, when the user chose this verb. Throws Error for what fails (exit 1) and
    // CLI::ValidationError for options that contradict each other (exit 2). Results to stdout, messages to
    // stderr.
    std::function<void()> run;
};

#define X(name, group) Verb add_##name(CLI::App& smelt);
VERBS(X)
#undef X

}  // namespace smelt
