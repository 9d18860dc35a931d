// RoPE as an ONNX graph has it: tables of cosines and sines, (positions, head_dim / 2) each, where a config
// has a base and a formula.
#pragma once

#include <vector>

#include "files/model_file.h"
#include "files/onnx/onnx_walk.h"

namespace smelt {

// A base that the tables follow; 0: none does, the frequencies are scaled. Throws Error where they are no
// cosines and sines of rotations that grow evenly with the position.
double fitting_rope_base(const OnnxDecoder& decoder);

// Compares the tables with what the model's metadata says. Where they follow other frequencies, as exporters
// have written, the graph's count: they become rope_freqs.weight, if the family has it.
void apply_onnx_rope(const OnnxDecoder& decoder, ModelFile& model);

// Those of the model, where a formula or divisors give them. Throws Error naming another scaling.
std::vector<double> onnx_rope_frequencies(const ModelFile& model, const std::string& architecture,
                                          int64_t n_pairs);

}  // namespace smelt
