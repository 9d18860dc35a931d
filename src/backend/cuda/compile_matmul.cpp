// Matrix products: which kernel, and what each block has of them. The number of rows of the shape class
// decides between kernels that all add in the same order.
#include <algorithm>

#include "backend/cuda/compile.h"

namespace smelt::cuda {

using namespace op;

namespace {

// A kernel, and the rows of x and of w that a warp of it has: what its registers hold, and few rows of w
// where there are few warps to keep the card busy.
struct Kernel {
    const char* name;
    int64_t x_rows, w_rows;
};
constexpr Kernel kernels[] = {{"matmul_1", 1, 2}, {"matmul_4", 4, 2}, {"matmul_8", 8, 4}};

const Kernel& kernel_for(int64_t most_rows) {
    for (const Kernel& k : kernels) {
        if (most_rows <= k.x_rows) return k;
    }
    return std::end(kernels)[-1];
}

}  // namespace

// Of one format.
void Compiler::add_products(const Tensor& x, std::span<const Matmul::Product> products) {
    if (tile_shape(products[0].w->format).bytes > 0) return add_tiled_products(x, products);
    const Kernel& kernel = kernel_for(x.n_rows());
    const int64_t cols = x.row_len();
    MatmulArgs args{.rows = rows_of(x),
                    .x = at(x),
                    .cols = u32(cols),
                    .n_units = u32(divide_up(cols, unit_len)),
                    .x_stride = u32(x.row_stride),
                    .x_aligned = is_aligned(x),
                    .w_aligned = true,
                    .n_products = u32(std::ssize(products)),
                    .n_blocks = 0,
                    .products = {}};
    for (size_t i = 0; i < products.size(); ++i) {
        const Matmul::Product& p = products[i];
        const DeviceWeight& w = weight_of(*p.w);
        CHECK(p.w->cols == cols && p.w->rows == p.out.row_len() && p.out.n_rows() == x.n_rows(),
              "weight ({}, {}), rows of {} and {}", p.w->rows, p.w->cols, cols, p.out.row_len());
        args.products[i] = {.out = at(p.out),
                            .w = w.data.get(),
                            .scales = w.scales.get(),
                            .bias = floats_of(p.bias),
                            .w_row_bytes = w.row_bytes,
                            .s_row_bytes = w.scale_row_bytes,
                            .rows = u32(p.w->rows),
                            .first_block = args.n_blocks,
                            .out_stride = u32(p.out.row_stride)};
        args.n_blocks += u32(divide_up(p.w->rows, kernel.w_rows));
        args.w_aligned = args.w_aligned && w.aligned;
    }
    launch(gpu_->kernel("matmul", kernel.name, products[0].w->format), args,
           {.x = divide_up(x.n_rows(), kernel.x_rows),
            .y = divide_up(args.n_blocks, matmul_warps),
            .threads = matmul_warps * warp_size});
}

void Compiler::add(const Matmul& op) {
    in_batches(
        op.all(),
        [](const Matmul::Product& a, const Matmul::Product& b) { return a.w->format == b.w->format; },
        [&](std::span<const Matmul::Product> batch) { add_products(op.x, batch); });
}

}  // namespace smelt::cuda
