// LoRA adapters as files: PEFT's folders and llama.cpp's GGUF files -> low-rank updates of a model's
// matrices, under GGUF's names and with the rows in the order of that model's file. Knows no device.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "files/model_file.h"

namespace smelt {

// y = W x becomes y = W x + scale * B (A x).
struct LowRank {
    std::string tensor;  // of the model: "blk.3.attn_q.weight"
    int64_t rank = 0;
    float scale = 1;
    std::vector<float> a;  // (rank, in_features)
    std::vector<float> b;  // (out_features, rank)
};

struct Adapter {
    std::filesystem::path path;
    std::vector<LowRank> updates;  // in the order of the adapter's tensors, one for each matrix
};

// A folder with adapter_config.json and adapter_model.safetensors, or a GGUF file. `model` is what it was
// trained for. Throws Error naming what does not fit: keys that mean more than the formula above, another
// architecture, tensors that the model has not or that are no plain matrices, shapes, numbers that are not
// finite.
Adapter read_adapter(const std::filesystem::path& path, const ModelFile& model);

// The model with W + factor * scale * B A in place of W, in W's number format. Sums are in double.
ModelFile merged(const ModelFile& model, const Adapter& adapter, double factor);

}  // namespace smelt
