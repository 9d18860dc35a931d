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

// A weight in a file. Rows run along the last dimension and are whole blocks of the format.
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
};

enum class Container { hugging_face, gguf, qwen3c };

struct ModelFile {
    std::filesystem::path path;
    Container container;
    std::string container_version;  // "GGUF v3", "safetensors, 2 shards", "qwen3.c v1"
    Metadata metadata;
    std::vector<TensorView> tensors;  // in file order

    // Raw vocabulary of containers that keep it outside the metadata: tokenizer.json (Hugging Face) or the
    // .tokenizer file (qwen3.c); null for GGUF. Read by text/.
    std::shared_ptr<const MappedFile> tokenizer;
    // tokenizer_config.json, or null. Read by text/ (special tokens) and for the chat template.
    std::shared_ptr<const MappedFile> tokenizer_config;

    // Keep the mapped bytes alive; TensorViews point into them.
    std::vector<std::shared_ptr<const MappedFile>> mappings;
    // Tensor bytes that are not mapped: made in memory (bench --shape) or read from a container that scatters
    // them.
    std::vector<std::shared_ptr<const std::vector<std::byte>>> owned;

    const TensorView* find(std::string_view name) const;
    size_t n_bytes() const;
};

// By content, not by extension: a folder with config.json, a GGUF file, a qwen3.c .bin. Throws Error: one
// line with file, offset or tensor, expected and found.
std::shared_ptr<const ModelFile> open_model(const std::filesystem::path& path);

}  // namespace smelt
