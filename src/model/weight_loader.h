// Takes tensors of a model file into a backend by name, checking that each has the shape which the
// architecture expects.
#pragma once

#include <cstddef>
#include <string>

#include "backend/backend.h"
#include "files/model_file.h"

namespace smelt {

class WeightLoader {
 public:
    WeightLoader(const ModelFile& file, Backend& backend) : file_(file), backend_(backend) {}

    bool has(const std::string& name) const { return file_.find(name) != nullptr; }
    Weight matrix(const std::string& name, int64_t rows, int64_t cols);
    Weight embedding(const std::string& name, int64_t rows, int64_t cols, bool also_output_head);
    Weight vector(const std::string& name, int64_t n);
    Weight vector(std::span<const float> values);

    size_t weight_bytes() const { return weight_bytes_; }
    size_t step_bytes() const { return step_bytes_; }

 private:
    Weight take(const std::string& name, int64_t rows, int64_t cols, WeightUse use);

    const ModelFile& file_;
    Backend& backend_;
    size_t weight_bytes_ = 0, step_bytes_ = 0;
};

}  // namespace smelt
