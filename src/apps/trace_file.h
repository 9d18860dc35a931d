// --trace FILE: a Chrome trace of every op of a run, and a table of their sums on stderr.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "apps/device_options.h"
#include "backend/trace.h"

namespace smelt {

// Runs a verb; with --trace its devices add their steps to a trace that is written when it has ended. Throws
// Error when the file cannot be written, before the verb begins where that can be known.
void run_traced(DeviceOptions& device, const std::function<void()>& verb);

// JSON array of events: complete events (X) of ops and of the steps around them in microseconds, a thread for
// each device. chrome://tracing and ui.perfetto.dev read it.
void write_chrome_trace(const Trace::Contents& trace, const std::function<void(std::string_view)>& write);

// "3.1 GB/s" and "0.4 GFLOP/s", empty where there are none.
std::string rate_text(double per_second, const char* unit);

// By the name of the op, the longest first: count, time, share, rates.
std::string sum_table(const Trace::Contents& trace);

}  // namespace smelt
