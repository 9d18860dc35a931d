// From ops to stages. Each compile() adds the stages of one op; what depends on the step (how many tokens,
// how long the sequences are) is looked up when a step begins.
#pragma once

#include <algorithm>

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
};

void compile(const Compiler& c, const Matmul& op);
void compile(const Compiler& c, const GatedMatmul& op);
void compile(const Compiler& c, const MatmulExperts& op);
void compile(const Compiler& c, const MatmulHeads& op);
void compile(const Compiler& c, const Attention& op);
void compile(const Compiler& c, const Embed& op);
void compile(const Compiler& c, const RmsNorm& op);
void compile(const Compiler& c, const AddRmsNorm& op);
void compile(const Compiler& c, const LayerNorm& op);
void compile(const Compiler& c, const RopeTable& op);
void compile(const Compiler& c, const Rope& op);
void compile(const Compiler& c, const StoreKv& op);
void compile(const Compiler& c, const PrepareHeads& op);
void compile(const Compiler& c, const Add& op);
void compile(const Compiler& c, const Copy& op);
void compile(const Compiler& c, const SiluMul& op);
void compile(const Compiler& c, const ClampedSiluMul& op);
void compile(const Compiler& c, const Gelu& op);
void compile(const Compiler& c, const GeluMul& op);
void compile(const Compiler& c, const SigmoidMul& op);
void compile(const Compiler& c, const Scale& op);
void compile(const Compiler& c, const SoftCap& op);
void compile(const Compiler& c, const CausalConv& op);
void compile(const Compiler& c, const DeltaRule& op);
void compile(const Compiler& c, const GatherRows& op);
void compile(const Compiler& c, const Route& op);
void compile(const Compiler& c, const AddExperts& op);
void compile(const Compiler& c, const TopK& op);
void compile(const Compiler& c, const Sample& op);

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
