// smelt bench --suite: everything that is measured of models on the devices of a machine, in one result.
#pragma once

#include <string>
#include <vector>

#include "apps/device_options.h"
#include "engine/kv_formats.h"

namespace smelt {

struct SuiteOptions {
    bool wanted = false;
    std::vector<std::string> models = {};  // empty: the shape
    std::string shape = {}, format = {};   // of its weights
    int n_layers = 0;
    bool quick = false, json = false, csv = false;
    double seconds = 0;       // that it may take; 0: 60 when quick, else 20 minutes
    int n_runs = 5;           // of a case, where time allows
    std::string resume = {};  // results are kept there, and those that are there are not measured again
    std::vector<std::string> kinds = {};    // of cases; empty: all
    std::vector<std::string> formats = {};  // empty: some
    KvFormats kv = {};
    DeviceOptions device;  // its `device` may be several, with commas
};

void add_suite_options(CLI::App& verb, SuiteOptions& o);

// Throws Error: nothing can be opened, a file of other results. What single cases cannot do is in the result.
void bench_suite(const SuiteOptions& options);

}  // namespace smelt
