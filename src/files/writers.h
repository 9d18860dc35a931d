// One writer per container. Each streams tensor by tensor and leaves either the whole target or none of it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>

#include "files/gguf/imatrix.h"
#include "files/model_file.h"
#include "files/packed/packed_writer.h"
#include "files/qwen3c/qwen3c.h"

namespace smelt {

struct WriteOptions {
    std::optional<Format> format = {};           // of matrices; see choose_format()
    std::map<std::string, Format> formats = {};  // of single tensors, by the model's names; GGUF, or packed
    // What columns count for, by the target's names; of formats of groups, GGUF alone. Null: by the weights.
    const Importance* importance = nullptr;
    // How Hugging Face folders hold matrices in Q4_Z, which they have no other way to.
    std::optional<PackedOptions> packed = {};
    int n_threads = 1;
    std::function<void(uint64_t done, uint64_t total)> progress = {};  // bytes
    uint64_t shard_bytes = 5'000'000'000;  // Hugging Face: larger models are split
};

// `vocabulary`: the tokenizer.ggml.* keys, empty where the model's own metadata has them.
void write_gguf(const ModelFile& model, const std::filesystem::path& path, const Metadata& vocabulary,
                const WriteOptions& options);

// What it would take on disk.
uint64_t gguf_bytes(const ModelFile& model, const Metadata& vocabulary, const WriteOptions& options);

// A file of tensors that is no model: floats as they are.
void write_gguf_tensors(const std::vector<TensorView>& tensors, const Metadata& metadata,
                        const std::filesystem::path& path);

// The model's vision tower, as llama.cpp's converter writes one. Throws Error where it has none.
void write_mmproj(const ModelFile& model, const std::filesystem::path& path);

// The folder must not exist, or be empty. Texts may be empty: then there is no such file.
struct HuggingFaceTexts {
    std::string tokenizer_json = {}, tokenizer_config_json = {};
};
void write_hugging_face(const ModelFile& model, const std::filesystem::path& folder,
                        const HuggingFaceTexts& texts, const WriteOptions& options);

// path, path.data with the weights, and beside them genai_config.json and the tokenizer's files, over what is
// there: onnx_neighbours() names all of them. Not config.json, which some other model's may be.
void write_onnx(const ModelFile& model, const std::filesystem::path& path, const HuggingFaceTexts& texts,
                const WriteOptions& options);
std::vector<std::filesystem::path> onnx_neighbours(const std::filesystem::path& path);

// Q8_0 with groups of 64, as qwen3.c's export.py: smaller groups where dim is no multiple of 64.
struct Qwen3cTexts {
    std::string tokenizer = {};                 // bytes of NAME.bin.tokenizer; empty: no such file
    std::optional<Qwen3cPrompts> prompts = {};  // without it, no .template files
};
void write_qwen3c(const ModelFile& model, const std::filesystem::path& path, const Qwen3cTexts& texts,
                  const WriteOptions& options);

// rope_freqs.weight, as GGUF stores Llama 3's scaling: divisors of the head_dim / 2 frequencies. Empty where
// the metadata describes no such scaling.
std::vector<float> llama3_rope_divisors(const Metadata& metadata, const std::string& architecture);

// Counts written bytes against the total and reports at most a thousand times.
class ProgressMeter {
 public:
    ProgressMeter(uint64_t total, const WriteOptions& options) : total_(total), report_(options.progress) {}
    void add(uint64_t n);

 private:
    uint64_t total_, done_ = 0, reported_ = 0;
    std::function<void(uint64_t, uint64_t)> report_;
};

}  // namespace smelt
