// Products whose matrix depends on the row: a mixture's experts, and a matrix for each head. Pairs of token
// and expert are sorted by expert, so that an expert's weights are read once for all its tokens; only experts
// that were chosen get chunks. One token alone needs no sorting.
#include <cstring>

#include "backend/cpu/compile.h"
#include "backend/cpu/matmul_plan.h"

namespace smelt::cpu {

namespace {

struct ExpertProduct {
    const MatrixRows* experts = nullptr;
    const float* bias = nullptr;  // (n_experts, rows) or null
    Place<float> out;             // (n_tokens, n_used * rows)
    int64_t rows = 0;
    int64_t chunk_rows = 0;  // of this step
    int n_chunks = 0;        // of one expert
    int first_chunk = 0;     // of all products
};

// What the stages of one op know together.
struct Experts {
    const Kernels* kernels = nullptr;
    int n_threads = 1;
    Place<float> x;
    Place<const int32_t> ids;
    RowCount tokens;
    int64_t n_used = 0, n_experts = 0, cols = 0;
    bool own_rows = false;  // a row of x for each pair, not for each token
    bool any_int8 = false, any_float = false;
    int64_t kernel_scratch = 0;
    ExpertProduct* products = nullptr;
    int n_products = 0;

    int64_t n_pairs(const Frame& f) const { return tokens.in(f)*n_used; }
    const float* row_of(const Frame& f, int64_t pair) const {
        return x.in(f)[pair / n_used] + (own_rows ? pair % n_used * cols : 0);
    }
    MatmulArgs args_of(const ExpertProduct& p, int64_t expert, int64_t part, uint8_t* scratch) const {
        return {.w = p.experts[expert],
                .first_row = part * p.chunk_rows,
                .last_row = std::min(p.rows, (part + 1) * p.chunk_rows),
                .x = nullptr,
                .x_stride = cols,
                .xq = {},
                .n_tokens = 1,
                .out = nullptr,
                .out_stride = p.rows,
                .bias = p.bias == nullptr ? nullptr : p.bias + expert * p.rows,
                .scratch = scratch};
    }
    // Plans the products for about rows_each rows an expert; returns the chunks of n_active experts.
    int plan(int64_t rows_each, int64_t n_active) const {
        int n_chunks = 0;
        for (int i = 0; i < n_products; ++i) {
            ExpertProduct& p = products[i];
            const MatmulPlan plan = choose_matmul(p.experts[0], rows_each, kernels->panel_rows, n_threads);
            p.chunk_rows = plan.chunk_rows;
            p.n_chunks = plan.n_chunks;
            p.first_chunk = n_chunks;
            n_chunks += plan.n_chunks * static_cast<int>(n_active);
        }
        return n_chunks;
    }
    const ExpertProduct& product_of(int chunk) const {
        int i = n_products - 1;
        while (products[i].first_chunk > chunk) --i;
        return products[i];
    }
};

// --- One token: its experts are pairs 0 .. n_used - 1, results go straight to their place. ---

struct QuantizeToken {
    const Experts* e;
    int64_t n_rows() const { return e->own_rows ? e->n_used : 1; }
    int begin(const Frame& f) const {
        return e->any_int8 && e->tokens.in(f) == 1 ? static_cast<int>(n_rows()) : 0;
    }
    void run(const Frame& f, int chunk, int) const {
        Carver carver(f.scratch->shared());
        quantize_row(*e->kernels, e->row_of(f, chunk), e->cols, carve_quantized(carver, n_rows(), e->cols),
                     chunk);
    }
};

struct TokenProducts {
    const Experts* e;
    int begin(const Frame& f) const { return e->tokens.in(f) == 1 ? e->plan(1, e->n_used) : 0; }
    void run(const Frame& f, int chunk, int member) const {
        const ExpertProduct& p = e->product_of(chunk);
        const int64_t pair = (chunk - p.first_chunk) / p.n_chunks,
                      part = (chunk - p.first_chunk) % p.n_chunks;
        const int64_t expert = e->ids.in(f).first[pair];
        CHECK(expert >= 0 && expert < e->n_experts, "expert {}", expert);
        Carver own(f.scratch->member(member).memory);
        MatmulArgs args = e->args_of(p, expert, part, own.take<uint8_t>(e->kernel_scratch));
        args.x = e->row_of(f, pair);
        args.out = p.out.in(f).first + pair * p.rows;
        if (e->kernels->takes_int8(args.w.format, e->cols)) {
            Carver shared(f.scratch->shared());
            const int64_t n_rows = e->own_rows ? e->n_used : 1;
            args.xq = carve_quantized(shared, n_rows, e->cols).from(e->own_rows ? pair : 0, e->cols);
        }
        e->kernels->matmul(args);
    }
};

// --- Several tokens ---

// Shared scratch of one op, carved the same way by every stage.
struct Layout {
    int32_t* order;                      // (n_pairs) pair t * n_used + i, sorted by expert
    int32_t* start;                      // (n_experts + 1) of each expert in order
    int32_t* chosen;                     // (n_experts) experts that have pairs, and their number at the end
    QuantizedBuffer xq;                  // (n_pairs, cols)
    float* x;                            // (n_pairs, cols), for weights that take floats
    float* sorted[MatmulExperts::most];  // (n_pairs, rows) of each product, in order of expert
};
Layout carve(Carver& carver, const Experts& e, int64_t n_pairs) {
    Layout l{};
    l.order = carver.take<int32_t>(n_pairs);
    l.start = carver.take<int32_t>(e.n_experts + 1);
    l.chosen = carver.take<int32_t>(e.n_experts + 1);
    if (e.any_int8) l.xq = carve_quantized(carver, n_pairs, e.cols);
    if (e.any_float) l.x = carver.take<float>(n_pairs * e.cols);
    for (int i = 0; i < e.n_products; ++i) l.sorted[i] = carver.take<float>(n_pairs * e.products[i].rows);
    return l;
}
Layout layout(const Frame& f, const Experts& e, int64_t n_pairs) {
    Carver carver(f.scratch->shared());
    return carve(carver, e, n_pairs);
}

// Counting sort: pairs of one expert stay in order of token.
struct SortPairs {
    const Experts* e;
    int64_t n_pairs = 0;
    int begin(const Frame& f) {
        n_pairs = e->n_pairs(f);
        return e->tokens.in(f) > 1 ? 1 : 0;
    }
    void run(const Frame& f, int, int) const {
        const Layout l = layout(f, *e, n_pairs);
        const int32_t* ids = e->ids.in(f).first;
        std::fill_n(l.start, e->n_experts + 1, 0);
        for (int64_t i = 0; i < n_pairs; ++i) {
            CHECK(ids[i] >= 0 && ids[i] < e->n_experts, "expert {}", ids[i]);
            ++l.start[ids[i] + 1];
        }
        int32_t& n_chosen = l.chosen[e->n_experts] = 0;
        for (int64_t i = 0; i < e->n_experts; ++i) {
            if (l.start[i + 1] > 0) l.chosen[n_chosen++] = static_cast<int32_t>(i);
            l.start[i + 1] += l.start[i];
        }
        for (int64_t i = 0; i < n_pairs; ++i) l.order[l.start[ids[i]]++] = static_cast<int32_t>(i);
        // Each start has moved on to the next one's.
        for (int64_t i = e->n_experts; i > 0; --i) l.start[i] = l.start[i - 1];
        l.start[0] = 0;
    }
};

struct GatherRowsByExpert {
    const Experts* e;
    int64_t n_pairs = 0;
    int begin(const Frame& f) {
        n_pairs = e->n_pairs(f);
        return e->tokens.in(f) > 1 ? static_cast<int>(n_pairs) : 0;
    }
    void run(const Frame& f, int chunk, int) const {
        const Layout l = layout(f, *e, n_pairs);
        const float* row = e->row_of(f, l.order[chunk]);
        if (e->any_int8) quantize_row(*e->kernels, row, e->cols, l.xq, chunk);
        if (e->any_float) std::copy_n(row, e->cols, l.x + chunk * e->cols);
    }
};

struct SortedProducts {
    const Experts* e;
    int64_t n_pairs = 0;
    int begin(const Frame& f) {
        n_pairs = e->n_pairs(f);
        if (e->tokens.in(f) <= 1) return 0;
        const int64_t most_chosen = std::min(n_pairs, e->n_experts);
        return e->plan(std::max<int64_t>(1, n_pairs / e->n_experts), most_chosen);
    }
    void run(const Frame& f, int chunk, int member) const {
        const ExpertProduct& p = e->product_of(chunk);
        const Layout l = layout(f, *e, n_pairs);
        const int64_t i = (chunk - p.first_chunk) / p.n_chunks, part = (chunk - p.first_chunk) % p.n_chunks;
        if (i >= l.chosen[e->n_experts]) return;
        const int64_t expert = l.chosen[i], first = l.start[expert];
        Carver own(f.scratch->member(member).memory);
        MatmulArgs args = e->args_of(p, expert, part, own.take<uint8_t>(e->kernel_scratch));
        args.n_tokens = l.start[expert + 1] - first;
        args.x = l.x + first * e->cols;
        args.out = l.sorted[&p - e->products] + first * p.rows;
        if (e->kernels->takes_int8(args.w.format, e->cols)) args.xq = l.xq.from(first, e->cols);
        e->kernels->matmul(args);
    }
};

// Back into the order of tokens.
struct ScatterResults {
    const Experts* e;
    int64_t n_pairs = 0;
    int begin(const Frame& f) {
        n_pairs = e->n_pairs(f);
        return e->tokens.in(f) > 1 ? static_cast<int>(n_pairs) : 0;
    }
    void run(const Frame& f, int chunk, int) const {
        const Layout l = layout(f, *e, n_pairs);
        const int64_t pair = l.order[chunk];
        for (int i = 0; i < e->n_products; ++i) {
            const ExpertProduct& p = e->products[i];
            std::copy_n(l.sorted[i] + chunk * p.rows, p.rows,
                        p.out.in(f)[pair / e->n_used] + pair % e->n_used * p.rows);
        }
    }
};

const MatrixRows* matrices_of(const Compiler& c, WeightList list) {
    auto* matrices = c.stages.take<MatrixRows>(list.size());
    for (size_t i = 0; i < list.size(); ++i) matrices[i] = c.product_rows(*list[i]);
    return matrices;
}

// --- A matrix for each head ---

// Row h of token t is row t * n_heads + h of x and of out. Quantized rows lie head by head.
struct Heads {
    const Kernels* kernels;
    int n_threads;
    Place<float> x, out;
    RowCount rows;
    int64_t n_heads, cols;
    const MatrixRows* w;
    int64_t kernel_scratch;
    bool int8;
    int64_t n_tokens = 0, chunk_rows = 0;
    int n_chunks = 0;  // of one head

    int64_t tokens(const Frame& f) const { return rows.in(f) / n_heads; }
};
struct QuantizeHeads : Heads {
    int begin(const Frame& f) {
        n_tokens = tokens(f);
        return int8 ? static_cast<int>(n_tokens * n_heads) : 0;
    }
    void run(const Frame& f, int chunk, int) const {
        Carver shared(f.scratch->shared());
        const int64_t t = chunk / n_heads, h = chunk % n_heads;
        quantize_row(*kernels, x.in(f)[chunk], cols, carve_quantized(shared, n_tokens * n_heads, cols),
                     h * n_tokens + t);
    }
};
struct HeadProducts : Heads {
    int begin(const Frame& f) {
        n_tokens = tokens(f);
        if (n_tokens == 0) return 0;
        const MatmulPlan plan = choose_matmul(w[0], n_tokens, kernels->panel_rows, n_threads);
        chunk_rows = plan.chunk_rows;
        n_chunks = plan.n_chunks;
        return n_chunks * static_cast<int>(n_heads);
    }
    void run(const Frame& f, int chunk, int member) const {
        const int64_t h = chunk / n_chunks, first_row = chunk % n_chunks * chunk_rows;
        const Rows<float> from = x.in(f), to = out.in(f);
        Carver own(f.scratch->member(member).memory);
        MatmulArgs args{.w = w[h],
                        .first_row = first_row,
                        .last_row = std::min(w[h].rows, first_row + chunk_rows),
                        .x = from[h],
                        .x_stride = from.stride * n_heads,
                        .xq = {},
                        .n_tokens = n_tokens,
                        .out = to[h],
                        .out_stride = to.stride * n_heads,
                        .bias = nullptr,
                        .scratch = own.take<uint8_t>(kernel_scratch)};
        if (int8) {
            Carver shared(f.scratch->shared());
            args.xq = carve_quantized(shared, n_tokens * n_heads, cols).from(h * n_tokens, cols);
        }
        kernels->matmul(args);
    }
};

}  // namespace

void compile(const Compiler& c, const MatmulExperts& op) {
    Experts e{.kernels = &c.kernels,
              .n_threads = c.n_threads,
              .x = Place<float>(op.x),
              .ids = Place<const int32_t>(op.ids),
              .tokens = RowCount(op.ids),
              .n_used = op.ids.row_len(),
              .n_experts = static_cast<int64_t>(op.products[0].experts.size()),
              .cols = op.products[0].experts[0]->cols,
              .own_rows = op.x.rank == 3,
              .products = c.stages.take<ExpertProduct>(static_cast<size_t>(op.n)),
              .n_products = op.n};
    CHECK(op.ids.dense() && op.x.n_rows() == op.ids.n_rows() &&
          op.x.row_len() == (e.own_rows ? e.n_used : 1) * e.cols);
    for (int i = 0; i < op.n; ++i) {
        const MatmulExperts::Product& p = op.products[i];
        const Weight& first = *p.experts[0];
        CHECK(static_cast<int64_t>(p.experts.size()) == e.n_experts && first.cols == e.cols &&
              p.out.row_len() == e.n_used * first.rows);
        CHECK(p.bias == nullptr || (p.bias->rows == e.n_experts && p.bias->cols == first.rows));
        e.products[i] = {.experts = matrices_of(c, p.experts),
                         .bias = p.bias == nullptr ? nullptr : floats_of(*p.bias),
                         .out = Place<float>(p.out),
                         .rows = first.rows};
        const Format f = first.format;
        (c.kernels.takes_int8(f, e.cols) ? e.any_int8 : e.any_float) = true;
        e.kernel_scratch =
            std::max(e.kernel_scratch, static_cast<int64_t>(c.kernels.matmul_scratch(f, e.cols)));
    }
    Carver own(nullptr), shared(nullptr);
    own.take<uint8_t>(e.kernel_scratch);
    c.scratch.need_member(own.used());
    carve(shared, e, e.tokens.most * e.n_used);
    c.scratch.need_shared(shared.used());
    auto* known = c.stages.take<Experts>(1);
    *known = e;
    c.stages.add(QuantizeToken{known});
    c.stages.add(TokenProducts{known});
    if (e.tokens.most <= 1) return;
    c.stages.add(SortPairs{known});
    c.stages.add(GatherRowsByExpert{known});
    c.stages.add(SortedProducts{known});
    c.stages.add(ScatterResults{known});
}

void compile(const Compiler& c, const MatmulHeads& op) {
    const Weight& first = *op.heads[0];
    CHECK(first.cols == op.x.row_len() && first.rows == op.out.row_len() && op.x.n_rows() == op.out.n_rows());
    const MatrixRows* w = matrices_of(c, op.heads);
    const Heads heads{
        .kernels = &c.kernels,
        .n_threads = c.n_threads,
        .x = Place<float>(op.x),
        .out = Place<float>(op.out),
        .rows = RowCount(op.x),
        .n_heads = static_cast<int64_t>(op.heads.size()),
        .cols = first.cols,
        .w = w,
        .kernel_scratch = static_cast<int64_t>(c.kernels.matmul_scratch(first.format, first.cols)),
        .int8 = c.kernels.takes_int8(first.format, first.cols)};
    Carver own(nullptr), shared(nullptr);
    own.take<uint8_t>(heads.kernel_scratch);
    c.scratch.need_member(own.used());
    if (heads.int8) {
        carve_quantized(shared, heads.rows.most, heads.cols);
        c.scratch.need_shared(shared.used());
        c.stages.add(QuantizeHeads{heads});
    }
    c.stages.add(HeadProducts{heads});
}

}  // namespace smelt::cpu
