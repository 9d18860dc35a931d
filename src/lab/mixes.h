// Which number format each tensor gets: by the names that people give to quantized files ("Q4_K_M"), and as a
// list that can be written down, edited and read again.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "files/model_file.h"

namespace smelt {

// By tensor name, GGUF's. What is not in it stays as the container has it.
using FormatMap = std::map<std::string, Format>;

// "Q4_K_M", "q4-k-m", "int4", "fp4", ... in one spelling, "q4_k_m"; nothing where it is no name of a format
// to write. docs/QUANTIZATION.md has the table.
std::optional<std::string> format_name_of(std::string_view spelling);
// All names, for messages: "f32, f16, ..., q4_k_m, ...".
std::string quantization_names();

// Matrices of products and tables; routers of experts, biases and convolutions stay, as in any conversion.
bool takes_format(const TensorView& t);

// What the name means for this model, its matrices one by one: one format for all of them, or llama.cpp's mix
// of that name. Rows that are no whole blocks of a super-block get the format of 32 that comes next, else
// F16.
FormatMap make_mix(const ModelFile& model, const std::string& name);

// Bytes of the weights if written so.
uint64_t bytes_of(const ModelFile& model, const FormatMap& formats);

// A recipe is TOML: lines "tensor" = "format", under [tensors].
std::string write_recipe(const FormatMap& formats);
// Throws Error naming the line; tensors that the model has not, formats that cannot be written.
FormatMap read_recipe(const ModelFile& model, std::string_view text, std::string_view source);

}  // namespace smelt
