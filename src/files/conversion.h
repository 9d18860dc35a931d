// Which tensors a target container gets, in which number format and row order, and their bytes as a stream:
// memory stays bounded by a few megabytes, whatever the model's size.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "files/model_file.h"

namespace smelt {

// Which row of the sources a row of the target is. Containers pair the q/k rows that RoPE rotates together
// differently, (j, j + head_dim / 2) or (2j, 2j + 1); gpt-oss's experts have gate and up rows by turns in one
// tensor or apart in two.
enum class RowOrder { as_is, halves_to_pairs, pairs_to_halves, even_rows, odd_rows, by_turns, listed };

// A row of one of the sources.
struct SourceRow {
    size_t source = 0;
    int64_t row = 0;
};

// Hugging Face files hold a planar format as two tensors.
enum class Plane { whole, quants, scales };

struct OutputTensor {
    std::string name;                 // the target's
    std::vector<TensorView> sources;  // of one row length; more than one: experts that become one tensor
    std::vector<int64_t> shape;       // the target's, of weights
    Format format;                    // planar only for a plane of it: qwen3.c's writer has its own encoder
    RowOrder order = RowOrder::as_is;
    int64_t head_dim = 0;              // of rows in pairs and halves
    std::vector<SourceRow> rows = {};  // of listed ones
    Plane plane = Plane::whole;
    bool by_columns = false;                 // the target has it transposed
    std::span<const float> importance = {};  // of columns, (matrices, row_len()); empty: none is known
    // Values for a single source that has a shape but no bytes: computed from others when its turn comes.
    std::function<std::vector<float>()> make = {};
    // Or all its bytes, of a type that no number format has a name for: Hugging Face's words.
    std::function<std::vector<std::byte>()> make_bytes = {};
    std::string dtype = {};  // Hugging Face's name of the type; empty: the format's

    int64_t n_elements() const;
    int64_t row_len() const { return sources.front().row_len(); }
    int64_t n_rows() const { return row_len() == 0 ? 0 : n_elements() / row_len(); }
    uint64_t row_bytes() const;
    uint64_t n_bytes() const { return row_bytes() * static_cast<uint64_t>(n_rows()); }
};

struct FormatChoice {
    std::optional<Format> requested;  // of matrices; without it they stay as they are where the target allows
    Container target;
    const std::map<std::string, Format>* formats =
        nullptr;  // of tensors by the model's name: before all else
};

// The rule, in one place: matrices get the requested format when their rows are whole blocks of it, else F16
// instead of F32 and no change otherwise; without a request they stay, but what a container cannot hold
// becomes Q8_0 (GGUF, from its own formats) or F16 (Hugging Face, from any quantized format). Routers of
// experts stay: they are small, and a rounded one chooses other experts. Vectors (norms, biases) are F32 in
// GGUF and stay as they are in Hugging Face folders.
Format choose_format(const TensorView& tensor, const FormatChoice& choice);

// That of most of a model's bytes.
Format main_format(const ModelFile& model);

// Every tensor under the target's name; experts stacked in GGUF, one by one in Hugging Face folders. Throws
// Error naming the tensor that the target or this build cannot take: unsupported, missing, or without a name
// there.
std::vector<OutputTensor> plan_tensors(const ModelFile& model, const FormatChoice& choice);

using ByteSink = std::function<void(std::span<const std::byte>)>;

// Throws Error naming the tensor where a value does not fit its format.
void stream_tensor(const OutputTensor& tensor, ThreadPool& pool, const ByteSink& sink);

// Row r of the target is this row of the source, for rows of heads.
int64_t source_row(RowOrder order, int64_t head_dim, int64_t r);

}  // namespace smelt
