// The one list of architectures. Each is a file with a make_ function that loads its weights.
#pragma once

#include <memory>

#include "model/model.h"
#include "model/weight_loader.h"

// make_ function, name as in general.architecture
#define ARCHITECTURES(X)      \
    X(deepseek2, "deepseek2") \
    X(gpt2, "gpt2")           \
    X(gpt_oss, "gpt-oss")     \
    X(llama, "llama")         \
    X(qwen2, "qwen2")         \
    X(qwen3, "qwen3")         \
    X(qwen3moe, "qwen3moe")

namespace smelt {

#define X(make, name) std::unique_ptr<Model> make_##make(WeightLoader& load, const ModelConfig& config);
ARCHITECTURES(X)
#undef X

}  // namespace smelt
