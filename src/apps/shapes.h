// Models of exact published shapes with random weights, made in memory: `bench --shape` measures with them
// what a download would.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "files/model_file.h"
#include "model/config.h"

namespace smelt {

struct Shape {
    std::string name;          // "qwen3-4b"
    std::string architecture;  // "qwen3"
    int64_t n_layers, dim, ffn_dim, n_heads, n_kv_heads, head_dim, vocab_size, n_ctx;
    double rope_theta;
    bool tied;                                                      // output head is the embedding
    bool qkv_bias;                                                  // Qwen2
    bool qk_norm;                                                   // Qwen3
    int64_t n_experts = 0, n_experts_used = 0, expert_ffn_dim = 0;  // 0 experts: dense
    int64_t n_dense_layers = 0, n_shared_experts = 0;
    std::optional<LatentAttention> latent = {};  // then head_dim is that of a cache row
};

const std::vector<Shape>& list_shapes();

// Throws Error that lists the names.
const Shape& find_shape(const std::string& name);

int64_t n_parameters(const Shape& shape);

// Matrices in `format` (of MXFP4 models the experts alone, the others BF16), norms and biases in F32; weights
// about N(0, 0.02), norms 1. The same bytes every time.
std::shared_ptr<const ModelFile> make_random_model(const Shape& shape, Format format);

}  // namespace smelt
