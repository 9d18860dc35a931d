// From ops to stages. Each compile() adds the stages of one op; what depends on the step (how many tokens,
// how long the sequences are) is looked up when a step begins.
#pragma once

#include <algorithm>

#include "backend/cpu/packer.h"
#include "backend/cpu/stage_list.h"
#include "backend/record.h"

namespace smelt::cpu {

using namespace op;

class SamplerPool;

struct Compiler {
    const Kernels& kernels;
    int n_threads;
    StageList& stages;
    Scratch& scratch;
    SamplerPool& samplers;
    Packer& packer;

    // For a product, packed where that is possible: also a table that is the head's matrix too.
    MatrixRows product_rows(const Weight& w) const {
        packer.pack(w);
        return matrix_of(w);
    }
};

#define X(name) void compile(const Compiler& c, const name& op);
SMELT_OPS(X)
#undef X

constexpr int64_t chunk_elements = 16 << 10;  // of a row-wise op; about 3 µs

// f(frame, row) for every row, in chunks of about chunk_elements.
template <class F>
struct EachRow {
    RowCount count;
    int64_t row_cost;  // elements
    F f;
    int64_t n_rows = 0, chunk_rows = 1;

    int begin(const Frame& frame) {
        n_rows = count.in(frame);
        chunk_rows = std::max<int64_t>(1, chunk_elements / std::max<int64_t>(1, row_cost));
        return static_cast<int>((n_rows + chunk_rows - 1) / chunk_rows);
    }
    void run(const Frame& frame, int chunk, int) const {
        const int64_t first = chunk * chunk_rows, last = std::min(n_rows, first + chunk_rows);
        for (int64_t i = first; i < last; ++i) f(frame, i);
    }
};
template <class F>
void each_row(const Compiler& c, RowCount count, int64_t row_cost, F f) {
    c.stages.add(EachRow<F>{count, row_cost, f});
}

}  // namespace smelt::cpu
