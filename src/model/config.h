// Hyperparameters of a model, read from its metadata and checked: after read_config() every number is usable
// as it stands.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "files/family.h"
#include "files/model_file.h"

namespace smelt {

// Multi-head latent attention: the cache holds one row a token for all heads, a latent vector (from which
// each head's key and value would be projected) and a rotated key.
struct LatentAttention {
    int64_t q_rank = 0, kv_rank = 0;  // lengths of the latent vectors
    int64_t nope_dim = 0,
            rope_dim = 0;  // of a query head: the part that is not rotated, and the part that is
    int64_t v_dim = 0;     // of a value head
};

// Layers that carry a state from token to token in place of a KV cache: the gated delta rule, behind a causal
// convolution over a few tokens. A block of the cache has one row of floats for such a layer.
struct RecurrentLayers {
    int64_t n_k_heads = 0, k_dim = 0;  // heads of keys (and queries), and of values, which share them
    int64_t n_v_heads = 0, v_dim = 0;
    int64_t conv_kernel = 0;  // tokens
    bool tiled = false;       // value head h has key head h % n_k_heads

    int64_t n_channels() const { return 2 * n_k_heads * k_dim + n_v_heads * v_dim; }
    int64_t conv_floats() const { return (conv_kernel - 1) * n_channels(); }
    int64_t state_floats() const { return conv_floats() + n_v_heads * k_dim * v_dim; }
};

struct ModelConfig {
    std::string architecture;  // "qwen3"
    int64_t n_layers = 0;
    int64_t dim = 0;  // embedding length
    int64_t ffn_dim = 0;
    int64_t n_heads = 0;
    int64_t n_kv_heads = 0;
    int64_t head_dim = 0;  // not always dim / n_heads; with latent attention that of a cache row
    std::optional<LatentAttention> latent = {};
    std::optional<RecurrentLayers> recurrent = {};
    std::vector<bool> is_recurrent = {};  // (n_layers) where there are such layers
    bool recurrent_at(int64_t layer) const {
        return recurrent.has_value() && is_recurrent[static_cast<size_t>(layer)];
    }
    float attention_scale = 0;  // of q·k
    int64_t vocab_size = 0;
    int64_t n_ctx_train = 0;  // tokens
    int64_t n_positions = 0;  // learned ones, which no context can exceed; 0: positions are rotary
    float norm_eps = 0;

    int64_t n_experts = 0;       // 0: dense
    int64_t n_experts_used = 0;  // per token
    int64_t expert_ffn_dim = 0;
    int64_t n_dense_layers = 0;    // the first ones, without experts
    int64_t n_shared_experts = 0;  // of expert_ffn_dim each, for every token
    bool norm_expert_weights = true;
    float expert_weights_scale = 1;
    RouteParams::Score expert_score = RouteParams::Score::softmax;
    int32_t n_expert_groups = 1, n_expert_groups_used = 1;

    // Positions that a token sees in windowed layers; 0: all. Of recurrent layers the cache keeps what a
    // window of two keeps: the state after the token before.
    int window = 0;
    std::vector<bool> windowed;  // (n_layers) where window > 0
    int window_of(int64_t layer) const {
        return window > 0 && windowed[static_cast<size_t>(layer)] ? window : 0;
    }

    RopePairing rope_pairing = RopePairing::half;
    std::vector<float>
        rope_inv_freq;     // (rotated values / 2) radians per token, with the model's scaling applied
    float rope_scale = 1;  // YaRN's factor on cos and sin
    // Frequencies of each axis where tokens of pictures have a time, a row and a column: they take turns,
    // from the second and third on for so many, and the rest are of time. Zeros: one axis.
    std::array<int64_t, 3> rope_sections = {};
    int rope_axis_of(int64_t frequency) const {
        const auto axis = static_cast<size_t>(frequency % 3);
        return axis > 0 && frequency < 3 * rope_sections[axis] ? static_cast<int>(axis) : 0;
    }
    std::vector<float> rope_inv_freq_long;   // in their place for contexts beyond rope_short_context
    int64_t rope_short_context = 0;          // tokens
    std::vector<float> rope_inv_freq_local;  // of windowed layers, where these have their own
};

// Throws Error naming the key that is missing or out of range, with what was expected and found.
ModelConfig read_config(const ModelFile& file, const Family& family);

}  // namespace smelt
