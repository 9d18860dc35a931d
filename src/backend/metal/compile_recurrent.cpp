// Recurrent layers: a convolution and the delta rule, whose grids have a row for each sequence.
#include "backend/metal/compile.h"
#include "backend/metal/kernel_args.h"
#include "backend/metal/kv.h"

namespace smelt::metal {

using namespace op;

namespace {

using gpu::Geometry;

gpu::StateArgs args_of(const StateRows& s) {
    const KvRows& k = static_cast<const MetalKv*>(s.rows)->rows().k;
    CHECK(k.format == Format::F32 && k.block_len == 1 && k.n_heads == 1 && s.block_len > 0);
    return {.n_seqs = 0,
            .max_blocks = u32(s.block_table.row_len()),
            .block_len = u32(s.block_len),
            .first = static_cast<uint64_t>(s.first),
            .stride = static_cast<uint64_t>(k.dim)};
}

// A kernel whose grid has a layer or a row for each sequence.
template <class Args>
struct SequencesCommand : Command {
    SequencesCommand(const MTL::ComputePipelineState& k, const Args& a, std::vector<Binding> b, const Grid& g,
                     bool in_depth)
        : kernel(k), args(a), buffers(std::move(b)), grid(g), deep(in_depth) {}
    void encode(StepEncoder& step) const override {
        Grid g = grid;
        (deep ? g.groups.depth : g.groups.height) = u32(step.counts().n_seqs);
        step.dispatch(kernel, args, buffers, g);
    }
    const MTL::ComputePipelineState& kernel;
    Args args;
    std::vector<Binding> buffers;
    Grid grid;
    bool deep;
};

}  // namespace

void Compiler::add(const CausalConv& op) {
    const int64_t n = op.x.row_len(), kernel = op.w->cols;
    CHECK(op.w->rows * op.w->cols == n * kernel && op.out.row_len() == n && kernel > 1 && kernel <= 8,
          "convolution of {} channels over {} tokens", n, kernel);
    const gpu::ConvArgs args{.n = u32(n),
                             .kernel_len = u32(kernel),
                             .out_stride = u32(op.out.row_stride),
                             .x_stride = u32(op.x.row_stride),
                             .state = args_of(op.state)};
    const Binding states = static_cast<const MetalKv*>(op.state.rows)->keys(),
                  positions = bind(op.state.positions), seq_start = bind(op.state.seq_start),
                  table = bind(op.state.block_table);
    add_rows("causal_conv", args,
             {bind(op.out), bind(op.x), floats_of(*op.w), states, positions, seq_start, table}, op.x,
             each_element(n));
    commands_.push_back(std::make_unique<SequencesCommand<gpu::ConvArgs>>(
        gpu_.pipeline("conv_state"), args,
        std::vector<Binding>{bind(op.x), states, positions, seq_start, table}, each_element(n), false));
}

void Compiler::add(const DeltaRule& op) {
    const int64_t n_k = op.k.shape[1], n_v = op.v.shape[1], v_dim = op.v.shape[2];
    CHECK(n_v % n_k == 0 && op.q.shape == op.k.shape && op.out.row_len() == op.v.row_len() &&
              op.a.row_len() == n_v && op.b.row_len() == n_v && op.decay->cols == n_v && op.bias->cols == n_v,
          "{} heads of keys, {} of values", n_k, n_v);
    const gpu::DeltaArgs args{.n_k_heads = u32(n_k),
                              .n_v_heads = u32(n_v),
                              .k_dim = u32(op.k.shape[2]),
                              .v_dim = u32(v_dim),
                              .tiled = op.tiled,
                              .out_stride = u32(op.out.row_stride),
                              .q_stride = u32(op.q.row_stride),
                              .k_stride = u32(op.k.row_stride),
                              .v_stride = u32(op.v.row_stride),
                              .a_stride = u32(op.a.row_stride),
                              .b_stride = u32(op.b.row_stride),
                              .state = args_of(op.state)};
    commands_.push_back(std::make_unique<SequencesCommand<gpu::DeltaArgs>>(
        gpu_.pipeline("delta_rule"), args,
        std::vector<Binding>{bind(op.out), bind(op.q), bind(op.k), bind(op.v), bind(op.a), bind(op.b),
                             floats_of(*op.decay), floats_of(*op.bias),
                             static_cast<const MetalKv*>(op.state.rows)->keys(), bind(op.state.positions),
                             bind(op.state.seq_start), bind(op.state.block_table)},
        Grid{size(divide_up(v_dim, Geometry::simd_width), n_v), size(Geometry::simd_width)}, true));
}

}  // namespace smelt::metal
