// What `convert` and `quantize` have in common: one model into another container, with its vocabulary and
// prompts.
#pragma once

#include <optional>
#include <string>

#include "quant/format.h"

namespace smelt {

struct ConversionJob {
    std::string in, out;
    std::optional<Format> format = {};  // of matrices; without it they stay as they are
    int n_threads = 0;                  // 0: one per processor
    bool json = false;
    bool force = false;  // a file that is there is written over
};

// The target container is chosen by the name of `out`: NAME.gguf, NAME.bin (qwen3.c), else a Hugging Face
// folder. Prints what was written. Throws Error naming what the target cannot hold.
void run_conversion(const ConversionJob& job);

}  // namespace smelt
