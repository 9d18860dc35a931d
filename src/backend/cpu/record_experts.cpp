// A mixture's matmul: pairs of token and expert are sorted by expert, so that each expert's weights are read
// once for all its tokens. Which experts those are is known only when the ops run.
#include <cmath>

#include "backend/cpu/matmul_plan.h"

namespace smelt::cpu {

namespace {

struct ExpertProduct {
    const Weight* experts;
    const float* bias;  // (n_experts, rows) or null
    Rows<float> out;    // (n_tokens, n_used * rows)
    float* sorted;      // (n_pairs, rows), in order of expert; scratch
    int64_t rows, chunk_rows;
    int n_chunks;     // of one expert
    int first_chunk;  // of all products
};

// Shared scratch of one call, carved the same way by every op of it.
struct Layout {
    int32_t* order;      // (n_pairs) pair t * n_used + i, sorted by expert
    int32_t* start;      // (n_experts + 1) of each expert in order
    QuantizedBuffer xq;  // (n_pairs, cols)
    float* x;            // (n_pairs, cols), for weights that take floats
};
Layout carve(Carver& carver, int64_t n_pairs, int64_t n_experts, int64_t cols, bool any_int8,
             bool any_float) {
    Layout l{};
    l.order = carver.take<int32_t>(n_pairs);
    l.start = carver.take<int32_t>(n_experts + 1);
    if (any_int8) l.xq = carve_quantized(carver, n_pairs, cols);
    if (any_float) l.x = carver.take<float>(n_pairs * cols);
    return l;
}

// Counting sort: pairs of one expert stay in order of token.
void sort_pairs(const Layout& l, Rows<int32_t> ids, int64_t n_tokens, int64_t n_used, int64_t n_experts) {
    std::fill_n(l.start, n_experts + 1, 0);
    for (int64_t t = 0; t < n_tokens; ++t) {
        for (int64_t i = 0; i < n_used; ++i) {
            CHECK(ids[t][i] >= 0 && ids[t][i] < n_experts, "expert {}", ids[t][i]);
            ++l.start[ids[t][i] + 1];
        }
    }
    for (int64_t e = 0; e < n_experts; ++e) l.start[e + 1] += l.start[e];
    for (int64_t t = 0; t < n_tokens; ++t) {
        for (int64_t i = 0; i < n_used; ++i)
            l.order[l.start[ids[t][i]]++] = static_cast<int32_t>(t * n_used + i);
    }
    // Each start has moved on to the next one's.
    for (int64_t e = n_experts; e > 0; --e) l.start[e] = l.start[e - 1];
    l.start[0] = 0;
}

float score_of(float logit, float largest, const RouteParams& p) {
    return p.score == RouteParams::Score::softmax ? std::exp(logit - largest) : 1 / (1 + std::exp(-logit));
}

}  // namespace

// Insertion into a short sorted list.
void top_k_row(const float* x, int64_t n, float* values, int32_t* ids, int64_t k) {
    const auto larger = [](float a, float b) {
        return b == b && (a != a || a > b);
    };  // NaN is larger than all
    int64_t n_known = 0;
    for (int64_t e = 0; e < n; ++e) {
        if (n_known == k && !larger(x[e], values[k - 1])) continue;
        int64_t i = n_known < k ? n_known++ : k - 1;
        for (; i > 0 && larger(x[e], values[i - 1]); --i) {
            values[i] = values[i - 1];
            ids[i] = ids[i - 1];
        }
        values[i] = x[e];
        ids[i] = static_cast<int32_t>(e);
    }
}

void route_row(const float* logits, int64_t n_experts, const float* bias, const RouteParams& p, int32_t* ids,
               float* weights, int64_t n_used) {
    const float largest = *std::max_element(logits, logits + n_experts);
    float total = 0;
    for (int64_t e = 0; e < n_experts; ++e) total += score_of(logits[e], largest, p);
    const float divisor = p.score == RouteParams::Score::softmax ? total : 1;
    // Insertion into a short sorted list; ranks live in weights until all experts are seen.
    int64_t n = 0;
    for (int64_t e = 0; e < n_experts; ++e) {
        const float rank = score_of(logits[e], largest, p) / divisor + (bias == nullptr ? 0 : bias[e]);
        if (n == n_used && !(rank > weights[n - 1])) continue;
        int64_t i = n < n_used ? n++ : n - 1;
        for (; i > 0 && rank > weights[i - 1]; --i) {
            weights[i] = weights[i - 1];
            ids[i] = ids[i - 1];
        }
        weights[i] = rank;
        ids[i] = static_cast<int32_t>(e);
    }
    float chosen = 0;
    for (int64_t i = 0; i < n; ++i) chosen += weights[i] = score_of(logits[ids[i]], largest, p) / divisor;
    for (int64_t i = 0; i < n; ++i) weights[i] = weights[i] / (p.normalize ? chosen + 1e-20f : 1) * p.scale;
}

void record_matmul_experts(Recorder& r, std::span<const ExpertsOut> outs, const Tensor& x,
                           const Tensor& expert_ids) {
    const int64_t n_tokens = expert_ids.n_rows(), n_used = expert_ids.row_len(), n_pairs = n_tokens * n_used;
    const int64_t n_experts = static_cast<int64_t>(outs[0].experts.size()), cols = outs[0].experts[0].cols;
    const bool own_rows = x.rank == 3;  // a row of x for each pair, not for each token
    CHECK(x.n_rows() == n_tokens && x.row_len() == (own_rows ? n_used : 1) * cols);

    auto* products = static_cast<ExpertProduct*>(r.ops.take(outs.size() * sizeof(ExpertProduct)));
    const auto n_products = static_cast<int>(outs.size());
    bool any_int8 = false, any_float = false;
    size_t kernel_scratch = 0;
    for (const ExpertsOut& m : outs) {
        const WeightKind kind = matrix_of(m.experts[0]).kind;
        (is_int8(kind) ? any_int8 : any_float) = true;
        kernel_scratch = std::max(kernel_scratch, product_scratch(r.kernels, kind, cols));
    }

    Carver size(nullptr);
    carve(size, n_pairs, n_experts, cols, any_int8, any_float);
    int n_chunks = 0;
    for (int i = 0; i < n_products; ++i) {
        const ExpertsOut& m = outs[static_cast<size_t>(i)];
        const MatrixRows w = matrix_of(m.experts[0]);
        CHECK(static_cast<int64_t>(m.experts.size()) == n_experts && w.cols == cols &&
              m.out.row_len() == n_used * w.rows);
        const MatmulPlan plan =
            choose_matmul(w, std::max<int64_t>(1, n_pairs / n_experts), r.kernels.panel_rows, r.n_threads);
        size.take<float>(n_pairs * w.rows);
        CHECK(m.bias == nullptr || (m.bias->rows == n_experts && m.bias->cols == w.rows));
        products[i] = {.experts = m.experts.data(),
                       .bias = m.bias == nullptr ? nullptr : floats_of(*m.bias),
                       .out = rows_of<float>(m.out),
                       .sorted = nullptr,
                       .rows = w.rows,
                       .chunk_rows = plan.chunk_rows,
                       .n_chunks = plan.n_chunks,
                       .first_chunk = n_chunks};
        n_chunks += plan.n_chunks * static_cast<int>(n_experts);
    }
    Scratch* scratch = &r.scratch;
    scratch->need_shared(size.used());
    const Kernels* k = &r.kernels;
    Carver member_size(nullptr);
    member_size.take<uint8_t>(static_cast<int64_t>(kernel_scratch));
    scratch->need_member(member_size.used());
    const auto layout = [=](ExpertProduct* to) {
        Carver carver(scratch->shared());
        const Layout l = carve(carver, n_pairs, n_experts, cols, any_int8, any_float);
        for (int i = 0; to != nullptr && i < n_products; ++i)
            to[i].sorted = carver.take<float>(n_pairs * to[i].rows);
        return l;
    };

    r.ops.add(1, [=, ids = rows_of<int32_t>(expert_ids)](int, int) {
        sort_pairs(layout(products), ids, n_tokens, n_used, n_experts);
    });
    r.ops.add(static_cast<int>(n_pairs), [=, xs = rows_of<float>(x)](int chunk, int) {
        const Layout l = layout(nullptr);
        const int64_t pair = l.order[chunk];
        const float* row = xs[pair / n_used] + (own_rows ? pair % n_used * cols : 0);
        if (any_int8) quantize_row(*k, row, cols, l.xq, chunk);
        if (any_float) std::copy_n(row, cols, l.x + chunk * cols);
    });
    r.ops.add(n_chunks, [=](int chunk, int member) {
        int i = n_products - 1;
        while (products[i].first_chunk > chunk) --i;
        const ExpertProduct& p = products[i];
        const Layout l = layout(nullptr);
        const int64_t expert = (chunk - p.first_chunk) / p.n_chunks,
                      part = (chunk - p.first_chunk) % p.n_chunks;
        const int64_t first = l.start[expert], n = l.start[expert + 1] - first;
        if (n == 0) return;
        MatmulArgs args{.w = matrix_of(p.experts[expert]),
                        .first_row = part * p.chunk_rows,
                        .last_row = std::min(p.rows, (part + 1) * p.chunk_rows),
                        .x = l.x + first * cols,
                        .x_stride = cols,
                        .xq = {},
                        .n_tokens = n,
                        .out = p.sorted + first * p.rows,
                        .out_stride = p.rows,
                        .bias = p.bias == nullptr ? nullptr : p.bias + expert * p.rows,
                        .scratch = nullptr};
        Carver carver(scratch->member(member).memory);
        args.scratch = carver.take<uint8_t>(static_cast<int64_t>(kernel_scratch));
        if (is_int8(args.w.kind)) args.xq = l.xq.from(first, cols);
        run_product(*k, args);
    });
    // Back into the order of tokens.
    r.ops.add(static_cast<int>(n_pairs), [=](int chunk, int) {
        const int64_t pair = layout(nullptr).order[chunk];
        for (int i = 0; i < n_products; ++i) {
            const ExpertProduct& p = products[i];
            std::copy_n(p.sorted + chunk * p.rows, p.rows, p.out[pair / n_used] + pair % n_used * p.rows);
        }
    });
}

}  // namespace smelt::cpu
