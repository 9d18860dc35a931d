// smelt bench --compare: servers that speak OpenAI's API, with the same prompts, in turn.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

namespace smelt {

struct CompareOptions {
    std::vector<std::string> servers = {};  // URL or NAME=URL
    std::string model = {};                 // whose tokenizer counts; empty: each server counts for itself
    std::string served_model = {};          // its name at the servers; empty: the first of each
    std::string prompts = {};               // prompt-test's prompt.txt, or its folder of N.txt; empty: ours
    std::string report_folder = {};         // where prompt-test's result files go
    std::string key = {};
    int n_tokens = 64, n_rounds = 3;
    double cooling = 0;  // seconds between two requests
    bool json = false;
};

void add_compare_options(CLI::App& verb, CompareOptions& o);

// Throws Error naming the server that failed and what it said.
void bench_compare(const CompareOptions& options);

}  // namespace smelt
