// Recurrent layers: a convolution and the delta rule, with blocks for each sequence.
#include "backend/cuda/compile.h"
#include "backend/cuda/kv.h"

namespace smelt::cuda {

using namespace op;

StateArgs Compiler::args_of(const StateRows& s) const {
    const CudaKv& kv = *static_cast<const CudaKv*>(s.rows);
    const KvRows& k = kv.rows().k;
    CHECK(k.format == Format::F32 && k.block_len == 1 && k.n_heads == 1 && s.block_len > 0);
    return {.sequences = {at<int32_t>(record_.inputs().counts) + 1, 1, u32(s.block_table.n_rows())},
            .rows = reinterpret_cast<float*>(kv.keys().rows),
            .positions = at<int32_t>(s.positions),
            .seq_start = at<int32_t>(s.seq_start),
            .block_table = at<int32_t>(s.block_table),
            .max_blocks = u32(s.block_table.row_len()),
            .block_len = u32(s.block_len),
            .first = static_cast<uint64_t>(s.first),
            .stride = static_cast<uint64_t>(k.dim)};
}

void Compiler::add(const CausalConv& op) {
    const int64_t n = op.x.row_len(), kernel = op.w->cols;
    CHECK(op.w->rows * op.w->cols == n * kernel && op.out.row_len() == n && kernel > 1 && kernel <= 8,
          "convolution of {} channels over {} tokens", n, kernel);
    const ConvArgs args{.rows = rows_of(op.x),
                        .out = at(op.out),
                        .x = at(op.x),
                        .w = floats_of(op.w),
                        .n = u32(n),
                        .kernel_len = u32(kernel),
                        .out_stride = u32(op.out.row_stride),
                        .x_stride = u32(op.x.row_stride),
                        .state = args_of(op.state)};
    launch(gpu_->kernel("recurrent", "causal_conv"), args, each_element(op.x, n));
    launch(gpu_->kernel("recurrent", "conv_state"), args, each_element(op.state.block_table, n));
}

void Compiler::add(const DeltaRule& op) {
    const int64_t n_k = op.k.shape[1], n_v = op.v.shape[1], v_dim = op.v.shape[2];
    CHECK(n_v % n_k == 0 && op.q.shape == op.k.shape && op.out.row_len() == op.v.row_len() &&
              op.a.row_len() == n_v && op.b.row_len() == n_v && op.decay->cols == n_v && op.bias->cols == n_v,
          "{} heads of keys, {} of values", n_k, n_v);
    const DeltaArgs args{.out = at(op.out),
                         .q = at(op.q),
                         .k = at(op.k),
                         .v = at(op.v),
                         .a = at(op.a),
                         .b = at(op.b),
                         .decay = floats_of(op.decay),
                         .bias = floats_of(op.bias),
                         .n_k_heads = u32(n_k),
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
    launch(gpu_->kernel("recurrent", "delta_rule"), args,
           {.x = op.state.block_table.n_rows(),
            .y = n_v,
            .z = divide_up(v_dim, warp_size),
            .threads = warp_size});
}

}  // namespace smelt::cuda
