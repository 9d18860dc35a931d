// Weights that Hugging Face checkpoints hold as several tensors: GPTQ's, AWQ's and NVFP4's. Each becomes one
// tensor in a number format of smelt's.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "files/readers.h"

namespace smelt {

// What quantization_config says.
struct QuantScheme {
    enum class Method { none, gptq, awq, nvfp4 } method = Method::none;
    int bits = 4;
    int64_t group_size = -1;     // weights of a row that share a scale; -1: all
    bool zeros_less_one = true;  // GPTQ's first format stores zero points minus one
};
// Of config.json, or of the file that older tools write beside it (its text is empty where there is none).
// Throws Error naming a method or variant that this build does not read.
QuantScheme read_quant_scheme(std::string_view config, std::string_view quantize_config,
                              std::string_view hf_quant_config, const std::string& source);

class PackedWeights {
 public:
    PackedWeights(const QuantScheme& scheme, Weights weights) : scheme_(scheme), weights_(weights) {}

    // True: taken, for join(). Parts may come in any order and from different shards.
    bool take(const SafetensorsEntry& entry, const std::string& source);

    // One tensor each, under Hugging Face's name, "model.layers.0.mlp.up_proj.weight"; its bytes are the
    // file's or belong to `model`. Throws Error naming the tensor whose parts do not fit together.
    std::vector<TensorView> join(ModelFile& model) const;

 private:
    struct Part {
        SafetensorsEntry entry;
        std::string source;
    };
    using Parts = std::map<std::string, Part, std::less<>>;  // "qweight", ...

    TensorView join_nvfp4(const std::string& name, const Parts& parts, ModelFile& model) const;
    TensorView join_integers(const std::string& name, const Parts& parts, ModelFile& model) const;

    QuantScheme scheme_;
    Weights weights_;
    std::map<std::string, Parts> tensors_;  // by name without the part's
};

}  // namespace smelt
