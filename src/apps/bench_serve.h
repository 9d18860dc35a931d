// smelt bench --serve: a server under 1 to many clients at once, with the definitions of vLLM's benchmark.
#pragma once

#include <string>
#include <vector>

#include "apps/device_options.h"

namespace smelt {

struct ServeBenchOptions {
    std::string target;  // http://HOST:PORT, or a model that is served here for the time of the measurement
    std::string model;   // name of the model at the server; empty: its first
    std::vector<int> clients = {1, 2, 4, 8, 16, 32, 64};
    int n_requests = 4;                // of each client, one after the other
    int n_prompt = 64, n_decode = 64;  // words of the prompt, about a token each; tokens of the answer
    double good_ttft_ms = 0, good_tpot_ms = 0;  // what a good request takes at most; 0: any
    bool json = false;
    DeviceOptions device;
};

// Throws Error naming what the server refused.
void bench_serve(const ServeBenchOptions& options);

}  // namespace smelt
