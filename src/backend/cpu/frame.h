// Where a compiled step finds its tensors: stages know offsets, the frame of each launch knows the memory.
#pragma once

#include "backend/cpu/memory.h"
#include "backend/step_input.h"

namespace smelt::cpu {

struct Frame {
    std::byte* workspace = nullptr;
    const std::byte* input = nullptr;
    const int32_t* drawn_before = nullptr;  // tokens of the launch before
    int64_t n_drawn_before = 0;
    StepCounts counts;
    Scratch* scratch = nullptr;
    uint64_t launch = 0;  // its number
};

template <class T>
struct Rows {
    T* first;
    int64_t stride;
    T* operator[](int64_t i) const { return first + i * stride; }
};

// A tensor of elements T, before it is known where the workspace lies.
template <class T>
struct Place {
    size_t offset = 0;
    int64_t stride = 0;  // elements
    bool of_input = false;

    Place() = default;
    explicit Place(const Tensor& t)
        : offset(t.offset), stride(t.row_stride), of_input(t.space == Space::input) {
        CHECK(!t || sizeof(T) % dtype_bytes(t.dtype) == 0);
    }
    Rows<T> in(const Frame& f) const {
        std::byte* base = of_input ? const_cast<std::byte*>(f.input) : f.workspace;
        return {reinterpret_cast<T*>(base + offset), stride};
    }
};

// The number of rows of a tensor in each step.
struct RowCount {
    RowsOf rows_of = RowsOf::fixed;
    int64_t each = 1, most = 0;

    RowCount() = default;
    explicit RowCount(const Tensor& t) : rows_of(t.rows_of), each(t.rows_each), most(t.n_rows()) {}
    int64_t in(const Frame& f) const { return rows_of == RowsOf::fixed ? most : f.counts.of(rows_of) * each; }
};

}  // namespace smelt::cpu
