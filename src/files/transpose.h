// Matrices stored by columns, as GPT-2's Conv1D weights in Hugging Face files.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace smelt {

// (rows, cols) of elements of 2 or 4 bytes to (cols, rows).
std::vector<std::byte> transposed(std::span<const std::byte> matrix, int64_t rows, int64_t cols,
                                  size_t element_bytes);

}  // namespace smelt
