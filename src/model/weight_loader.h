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
#include "model/config.h"

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
    // Latent attention, a matrix a head: keys (kv_rank, nope_dim) and values (v_dim, kv_rank). From GGUF's
    // attn_k_b and attn_v_b, or from the attn_kv_b of Hugging Face's files and of GGUF's older ones.
    struct LatentHeads {
        std::vector<Weight> k, v;
    };
    LatentHeads latent_heads(const std::string& prefix, int64_t n_heads, const LatentAttention& a);

    // Weights that are not in the file as they are; whoever keeps the weights keeps these.
    std::vector<std::vector<std::byte>> take_made() { return std::move(made_); }
    size_t weight_bytes() const { return weight_bytes_; }
    size_t step_bytes() const { return step_bytes_; }

 private:
    const TensorView& require(const std::string& name) const;
    enum class Of { layer, expert };
    Weight take(const std::string& name, int64_t rows, int64_t cols, WeightUse use, Of of = Of::layer);
    Weight load(const std::string& name, WeightView view, WeightUse use, Of of = Of::layer);
    // The matrices of a tensor (n, rows * nth.step, cols).
    std::vector<Weight> stack(const std::string& name, int64_t n, int64_t rows, int64_t cols,
                              EveryNth nth = {}, Of of = Of::layer);

    const ModelFile& file_;
    // ModelFile::find() goes through all tensors, and models with experts ask for tens of thousands.
    std::unordered_map<std::string_view, const TensorView*> tensors_;
    Backend& backend_;
    size_t weight_bytes_ = 0, step_bytes_ = 0;
    std::vector<std::vector<std::byte>> made_;
};

}  // namespace smelt
