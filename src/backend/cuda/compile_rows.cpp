// Ops that have one kernel, blocks for each row of a tensor, and nothing else to decide.
#include <algorithm>
#include <bit>

#include "backend/cuda/compile.h"
#include "sampling/draw_row.h"

namespace smelt::cuda {

using namespace op;

namespace {

void check_rows(const Tensor& out, const Tensor& x, const Tensor& y) {
    CHECK(out.row_len() == x.row_len() && out.row_len() == y.row_len() && out.n_rows() <= x.n_rows() &&
              out.n_rows() <= y.n_rows(),
          "rows of {}, {} and {}", out.row_len(), x.row_len(), y.row_len());
}

// By the length of the norm alone, so that its order of additions does not depend on the batch.
Grid norm_grid(const Tensor& x, int64_t n) {
    return {.x = x.n_rows(),
            .y = x.row_len() / n,
            .threads = static_cast<unsigned>(n > wide_row ? norm_threads : warp_size)};
}

}  // namespace

std::vector<KernelLaunch> Compiler::compile() {
    launches_.clear();
    grouped_ = {};
    op_ = 0;
    for (const AnyOp& any : record_.ops()) {
        std::visit([&](const auto& op) { add(op); }, any);
        ++op_;
    }
    return std::move(launches_);
}

Rows Compiler::rows_of(const Tensor& t) const {
    if (t.rows_of == RowsOf::fixed) return {nullptr, 0, u32(t.n_rows())};
    const auto* counts = at<int32_t>(record_.inputs().counts);
    const auto field = static_cast<size_t>(t.rows_of) - static_cast<size_t>(RowsOf::tokens);
    static_assert(offsetof(StepCounts, n_seqs) == 4 && offsetof(StepCounts, n_hidden) == 12);
    return {counts + field, u32(t.rows_each), u32(t.n_rows())};
}

void Compiler::add(const Embed& op) {
    const Weight& table = *op.table;
    const DeviceWeight& w = weight_of(table);
    CHECK(op.out.row_len() == table.cols, "rows of {} and {}", op.out.row_len(), table.cols);
    const int64_t n_units = divide_up(table.cols, unit_len);
    const EmbedArgs args{.rows = rows_of(op.out),
                         .out = at(op.out),
                         .ids = at<int32_t>(op.ids),
                         .drawn = shared<int32_t>(Shared::drawn, sizeof(int32_t)),
                         .w = w.data.get(),
                         .scales = w.scales.get(),
                         .w_row_bytes = w.row_bytes,
                         .s_row_bytes = w.scale_row_bytes,
                         .cols = u32(table.cols),
                         .n_units = u32(n_units),
                         .out_stride = u32(op.out.row_stride),
                         .table_rows = u32(table.rows),
                         .aligned = w.aligned};
    launch(gpu_->kernel("matmul", "embed", table.format), args, each_element(op.out, n_units));
}

namespace {

TileNorm tile_norm(const NormArgs& a, uint32_t* n_read) {
    return {a.w, a.residual, a.out, n_read, a.residual_stride, a.out_stride, a.eps};
}

}  // namespace

void Compiler::add(const RmsNorm& op) {
    const int64_t n = op.x.shape[static_cast<size_t>(op.x.rank - 1)];
    CHECK(n == op.w->cols && op.out.row_len() == op.x.row_len(), "norm of {}, rows of {}", op.w->cols, n);
    const NormArgs args{.rows = rows_of(op.x),
                        .out = at(op.out),
                        .residual = nullptr,
                        .x = at(op.x),
                        .w = floats_of(op.w),
                        .bias = nullptr,
                        .n = u32(n),
                        .out_stride = u32(op.out.row_stride),
                        .x_stride = u32(op.x.row_stride),
                        .residual_stride = 0,
                        .eps = op.eps};
    if (n == op.out.row_len() && norm_goes_along(op.out, tile_norm(args, nullptr), op.x)) return;
    launch(gpu_->kernel("rows", "rms_norm"), args, norm_grid(op.x, n));
}
void Compiler::add(const AddRmsNorm& op) {
    const int64_t n = op.x.row_len();
    CHECK(n == op.w->cols && op.out.row_len() == n && op.residual.row_len() == n, "norm of {}, rows of {}",
          op.w->cols, n);
    const NormArgs args{.rows = rows_of(op.x),
                        .out = at(op.out),
                        .residual = at(op.residual),
                        .x = at(op.x),
                        .w = floats_of(op.w),
                        .bias = nullptr,
                        .n = u32(n),
                        .out_stride = u32(op.out.row_stride),
                        .x_stride = u32(op.x.row_stride),
                        .residual_stride = u32(op.residual.row_stride),
                        .eps = op.eps};
    if (norm_goes_along(op.out, tile_norm(args, counters(1)), op.x)) return;
    launch(gpu_->kernel("rows", "add_rms_norm"), args, norm_grid(op.x, n));
}
void Compiler::add(const LayerNorm& op) {
    const int64_t n = op.x.shape[static_cast<size_t>(op.x.rank - 1)];
    CHECK(n == op.w->cols && n == op.bias->cols && op.out.row_len() == op.x.row_len(),
          "norm of {}, rows of {}", op.w->cols, n);
    const NormArgs args{.rows = rows_of(op.x),
                        .out = at(op.out),
                        .residual = nullptr,
                        .x = at(op.x),
                        .w = floats_of(op.w),
                        .bias = floats_of(op.bias),
                        .n = u32(n),
                        .out_stride = u32(op.out.row_stride),
                        .x_stride = u32(op.x.row_stride),
                        .residual_stride = 0,
                        .eps = op.eps};
    launch(gpu_->kernel("rows", "layer_norm"), args, norm_grid(op.x, n));
}

void Compiler::add(const RopeTable& op) {
    const RopeTableArgs args{.rows = rows_of(op.table),
                             .table = at(op.table),
                             .positions = at<int32_t>(op.positions),
                             .inv_freq = floats_of(op.inv_freq),
                             .n_pairs = u32(op.table.shape[1]),
                             .stride = u32(op.table.row_stride),
                             .scale = op.scale};
    launch(gpu_->kernel("rows", "rope_table"), args, each_element(op.table, op.table.shape[1]));
}
void Compiler::add(const Rope& op) {
    const int64_t n_pairs = op.table.shape[1], n_heads = op.x.shape[1];
    CHECK(op.first + 2 * n_pairs <= op.x.shape[2] && op.table.n_rows() == op.x.n_rows());
    const RopeArgs args{.rows = rows_of(op.x),
                        .x = at(op.x),
                        .table = at(op.table),
                        .n_heads = u32(n_heads),
                        .head_dim = u32(op.x.shape[2]),
                        .n_pairs = u32(n_pairs),
                        .first = u32(op.first),
                        .x_stride = u32(op.x.row_stride),
                        .table_stride = u32(op.table.row_stride),
                        .interleaved = op.pairing == RopePairing::interleaved};
    launch(gpu_->kernel("rows", "rope"), args, each_element(op.x, n_heads * n_pairs));
}

namespace {

RowsArgs rows_args(Rows rows, const Tensor& out, const Tensor& x, const Tensor& y) {
    return {.rows = rows,
            .out = nullptr,
            .x = nullptr,
            .y = nullptr,
            .ids = nullptr,
            .row_len = u32(out.row_len()),
            .x_rows = u32(x.n_rows()),
            .out_stride = u32(out.row_stride),
            .x_stride = u32(x.row_stride),
            .y_stride = u32(y.row_stride),
            .alpha = 1,
            .limit = 0};
}

}  // namespace

// A kernel of rows.cu with a thread for each element of out; it reads of x, y and p what it needs.
void Compiler::launch_rows(std::string_view kernel, const Tensor& out, const Tensor& x, const Tensor& y,
                           const RowsParams& p) {
    RowsArgs args = rows_args(rows_of(out), out, x, y);
    args.out = at(out);
    args.x = at(x);
    args.y = at(y);
    args.ids = p.ids;
    args.alpha = p.alpha;
    args.limit = p.limit;
    launch(gpu_->kernel("rows", kernel), args, each_element(out, out.row_len()));
}

void Compiler::add(const Add& op) {
    check_rows(op.x, op.x, op.y);
    launch_rows("add", op.x, op.x, op.y);
}
void Compiler::add(const Copy& op) {
    check_rows(op.out, op.x, op.x);
    launch_rows("copy", op.out, op.x, op.x);
}
void Compiler::add(const SiluMul& op) {
    check_rows(op.out, op.gate, op.up);
    launch_rows("silu_mul", op.out, op.gate, op.up);
}
void Compiler::add(const ClampedSiluMul& op) {
    check_rows(op.out, op.gate, op.up);
    launch_rows("clamped_silu_mul", op.out, op.gate, op.up, {.alpha = op.alpha, .limit = op.limit});
}
void Compiler::add(const Gelu& op) {
    check_rows(op.out, op.x, op.x);
    launch_rows(op.exact ? "exact_gelu" : "gelu", op.out, op.x, op.x);
}
void Compiler::add(const GeluMul& op) {
    check_rows(op.out, op.gate, op.up);
    launch_rows("gelu_mul", op.out, op.gate, op.up);
}
void Compiler::add(const SigmoidMul& op) {
    const bool one = op.gate.row_len() == 1;
    check_rows(op.out, one ? op.x : op.gate, op.x);
    launch_rows("sigmoid_mul", op.out, op.gate, op.x, {.limit = one ? 0.0f : 1.0f});
}
void Compiler::add(const Scale& op) {
    launch_rows("scale", op.x, op.x, op.x, {.alpha = op.factor});
}
void Compiler::add(const SoftCap& op) {
    launch_rows("soft_cap", op.x, op.x, op.x, {.limit = op.cap});
}
void Compiler::add(const GatherRows& op) {
    CHECK(op.out.row_len() == op.x.row_len(), "rows of {} and {}", op.out.row_len(), op.x.row_len());
    launch_rows("gather_rows", op.out, op.x, op.x, {.ids = at<int32_t>(op.rows)});
}

void Compiler::add(const Route& op) {
    const int64_t n_experts = op.logits.row_len();
    CHECK(op.ids.row_len() <= n_experts && op.weights.row_len() == op.ids.row_len());
    CHECK(op.n_groups > 0 && n_experts % op.n_groups == 0 &&
              op.ids.row_len() <= n_experts / op.n_groups * op.n_groups_used,
          "{} of {} groups of {} experts", op.n_groups_used, op.n_groups, n_experts);
    grouped_ = {};
    const RouteArgs args{.rows = rows_of(op.logits),
                         .ids = at<int32_t>(op.ids),
                         .weights = at(op.weights),
                         .logits = at(op.logits),
                         .bias = floats_of(op.selection_bias),
                         .n_experts = u32(n_experts),
                         .n_used = u32(op.ids.row_len()),
                         .logits_stride = u32(op.logits.row_stride),
                         .ids_stride = u32(op.ids.row_stride),
                         .weights_stride = u32(op.weights.row_stride),
                         .sigmoid = op.score == RouteParams::Score::sigmoid,
                         .normalize = op.normalize,
                         .scale = op.scale,
                         .n_groups = u32(op.n_groups),
                         .n_groups_used = u32(op.n_groups_used)};
    launch(gpu_->kernel("experts", "route"), args,
           {.x = op.logits.n_rows(),
            .threads = warp_size,
            .shared_bytes = static_cast<size_t>(n_experts + op.n_groups) * sizeof(float)});
}
void Compiler::add(const AddExperts& op) {
    CHECK(op.y.rank == 3 && op.y.shape[2] == op.x.row_len() && op.y.shape[1] == op.weights.row_len());
    const AddExpertsArgs args{.rows = rows_of(op.x),
                              .x = at(op.x),
                              .y = at(op.y),
                              .weights = at(op.weights),
                              .n_used = u32(op.y.shape[1]),
                              .dim = u32(op.y.shape[2]),
                              .x_stride = u32(op.x.row_stride),
                              .y_stride = u32(op.y.row_stride),
                              .weights_stride = u32(op.weights.row_stride)};
    launch(gpu_->kernel("rows", "add_experts"), args, each_element(op.x, op.x.row_len()));
}

void Compiler::add(const TopK& op) {
    CHECK(op.ids.row_len() <= op.x.row_len() && op.values.row_len() == op.ids.row_len());
    const TopKArgs args{.rows = rows_of(op.x),
                        .values = at(op.values),
                        .ids = at<int32_t>(op.ids),
                        .x = at(op.x),
                        .n = u32(op.x.row_len()),
                        .k = u32(op.ids.row_len()),
                        .x_stride = u32(op.x.row_stride),
                        .values_stride = u32(op.values.row_stride),
                        .ids_stride = u32(op.ids.row_stride)};
    launch(gpu_->kernel("rows", "top_k"), args, {.x = op.x.n_rows(), .threads = wide_threads});
}

void Compiler::add(const Sample& op) {
    const int64_t n = op.logits.row_len();
    if (n > most_sampled) {
        throw Error("device cuda: tokens are drawn from at most {} logits, the vocabulary has {}",
                    most_sampled, n);
    }
    const auto id_bits = static_cast<int64_t>(std::bit_width(static_cast<uint64_t>(n - 1)));
    const auto n_rows = static_cast<size_t>(op.logits.n_rows());
    const size_t part_bytes = n_rows * sample_parts * 2 * sizeof(uint32_t);
    const SampleArgs args{
        .rows = rows_of(op.logits),
        .tokens = at<int32_t>(op.tokens),
        .drawn = shared<int32_t>(Shared::drawn, n_rows * sizeof(int32_t)),
        .logprobs = at_or_null(op.logprobs),
        .log_sums = at_or_null(op.log_sums),
        .parts = shared<uint32_t>(Shared::scratch, part_bytes),
        .changed =
            op.edits || op.masks
                ? shared<float>(Shared::scratch, n_rows * static_cast<size_t>(n) * sizeof(float), part_bytes)
                : nullptr,
        .logits = at(op.logits),
        .draw_rows = at<void>(op.rows),
        .edits = at_or_null<void>(op.edits),
        .masks = at_or_null<uint32_t>(op.masks),
        .n = u32(n),
        .id_bits = u32(std::max<int64_t>(4, divide_up(id_bits, 4) * 4)),
        .logits_stride = u32(op.logits.row_stride),
        .mask_words = op.masks ? u32(op.masks.row_len()) : 0};
    launch(gpu_->kernel("sample", "best_of_parts"), args,
           {.x = op.logits.n_rows(), .y = sample_parts, .threads = wide_threads});
    launch(gpu_->kernel("sample", "sample"), args, {.x = op.logits.n_rows(), .threads = sample_threads});
}

}  // namespace smelt::cuda
