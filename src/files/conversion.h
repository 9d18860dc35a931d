// Which tensors a target container gets, in which number format and row order, and their bytes as a stream:
// memory stays bounded by a few megabytes, whatever the model's size.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "files/model_file.h"

namespace smelt {

// Containers pair the q/k rows that RoPE rotates together differently: (j, j + head_dim / 2) or (2j, 2j + 1).
enum class RowOrder { as_is, halves_to_pairs, pairs_to_halves };

struct OutputTensor {
    TensorView source;
    std::string name;  // the target's
    Format format;     // never planar: qwen3.c's writer has its own encoder
    RowOrder order = RowOrder::as_is;
    int64_t head_dim = 0;  // of reordered tensors

    uint64_t n_bytes() const { return data_bytes(format, source.n_elements()); }
};

struct FormatChoice {
    std::optional<Format> requested;  // of matrices; without it they stay as they are where the target allows
    Container target;
};

// The rule, in one place: matrices (two dimensions) get the requested format when their rows are whole blocks
// of it, else F16 instead of F32 and no change otherwise; without a request they stay, but what a container
// cannot hold becomes Q8_0 (GGUF, from Q8_G64) or F16 (Hugging Face, from any quantized format). Vectors
// (norms, biases) are F32 in GGUF and stay as they are in Hugging Face folders.
Format choose_format(const TensorView& tensor, const FormatChoice& choice);

// Every tensor under the target's name. Throws Error naming the tensor that the target or this build cannot
// take: unsupported, missing, or without a name there.
std::vector<OutputTensor> plan_tensors(const ModelFile& model, const FormatChoice& choice);

using ByteSink = std::function<void(std::span<const std::byte>)>;

// Throws Error naming the tensor where a value does not fit its format.
void stream_tensor(const OutputTensor& tensor, ThreadPool& pool, const ByteSink& sink);

// Row r of the target is this row of the source.
int64_t source_row(RowOrder order, int64_t head_dim, int64_t r);

}  // namespace smelt
