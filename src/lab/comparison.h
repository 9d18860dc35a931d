// Two models side by side: their tensors, and what they predict.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "files/model_file.h"
#include "lab/divergence.h"
#include "lab/windows.h"

namespace smelt {

struct TensorError {
    std::string name;
    Format format;        // of the other
    double relative = 0;  // root of the mean square of the differences, over that of the weights
    double largest = 0;   // difference of one weight
};

// Of the tensors that both have, whose formats differ; those with other rows or another order of rows are
// left out.
std::vector<TensorError> tensor_errors(const ModelFile& original, const ModelFile& other, ThreadPool& pool);

// `other` against `original`, both with a cache in f16.
ScoreSummary compare_models(std::shared_ptr<const ModelFile> original, std::shared_ptr<const ModelFile> other,
                            Backend& backend, const TextWindows& windows, int n_threads);

}  // namespace smelt
