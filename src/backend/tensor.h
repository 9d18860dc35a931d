// Tensors of a record and weights of a device. A Tensor is a value: where, which type, which shape; it owns
// nothing.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "base/error.h"
#include "quant/format.h"

namespace smelt {

// A piece of device memory. Each backend derives its own; nobody else looks inside.
class Storage {
 public:
    virtual ~Storage() = default;
};

enum class DType : uint8_t { F32, F16, BF16, I32 };

constexpr size_t dtype_bytes(DType t) {
    return t == DType::F32 || t == DType::I32 ? 4 : 2;
}

// Where a tensor lies: in the workspace that a device keeps for activations, or in the step's packed input.
enum class Space : uint8_t { workspace, input };

// What the rows of a tensor are counted by. A record is made for the most that a step of its shape class can
// have; the input of each step says how many there are.
enum class RowsOf : uint8_t { fixed, tokens, sequences, logits, hidden };

// Row-major view, slowest dimension first. Rows (dimension 0) may lie row_stride elements apart; the other
// dimensions are dense.
struct Tensor {
    Space space = Space::workspace;
    DType dtype = DType::F32;
    RowsOf rows_of = RowsOf::fixed;
    int rank = 0;
    int buffer = -1;                 // of the record: what take() handed out
    int64_t rows_each = 1;           // rows for each of what they are counted by
    size_t offset = 0;               // bytes into the space
    std::array<int64_t, 4> shape{};  // shape[0]: the most rows
    int64_t row_stride = 0;          // elements

    int64_t n_rows() const { return shape[0]; }
    int64_t row_len() const {
        int64_t n = 1;
        for (int i = 1; i < rank; ++i) n *= shape[static_cast<size_t>(i)];
        return n;
    }
    int64_t n_elements() const { return n_rows() * row_len(); }
    size_t n_bytes() const { return static_cast<size_t>(n_elements()) * dtype_bytes(dtype); }
    bool dense() const { return row_stride == row_len(); }
    explicit operator bool() const { return rank > 0; }
    bool operator==(const Tensor&) const = default;

    // The same rows as (n_rows, n_heads, row_len / n_heads).
    Tensor heads(int64_t n_heads) const {
        CHECK(n_heads > 0 && row_len() % n_heads == 0, "{} columns, {} heads", row_len(), n_heads);
        Tensor t = *this;
        t.rank = 3;
        t.shape = {n_rows(), n_heads, row_len() / n_heads, 0};
        return t;
    }
    // n columns of every row, beginning with `first`: (n_rows, n).
    Tensor columns(int64_t first, int64_t n) const {
        CHECK(first >= 0 && n > 0 && first + n <= row_len(), "columns {} to {} of {}", first, first + n,
              row_len());
        Tensor t = flat();
        t.offset += static_cast<size_t>(first) * dtype_bytes(dtype);
        t.shape[1] = n;
        return t;
    }
    // The same rows as (n_rows, row_len).
    Tensor flat() const {
        Tensor t = *this;
        t.rank = 2;
        t.shape = {n_rows(), row_len(), 0, 0};
        return t;
    }
    // The same elements as n rows, a multiple or a fraction of those it has; only where they are dense.
    Tensor in_rows(int64_t n) const {
        CHECK(dense() && n > 0 && n_elements() % n == 0, "{} elements, {} rows", n_elements(), n);
        Tensor t = *this;
        t.rank = 2;
        t.shape = {n, n_elements() / n, 0, 0};
        t.row_stride = t.row_len();
        if (rows_of == RowsOf::fixed) return t;
        t.rows_each = rows_each * n / n_rows();
        CHECK(t.rows_each * n_rows() == rows_each * n, "{} rows as {}", n_rows(), n);
        return t;
    }
    // Rows [first, first + n).
    Tensor rows(int64_t first, int64_t n) const {
        Tensor t = *this;
        t.offset += static_cast<size_t>(first * row_stride) * dtype_bytes(dtype);
        t.shape[0] = n;
        t.rows_of = RowsOf::fixed;
        return t;
    }
};

// A weight where a model file (or anyone) holds it, before a backend takes it in. Vectors have rows = 1.
struct WeightView {
    Format format;
    int64_t rows, cols;
    std::span<const std::byte> data, scales;  // scales: planar formats only
    int64_t row_step = 1;                     // its rows are every row_step-th of those in data
};

// What a weight is used for, so that a backend may lay it out accordingly.
enum class WeightUse : uint8_t {
    matrix,     // Matmul
    embedding,  // Embed, and possibly Matmul as tied output head
    vector,     // norm weight, bias, frequencies: copied, as float
};

// How a weight may be cut between partners, never over how many. Pieces are whole units of rows or columns (a
// head; a block of a format). With parts > 1 the rows are that many matrices, one below the other, and each
// is cut the same way.
enum class CutBy : uint8_t { none, rows, columns };
struct Cut {
    CutBy by = CutBy::none;
    int64_t unit = 1;
    int64_t parts = 1;
};

// What a backend may want to know of a weight besides its bytes.
struct WeightRole {
    WeightUse use = WeightUse::matrix;
    int64_t layer = -1;   // -1: of no layer
    bool expert = false;  // used for some tokens only
    Cut cut = {};
};

// A weight inside a backend. Movable; the storage may alias the mapped model file, which must outlive it.
struct Weight {
    Format format = Format::F32;
    int64_t rows = 0, cols = 0;
    std::unique_ptr<Storage> storage;

    explicit operator bool() const { return storage != nullptr; }
    size_t n_bytes() const { return data_bytes(format, rows * cols) + scale_bytes(format, rows * cols); }
};

// Weights by number: experts, heads. Whoever records an op keeps the list.
using WeightList = std::span<const Weight* const>;

}  // namespace smelt
