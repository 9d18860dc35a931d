// Weights of a model rounded with a text as calibration, product after product: each is rounded so that the
// errors of its results on what it reads are small, which is what the products before it, already rounded,
// make of the text.
#pragma once

#include <functional>
#include <string>

#include "files/model_file.h"
#include "lab/compensated.h"
#include "lab/mixes.h"
#include "lab/windows.h"

namespace smelt {

struct CalibrationOptions {
    CompensationOptions rounding = {};
    int n_threads = 1;
    // What else the table of an embedding that is also the output head counts: errors of the rows that are
    // looked up, as a part of what they cost as head.
    double lookup_share = 0.1;
    bool follow_errors = true;  // inputs of rounded products; else those of the original
    // How much of what the errors before a product do to its inputs its weights make up for: 0 to 1.
    double correction = 1;
    std::function<void(size_t done, size_t total)> progress = {};  // tensors
    // Of each tensor, once it is done: e H eᵀ over w H wᵀ.
    std::function<void(const std::string& name, Format format, double error)> report = {};
};

// Bytes of the tensors of `formats`, by name. Throws Error: a tensor that is no product of the model, rows
// that are no whole blocks, values that are not finite.
using TensorBytes = std::map<std::string, std::vector<std::byte>>;
TensorBytes round_calibrated(std::shared_ptr<const ModelFile> file, Backend& backend,
                             const TextWindows& windows, const FormatMap& formats,
                             const CalibrationOptions& options);

// The same file with other bytes for some tensors.
std::shared_ptr<const ModelFile> with_tensors(const ModelFile& file, const FormatMap& formats,
                                              TensorBytes bytes);

}  // namespace smelt
