// smelt bench --ops: time and rates of each op of a model's own record.
#pragma once

#include <string>

#include "backend/trace.h"
#include "base/json.h"
#include "engine/forward.h"

namespace smelt {

struct OpsBenchOptions {
    int n_prompt = 512, n_decode = 64, depth = 0, n_runs = 5;
    KvFormats kv = {};
    bool json = false;
};

// `trace` is that of the backend. Throws Error when the device does not time its ops.
Json ops_json(const std::string& name, const Model& model, Backend& backend, Trace& trace,
              const OpsBenchOptions& options);
// The same, printed: a table for prefill and one for decode, or JSON.
void bench_ops(const std::string& name, const Model& model, Backend& backend, Trace& trace,
               const OpsBenchOptions& options);

}  // namespace smelt
