// What `convert` and `quantize` have in common: one model into another container, with its vocabulary and
// prompts.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "files/gguf/imatrix.h"
#include "files/model_file.h"
#include "files/packed/packed_writer.h"

namespace smelt {

struct ConversionJob {
    std::string in, out;
    std::optional<Format> format = {};           // of matrices; without it they stay as they are
    std::map<std::string, Format> formats = {};  // of single tensors, by the model's names; to GGUF alone
    std::shared_ptr<const Importance> importance = {};  // of columns; to GGUF alone
    std::optional<PackedOptions> packed = {};  // GPTQ's or AWQ's layout, to Hugging Face folders alone
    int n_threads = 0;                         // 0: one per processor
    std::string mmproj = {};                   // where the vision tower goes, as GGUF; empty: nowhere
    std::vector<std::string> lora = {};  // adapters, "PATH" or "PATH:SCALE", that are merged into the weights
    bool json = false;
    bool force = false;  // a file that is there is written over
};

// NAME.gguf, NAME.bin, NAME.onnx or the name of a folder. Throws Error for names that are neither.
Container target_container(const std::string& out);

// Throws Error where there is a file already and the job does not say force.
void check_target(const ConversionJob& job);

// The target container is chosen by the name of `out`: NAME.gguf, NAME.bin (qwen3.c), NAME.onnx,
// else a Hugging Face folder. Prints what was written. Throws Error naming what the target cannot hold.
void run_conversion(const ConversionJob& job);

// The part of it that writes `model`, which may be another than the file `job.in`. Returns its bytes on disk.
uint64_t write_model(const ModelFile& model, const ConversionJob& job);
// What write_model() would take as GGUF.
uint64_t gguf_size(const ModelFile& model, const ConversionJob& job);

}  // namespace smelt
