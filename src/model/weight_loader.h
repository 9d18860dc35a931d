// Takes tensors of a model file into a backend by name, checking that each has the shape which the
// architecture expects.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "backend/backend.h"
#include "files/model_file.h"

namespace smelt {

// Rows first, first + step, ... of a tensor that holds the rows of several by turns.
struct EveryNth {
    int64_t first = 0, step = 1;
};

class WeightLoader {
 public:
    WeightLoader(const ModelFile& file, Backend& backend);

    bool has(const std::string& name) const { return tensors_.contains(name); }
    Weight matrix(const std::string& name, int64_t rows, int64_t cols);
    Weight embedding(const std::string& name, int64_t rows, int64_t cols, bool also_output_head);
    Weight vector(const std::string& name, int64_t n);
    // One matrix an expert: from a stacked tensor PREFIX + NAME + "_exps.weight", (n_experts, rows, cols), or
    // from PREFIX + NAME + ".E.weight" each. A step reads n_used of them. With nth, a stacked tensor has
    // nth.step times as many rows.
    std::vector<Weight> experts(const std::string& prefix, const std::string& name, int64_t n_experts,
                                int64_t n_used, int64_t rows, int64_t cols, EveryNth nth = {});
    // PREFIX + NAME + "_exps.bias", (n_experts, rows)
    Weight expert_biases(const std::string& prefix, const std::string& name, int64_t n_experts, int64_t rows,
                         EveryNth nth = {});
    Weight vector(std::span<const float> values);

    size_t weight_bytes() const { return weight_bytes_; }
    size_t step_bytes() const { return step_bytes_; }

 private:
    const TensorView& require(const std::string& name) const;
    Weight take(const std::string& name, int64_t rows, int64_t cols, WeightUse use);

    const ModelFile& file_;
    // ModelFile::find() goes through all tensors, and models with experts ask for tens of thousands.
    std::unordered_map<std::string_view, const TensorView*> tensors_;
    Backend& backend_;
    size_t weight_bytes_ = 0, step_bytes_ = 0;
};

}  // namespace smelt
