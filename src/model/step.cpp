// Arena and recording. Inputs are written at once; ops go straight to the backend.
#include "model/step.h"

#include <algorithm>
#include <bit>
#include <limits>

namespace smelt {

namespace {

constexpr size_t alignment = 256;                   // Metal's largest requirement for a buffer offset
constexpr size_t smallest_chunk = size_t{4} << 20;  // bytes

Tensor dense(Storage* storage, size_t offset, DType dtype, std::initializer_list<int64_t> shape) {
    Tensor t{.storage = storage, .offset = offset, .dtype = dtype, .rank = static_cast<int>(shape.size())};
    std::copy(shape.begin(), shape.end(), t.shape.begin());
    t.row_stride = t.row_len();
    return t;
}

}  // namespace

const Weight Step::no_weight;

Tensor Arena::take(DType dtype, std::initializer_list<int64_t> shape) {
    size_t bytes = dtype_bytes(dtype);
    for (const int64_t n : shape) bytes *= static_cast<size_t>(n);
    bytes = std::max(alignment, (bytes + alignment - 1) / alignment * alignment);
    while (mark_.chunk < chunks_.size() && mark_.used + bytes > chunks_[mark_.chunk].size) {
        mark_ = {mark_.chunk + 1, 0};
    }
    if (mark_.chunk == chunks_.size()) {
        const size_t size = std::max(bytes, chunks_.empty() ? smallest_chunk : 2 * chunks_.back().size);
        chunks_.push_back({backend_.allocate(size), size});
    }
    const Tensor t = dense(chunks_[mark_.chunk].storage.get(), mark_.used, dtype, shape);
    mark_.used += bytes;
    return t;
}

size_t Arena::n_bytes() const {
    size_t n = 0;
    for (const Chunk& c : chunks_) n += c.size;
    return n;
}

Step::Step(Backend& backend, Arena& arena, const Batch& batch, std::span<const KvLayer> kv)
    : backend_(backend), arena_(arena), kv_(kv), n_best_(batch.n_best) {
    CHECK(batch.n_tokens() > 0 && batch.seq_start.back() == batch.n_tokens());
    arena.reset({0, 0});
    backend.begin();
    batch_ = {.ids = upload(batch.ids),
              .positions = upload(batch.positions),
              .slots = upload(batch.slots),
              .seq_start = upload(batch.seq_start),
              .block_table = upload(batch.block_table),
              .n_tokens = batch.n_tokens(),
              .n_seqs = batch.n_seqs(),
              .max_blocks = batch.max_blocks,
              .max_kv_len = batch.max_kv_len};
    windowed_ = batch_;
    if (!batch.window_slots.empty()) {
        windowed_.slots = upload(batch.window_slots);
        windowed_.block_table = upload(batch.window_table);
    }
    if (!batch.logits_rows.empty()) logits_rows_ = upload(batch.logits_rows);
    if (!batch.hidden_rows.empty()) hidden_rows_ = upload(batch.hidden_rows);
}

Tensor Step::upload(const std::vector<int32_t>& values) {
    const Tensor t = arena_.take(DType::I32, {static_cast<int64_t>(values.size())});
    backend_.write(t, values.data());
    return t;
}

Tensor Step::embed(const Weight& table) {
    const Tensor out = arena_.take(DType::F32, {batch_.n_tokens, table.cols});
    backend_.embed(out, table, batch_.ids);
    return out;
}

Tensor Step::embed_positions(const Weight& table) {
    const Tensor out = arena_.take(DType::F32, {batch_.n_tokens, table.cols});
    backend_.embed(out, table, batch_.positions);
    return out;
}

Tensor Step::matmul(const Weight& w, Tensor x, const Weight& bias) {
    const Tensor out = arena_.take(DType::F32, {x.n_rows(), w.rows});
    const MatmulOut m{out, &w, bias ? &bias : nullptr};
    backend_.matmul({&m, 1}, x.flat());
    return out;
}

std::pair<Tensor, Tensor> Step::matmul2(const Weight& a, const Weight& b, Tensor x) {
    const MatmulOut m[] = {{arena_.take(DType::F32, {x.n_rows(), a.rows}), &a},
                           {arena_.take(DType::F32, {x.n_rows(), b.rows}), &b}};
    backend_.matmul(m, x.flat());
    return {m[0].out, m[1].out};
}

std::array<Tensor, 3> Step::matmul3(std::array<Linear, 3> linears, Tensor x) {
    std::array<MatmulOut, 3> m;
    for (size_t i = 0; i < 3; ++i) {
        m[i] = {arena_.take(DType::F32, {x.n_rows(), linears[i].w.rows}), &linears[i].w,
                linears[i].bias ? &linears[i].bias : nullptr};
    }
    backend_.matmul(m, x.flat());
    return {m[0].out, m[1].out, m[2].out};
}

Tensor Step::rms_norm(Tensor x, const Weight& w, float eps) {
    Tensor out = arena_.take(DType::F32, {x.n_rows(), x.row_len()});
    if (x.rank == 3) out = out.heads(x.shape[1]);
    backend_.rms_norm(out, x, w, eps);
    return out;
}

Tensor Step::layer_norm(Tensor x, const Weight& w, const Weight& bias, float eps) {
    const Tensor out = arena_.take(DType::F32, {x.n_rows(), x.row_len()});
    backend_.layer_norm(out, x, w, bias, eps);
    return out;
}

void Step::rms_norm_in_place(Tensor x, const Weight& w, float eps) {
    backend_.rms_norm(x, x, w, eps);
}

Tensor Step::add_rms_norm(Tensor residual, Tensor x, const Weight& w, float eps) {
    const Tensor out = arena_.take(DType::F32, {x.n_rows(), x.row_len()});
    backend_.add_rms_norm(out, residual, x, w, eps);
    return out;
}

Tensor Step::rope_table(const Weight& inv_freq, float scale) {
    const Tensor table = arena_.take(DType::F32, {batch_.n_tokens, inv_freq.cols, 2});
    backend_.rope_table(table, batch_.positions, inv_freq, scale);
    return table;
}

Tensor Step::rope(Tensor x, Tensor table, RopePairing pairing, int64_t first) {
    backend_.rope(x, table, pairing, first);
    return x;
}

Tensor Step::attention(int64_t layer, Tensor q, Tensor k, Tensor v, const AttentionParams& p,
                       const PrepareParams& prepare) {
    const KvLayer& kv = kv_[static_cast<size_t>(layer)];
    const BatchView& batch = p.window > 0 ? windowed_ : batch_;
    backend_.prepare_attention(kv, q, k, v, batch, prepare);
    const Tensor out = arena_.take(DType::F32, {q.n_rows(), q.shape[1], kv.v.dim});
    backend_.attention(out, q, kv, batch, p);
    return out.flat();
}

void Step::copy(Tensor out, Tensor x) {
    backend_.copy(out, x);
}

void Step::add(Tensor x, Tensor y) {
    backend_.add(x, y);
}

Tensor Step::silu_mul(Tensor gate, Tensor up) {
    backend_.silu_mul(gate, gate, up);
    return gate;
}

Tensor Step::clamped_silu_mul(Tensor gate, Tensor up, float alpha, float limit) {
    backend_.clamped_silu_mul(gate, gate, up, alpha, limit);
    return gate;
}

Tensor Step::gelu(Tensor x) {
    backend_.gelu(x, x);
    return x;
}

Step::Routed Step::route(Tensor logits, int64_t n_used, const RouteParams& p) {
    const Routed routed{arena_.take(DType::I32, {logits.n_rows(), n_used}),
                        arena_.take(DType::F32, {logits.n_rows(), n_used})};
    backend_.route(routed.ids, routed.weights, logits, p);
    return routed;
}

Tensor Step::matmul_experts(const ExpertLinear& w, Tensor x, const Routed& routed) {
    const ExpertsOut m = expert_product(w, x, routed);
    backend_.matmul_experts({&m, 1}, x, routed.ids);
    return m.out;
}

std::pair<Tensor, Tensor> Step::matmul_experts2(const ExpertLinear& a, const ExpertLinear& b, Tensor x,
                                                const Routed& routed) {
    const ExpertsOut m[] = {expert_product(a, x, routed), expert_product(b, x, routed)};
    backend_.matmul_experts(m, x, routed.ids);
    return {m[0].out, m[1].out};
}

ExpertsOut Step::expert_product(const ExpertLinear& w, Tensor x, const Routed& routed) {
    return {arena_.take(DType::F32, {x.n_rows(), routed.ids.row_len(), w.experts[0].rows}), w.experts,
            w.bias ? &w.bias : nullptr};
}

void Step::add_experts(Tensor x, Tensor y, const Routed& routed) {
    backend_.add_experts(x, y, routed.weights);
}

Tensor Step::head_ids(int64_t n_heads) {
    std::vector<int32_t> ids(static_cast<size_t>(batch_.n_tokens * n_heads));
    for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>(i % static_cast<size_t>(n_heads));
    return upload(ids).in_rows(static_cast<int64_t>(ids.size()));
}

// Each row is a token that has chosen one expert: its head.
void Step::matmul_heads(Tensor out, std::span<const Weight> heads, Tensor x, Tensor head_ids) {
    const ExpertsOut m{out.heads(1), heads};
    backend_.matmul_experts({&m, 1}, x, head_ids);
}

Tensor Step::some_rows(Tensor x, Tensor rows) {
    if (rows.n_rows() == x.n_rows()) return x;
    const Tensor out = arena_.take(DType::F32, {rows.n_rows(), x.row_len()});
    backend_.gather_rows(out, x, rows);
    return out;
}

Tensor Step::wanted_rows(Tensor x) {
    return some_rows(x, logits_rows_);
}

Tensor Step::hidden_rows(Tensor x) {
    return some_rows(x, hidden_rows_);
}

void Step::run(std::vector<float>& out) {
    const size_t n_logits = wants_logits() ? static_cast<size_t>(logits_.n_elements()) : 0;
    const size_t n_hidden = wants_hidden() ? static_cast<size_t>(hidden_.n_elements()) : 0;
    const bool best = n_logits > 0 && n_best_ > 0 && n_best_ < logits_.row_len() && backend_.prefers_top_k();
    Tensor values, ids;
    if (best) {
        values = arena_.take(DType::F32, {logits_.n_rows(), n_best_});
        ids = arena_.take(DType::I32, {logits_.n_rows(), n_best_});
        backend_.top_k(values, ids, logits_);
    }
    backend_.submit_and_wait();
    out.resize(n_logits + n_hidden);
    if (n_hidden > 0) backend_.read(hidden_, out.data() + n_logits);
    if (best) return read_best(values, ids, out);
    if (n_logits > 0) backend_.read(logits_, out.data());
}

void Step::read_best(Tensor values, Tensor ids, std::vector<float>& out) {
    // Both come to the end of `out` first: what is refilled every step shall allocate once.
    const size_t end = out.size(), n = static_cast<size_t>(values.n_elements());
    out.resize(end + 2 * n);
    backend_.read(values, &out[end]);
    backend_.read(ids, &out[end + n]);
    std::fill_n(out.begin(), logits_.n_elements(), -std::numeric_limits<float>::infinity());
    for (size_t i = 0; i < n; ++i) {
        const size_t row = i / static_cast<size_t>(n_best_);
        const auto id = static_cast<size_t>(std::bit_cast<int32_t>(out[end + n + i]));
        out[row * static_cast<size_t>(logits_.row_len()) + id] = out[end + i];
    }
    out.resize(end);
}

}  // namespace smelt
