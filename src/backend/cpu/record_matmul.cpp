// Cuts a matmul into chunks of rows; int8 products get their activations quantized once a call, by each
// thread for itself when there are few.
#include "backend/cpu/matmul_plan.h"

namespace smelt::cpu {

namespace {

constexpr int64_t quantize_alone = 4096;  // activations; about as long as waiting for the others
constexpr int64_t quantize_chunk_rows = 8;

struct Product {
    MatrixRows w;
    const float* bias;
    Rows<float> out;
    int64_t chunk_rows;
    int first_chunk;
};

void quantize_rows(const Kernels& k, Rows<const float> x, int64_t first, int64_t last, int64_t cols,
                   const QuantizedBuffer& to) {
    for (int64_t t = first; t < last; ++t) quantize_row(k, x[t], cols, to, t);
}

}  // namespace

void record_matmul(Recorder& r, std::span<const MatmulOut> outs, const Tensor& x) {
    const int64_t cols = x.row_len(), n_tokens = x.n_rows();
    const Rows<float> xs = rows_of<float>(x);
    auto* products = static_cast<Product*>(r.ops.take(outs.size() * sizeof(Product)));
    const auto n_products = static_cast<int>(outs.size());
    int n_chunks = 0;
    bool any_int8 = false;
    size_t kernel_scratch = 0;
    for (int i = 0; i < n_products; ++i) {
        const MatmulOut& m = outs[static_cast<size_t>(i)];
        CHECK(m.w->cols == cols && m.w->rows == m.out.row_len() && m.out.n_rows() == n_tokens,
              "weight ({}, {}), x ({}, {}), out ({}, {})", m.w->rows, m.w->cols, n_tokens, cols,
              m.out.n_rows(), m.out.row_len());
        CHECK(m.bias == nullptr || m.bias->cols * m.bias->rows == m.w->rows);
        const MatrixRows w = matrix_of(*m.w);
        const MatmulPlan plan = choose_matmul(w, n_tokens, r.kernels.panel_rows, r.n_threads);
        products[i] = {w, m.bias == nullptr ? nullptr : floats_of(*m.bias), rows_of<float>(m.out),
                       plan.chunk_rows, n_chunks};
        n_chunks += plan.n_chunks;
        any_int8 = any_int8 || is_int8(w.kind);
        kernel_scratch = std::max(kernel_scratch, product_scratch(r.kernels, w.kind, cols));
    }

    // Activations to int8: into shared memory as an op of its own, or by every thread into its own.
    const bool alone = r.n_threads == 1 || n_tokens * cols <= quantize_alone;
    const Kernels* k = &r.kernels;
    Scratch* scratch = &r.scratch;
    const uint64_t id = ++r.n_matmuls;
    Carver count(nullptr);
    count.take<uint8_t>(static_cast<int64_t>(kernel_scratch));
    if (any_int8) {
        if (alone) {
            carve_quantized(count, n_tokens, cols);
        } else {
            Carver shared(nullptr);
            carve_quantized(shared, n_tokens, cols);
            scratch->need_shared(shared.used());
            const auto n_quantize =
                static_cast<int>((n_tokens + quantize_chunk_rows - 1) / quantize_chunk_rows);
            r.ops.add(n_quantize, [=](int chunk, int) {
                Carver carver(scratch->shared());
                const int64_t first = chunk * quantize_chunk_rows;
                quantize_rows(*k, {xs.first, xs.stride}, first,
                              std::min(n_tokens, first + quantize_chunk_rows), cols,
                              carve_quantized(carver, n_tokens, cols));
            });
        }
    }
    scratch->need_member(count.used());

    r.ops.add(n_chunks, [=](int chunk, int member) {
        int i = n_products - 1;
        while (products[i].first_chunk > chunk) --i;
        const Product& p = products[i];
        const int64_t first_row = (chunk - p.first_chunk) * p.chunk_rows;
        MatmulArgs args{.w = p.w,
                        .first_row = first_row,
                        .last_row = std::min(p.w.rows, first_row + p.chunk_rows),
                        .x = xs.first,
                        .x_stride = xs.stride,
                        .xq = {},
                        .n_tokens = n_tokens,
                        .out = p.out.first,
                        .out_stride = p.out.stride,
                        .bias = p.bias,
                        .scratch = nullptr};
        Scratch::Member& own = scratch->member(member);
        Carver carver(own.memory);
        args.scratch = carver.take<uint8_t>(static_cast<int64_t>(kernel_scratch));
        if (!is_int8(p.w.kind)) return run_product(*k, args);

        Carver shared(alone ? nullptr : scratch->shared());
        const QuantizedBuffer xq = carve_quantized(alone ? carver : shared, n_tokens, cols);
        if (alone && own.prepared != id) {
            quantize_rows(*k, {xs.first, xs.stride}, 0, n_tokens, cols, xq);
            own.prepared = id;
        }
        args.xq = xq.from(0, cols);
        run_product(*k, args);
    });
}

}  // namespace smelt::cpu
