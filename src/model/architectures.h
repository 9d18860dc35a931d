// The one list of architectures. Each is a file with a make_ function that loads its weights.
#pragma once

#include <memory>

#include "model/model.h"
#include "model/weight_loader.h"

// name as in general.architecture
#define ARCHITECTURES(X) \
    X(llama)             \
    X(qwen2)             \
    X(qwen3)             \
    X(qwen3moe)

namespace smelt {

#define X(name) std::unique_ptr<Model> make_##name(WeightLoader& load, const ModelConfig& config);
ARCHITECTURES(X)
#undef X

}  // namespace smelt
