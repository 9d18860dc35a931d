// ONNX models of decoders as onnxruntime-genai's model builder exports them: a graph, its weights in it or in
// files beside it, config.json or genai_config.json and the tokenizer's files.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <string_view>

#include "files/model_file.h"

namespace smelt {

// What the files beside a model.onnx say; empty: there is no such file.
struct OnnxTexts {
    std::string_view config, genai_config, generation_config;
};

// `folder` is where tensors outside of the bytes are looked for; empty: there are none.
void read_onnx(std::span<const std::byte> bytes, const std::string& source, const OnnxTexts& texts,
               const std::filesystem::path& folder, Weights weights, ModelFile& model);

// A file, or a folder that has one.
ModelFile open_onnx(const std::filesystem::path& path, Weights weights);

// A folder with an ONNX model and no weights of another container.
bool is_onnx_folder(const std::filesystem::path& folder);

}  // namespace smelt
