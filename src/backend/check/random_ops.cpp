// Each op of a random record: its tensors, weights and parameters.
#include <algorithm>
#include <cmath>

#include "backend/check/random_record.h"

namespace smelt {

void RandomRecord::add(std::string_view name) {
    input_magnitude_ = 0;
    in_use_.clear();
#define X(op) \
    if (name == #op) return add_##op();
    SMELT_OPS(X)
#undef X
    CHECK(false, "no op {}", name);
}

void RandomRecord::add_Embed() {
    const int64_t cols = width();
    const Tensor out = empty({cols});
    record.add(op::Embed{out, record.inputs().ids, load(format_, vocab_rows, cols, WeightUse::embedding)});
    made(out, 1);
}

void RandomRecord::add_Matmul() {
    const int64_t cols = width();
    op::Matmul m;
    m.x = given({cols});
    m.n = static_cast<int>(c_.between(1, op::Matmul::most));
    for (op::Matmul::Product& p : m.all()) {
        const int64_t rows = c_.between(1, 70);
        p = {empty({rows}), matrix(rows, cols), c_.below(2) == 0 ? nullptr : vector(rows)};
    }
    record.add(m);
    for (const op::Matmul::Product& p : m.all()) made(p.out, 2);
}

void RandomRecord::add_GatedMatmul() {
    const int64_t cols = width(), rows = c_.between(1, 70);
    const Tensor gate = empty({rows}), up = empty({rows});
    const Tensor out = c_.below(2) == 0 ? gate : empty({rows});
    record.add(op::GatedMatmul{out, gate, up, given({cols}), matrix(rows, cols), matrix(rows, cols)});
    input_magnitude_ = 2 * input_magnitude_ + 4;
    made(out);
}

void RandomRecord::add_RmsNorm() {
    const int64_t n = width(), heads = c_.between(1, 3);
    const Tensor x = given({heads, n}), out = c_.below(2) == 0 ? x : empty({heads, n});
    record.add(op::RmsNorm{out, x, vector(n), 1e-6f});
    input_magnitude_ = 3;
    made(out);
}

void RandomRecord::add_AddRmsNorm() {
    const int64_t n = width();
    const Tensor residual = given({n}), x = fresh({n}), out = empty({n});
    record.add(op::AddRmsNorm{out, residual, x, vector(n), 1e-6f});
    made(residual, 1);
    input_magnitude_ = 3;
    made(out);
}

void RandomRecord::add_LayerNorm() {
    const int64_t n = width();
    const Tensor x = given({n}), out = c_.below(2) == 0 ? x : empty({n});
    record.add(op::LayerNorm{out, x, vector(n), vector(n), 1e-5f});
    input_magnitude_ = 3;
    made(out);
}

void RandomRecord::add_RopeTable() {
    const int64_t half = head_dim_ / 2;
    const Tensor out = empty({half, 2});
    record.add(op::RopeTable{out, record.inputs().positions, vector(half), c_.one_of({1.0f, 1.25f})});
    made(out);
}

void RandomRecord::add_Rope() {
    const int64_t dims = 2 * c_.between(1, head_dim_ / 2);
    const Tensor x = given({n_kv_heads_ * n_rep_, head_dim_});
    record.add(op::Rope{x, fresh({dims / 2, 2}), c_.one_of({RopePairing::half, RopePairing::interleaved}),
                        c_.between(0, head_dim_ - dims)});
    made(x, 1);
}

void RandomRecord::add_StoreKv() {
    const KvShape& s = kv->shape();
    record.add(op::StoreKv{kv.get(), given({s.n_heads, s.k_dim}),
                           s.v_in_k ? Tensor() : given({s.n_heads, s.v_dim}), record.inputs().slots});
}

void RandomRecord::add_PrepareHeads() {
    const KvShape& s = kv->shape();
    op::PrepareHeads p;
    p.kv = kv.get();
    p.q = given({s.n_heads * n_rep_, s.k_dim});
    p.k = fresh({s.n_heads, s.k_dim});
    p.v = fresh({s.n_heads, s.v_dim});
    p.slots = record.inputs().slots;
    p.eps = 1e-6f;
    if (c_.below(2) == 0) p.q_norm = vector(s.k_dim);
    if (p.q_norm != nullptr) p.k_norm = vector(s.k_dim);
    if (p.q_norm == nullptr || c_.below(2) == 0) p.table = fresh({s.k_dim / 2, 2});
    p.pairing = c_.one_of({RopePairing::half, RopePairing::interleaved});
    record.add(p);
    made(p.q, 2);
}

void RandomRecord::add_Attention() {
    const KvShape& s = kv->shape();
    const InputTensors& in = record.inputs();
    const int64_t n_heads = s.n_heads * n_rep_;
    const Tensor out = empty({n_heads, s.v_dim});
    record.add(op::Attention{.out = out,
                             .q = fresh({n_heads, s.k_dim}),
                             .kv = kv.get(),
                             .positions = in.positions,
                             .seq_start = in.seq_start,
                             .block_table = in.block_table,
                             .scale = 1 / std::sqrt(static_cast<float>(s.k_dim)),
                             .window = c_.one_of({0, 0, 1, 7, 30}),
                             .sinks = c_.below(3) == 0 ? vector(n_heads) : nullptr,
                             .soft_cap = c_.one_of({0.0f, 0.0f, 5.0f, 50.0f})});
    input_magnitude_ = max_magnitude;
    made(out);
}

op::StateRows RandomRecord::state_rows(int64_t n_floats) {
    const InputTensors& in = record.inputs();
    return {.rows = states.get(),
            .positions = in.positions,
            .seq_start = in.seq_start,
            .block_table = in.block_table,
            .block_len = kv->shape().block_len,
            .first = c_.below(state_floats - n_floats + 1)};
}

void RandomRecord::add_CausalConv() {
    const int64_t n = c_.one_of<int64_t>({1, 7, 64, 100}), kernel = c_.one_of<int64_t>({2, 4, 4, 8});
    const Tensor x = given({n}), out = empty({n});
    record.add(op::CausalConv{out, x, vector(kernel, n), state_rows((kernel - 1) * n)});
    made(out, 2);
}

void RandomRecord::add_DeltaRule() {
    const int64_t n_k = c_.between(1, 2), n_v = n_k * c_.between(1, 3);
    const int64_t k_dim = c_.one_of<int64_t>({8, 16, 24}), v_dim = c_.one_of<int64_t>({5, 16, 33, 40});
    const float unit = 1 / std::sqrt(static_cast<float>(k_dim));  // keys and queries of length about one
    op::DeltaRule d;
    d.out = empty({n_v, v_dim});
    d.q = fresh({n_k, k_dim}, RowsOf::tokens, 1, unit);
    d.k = fresh({n_k, k_dim}, RowsOf::tokens, 1, unit);
    d.v = fresh({n_v, v_dim});
    d.a = fresh({n_v});
    d.b = fresh({n_v});
    d.decay = negative_vector(n_v);
    d.bias = vector(n_v);
    d.tiled = c_.below(2) == 0;
    d.state = state_rows(n_v * k_dim * v_dim);
    record.add(d);
    input_magnitude_ = max_magnitude;
    made(d.out);
}

void RandomRecord::add_Add() {
    const int64_t n = width();
    const Tensor x = given({n});
    record.add(op::Add{x, other_than(x, {n})});
    made(x, 1);
}

void RandomRecord::add_Copy() {
    const int64_t n = width();
    const Tensor x = given({n}), out = empty({n});
    record.add(op::Copy{out, x});
    made(out);
}

void RandomRecord::add_SiluMul() {
    const int64_t n = width();
    const Tensor gate = given({n}), up = other_than(gate, {n});
    const Tensor out = c_.below(2) == 0 ? gate : empty({n});
    record.add(op::SiluMul{out, gate, up});
    made(out, input_magnitude_);
}

void RandomRecord::add_ClampedSiluMul() {
    const int64_t n = width();
    const Tensor gate = given({n}), up = other_than(gate, {n});
    const Tensor out = c_.below(2) == 0 ? gate : empty({n});
    record.add(op::ClampedSiluMul{out, gate, up, 1.702f, 7});
    made(out, input_magnitude_);
}

void RandomRecord::add_Gelu() {
    const int64_t n = width();
    const Tensor x = given({n}), out = c_.below(2) == 0 ? x : empty({n});
    record.add(op::Gelu{out, x, c_.below(2) == 0});
    made(out);
}

void RandomRecord::add_GeluMul() {
    const int64_t n = width();
    const Tensor gate = given({n}), up = other_than(gate, {n});
    const Tensor out = c_.below(2) == 0 ? gate : empty({n});
    record.add(op::GeluMul{out, gate, up});
    made(out, input_magnitude_);
}

void RandomRecord::add_SigmoidMul() {
    const int64_t n = width();
    const Tensor x = given({n}), gate = other_than(x, {c_.below(2) == 0 ? 1 : n});
    const Tensor out = c_.below(2) == 0 ? x : empty({n});
    record.add(op::SigmoidMul{out, gate, x});
    made(out);
}

void RandomRecord::add_Scale() {
    const Tensor x = given({width()});
    record.add(op::Scale{x, c_.one_of({0.5f, 1.7f, 11.3137f})});
    made(x, 2);
}

void RandomRecord::add_SoftCap() {
    const Tensor x = given({width()});
    record.add(op::SoftCap{x, c_.one_of({1.0f, 30.0f})});
    made(x);
}

void RandomRecord::add_GatherRows() {
    const int64_t n = width();
    const bool logits = c_.below(2) == 0;
    const Tensor out = empty({n}, logits ? RowsOf::logits : RowsOf::hidden);
    record.add(
        op::GatherRows{out, given({n}), logits ? record.inputs().logits_rows : record.inputs().hidden_rows});
    made(out);
}

void RandomRecord::add_Route() {
    std::vector<std::pair<int32_t, int32_t>> groups{{1, 1}};  // of how many groups how many
    for (int32_t n = 2; n <= n_experts_; ++n) {
        for (int32_t used = 1; n_experts_ % n == 0 && used <= n; ++used) {
            if (n_experts_ / n * used >= n_used_) groups.emplace_back(n, used);
        }
    }
    const auto [n_groups, n_groups_used] = groups[static_cast<size_t>(c_.below(std::ssize(groups)))];
    const Tensor ids = take(DType::I32, RowsOf::tokens, 1, {n_used_}, 0), weights = empty({n_used_});
    record.add(op::Route{.ids = ids,
                         .weights = weights,
                         .logits = fresh({n_experts_}, RowsOf::tokens, 1, 2),
                         .score = c_.one_of({RouteParams::Score::softmax, RouteParams::Score::sigmoid}),
                         .normalize = c_.below(2) == 0,
                         .scale = c_.one_of({1.0f, 1.8f}),
                         .selection_bias = c_.below(2) == 0 ? nullptr : vector(n_experts_, 1, 0.1f),
                         .n_groups = n_groups,
                         .n_groups_used = n_groups_used});
    routed_.push_back(ids);
    made(weights, 1);
}

void RandomRecord::add_MatmulExperts() {
    const int64_t cols = width();
    const bool own_rows = c_.below(2) == 0;
    op::MatmulExperts m;
    m.x = own_rows ? given({n_used_, cols}) : given({cols});
    m.ids = !routed_.empty() && c_.below(2) == 0 ? routed_.back() : ints(n_used_, n_experts_);
    in_use_.push_back(m.ids.buffer);
    m.n = static_cast<int>(c_.between(1, op::MatmulExperts::most));
    for (op::MatmulExperts::Product& p : m.all()) {
        const int64_t rows = c_.between(1, 40);
        p = {empty({n_used_, rows}), list(n_experts_, rows, cols),
             c_.below(2) == 0 ? nullptr : vector(rows, n_experts_)};
    }
    record.add(m);
    for (const op::MatmulExperts::Product& p : m.all()) made(p.out, 2);
}

void RandomRecord::add_AddExperts() {
    const int64_t n = width();
    const Tensor x = given({n});
    record.add(op::AddExperts{x, other_than(x, {n_used_, n}), fresh({n_used_})});
    made(x, 2);
}

void RandomRecord::add_MatmulHeads() {
    const int64_t cols = width(), rows = c_.between(1, 40), heads = n_kv_heads_;
    const Tensor out = empty({rows}, RowsOf::tokens, heads);
    record.add(op::MatmulHeads{out, given({cols}, RowsOf::tokens, heads), list(heads, rows, cols)});
    made(out, 2);
}

void RandomRecord::add_TopK() {
    const int64_t n = c_.one_of<int64_t>({1, 5, 64, 300, 1500}), k = std::min<int64_t>(n, c_.between(1, 64));
    const Tensor values = take(DType::F32, RowsOf::logits, 1, {k}, 0),
                 ids = take(DType::I32, RowsOf::logits, 1, {k}, 0);
    record.add(op::TopK{values, ids, fresh({n}, RowsOf::logits, 1, 3)});
}

void RandomRecord::add_Sample() {
    const InputTensors& in = record.inputs();
    const int64_t vocab = 300;
    const StepCounts& n = input.counts();
    const auto edits = static_cast<int32_t>(record.shape().n_edits);
    for (int32_t i = 0; i < edits; ++i) {
        input.of<LogitEdit>(in.edits)[static_cast<size_t>(i)] = {
            .id = static_cast<int32_t>(c_.below(vocab)),
            .bias = c_.normal(),
            .n_generated = static_cast<int32_t>(c_.below(4)),
            .seen = static_cast<uint16_t>(c_.below(2)),
            .banned = static_cast<uint16_t>(c_.below(4) == 0)};
    }
    for (int32_t r = 0; r < n.n_logits; ++r) {
        DrawRow& row = input.of<DrawRow>(in.draw_rows)[static_cast<size_t>(r)];
        row = {.temperature = c_.one_of({0.0f, 0.3f, 1.0f, 2.0f}),
               .top_k = c_.one_of({0, 0, 1, 5, 40}),
               .top_p = c_.one_of({1.0f, 0.5f, 0.9f}),
               .min_p = c_.one_of({0.0f, 0.05f}),
               .repetition_penalty = c_.one_of({1.0f, 1.3f}),
               .presence_penalty = c_.one_of({0.0f, 0.5f}),
               .frequency_penalty = c_.one_of({0.0f, 0.25f}),
               .draws = static_cast<uint32_t>(c_.below(8) != 0),
               .logprob = static_cast<uint32_t>(c_.below(2))};
        row.first_edit = edits > 0 ? static_cast<int32_t>(c_.below(edits)) : 0;
        row.n_edits = static_cast<int32_t>(c_.below(edits - row.first_edit + 1));
        const uint64_t bits = c_.bits();
        row.random[0] = static_cast<uint32_t>(bits);
        row.random[1] = static_cast<uint32_t>(bits >> 32);
        if (record.shape().mask_words == 0) continue;
        row.masked = static_cast<uint32_t>(c_.below(2));
        for (int w = 0; w < record.shape().mask_words; ++w)
            input.of<uint64_t>(in.masks)[static_cast<size_t>(r * record.shape().mask_words + w)] = c_.bits();
    }
    const Tensor tokens = take(DType::I32, RowsOf::logits, 1, {}, 0);
    const Tensor logprobs = take(DType::F32, RowsOf::logits, 1, {}, 0),
                 log_sums = take(DType::F32, RowsOf::logits, 1, {2}, 0);
    record.add(op::Sample{tokens, logprobs, log_sums, fresh({vocab}, RowsOf::logits, 1, 3), in.draw_rows,
                          in.edits, in.masks});
}

}  // namespace smelt
