// What makes features of pictures: a transformer over patches that all see each other, and a merger that
// makes a token of each square of them. Immutable; knows no picture.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "files/family.h"
#include "image/patches.h"
#include "model/step.h"

namespace smelt {

struct ModelFile;

struct VisionConfig {
    int64_t n_layers = 0, dim = 0, ffn_dim = 0, n_heads = 0;
    int64_t out_dim = 0;               // of a feature: the language model's embedding length
    int64_t n_positions = 0;           // learned ones: a square of this many
    std::vector<int64_t> deep_layers;  // after which features are taken besides those of the last
    float eps = 1e-6f;
    int32_t image_token = -1;  // of the prompt's text, one for each picture; -1: the file does not say
    PatchRules patches;

    int64_t head_dim() const { return dim / n_heads; }
    // Floats of a token: its embedding, and what the language model's first layers get besides.
    int64_t feature_len() const { return out_dim * (1 + std::ssize(deep_layers)); }
};

class VisionTower {
 public:
    // Of a file as llama.cpp's mmproj has it; `dim` is the embedding length of the language model. Throws
    // Error naming key or tensor, expected and found.
    VisionTower(const ModelFile& file, const Family& family, int64_t dim, Backend& backend);

    const VisionConfig& config() const { return config_; }
    // Floats that a patch is given to forward() as: its pixels, then its position's embedding.
    int64_t input_len() const { return config_.patches.patch_len() + config_.dim; }
    // Those of all patches of a picture, (n, input_len).
    std::vector<float> input(const Patches& patches) const;

    // Records a step whose tokens are patches, in the order of Patches; it has exactly so many. `in_rows` and
    // `in_columns` are axes 1 and 2 of the rotation. The result, Record::Results::hidden, is (tokens of the
    // picture, feature_len).
    void forward(Step& s) const;

 private:
    struct Linear {
        Weight weight, bias;
        Tensor operator()(Step& s, Tensor x) const { return s.matmul(weight, x, bias); }
    };
    struct Norm {
        Weight weight, bias;
    };
    struct Layer {
        Norm norm1, norm2;
        Linear qkv, out, up, down;
    };
    // Joins a square of patches to one row.
    struct Merger {
        Norm norm;
        Linear up, down;
        bool joins_first = false;  // and norms the joined row, not each patch
        Tensor operator()(Step& s, Tensor x, int64_t n_joined, float eps) const;
    };
    Tensor angles(Step& s) const;

    VisionConfig config_;
    Linear patch_embd_;
    std::vector<float> position_embd_;  // (n_positions, dim)
    Weight inv_freq_;                   // (head_dim / 4), for rows and for columns
    std::vector<Layer> layers_;
    Merger merger_;
    std::vector<Merger> deep_mergers_;
};

}  // namespace smelt
