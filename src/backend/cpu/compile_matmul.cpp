// Cuts a product into chunks of rows; int8 products get their activations quantized once an op, by each
// thread for itself when there are few.
#include "backend/cpu/compile.h"
#include "backend/cpu/matmul_plan.h"

namespace smelt::cpu {

namespace {

constexpr int64_t quantize_alone = 4096;  // activations; about as long as waiting for the others
constexpr int64_t quantize_chunk_rows = 8;

struct Product {
    MatrixRows w;
    const float* bias = nullptr;
    Place<float> out;
    int64_t chunk_rows = 0;  // of this step
    int first_chunk = 0;
};

// The input of the products of one op.
struct Input {
    const Kernels* kernels = nullptr;
    Place<float> x;
    RowCount count;
    int64_t cols = 0;
    int n_threads = 1;
    bool any_int8 = false;
    int64_t kernel_scratch = 0;

    bool alone(int64_t n_tokens) const { return n_threads == 1 || n_tokens * cols <= quantize_alone; }
    void quantize(const Frame& f, int64_t first, int64_t last, const QuantizedBuffer& to) const {
        for (int64_t t = first; t < last; ++t) quantize_row(*kernels, x.in(f)[t], cols, to, t);
    }
};

// Activations to int8 in shared memory, where threads do not make them alone.
struct Quantize {
    Input input;
    int64_t n_tokens = 0;

    int begin(const Frame& f) {
        n_tokens = input.count.in(f);
        if (!input.any_int8 || input.alone(n_tokens)) return 0;
        return static_cast<int>((n_tokens + quantize_chunk_rows - 1) / quantize_chunk_rows);
    }
    void run(const Frame& f, int chunk, int) const {
        Carver carver(f.scratch->shared());
        const int64_t first = chunk * quantize_chunk_rows;
        input.quantize(f, first, std::min(n_tokens, first + quantize_chunk_rows),
                       carve_quantized(carver, n_tokens, input.cols));
    }
};

// The products of an op; with `gated`, product 0 is the gate of product 1, and a chunk is of both.
struct Products {
    Input input;
    Product* products = nullptr;
    int n_products = 0;
    uint64_t id = 0;  // of the op
    bool gated = false;
    Place<float> gated_out = {};
    int64_t n_tokens = 0;

    int begin(const Frame& f) {
        n_tokens = input.count.in(f);
        if (n_tokens == 0) return 0;
        int n_chunks = 0;
        for (int i = 0; i < n_products; ++i) {
            Product& p = products[i];
            const MatmulPlan plan = choose_matmul(p.w, n_tokens, input.kernels->panel_rows, input.n_threads);
            p.chunk_rows = gated && i > 0 ? products[0].chunk_rows : plan.chunk_rows;
            p.first_chunk = n_chunks;
            n_chunks += plan.n_chunks;
        }
        if (!gated) return n_chunks;
        return static_cast<int>((products[0].w.rows + products[0].chunk_rows - 1) / products[0].chunk_rows);
    }

    void run(const Frame& f, int chunk, int member) const {
        if (!gated) {
            int i = n_products - 1;
            while (products[i].first_chunk > chunk) --i;
            run_rows(f, products[i], chunk - products[i].first_chunk, member);
            return;
        }
        run_rows(f, products[0], chunk, member);
        run_rows(f, products[1], chunk, member);
        const Product &gate = products[0], &up = products[1];
        const int64_t first = chunk * gate.chunk_rows, n = std::min(gate.chunk_rows, gate.w.rows - first);
        for (int64_t t = 0; t < n_tokens; ++t) {
            input.kernels->silu_mul(gated_out.in(f)[t] + first, gate.out.in(f)[t] + first,
                                    up.out.in(f)[t] + first, n);
        }
    }

    void run_rows(const Frame& f, const Product& p, int64_t chunk, int member) const {
        const Rows<float> x = input.x.in(f), out = p.out.in(f);
        const int64_t first_row = chunk * p.chunk_rows;
        MatmulArgs args{.w = p.w,
                        .first_row = first_row,
                        .last_row = std::min(p.w.rows, first_row + p.chunk_rows),
                        .x = x.first,
                        .x_stride = x.stride,
                        .xq = {},
                        .n_tokens = n_tokens,
                        .out = out.first,
                        .out_stride = out.stride,
                        .bias = p.bias,
                        .scratch = nullptr};
        Scratch::Member& own = f.scratch->member(member);
        Carver carver(own.memory);
        args.scratch = carver.take<uint8_t>(input.kernel_scratch);
        if (input.kernels->takes_int8(p.w.format, input.cols)) {
            const bool alone = input.alone(n_tokens);
            Carver shared(alone ? nullptr : f.scratch->shared());
            const QuantizedBuffer xq = carve_quantized(alone ? carver : shared, n_tokens, input.cols);
            const uint64_t prepared = (f.launch << 20) + id;
            if (alone && own.prepared != prepared) {
                input.quantize(f, 0, n_tokens, xq);
                own.prepared = prepared;
            }
            args.xq = xq.from(0, input.cols);
        }
        input.kernels->matmul(args);
    }
};

void reserve(const Compiler& c, const Input& input) {
    Carver own(nullptr), shared(nullptr);
    own.take<uint8_t>(input.kernel_scratch);
    if (input.any_int8) {
        const int64_t most = input.count.most;
        const int64_t most_alone =
            c.n_threads == 1 ? most : std::min(most, std::max<int64_t>(1, quantize_alone / input.cols));
        carve_quantized(own, most_alone, input.cols);
        carve_quantized(shared, most, input.cols);
    }
    c.scratch.need_member(own.used());
    if (c.n_threads > 1) c.scratch.need_shared(shared.used());
}

Products make_products(const Compiler& c, const Tensor& x, std::span<const Matmul::Product> from) {
    Products result{.input = {.kernels = &c.kernels,
                              .x = Place<float>(x),
                              .count = RowCount(x),
                              .cols = x.row_len(),
                              .n_threads = c.n_threads},
                    .products = c.stages.take<Product>(from.size()),
                    .n_products = static_cast<int>(from.size()),
                    .id = c.stages.size()};
    Input& input = result.input;
    for (size_t i = 0; i < from.size(); ++i) {
        const Matmul::Product& p = from[i];
        CHECK(p.w->cols == input.cols && p.w->rows == p.out.row_len() && p.out.n_rows() == x.n_rows(),
              "weight ({}, {}), x ({}, {}), out ({}, {})", p.w->rows, p.w->cols, x.n_rows(), input.cols,
              p.out.n_rows(), p.out.row_len());
        CHECK(p.bias == nullptr || p.bias->cols * p.bias->rows == p.w->rows);
        const MatrixRows w = c.product_rows(*p.w);
        result.products[i] = {w, p.bias == nullptr ? nullptr : floats_of(*p.bias), Place<float>(p.out)};
        input.any_int8 = input.any_int8 || c.kernels.takes_int8(w.format, input.cols);
        input.kernel_scratch = std::max(input.kernel_scratch,
                                        static_cast<int64_t>(c.kernels.matmul_scratch(w.format, input.cols)));
    }
    reserve(c, input);
    return result;
}

void add(const Compiler& c, const Products& products) {
    if (products.input.any_int8 && c.n_threads > 1) c.stages.add(Quantize{products.input});
    c.stages.add(products);
}

}  // namespace

void compile(const Compiler& c, const Matmul& op) {
    add(c, make_products(c, op.x, op.all()));
}

void compile(const Compiler& c, const GatedMatmul& op) {
    const Matmul::Product parts[] = {{op.gate_out, op.gate}, {op.up_out, op.up}};
    CHECK(op.gate->rows == op.up->rows && op.out.row_len() == op.gate->rows);
    Products products = make_products(c, op.x, parts);
    products.gated = true;
    products.gated_out = Place<float>(op.out);
    add(c, products);
}

}  // namespace smelt::cpu
