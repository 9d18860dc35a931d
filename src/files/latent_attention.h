// Multi-head latent attention (MLA) where the containers tell it differently. Hugging Face has one matrix
// kv_b, (n_heads * (nope + v), kv_rank): of each head the rows that make its key, then those that make its
// value. GGUF has k_b, (n_heads, kv_rank, nope), the former transposed, and v_b, (n_heads, v, kv_rank).
#pragma once

#include <vector>

#include "files/model_file.h"

namespace smelt {

// Takes the layers that predict further tokens (MTP) out of the model, with a note.
void leave_out_prediction_layers(ModelFile& model, const std::string& architecture);

// The sizes that the other container has, and what neither tells. No effect on models without latent
// attention.
void fill_latent_attention(ModelFile& model, const std::string& architecture);

// Rows [first, first + n) of a tensor.
TensorView rows_of(const TensorView& t, int64_t first, int64_t n);

// The same, transposed: (row_len, n).
std::vector<float> decode_transposed(const TensorView& t, int64_t first, int64_t n);

// k_b and v_b from kv_b, and back. Sizes are those of the metadata; throws Error where the tensors' are
// others.
struct LatentSizes {
    int64_t n_heads, kv_rank, nope, v;
};
LatentSizes latent_sizes(const ModelFile& model, const std::string& architecture);
std::vector<float> make_k_b(const TensorView& kv_b, const LatentSizes& s);
std::vector<float> make_v_b(const TensorView& kv_b, const LatentSizes& s);
std::vector<float> make_kv_b(const TensorView& k_b, const TensorView& v_b, const LatentSizes& s);

}  // namespace smelt
