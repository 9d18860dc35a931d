// Ops that have one kernel, a row of threadgroups for each row of a tensor, and nothing else that a step
// decides.
#include <fmt/format.h>

#include <bit>

#include "backend/metal/compile.h"
#include "backend/metal/kernel_args.h"
#include "sampling/draw_row.h"

namespace smelt::metal {

using namespace op;

namespace {

using gpu::Geometry;

gpu::RowsArgs rows_args(const Tensor& out, const Tensor& x, const Tensor& y) {
    CHECK(out.row_len() == x.row_len() && out.row_len() == y.row_len() && out.n_rows() <= x.n_rows() &&
              out.n_rows() <= y.n_rows(),
          "rows of {}, {} and {}", out.row_len(), x.row_len(), y.row_len());
    return {.n_rows = u32(x.n_rows()),
            .row_len = u32(out.row_len()),
            .out_stride = u32(out.row_stride),
            .x_stride = u32(x.row_stride),
            .y_stride = u32(y.row_stride),
            .alpha = 1,
            .limit = 0};
}

gpu::NormArgs norm_args(const Tensor& out, const Tensor& x, const Weight& w, float eps) {
    const int64_t n = x.shape[static_cast<size_t>(x.rank - 1)];
    CHECK(n == w.cols && out.row_len() == x.row_len(), "norm of {}, rows of {}", w.cols, n);
    return {.n = u32(n),
            .groups = u32(x.row_len() / n),
            .out_stride = u32(out.row_stride),
            .x_stride = u32(x.row_stride),
            .residual_stride = 0,
            .eps = eps};
}
// By the length of the norm alone, so that its order of additions does not depend on the batch.
Grid norm_grid(const gpu::NormArgs& args) {
    const bool wide = args.n > Geometry::wide_row;
    return {size(args.groups), size(wide ? Geometry::wide_threads : Geometry::simd_width)};
}

}  // namespace

void Compiler::add(const Embed& op) {
    const DeviceWeight& w = weight_of(*op.table);
    CHECK(op.out.row_len() == op.table->cols, "rows of {} and {}", op.out.row_len(), op.table->cols);
    const int64_t n_units = divide_up(op.table->cols, 16);
    const gpu::EmbedArgs args{.cols = u32(op.table->cols),
                              .n_units = u32(n_units),
                              .out_stride = u32(op.out.row_stride),
                              .table_rows = u32(op.table->rows),
                              .aligned = w.aligned,
                              .w_offset = w.data.offset,
                              .w_row_bytes = w.row_bytes,
                              .s_offset = w.scales.offset,
                              .s_row_bytes = w.scale_row_bytes};
    MTL::Buffer *data = w.data.buffer.get(), *scales = w.scales.buffer ? w.scales.buffer.get() : data;
    add_rows(fmt::format("embed_{}", to_string(op.table->format)), args,
             {bind(op.out), bind(op.ids), {data}, {scales}, shared(Shared::drawn, sizeof(int32_t))}, op.out,
             each_element(n_units));
}

void Compiler::add(const RmsNorm& op) {
    const gpu::NormArgs args = norm_args(op.out, op.x, *op.w, op.eps);
    add_rows("rms_norm", args, {bind(op.out), bind(op.x), floats_of(*op.w)}, op.x, norm_grid(args));
}
void Compiler::add(const AddRmsNorm& op) {
    gpu::NormArgs args = norm_args(op.out, op.x, *op.w, op.eps);
    CHECK(args.groups == 1 && op.residual.row_len() == op.x.row_len());
    args.residual_stride = u32(op.residual.row_stride);
    add_rows("add_rms_norm", args, {bind(op.out), bind(op.residual), bind(op.x), floats_of(*op.w)}, op.x,
             norm_grid(args));
}
void Compiler::add(const LayerNorm& op) {
    const gpu::NormArgs args = norm_args(op.out, op.x, *op.w, op.eps);
    add_rows("layer_norm", args, {bind(op.out), bind(op.x), floats_of(*op.w), floats_of(*op.bias)}, op.x,
             norm_grid(args));
}

void Compiler::add(const RopeTable& op) {
    const gpu::RopeTableArgs args{
        .n_pairs = u32(op.table.shape[1]), .stride = u32(op.table.row_stride), .scale = op.scale};
    add_rows("rope_table", args, {bind(op.table), bind(op.positions), floats_of(*op.inv_freq)}, op.table,
             each_element(args.n_pairs));
}
void Compiler::add(const Rope& op) {
    const int64_t n_pairs = op.table.shape[1], n_heads = op.x.shape[1];
    CHECK(op.first + 2 * n_pairs <= op.x.shape[2] && op.table.n_rows() == op.x.n_rows());
    const gpu::RopeArgs args{.n_heads = u32(n_heads),
                             .head_dim = u32(op.x.shape[2]),
                             .n_pairs = u32(n_pairs),
                             .first = u32(op.first),
                             .x_stride = u32(op.x.row_stride),
                             .table_stride = u32(op.table.row_stride),
                             .interleaved = op.pairing == RopePairing::interleaved};
    add_rows("rope", args, {bind(op.x), bind(op.table)}, op.x, each_element(n_heads * n_pairs));
}

void Compiler::add(const Add& op) {
    add_rows("add", rows_args(op.x, op.x, op.y), {bind(op.x), bind(op.y)}, op.x,
             each_element(op.x.row_len()));
}
void Compiler::add(const Copy& op) {
    add_rows("copy", rows_args(op.out, op.x, op.x), {bind(op.out), bind(op.x)}, op.out,
             each_element(op.out.row_len()));
}
void Compiler::add(const SiluMul& op) {
    add_rows("silu_mul", rows_args(op.out, op.gate, op.up), {bind(op.out), bind(op.gate), bind(op.up)},
             op.out, each_element(op.out.row_len()));
}
void Compiler::add(const ClampedSiluMul& op) {
    gpu::RowsArgs args = rows_args(op.out, op.gate, op.up);
    args.alpha = op.alpha;
    args.limit = op.limit;
    add_rows("clamped_silu_mul", args, {bind(op.out), bind(op.gate), bind(op.up)}, op.out,
             each_element(op.out.row_len()));
}
void Compiler::add(const Gelu& op) {
    add_rows(op.exact ? "exact_gelu" : "gelu", rows_args(op.out, op.x, op.x), {bind(op.out), bind(op.x)},
             op.out, each_element(op.out.row_len()));
}
void Compiler::add(const GeluMul& op) {
    add_rows("gelu_mul", rows_args(op.out, op.gate, op.up), {bind(op.out), bind(op.gate), bind(op.up)},
             op.out, each_element(op.out.row_len()));
}
void Compiler::add(const SigmoidMul& op) {
    const bool one = op.gate.row_len() == 1;
    gpu::RowsArgs args = rows_args(op.out, one ? op.x : op.gate, op.x);
    args.x_stride = u32(op.gate.row_stride);
    args.limit = one ? 0 : 1;
    add_rows("sigmoid_mul", args, {bind(op.out), bind(op.gate), bind(op.x)}, op.out,
             each_element(op.out.row_len()));
}
void Compiler::add(const Scale& op) {
    gpu::RowsArgs args = rows_args(op.x, op.x, op.x);
    args.alpha = op.factor;
    add_rows("scale", args, {bind(op.x)}, op.x, each_element(op.x.row_len()));
}
void Compiler::add(const SoftCap& op) {
    gpu::RowsArgs args = rows_args(op.x, op.x, op.x);
    args.limit = op.cap;
    add_rows("soft_cap", args, {bind(op.x)}, op.x, each_element(op.x.row_len()));
}
void Compiler::add(const GatherRows& op) {
    CHECK(op.out.row_len() == op.x.row_len(), "rows of {} and {}", op.out.row_len(), op.x.row_len());
    const gpu::RowsArgs args{.n_rows = u32(op.x.n_rows()),
                             .row_len = u32(op.out.row_len()),
                             .out_stride = u32(op.out.row_stride),
                             .x_stride = u32(op.x.row_stride),
                             .y_stride = 0,
                             .alpha = 1,
                             .limit = 0};
    add_rows("gather_rows", args, {bind(op.out), bind(op.x), bind(op.rows)}, op.out,
             each_element(op.out.row_len()));
}

void Compiler::add(const Route& op) {
    const int64_t n_experts = op.logits.row_len();
    CHECK(op.ids.row_len() <= n_experts && op.weights.row_len() == op.ids.row_len());
    CHECK(op.n_groups > 0 && n_experts % op.n_groups == 0 &&
              op.ids.row_len() <= n_experts / op.n_groups * op.n_groups_used,
          "{} of {} groups of {} experts", op.n_groups_used, op.n_groups, n_experts);
    grouped_ = {};
    const gpu::RouteArgs args{.n_experts = u32(n_experts),
                              .n_used = u32(op.ids.row_len()),
                              .logits_stride = u32(op.logits.row_stride),
                              .ids_stride = u32(op.ids.row_stride),
                              .weights_stride = u32(op.weights.row_stride),
                              .sigmoid = op.score == RouteParams::Score::sigmoid,
                              .normalize = op.normalize,
                              .has_bias = op.selection_bias != nullptr,
                              .scale = op.scale,
                              .n_groups = u32(op.n_groups),
                              .n_groups_used = u32(op.n_groups_used)};
    const Binding logits = bind(op.logits),
                  bias = op.selection_bias != nullptr ? floats_of(*op.selection_bias) : logits;
    add_rows("route", args, {bind(op.ids), bind(op.weights), logits, bias}, op.logits,
             {size(1), size(Geometry::simd_width), static_cast<size_t>(n_experts) * sizeof(float)});
}
void Compiler::add(const AddExperts& op) {
    CHECK(op.y.rank == 3 && op.y.shape[2] == op.x.row_len() && op.y.shape[1] == op.weights.row_len());
    const gpu::AddExpertsArgs args{.n_used = u32(op.y.shape[1]),
                                   .dim = u32(op.y.shape[2]),
                                   .x_stride = u32(op.x.row_stride),
                                   .y_stride = u32(op.y.row_stride),
                                   .weights_stride = u32(op.weights.row_stride)};
    add_rows("add_experts", args, {bind(op.x), bind(op.y), bind(op.weights)}, op.x,
             each_element(op.x.row_len()));
}

void Compiler::add(const TopK& op) {
    CHECK(op.ids.row_len() <= op.x.row_len() && op.values.row_len() == op.ids.row_len());
    const gpu::TopKArgs args{.n = u32(op.x.row_len()),
                             .k = u32(op.ids.row_len()),
                             .x_stride = u32(op.x.row_stride),
                             .values_stride = u32(op.values.row_stride),
                             .ids_stride = u32(op.ids.row_stride)};
    add_rows("top_k", args, {bind(op.values), bind(op.ids), bind(op.x)}, op.x,
             {size(1), size(Geometry::wide_threads)});
}

void Compiler::add(const Sample& op) {
    const int64_t n = op.logits.row_len();
    if (n > Geometry::most_sampled) {
        throw Error("device metal: tokens are drawn from at most {} logits, the vocabulary has {}",
                    static_cast<int64_t>(Geometry::most_sampled), n);
    }
    const auto id_bits = std::bit_width(static_cast<uint64_t>(n - 1));
    const gpu::SampleArgs args{.n = u32(n),
                               .id_bits = u32(std::max<int64_t>(4, divide_up(id_bits, 4) * 4)),
                               .logits_stride = u32(op.logits.row_stride),
                               .mask_words = op.masks ? u32(op.masks.row_len()) : 0};
    const auto n_rows = static_cast<size_t>(op.logits.n_rows());
    const Binding tokens = bind(op.tokens), rows = bind(op.rows);
    const bool changes = op.edits || op.masks;
    add_rows("sample", args,
             {tokens, op.logprobs ? bind(op.logprobs) : tokens, op.log_sums ? bind(op.log_sums) : tokens,
              shared(Shared::drawn, n_rows * sizeof(int32_t)), bind(op.logits), rows,
              op.edits ? bind(op.edits) : rows, op.masks ? bind(op.masks) : rows,
              changes ? shared(Shared::scratch, n_rows * static_cast<size_t>(n) * sizeof(float)) : tokens},
             op.logits, {size(1), size(Geometry::sample_threads)});
}

}  // namespace smelt::metal
