// smelt run --batch: many questions of a file at once, answers as lines of JSON in the order of the
// questions.
#pragma once

#include "apps/run_session.h"

namespace smelt {

struct BatchOptions {
    std::string input = {};   // JSON lines; empty: no batch
    std::string output = {};  // empty: stdout
};

// Lines that fail get a line with "error". Throws Error at the end where there were any, and
// CLI::RuntimeError when Ctrl-C was pressed; what was written by then stays, and the same call goes on from
// there.
void run_batch(const std::string& model, const RunOptions& run, const BatchOptions& batch);

}  // namespace smelt
