// One reader per container, behind open_model(). Each takes any bytes and gives a model or throws Error.
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/mapped_file.h"
#include "files/model_file.h"

namespace smelt {

// A folder with config.json and *.safetensors or pytorch_model*.bin.
ModelFile read_hugging_face(const std::filesystem::path& folder, Weights weights);

// A GGUF file's bytes; `model` gets everything but its path and mappings. `source` names the file in errors.
void read_gguf(std::span<const std::byte> bytes, const std::string& source, ModelFile& model);

// GGUF has the float of an NVFP4 tensor, NAME.weight, as NAME.scale, one for all or one an expert: such
// tensors become NVFP4_HF, whose scales include it, in memory of their own.
void apply_nvfp4_scales(ModelFile& model, Weights weights);

// The same for a qwen3.c .bin; its neighbours (vocabulary, prompts) are read from beside model.path.
void read_qwen3c(std::span<const std::byte> bytes, const std::string& source, ModelFile& model);
void read_qwen3c_neighbours(ModelFile& model);

// Keys of config.json and generation_config.json (empty text: there is none) under GGUF's names.
// `source` is the folder's name in errors.
Metadata read_hf_config(std::string_view config, std::string_view generation_config,
                        const std::string& source);

// The part of a config.json that is about text, where the rest is about pictures; otherwise all of it.
Json text_config_of(Json config);

// The files of a folder that are about texts: the vocabulary, which stays as it is, and chat templates.
void read_hf_texts(const std::filesystem::path& folder, ModelFile& model);

// tokenizer.chat_template and its named variants from tokenizer_config.json, unless they are set.
void read_hf_chat_template(std::string_view tokenizer_config, const std::string& source, Metadata& metadata);

// What known families imply where the file is silent: n_kv_heads = n_heads, head_dim = dim / n_heads, ...
void fill_defaults(ModelFile& model);

// Names from files end up in messages and on terminals: throws Error where one holds control characters.
const std::string& check_name(const std::string& name, std::string_view what, std::string_view source);

// A view of the bytes, or of an owned copy where they are not aligned for the format.
std::span<const std::byte> aligned(std::span<const std::byte> bytes, size_t alignment, ModelFile& model);

// model.safetensors.index.json and pytorch_model.bin.index.json: tensor (Hugging Face's name) and the shard
// that holds it, a file with this ending.
struct ShardEntry {
    std::string tensor, file;
};
std::vector<ShardEntry> read_shard_index(std::string_view text, const std::string& source,
                                         std::string_view ending);

struct SafetensorsEntry {
    std::string name;
    std::string dtype;
    std::vector<int64_t> shape;
    std::span<const std::byte> data;
};
// In order of their bytes in the file.
std::vector<SafetensorsEntry> read_safetensors(std::span<const std::byte> bytes, const std::string& source);

// The tensors of a file of torch.save, which may share bytes; dtypes have safetensors' names.
std::vector<SafetensorsEntry> read_torch_bin(std::span<const std::byte> bytes, const std::string& source);
bool is_torch_bin(std::span<const std::byte> bytes);

}  // namespace smelt
