// What errors of each tensor of a model cost, and what number formats make of it: measured once, for
// allocations of any size.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "files/model_file.h"
#include "lab/windows.h"

namespace smelt {

struct SensitivityOptions {
    int n_threads = 1;
    int n_windows = 3;        // that divergences are measured on, the last ones
    int n_sampled_rows = 48;  // of a tensor, for what a format makes of it
    std::function<void(size_t done, size_t total)> progress = {};  // tensors
};

struct Sensitivity {
    // The formats that allocations choose from, by size.
    static constexpr Format candidates[] = {Format::Q2_K, Format::Q3_K, Format::IQ4_XS, Format::Q4_K,
                                            Format::Q5_K, Format::Q6_K, Format::Q8_0};
    struct Tensor {
        int64_t n_weights = 0;
        double kl = 0;               // where it alone is rounded plainly to a probe format
        double error = 0;            // e H eᵀ of that rounding
        std::vector<double> errors;  // of the candidates, compensated; empty: no product reads it
    };
    std::map<std::string, Tensor> tensors;  // by group_name()
};

// Tensors that get one format: "blk.3.ffn_gate.weight" for expert 7 of it, the name itself for others.
std::string group_name(const TensorView& t);
// Of those that allocations give a format; the others keep theirs.
bool is_allocated(const TensorView& t);

Sensitivity measure_sensitivity(const std::shared_ptr<const ModelFile>& model, Backend& backend,
                                const TextWindows& windows, const SensitivityOptions& options);

// As a file: JSON.
std::string write_sensitivity(const Sensitivity& sensitivity);
// Throws Error: a text that is none, or is of another model.
Sensitivity read_sensitivity(const ModelFile& model, std::string_view text, const std::string& source);

}  // namespace smelt
