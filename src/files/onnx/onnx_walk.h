// From a graph to the weights of a decoder: a walk from the logits back to the token ids, layer by layer.
// Roles come from how values flow, never from names of nodes or tensors. Whatever the walk does not know on
// its way may change results, and is an Error that names the node.
#pragma once

#include <string>
#include <vector>

#include "files/onnx/onnx_graph.h"

namespace smelt {

// (n_out, n_in), or where n_in is 0 a vector of n_out.
struct OnnxWeight {
    const OnnxTensor* values = nullptr;
    bool by_columns = false;  // values are (n_in, n_out)
    int64_t n_out = 0, n_in = 0;
    // Of integers (MatMulNBits): bits of each and how many of a row share a scale.
    int bits = 0;
    int64_t block = 0;
    const OnnxTensor *scales = nullptr, *zeros = nullptr;
};

// Rows of a weight under GGUF's name.
struct OnnxPart {
    std::string name;
    OnnxWeight weight;
    int64_t first = 0, n = 0;
};

struct OnnxDecoder {
    std::vector<OnnxPart> parts;
    int64_t n_layers = 0, dim = 0, ffn_dim = 0, n_heads = 0, n_kv_heads = 0, head_dim = 0, vocab_size = 0;
    double eps = 0;
    int64_t window = 0;  // positions that a token sees; 0: all
    bool tied = false;   // the output head is the embedding
    bool head_norms = false, head_biases = false;
    const OnnxTensor *cos = nullptr, *sin = nullptr;  // (positions, head_dim / 2)
};

OnnxDecoder walk_onnx(const OnnxGraph& graph);

}  // namespace smelt
