// An opened model: metadata and named tensors where they lie in the mapped files, whatever the container.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/mapped_file.h"
#include "files/metadata.h"
#include "quant/format.h"

namespace smelt {

// A weight in a file. Rows run along the last dimension and are whole blocks of the format. `data` is aligned
// to the size of the format's largest member (a float for F32, a half for F16), `scales` to a scale (a float,
// but a byte for MXFP4_HF).
struct TensorView {
    std::string name;  // GGUF's: "blk.3.attn_q.weight"
    Format format;
    std::vector<int64_t> shape;         // slowest first: (out_features, in_features)
    std::span<const std::byte> data;    // the blocks; for a planar format the quants
    std::span<const std::byte> scales;  // planar formats only
    std::string source;                 // file that holds it, for messages

    int64_t n_elements() const;
    int64_t row_len() const { return shape.empty() ? 1 : shape.back(); }
    int64_t n_rows() const { return row_len() == 0 ? 0 : n_elements() / row_len(); }
    size_t n_bytes() const { return data.size() + scales.size(); }
    RowView row(int64_t r) const;
    std::vector<float> decoded() const;
};

// A tensor of a number format that this build cannot decode. It is listed, so that inspect can show it;
// whoever needs it gets an Error from ModelFile::require().
struct UnsupportedTensor {
    std::string name;
    std::string type;  // the container's name: "Q5_K", "F8_E4M3"
    std::vector<int64_t> shape;
    uint64_t n_bytes;
    std::string source;
};

enum class Container { hugging_face, gguf, qwen3c, onnx };

struct ModelFile {
    std::filesystem::path path;
    Container container;
    std::string container_version;  // "GGUF v3", "safetensors, 2 shards", "qwen3.c v1", "ONNX, pytorch"
    Metadata metadata;
    std::vector<TensorView> tensors;  // in file order
    std::vector<UnsupportedTensor> unsupported;
    // What was left out or assumed while reading, one line each, for inspect.
    std::vector<std::string> notes;
    // Keys and tensors that may change results and that smelt does not know, one line each; see known_keys.h.
    // Such a model can be looked at, not loaded or converted.
    std::vector<std::string> refused;

    // Raw vocabulary of containers that keep it outside the metadata: tokenizer.json (Hugging Face, ONNX) or
    // the .tokenizer file (qwen3.c); null for GGUF. Read by text/.
    std::shared_ptr<const MappedFile> tokenizer;
    // tokenizer_config.json, or null. Read by text/ (special tokens) and for the chat template.
    std::shared_ptr<const MappedFile> tokenizer_config;

    // Keep the mapped bytes alive; TensorViews point into them.
    std::vector<std::shared_ptr<const MappedFile>> mappings;
    // Tensor bytes that are not mapped: made in memory (bench --shape) or read from a container that scatters
    // them.
    std::vector<std::shared_ptr<const std::vector<std::byte>>> owned;

    // What makes features of pictures, as llama.cpp's mmproj files have it; null: the model is of text alone.
    std::shared_ptr<ModelFile> vision;

    const TensorView* find(std::string_view name) const;
    // Throws Error naming the tensor where it is missing or of an unsupported format.
    const TensorView& require(std::string_view name) const;
    size_t n_bytes() const;
    uint64_t n_weights() const;
};

std::string shape_text(std::span<const int64_t> shape);  // "(2, 3)", for messages

// Metadata keys beyond GGUF's own that every reader sets:
//   smelt.rope.pairing         "half" or "interleaved": which q/k rows RoPE rotates together
//   generation.eos_token_ids   list: any of them ends an answer
//   generation.{temperature,top_k,top_p,min_p,repetition_penalty,do_sample}   where the model recommends them
//   <arch>.rope.scaling.attn_factor   as in GGUF: multiplies YaRN's own 0.1 ln(factor) + 1
// and for known families <arch>.{vocab_size,attention.head_count_kv,attention.key_length,
// attention.value_length,rope.freq_base}, with their defaults where the file leaves them out. llama3 scaling
// is either the tensor rope_freqs.weight (divides the frequencies, head_dim / 2 floats) or
// <arch>.rope.scaling.{type = "llama3",factor,low_freq_factor,high_freq_factor,original_context_length}.
//
// By content, not by extension: a folder with config.json, a GGUF file, a qwen3.c .bin, an ONNX model. Throws
// Error: one line with file, offset or tensor, expected and found.
//
// GPTQ's, AWQ's, NVFP4's and ONNX's weights are put into smelt's number formats then, in memory of their own.
// `listed` leaves that out: names, formats and shapes are right, and bytes those of the file, not to be
// decoded.
enum class Weights { ready, listed };
std::shared_ptr<const ModelFile> open_model(const std::filesystem::path& path,
                                            Weights weights = Weights::ready);
// The model with the vision tower of a GGUF file as llama.cpp makes them (mmproj); empty path: as it is.
std::shared_ptr<const ModelFile> with_mmproj(std::shared_ptr<const ModelFile> model,
                                             const std::filesystem::path& path);

}  // namespace smelt
