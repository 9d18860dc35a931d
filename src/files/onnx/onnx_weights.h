// The weights that the walk found -> tensors in smelt's number formats.
#pragma once

#include "files/model_file.h"
#include "files/onnx/onnx_walk.h"

namespace smelt {

// Adds a tensor for each part, and one of zeros for each bias that the model's family has and the graph has
// not: exporters leave out those that are zero. Rows that lie in the file as they are needed stay there;
// columns, and integers in other blocks than smelt's, become bytes of the model's own, once a matrix.
void add_onnx_weights(const OnnxDecoder& decoder, Weights weights, ModelFile& model);

}  // namespace smelt
