// The row-wise ops: norms, rotations, activations, stores to the cache, sums.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "backend/cpu/compile.h"
#include "backend/cpu/row_ops.h"

namespace smelt::cpu {

namespace {

// The last dimension is normed, row after row.
int64_t norm_len(const Tensor& x, const Tensor& out, const Weight& w) {
    const int64_t n = x.shape[static_cast<size_t>(x.rank - 1)];
    CHECK(n == w.cols && out.row_len() == x.row_len(), "norm of {}, rows of {}", w.cols, n);
    return n;
}

void check_same(const Tensor& a, const Tensor& b) {
    CHECK(a.row_len() == b.row_len() && a.rows_of == b.rows_of && a.n_rows() == b.n_rows(),
          "({}, {}) and ({}, {})", a.n_rows(), a.row_len(), b.n_rows(), b.row_len());
}

// One side of a layer's cache: rows of all heads of a position, one after the other.
struct KvSide {
    std::byte* first = nullptr;
    Format format = Format::F32;
    int64_t dim = 0;
    size_t row_bytes = 0, slot_bytes = 0;

    KvSide() = default;
    KvSide(const HostKv& kv, const KvRows& rows)
        : first(kv.memory.data + rows.offset),
          format(rows.format),
          dim(rows.dim),
          row_bytes(rows.row_bytes),
          slot_bytes(static_cast<size_t>(rows.n_heads) * rows.row_bytes) {}
    std::byte* row(int32_t slot, int64_t head) const {
        return first + static_cast<size_t>(slot) * slot_bytes + static_cast<size_t>(head) * row_bytes;
    }
};

void store_rows(const Compiler& c, const KvSide& to, const Tensor& rows, const Tensor& slots) {
    const int64_t n = rows.row_len();
    CHECK(static_cast<size_t>(n) / static_cast<size_t>(to.dim) * to.row_bytes == to.slot_bytes,
          "{} of heads of {}", n, to.dim);
    each_row(c, RowCount(rows), n,
             [=, encode = c.kernels.kv_encode, from = Place<float>(rows), slot = Place<const int32_t>(slots)](
                 const Frame& f, int64_t t) {
                 encode(to.format, from.in(f)[t], n, to.row(slot.in(f).first[t], 0));
             });
}

auto rotation(const Kernels& k, RopePairing pairing) {
    return pairing == RopePairing::half ? k.rope_half : k.rope_interleaved;
}

}  // namespace

void compile(const Compiler& c, const Embed& op) {
    CHECK(op.out.row_len() == op.table->cols);
    each_row(c, RowCount(op.out), op.out.row_len(),
             [rows = matrix_of(*op.table), to = Place<float>(op.out), ids = Place<const int32_t>(op.ids)](
                 const Frame& f, int64_t i) {
                 int32_t id = ids.in(f).first[i];
                 if (id < 0) {
                     CHECK(-1 - id < f.n_drawn_before, "row {} of the launch before", -1 - id);
                     id = f.drawn_before[-1 - id];
                     if (id < 0) {
                         std::fill_n(to.in(f)[i], rows.cols, 0.0f);
                         return;
                     }
                 }
                 CHECK(id < rows.rows, "id {}", id);
                 decode_row(
                     {rows.format, reinterpret_cast<const std::byte*>(rows.data) + id * rows.row_bytes,
                      reinterpret_cast<const std::byte*>(rows.scales) + id * rows.row_scale_bytes, rows.cols},
                     {to.in(f)[i], static_cast<size_t>(rows.cols)});
             });
}

void compile(const Compiler& c, const RmsNorm& op) {
    const int64_t n = norm_len(op.x, op.out, *op.w), row_len = op.x.row_len();
    each_row(c, RowCount(op.x), row_len,
             [=, norm = c.kernels.rms_norm, to = Place<float>(op.out), from = Place<float>(op.x),
              weights = floats_of(*op.w), eps = op.eps](const Frame& f, int64_t i) {
                 for (int64_t first = 0; first < row_len; first += n) {
                     norm(to.in(f)[i] + first, from.in(f)[i] + first, weights, n, eps);
                 }
             });
}

void compile(const Compiler& c, const AddRmsNorm& op) {
    const int64_t n = norm_len(op.x, op.out, *op.w);
    check_same(op.residual, op.x);
    CHECK(n == op.x.row_len());
    each_row(
        c, RowCount(op.x), 2 * n,
        [=, k = &c.kernels, to = Place<float>(op.out), sum = Place<float>(op.residual),
         from = Place<float>(op.x), weights = floats_of(*op.w), eps = op.eps](const Frame& f, int64_t i) {
            float* residual = sum.in(f)[i];
            k->add(residual, from.in(f)[i], n);
            k->rms_norm(to.in(f)[i], residual, weights, n, eps);
        });
}

void compile(const Compiler& c, const LayerNorm& op) {
    const int64_t n = norm_len(op.x, op.out, *op.w), row_len = op.x.row_len();
    CHECK(n == op.bias->cols);
    each_row(
        c, RowCount(op.x), row_len,
        [=, norm = c.kernels.layer_norm, to = Place<float>(op.out), from = Place<float>(op.x),
         weights = floats_of(*op.w), biases = floats_of(*op.bias), eps = op.eps](const Frame& f, int64_t i) {
            for (int64_t first = 0; first < row_len; first += n) {
                norm(to.in(f)[i] + first, from.in(f)[i] + first, weights, biases, n, eps);
            }
        });
}

void compile(const Compiler& c, const RopeTable& op) {
    // The C library's sine: exact to the last bit even where the angle is thousands of turns.
    constexpr int64_t sine_cost = 32;  // in elements of other ops
    each_row(c, RowCount(op.table), op.table.row_len() * sine_cost,
             [to = Place<float>(op.table), position = Place<const int32_t>(op.positions),
              frequency = floats_of(*op.inv_freq), n = op.table.shape[1],
              scale = op.scale](const Frame& f, int64_t t) {
                 const int32_t pos = position.in(f).first[t];
                 float* row = to.in(f)[t];
                 for (int64_t i = 0; i < n; ++i) {
                     const float angle = static_cast<float>(pos) * frequency[i];
                     row[2 * i] = static_cast<float>(std::cos(static_cast<double>(angle))) * scale;
                     row[2 * i + 1] = static_cast<float>(std::sin(static_cast<double>(angle))) * scale;
                 }
             });
}

void compile(const Compiler& c, const Rope& op) {
    CHECK(op.first + 2 * op.table.shape[1] <= op.x.shape[2] && op.table.n_rows() == op.x.n_rows());
    each_row(c, RowCount(op.x), op.x.row_len(),
             [rotate = rotation(c.kernels, op.pairing), heads = Place<float>(op.x),
              cos_sin = Place<float>(op.table), n_heads = op.x.shape[1], head_dim = op.x.shape[2],
              n_pairs = op.table.shape[1], first = op.first](const Frame& f, int64_t t) {
                 for (int64_t h = 0; h < n_heads; ++h) {
                     rotate(heads.in(f)[t] + h * head_dim + first, cos_sin.in(f)[t], n_pairs);
                 }
             });
}

void compile(const Compiler& c, const StoreKv& op) {
    const auto& kv = *static_cast<HostKv*>(op.kv);
    store_rows(c, {kv, kv.rows.k}, op.k, op.slots);
    if (!kv.rows.v_in_k) store_rows(c, {kv, kv.rows.v}, op.v, op.slots);
}

// One head of one token after the other: those of q, then of k, then of v.
void compile(const Compiler& c, const PrepareHeads& op) {
    const auto& kv = *static_cast<HostKv*>(op.kv);
    CHECK(op.k.rank == 3 && op.k.shape[1] == kv.rows.k.n_heads && op.k.shape[2] == kv.rows.k.dim);
    CHECK(kv.rows.v_in_k || op.v.row_len() == kv.rows.v.n_heads * kv.rows.v.dim);
    CHECK(!op.table || op.first + 2 * op.table.shape[1] <= op.k.shape[2]);
    const int64_t n_q = op.q ? op.q.shape[1] : 0, n_k = op.k.shape[1],
                  n_v = kv.rows.v_in_k ? 0 : kv.rows.v.n_heads;
    RowCount heads(op.k);
    heads.each *= n_q + n_k + n_v;
    heads.most *= n_q + n_k + n_v;
    struct Side {
        Place<float> rows;
        const float* norm;
        int64_t dim;
    };
    each_row(
        c, heads, op.k.shape[2],
        [=, k = &c.kernels, rotate = rotation(c.kernels, op.pairing), table = Place<float>(op.table),
         n_pairs = op.table ? op.table.shape[1] : 0, rope_first = op.first, eps = op.eps,
         q = Side{Place<float>(op.q), op.q_norm ? floats_of(*op.q_norm) : nullptr, op.q ? op.q.shape[2] : 0},
         keys = Side{Place<float>(op.k), op.k_norm ? floats_of(*op.k_norm) : nullptr, op.k.shape[2]},
         values = Place<float>(op.v), slots = Place<const int32_t>(op.slots), k_side = KvSide(kv, kv.rows.k),
         v_side = KvSide(kv, kv.rows.v)](const Frame& f, int64_t i) {
            const int64_t t = i / (n_q + n_k + n_v), head = i % (n_q + n_k + n_v);
            const int32_t slot = slots.in(f).first[t];
            if (head >= n_q + n_k) {
                const int64_t h = head - n_q - n_k;
                k->kv_encode(v_side.format, values.in(f)[t] + h * v_side.dim, v_side.dim,
                             v_side.row(slot, h));
                return;
            }
            const bool is_q = head < n_q;
            const Side& side = is_q ? q : keys;
            float* x = side.rows.in(f)[t] + (is_q ? head : head - n_q) * side.dim;
            if (side.norm != nullptr) k->rms_norm(x, x, side.norm, side.dim, eps);
            if (n_pairs > 0) rotate(x + rope_first, table.in(f)[t], n_pairs);
            if (!is_q) k->kv_encode(k_side.format, x, side.dim, k_side.row(slot, head - n_q));
        });
}

void compile(const Compiler& c, const Add& op) {
    check_same(op.x, op.y);
    each_row(c, RowCount(op.x), op.x.row_len(),
             [sum = c.kernels.add, to = Place<float>(op.x), from = Place<float>(op.y), n = op.x.row_len()](
                 const Frame& f, int64_t i) { sum(to.in(f)[i], from.in(f)[i], n); });
}

void compile(const Compiler& c, const Copy& op) {
    check_same(op.out, op.x);
    each_row(c, RowCount(op.x), op.x.row_len(),
             [to = Place<float>(op.out), from = Place<float>(op.x), n = op.x.row_len()](
                 const Frame& f, int64_t i) { std::copy_n(from.in(f)[i], n, to.in(f)[i]); });
}

void compile(const Compiler& c, const SiluMul& op) {
    CHECK(op.out.row_len() == op.gate.row_len() && op.out.row_len() == op.up.row_len());
    each_row(c, RowCount(op.out), op.out.row_len(),
             [silu = c.kernels.silu_mul, to = Place<float>(op.out), gate = Place<float>(op.gate),
              up = Place<float>(op.up), n = op.out.row_len()](const Frame& f, int64_t i) {
                 silu(to.in(f)[i], gate.in(f)[i], up.in(f)[i], n);
             });
}

void compile(const Compiler& c, const ClampedSiluMul& op) {
    CHECK(op.out.row_len() == op.gate.row_len() && op.out.row_len() == op.up.row_len());
    each_row(
        c, RowCount(op.out), op.out.row_len(),
        [silu = c.kernels.clamped_silu_mul, to = Place<float>(op.out), gate = Place<float>(op.gate),
         up = Place<float>(op.up), n = op.out.row_len(), alpha = op.alpha, limit = op.limit](
            const Frame& f, int64_t i) { silu(to.in(f)[i], gate.in(f)[i], up.in(f)[i], n, alpha, limit); });
}

namespace {

// Of the tokens that a picture becomes, a few thousand values each: no kernel of its own.
void exact_gelu(float* out, const float* x, int64_t n) {
    constexpr float sqrt_half = 0.70710678f;
    for (int64_t i = 0; i < n; ++i) out[i] = x[i] / 2 * std::erfc(-x[i] * sqrt_half);
}

}  // namespace

void compile(const Compiler& c, const Gelu& op) {
    CHECK(op.out.row_len() == op.x.row_len());
    each_row(c, RowCount(op.out), op.out.row_len(),
             [activate = op.exact ? exact_gelu : c.kernels.gelu, to = Place<float>(op.out),
              from = Place<float>(op.x),
              n = op.out.row_len()](const Frame& f, int64_t i) { activate(to.in(f)[i], from.in(f)[i], n); });
}

void compile(const Compiler& c, const GeluMul& op) {
    CHECK(op.out.row_len() == op.gate.row_len() && op.out.row_len() == op.up.row_len());
    each_row(c, RowCount(op.out), op.out.row_len(),
             [activate = c.kernels.gelu_mul, to = Place<float>(op.out), gate = Place<float>(op.gate),
              up = Place<float>(op.up), n = op.out.row_len()](const Frame& f, int64_t i) {
                 activate(to.in(f)[i], gate.in(f)[i], up.in(f)[i], n);
             });
}

void compile(const Compiler& c, const SigmoidMul& op) {
    const bool one = op.gate.row_len() == 1;
    CHECK(op.out.row_len() == op.x.row_len() && (one || op.gate.row_len() == op.x.row_len()));
    each_row(c, RowCount(op.out), op.out.row_len(),
             [=, multiply = c.kernels.sigmoid_mul, to = Place<float>(op.out), gate = Place<float>(op.gate),
              from = Place<float>(op.x), n = op.out.row_len()](const Frame& f, int64_t i) {
                 const float *g = gate.in(f)[i], *x = from.in(f)[i];
                 float* out = to.in(f)[i];
                 if (!one) return multiply(out, g, x, n);
                 const float divisor = 1 + std::exp(-g[0]);
                 for (int64_t j = 0; j < n; ++j) out[j] = x[j] / divisor;
             });
}

void compile(const Compiler& c, const Scale& op) {
    each_row(c, RowCount(op.x), op.x.row_len(),
             [rows = Place<float>(op.x), n = op.x.row_len(), factor = op.factor](const Frame& f, int64_t i) {
                 float* x = rows.in(f)[i];
                 for (int64_t j = 0; j < n; ++j) x[j] *= factor;
             });
}

void compile(const Compiler& c, const SoftCap& op) {
    each_row(c, RowCount(op.x), op.x.row_len(),
             [soft_cap = c.kernels.soft_cap, rows = Place<float>(op.x), n = op.x.row_len(), cap = op.cap](
                 const Frame& f, int64_t i) { soft_cap(rows.in(f)[i], n, cap); });
}

void compile(const Compiler& c, const GatherRows& op) {
    CHECK(op.out.row_len() == op.x.row_len());
    each_row(c, RowCount(op.out), op.x.row_len(),
             [to = Place<float>(op.out), from = Place<float>(op.x), rows = Place<const int32_t>(op.rows),
              count = RowCount(op.x), n = op.x.row_len()](const Frame& f, int64_t i) {
                 const int32_t row = rows.in(f).first[i];
                 CHECK(row >= 0 && row < count.in(f), "row {}", row);
                 std::copy_n(from.in(f)[row], n, to.in(f)[i]);
             });
}

void compile(const Compiler& c, const Route& op) {
    const int64_t n_experts = op.logits.row_len();
    CHECK(op.ids.row_len() <= n_experts && op.weights.row_len() == op.ids.row_len());
    const RouteParams params{.score = op.score,
                             .normalize = op.normalize,
                             .scale = op.scale,
                             .n_groups = op.n_groups,
                             .n_groups_used = op.n_groups_used};
    CHECK(op.n_groups > 0 && op.n_groups <= 64 && n_experts % op.n_groups == 0 &&
              op.ids.row_len() <= n_experts / op.n_groups * op.n_groups_used,
          "{} of {} groups of {} experts", op.n_groups_used, op.n_groups, n_experts);
    const float* bias = op.selection_bias == nullptr ? nullptr : floats_of(*op.selection_bias);
    each_row(c, RowCount(op.logits), n_experts * 8,
             [=, from = Place<float>(op.logits), ids = Place<int32_t>(op.ids),
              weights = Place<float>(op.weights), n_used = op.ids.row_len()](const Frame& f, int64_t t) {
                 route_row(from.in(f)[t], n_experts, bias, params, ids.in(f)[t], weights.in(f)[t], n_used);
             });
}

void compile(const Compiler& c, const AddExperts& op) {
    CHECK(op.y.rank == 3 && op.y.shape[2] == op.x.row_len() && op.y.shape[1] == op.weights.row_len());
    each_row(c, RowCount(op.x), op.y.row_len(),
             [to = Place<float>(op.x), from = Place<float>(op.y), weights = Place<float>(op.weights),
              n_used = op.y.shape[1], dim = op.y.shape[2]](const Frame& f, int64_t t) {
                 float* sum = to.in(f)[t];
                 for (int64_t i = 0; i < n_used; ++i) {
                     const float weight = weights.in(f)[t][i];
                     const float* y = from.in(f)[t] + i * dim;
                     for (int64_t col = 0; col < dim; ++col) sum[col] += weight * y[col];
                 }
             });
}

void compile(const Compiler& c, const TopK& op) {
    CHECK(op.ids.row_len() <= op.x.row_len() && op.values.row_len() == op.ids.row_len());
    each_row(c, RowCount(op.x), op.x.row_len(),
             [from = Place<float>(op.x), values = Place<float>(op.values), ids = Place<int32_t>(op.ids),
              n = op.x.row_len(), k = op.ids.row_len()](const Frame& f, int64_t i) {
                 top_k_row(from.in(f)[i], n, values.in(f)[i], ids.in(f)[i], k);
             });
}

}  // namespace smelt::cpu
