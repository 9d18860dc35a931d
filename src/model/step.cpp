// Appends ops to the record.
#include "model/step.h"

#include <algorithm>

namespace smelt {

using namespace op;

namespace {

const Weight* or_null(const Weight& w) {
    return w ? &w : nullptr;
}

std::vector<const Weight*> pointers(std::span<const Weight> weights) {
    std::vector<const Weight*> list;
    for (const Weight& w : weights) list.push_back(&w);
    return list;
}

}  // namespace

const Weight Step::no_weight;

Tensor Step::like(Tensor x, int64_t n_columns) {
    return record_.take(DType::F32, x.rows_of, {x.n_rows(), n_columns}, x.rows_each);
}

Tensor Step::take(int64_t n_rows, int64_t n_columns) {
    CHECK(n_tokens() > 0 && n_rows % n_tokens() == 0, "{} rows, {} tokens", n_rows, n_tokens());
    return record_.take(DType::F32, RowsOf::tokens, {n_rows, n_columns}, n_rows / n_tokens());
}

Tensor Step::embed(const Weight& table) {
    const InputTensors& in = record_.inputs();
    if (!in.features) {
        const Tensor out = take(n_tokens(), table.cols);
        record_.add(Embed{.out = out, .ids = in.ids, .table = &table});
        return out;
    }
    // The features, then the embeddings of all tokens; each token takes one of them.
    const int64_t n = in.features.n_rows();
    const Tensor both = record_.take(DType::F32, RowsOf::fixed, {n + n_tokens(), table.cols});
    copy(both.rows(0, n), in.features.columns(0, table.cols));
    Tensor words = both.rows(n, n_tokens());
    words.rows_of = RowsOf::tokens;
    record_.add(Embed{.out = words, .ids = in.ids, .table = &table});
    return some_rows(both, in.merged_rows);
}

void Step::add_features(Tensor x, int64_t layer) {
    const InputTensors& in = record_.inputs();
    const int64_t n = x.row_len(), first = (layer + 1) * n;
    if (!in.features || first + n > in.features.row_len()) return;
    add(x, some_rows(in.features.columns(first, n), in.feature_rows));
}

Tensor Step::features(int64_t first, int64_t n) {
    const Tensor out = take(n_tokens(), n);
    Tensor own = record_.inputs().features.rows(1, n_tokens()).columns(first, n);
    own.rows_of = RowsOf::tokens;
    copy(out, own);
    return out;
}

Tensor Step::embed_positions(const Weight& table) {
    const Tensor out = take(n_tokens(), table.cols);
    record_.add(Embed{.out = out, .ids = record_.inputs().positions, .table = &table});
    return out;
}

// The product and what adapters add to it: out[t] += sum of scale[t][i] * b[e] · (a[e] · x[t]) over the
// adapters e = adapters[t][i] of the token. The ops are those of a mixture of experts, which every device
// has.
void Step::adapt(const Matmul& matmul) {
    record_.add(matmul);
    const InputTensors& in = record_.inputs();
    const Tensor& x = matmul.x;
    if (!in.adapters || adapted_ == nullptr || x.rows_each != 1) return;
    const bool logits = x.rows_of == RowsOf::logits;
    if (!logits && x.rows_of != RowsOf::tokens) return;
    const Tensor &numbers = logits ? in.logits_adapters : in.adapters,
                 &scales = logits ? in.logits_scales : in.adapter_scales;
    const int64_t n = numbers.row_len();
    for (const Matmul::Product& p : matmul.all()) {
        const auto found = adapted_->find(p.w->storage.get());
        if (found == adapted_->end()) continue;
        const auto& [a, b] = found->second;
        const size_t mark = record_.mark();
        const Tensor low = record_.take(DType::F32, x.rows_of, {x.n_rows(), n, a[0]->rows}),
                     sum = record_.take(DType::F32, x.rows_of, {x.n_rows(), n, b[0]->rows});
        record_.add(MatmulExperts{.x = x, .ids = numbers, .products = {{low, record_.keep(a)}}, .n = 1});
        record_.add(MatmulExperts{.x = low, .ids = numbers, .products = {{sum, record_.keep(b)}}, .n = 1});
        record_.add(AddExperts{.x = p.out, .y = sum, .weights = scales});
        record_.reset(mark);
    }
}

Tensor Step::matmul(const Weight& w, Tensor x, const Weight& bias) {
    const Tensor out = like(x, w.rows);
    adapt({.x = x.flat(), .products = {{out, &w, or_null(bias)}}, .n = 1});
    return out;
}

std::pair<Tensor, Tensor> Step::matmul2(const Weight& a, const Weight& b, Tensor x) {
    const Tensor out_a = like(x, a.rows), out_b = like(x, b.rows);
    adapt({.x = x.flat(), .products = {{out_a, &a}, {out_b, &b}}, .n = 2});
    return {out_a, out_b};
}

std::array<Tensor, 3> Step::matmul3(std::array<Linear, 3> linears, Tensor x) {
    Matmul op{.x = x.flat(), .products = {}, .n = 3};
    std::array<Tensor, 3> outs;
    for (size_t i = 0; i < 3; ++i) {
        outs[i] = like(x, linears[i].w.rows);
        op.products[i] = {outs[i], &linears[i].w, or_null(linears[i].bias)};
    }
    adapt(op);
    return outs;
}

Tensor Step::rms_norm(Tensor x, const Weight& w, float eps) {
    Tensor out = like(x, x.row_len());
    if (x.rank == 3) out = out.heads(x.shape[1]);
    record_.add(RmsNorm{.out = out, .x = x, .w = &w, .eps = eps});
    return out;
}

Tensor Step::layer_norm(Tensor x, const Weight& w, const Weight& bias, float eps) {
    const Tensor out = like(x, x.row_len());
    record_.add(LayerNorm{.out = out, .x = x, .w = &w, .bias = &bias, .eps = eps});
    return out;
}

void Step::rms_norm_in_place(Tensor x, const Weight& w, float eps) {
    record_.add(RmsNorm{.out = x, .x = x, .w = &w, .eps = eps});
}

Tensor Step::add_rms_norm(Tensor residual, Tensor x, const Weight& w, float eps) {
    add(residual, x);
    return rms_norm(residual, w, eps);
}

Tensor Step::rope_table(const Weight& inv_freq, float scale, int axis) {
    const Tensor table = record_.take(DType::F32, RowsOf::tokens, {n_tokens(), inv_freq.cols, 2});
    record_.add(RopeTable{.table = table,
                          .positions = record_.inputs().rope_positions[axis],
                          .inv_freq = &inv_freq,
                          .scale = scale});
    return table;
}

Tensor Step::rope(Tensor x, Tensor table, RopePairing pairing, int64_t first) {
    record_.add(Rope{.x = x, .table = table, .pairing = pairing, .first = first});
    return x;
}

Tensor Step::attention(int64_t layer, Tensor q, Tensor k, Tensor v, const AttentionParams& p,
                       const PrepareParams& prepare) {
    KvStorage* kv = kv_[static_cast<size_t>(layer)].get();
    const InputTensors& in = record_.inputs();
    if (prepare.q_norm != nullptr) rms_norm_in_place(q, *prepare.q_norm, prepare.eps);
    if (prepare.k_norm != nullptr) rms_norm_in_place(k, *prepare.k_norm, prepare.eps);
    if (prepare.angles) {
        rope(q, prepare.angles, prepare.pairing, prepare.first);
        rope(k, prepare.angles, prepare.pairing, prepare.first);
    }
    record_.add(StoreKv{.kv = kv, .k = k, .v = v, .slots = p.window > 0 ? in.window_slots : in.slots});
    const Tensor out = record_.take(DType::F32, RowsOf::tokens, {q.n_rows(), q.shape[1], kv->shape().v_dim});
    record_.add(Attention{.out = out,
                          .q = q,
                          .kv = kv,
                          .positions = in.positions,
                          .seq_start = in.seq_start,
                          .block_table = p.window > 0 ? in.window_table : in.block_table,
                          .scale = p.scale,
                          .window = p.window,
                          .sinks = p.sinks,
                          .soft_cap = p.soft_cap});
    return out.flat();
}

StateRows Step::state_rows(int64_t layer, int64_t first) const {
    const InputTensors& in = record_.inputs();
    return {.rows = kv_[static_cast<size_t>(layer)].get(),
            .positions = in.positions,
            .seq_start = in.seq_start,
            .block_table = in.window_table,
            .block_len = block_len_,
            .first = first};
}

Tensor Step::causal_conv(int64_t layer, Tensor x, const Weight& w, int64_t first) {
    const Tensor out = like(x, x.row_len());
    record_.add(CausalConv{.out = out, .x = x, .w = &w, .state = state_rows(layer, first)});
    return out;
}

Tensor Step::delta_rule(int64_t layer, const Delta& d, int64_t first) {
    const Tensor out = like(d.v, d.v.row_len());
    record_.add(DeltaRule{.out = out,
                          .q = d.q,
                          .k = d.k,
                          .v = d.v,
                          .a = d.a,
                          .b = d.b,
                          .decay = &d.decay,
                          .bias = &d.bias,
                          .tiled = d.tiled,
                          .state = state_rows(layer, first)});
    return out;
}

void Step::copy(Tensor out, Tensor x) {
    record_.add(Copy{.out = out, .x = x});
}

void Step::add(Tensor x, Tensor y) {
    record_.add(Add{.x = x, .y = y});
}

Tensor Step::silu_mul(Tensor gate, Tensor up) {
    record_.add(SiluMul{.out = gate, .gate = gate, .up = up});
    return gate;
}

Tensor Step::clamped_silu_mul(Tensor gate, Tensor up, float alpha, float limit) {
    record_.add(ClampedSiluMul{.out = gate, .gate = gate, .up = up, .alpha = alpha, .limit = limit});
    return gate;
}

Tensor Step::gelu(Tensor x, bool exact) {
    record_.add(Gelu{.out = x, .x = x, .exact = exact});
    return x;
}

Tensor Step::gelu_mul(Tensor gate, Tensor up) {
    record_.add(GeluMul{.out = gate, .gate = gate, .up = up});
    return gate;
}

Tensor Step::sigmoid_mul(Tensor gate, Tensor x) {
    record_.add(SigmoidMul{.out = x, .gate = gate, .x = x});
    return x;
}

void Step::scale(Tensor x, float factor) {
    record_.add(Scale{.x = x, .factor = factor});
}

void Step::soft_cap(Tensor x, float cap) {
    record_.add(SoftCap{.x = x, .cap = cap});
}

Step::Routed Step::route(Tensor logits, int64_t n_used, const RouteParams& p) {
    const Routed routed{record_.take(DType::I32, logits.rows_of, {logits.n_rows(), n_used}),
                        like(logits, n_used)};
    record_.add(Route{.ids = routed.ids,
                      .weights = routed.weights,
                      .logits = logits,
                      .score = p.score,
                      .normalize = p.normalize,
                      .scale = p.scale,
                      .selection_bias = p.selection_bias,
                      .n_groups = p.n_groups,
                      .n_groups_used = p.n_groups_used});
    return routed;
}

Tensor Step::matmul_experts(const ExpertLinear& w, Tensor x, const Routed& routed) {
    const MatmulExperts::Product p = expert_product(w, x, routed);
    record_.add(MatmulExperts{.x = x, .ids = routed.ids, .products = {p}, .n = 1});
    return p.out;
}

std::pair<Tensor, Tensor> Step::matmul_experts2(const ExpertLinear& a, const ExpertLinear& b, Tensor x,
                                                const Routed& routed) {
    const MatmulExperts::Product pa = expert_product(a, x, routed), pb = expert_product(b, x, routed);
    record_.add(MatmulExperts{.x = x, .ids = routed.ids, .products = {pa, pb}, .n = 2});
    return {pa.out, pb.out};
}

MatmulExperts::Product Step::expert_product(const ExpertLinear& w, Tensor x, const Routed& routed) {
    return {record_.take(DType::F32, x.rows_of, {x.n_rows(), routed.ids.row_len(), w.experts[0].rows}),
            record_.keep(pointers(w.experts)), or_null(w.bias)};
}

void Step::add_experts(Tensor x, Tensor y, const Routed& routed) {
    record_.add(AddExperts{.x = x, .y = y, .weights = routed.weights});
}

void Step::matmul_heads(Tensor out, std::span<const Weight> heads, Tensor x) {
    record_.add(MatmulHeads{.out = out, .x = x, .heads = record_.keep(pointers(heads))});
}

Tensor Step::some_rows(Tensor x, Tensor rows) {
    const Tensor out = record_.take(DType::F32, rows.rows_of, {rows.n_rows(), x.row_len()});
    record_.add(GatherRows{.out = out, .x = x, .rows = rows});
    return out;
}

Tensor Step::wanted_rows(Tensor x) {
    return record_.shape().every_logit ? x : some_rows(x, record_.inputs().logits_rows);
}

Tensor Step::hidden_rows(Tensor x) {
    return some_rows(x, record_.inputs().hidden_rows);
}

// What the step is asked for: a token of each row, the largest logits, or all of them.
void Step::set_logits(Tensor logits) {
    const StepShape& shape = record_.shape();
    const InputTensors& in = record_.inputs();
    Record::Results& results = record_.results;
    const int64_t n_rows = logits.n_rows();
    if (shape.all_logits) results.logits = logits;
    if (shape.n_top > 0) {
        const int64_t n_top = std::min<int64_t>(shape.n_top, logits.row_len());
        results.top_logits = record_.take(DType::F32, RowsOf::logits, {n_rows, n_top});
        results.top_ids = record_.take(DType::I32, RowsOf::logits, {n_rows, n_top});
        record_.add(TopK{.values = results.top_logits, .ids = results.top_ids, .x = logits});
    }
    if (!shape.draws) return;
    results.tokens = record_.take(DType::I32, RowsOf::logits, {n_rows});
    results.logprobs = record_.take(DType::F32, RowsOf::logits, {n_rows});
    results.log_sums = record_.take(DType::F32, RowsOf::logits, {n_rows, 2});
    record_.add(Sample{.tokens = results.tokens,
                       .logprobs = results.logprobs,
                       .log_sums = results.log_sums,
                       .logits = logits,
                       .rows = in.draw_rows,
                       .edits = in.edits,
                       .masks = in.masks});
}

}  // namespace smelt
