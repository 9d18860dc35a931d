// Takes tensors of a model file into a backend, by the names of the family's table: checks the shapes that it
// gives and says how devices may cut them.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "backend/backend.h"
#include "files/families.h"
#include "files/model_file.h"
#include "files/sizes.h"
#include "model/config.h"
#include "model/model.h"

namespace smelt {

// Rows first, first + step, ... of a tensor that holds the rows of several by turns.
struct EveryNth {
    int64_t first = 0, step = 1;
};

// Rows of one matrix that holds several: `n` of `of` pieces, from piece `first` on. Devices may cut them
// between pieces of `unit` rows; 0: between any.
struct RowPart {
    int64_t first = 0, n = 1, of = 1;
    int64_t unit = 1;
};

// What the table says of a tensor's use and cuts. `in_list`: each matrix of a stacked tensor by itself, which
// has the shape without its first dimension.
WeightRole role_of(const Sizes& sizes, const RuleMatch& match, bool in_list);

class WeightLoader {
 public:
    WeightLoader(const ModelFile& file, const Family& family, const ModelConfig& config, Backend& backend);

    // Of the whole model, by GGUF's name: "output_norm.weight". Throws Error where it is missing.
    Weight operator()(std::string_view name) { return one(rule(name), -1); }
    // Nothing where it is missing.
    Weight if_present(std::string_view name);
    Weight vector(std::span<const float> values);  // computed, in no file
    // A list of integers, one for each of n; empty where there is none.
    std::vector<int64_t> metadata_list(std::string_view name, int64_t n) const;
    // A number that only this architecture's files have, "<architecture>.<name>", within [low, high].
    double metadata_number(std::string_view name, double fallback, double low, double high) const;

    // Weights that are not in the file as they are; whoever keeps the weights keeps these.
    std::vector<std::vector<std::byte>> take_made() { return std::move(made_); }
    MatrixPlaces take_places() { return std::move(places_); }
    size_t weight_bytes() const { return weight_bytes_; }
    size_t step_bytes() const { return step_bytes_; }

 private:
    friend class LayerLoader;
    const TensorRule& rule(std::string_view pattern) const;
    bool has(const RuleMatch& match) const { return tensors_.contains(gguf_name(match)); }
    const TensorView& require(const std::string& name) const;
    Weight one(const TensorRule& rule, int64_t layer);
    std::vector<Weight> experts(const TensorRule& rule, int64_t layer, const TensorRule& from, EveryNth nth);
    Weight expert_biases(const TensorRule& rule, int64_t layer, const TensorRule& from, EveryNth nth);
    std::vector<Weight> stack(const TensorRule& rule, int64_t layer, const TensorRule& from, EveryNth nth);
    Weight take(const RuleMatch& match, const std::vector<int64_t>& shape, const WeightRole& role);

    const ModelFile& file_;
    const Family& family_;
    Sizes sizes_;
    int64_t n_experts_used_;
    // ModelFile::find() goes through all tensors, and models with experts ask for tens of thousands.
    std::unordered_map<std::string_view, const TensorView*> tensors_;
    Backend& backend_;
    size_t weight_bytes_ = 0, step_bytes_ = 0;
    std::vector<std::vector<std::byte>> made_;
    MatrixPlaces places_;
};

// The tensors of one layer, by GGUF's names without "blk.3.".
class LayerLoader {
 public:
    // `kind`: what their names begin with, "blk" but in vision towers.
    LayerLoader(WeightLoader& load, int64_t layer, std::string_view kind = "blk")
        : load_(load), layer_(layer), kind_(kind) {}

    int64_t layer() const { return layer_; }
    bool has(std::string_view name) const;
    Weight operator()(std::string_view name) const;
    Weight if_present(std::string_view name) const;
    Weight part(std::string_view name, const RowPart& part) const;
    Weight vector(const std::vector<float>& values) const { return load_.vector(values); }
    // One matrix an expert, from a stacked tensor "..._exps.weight" or from one each. A bias of all experts
    // is one weight, "..._exps.bias".
    std::vector<Weight> experts(std::string_view name) const;
    // The same where the file has `from` in place of `name`, with the rows of several by turns.
    std::vector<Weight> every_nth(std::string_view name, std::string_view from, EveryNth nth) const;
    Weight every_nth_bias(std::string_view name, std::string_view from, EveryNth nth) const;
    // Latent attention, a matrix a head: keys (kv_rank, nope_dim) and values (v_dim, kv_rank). From GGUF's
    // attn_k_b and attn_v_b, or from the attn_kv_b of Hugging Face's files and of GGUF's older ones.
    struct LatentHeads {
        std::vector<Weight> k, v;
    };
    LatentHeads latent_heads(const LatentAttention& a) const;

 private:
    const TensorRule& rule(std::string_view name) const;

    std::string pattern(std::string_view name) const { return fmt::format("{}.{{}}.{}", kind_, name); }

    WeightLoader& load_;
    int64_t layer_;
    std::string_view kind_;
};

}  // namespace smelt
