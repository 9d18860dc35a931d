// Matrix products: which kernel, and what each threadgroup has of them. How many rows of x a step has decides
// between kernels that all add in the same order.
#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "backend/metal/compile.h"
#include "backend/metal/kernel_args.h"
#include "backend/metal/matmul_grid.h"

namespace smelt::metal {

using namespace op;

namespace {

constexpr int64_t matrix_rows = 8;  // of x: whole simdgroup matrices

// A kernel, and the rows of x and of w that a simdgroup of it has: what its registers hold, and few rows of w
// where there are few simdgroups to keep a device busy. With simdgroup matrices a threadgroup has them.
struct Kernel {
    const MTL::ComputePipelineState* pipeline;
    int64_t x_rows, w_rows;
    bool matrices = false;
};

// Products of one format in one dispatch.
class MatmulCommand : public Command {
 public:
    MatmulCommand(Gpu& gpu, const Matmul& op, std::span<const Matmul::Product> products, bool use_matrices)
        : x_(op.x) {
        const int64_t cols = op.x.row_len();
        args_ = {.n_tokens = 0,
                 .cols = u32(cols),
                 .n_units = u32(divide_up(cols, unit)),
                 .x_stride = u32(op.x.row_stride),
                 .x_aligned = is_aligned(op.x),
                 .w_aligned = true,
                 .n_products = u32(std::ssize(products)),
                 .n_blocks = 0,
                 .products = {}};
        // Every argument of the kernel is bound; those that are not used to x.
        buffers_.fill(bind(op.x));
        for (size_t i = 0; i < products.size(); ++i) add_product(i, products[i]);
        choose_kernels(gpu, products, use_matrices);
    }

    // Full tiles of rows go to the simdgroup-matrix kernel if it adds in the same order; the remaining rows
    // go to the kernel for so many.
    void encode(StepEncoder& step) const override {
        const int64_t n = step.rows(x_);
        if (n == 1 && one_row_) return encode(step, *one_row_, 0, 1);
        const int64_t n_full = matrices_ && n >= matrices_->x_rows ? n / matrix_rows * matrix_rows : 0;
        if (n_full > 0) encode(step, *matrices_, 0, n_full);
        const int64_t n_rest = n - n_full;
        if (n_rest > 0) {
            const auto fits = [&](const Kernel& k) { return k.x_rows >= n_rest || &k == &by_lanes_.back(); };
            encode(step, *std::ranges::find_if(by_lanes_, fits), n_full, n_rest);
        }
    }

 private:
    static constexpr size_t n_most = gpu::Geometry::max_products;
    // Places in buffers_, in the kernels' order.
    static constexpr size_t w = 1, scales = w + n_most, bias = scales + n_most, out = bias + n_most;

    void add_product(size_t i, const Matmul::Product& p) {
        const DeviceWeight& weight = weight_of(*p.w);
        CHECK(p.w->cols == x_.row_len() && p.w->rows == p.out.row_len() && p.out.n_rows() == x_.n_rows(),
              "weight ({}, {}), rows of {} and {}", p.w->rows, p.w->cols, x_.row_len(), p.out.row_len());
        args_.products[i] = {.rows = u32(p.w->rows),
                             .first_block = 0,
                             .out_stride = u32(p.out.row_stride),
                             .has_bias = p.bias != nullptr,
                             .w_offset = weight.data.offset,
                             .w_row_bytes = weight.row_bytes,
                             .s_offset = weight.scales.offset,
                             .s_row_bytes = weight.scale_row_bytes};
        args_.w_aligned = args_.w_aligned && weight.aligned;
        // Offsets of weights are in args_, where they have 64 bits and any alignment.
        buffers_[w + i] = buffers_[scales + i] = {weight.data.buffer.get()};
        if (weight.scales.buffer) buffers_[scales + i] = {weight.scales.buffer.get()};
        if (p.bias != nullptr) buffers_[bias + i] = floats_of(*p.bias);
        buffers_[out + i] = bind(p.out);
    }

    void choose_kernels(Gpu& gpu, std::span<const Matmul::Product> products, bool use_matrices) {
        const std::string format(to_string(products[0].w->format));
        const int64_t most_rows = x_.n_rows();
        if (std::ranges::all_of(products, [&](const auto& p) { return has_row_kernel(*p.w); })) {
            one_row_ = enough_rows(products) ? Kernel{&gpu.pipeline("matmul_row_" + format), 1, 8}
                                             : Kernel{&gpu.pipeline("matmul_few_rows_" + format), 1, 4};
        }
        for (const auto& [x_rows, w_rows] : {std::pair{1, 2}, {4, 2}, {8, 4}}) {
            by_lanes_.push_back({&gpu.pipeline(fmt::format("matmul_{}_{}", format, x_rows)), x_rows, w_rows});
            if (x_rows >= most_rows) break;
        }
        if (use_matrices && most_rows >= 2 * matrix_rows && x_.row_len() % unit == 0)
            matrices_ = {&gpu.pipeline("matmul_tiles_" + format), 2 * matrix_rows, 2 * matrix_rows, true};
    }
    // What matmul_row.metal asks for: one row of x that is read by 16 bytes, rows of w of whole pairs of
    // blocks, the pairs at multiples of 4 or, in MXFP4, of 2.
    bool has_row_kernel(const Weight& weight) const {
        const Format f = weight.format;
        if (f != Format::Q8_0 && f != Format::Q4_0 && f != Format::MXFP4) return false;
        return is_aligned(x_) && x_.row_len() % 64 == 0 &&
               weight_of(weight).data.offset % (f == Format::MXFP4 ? 2 : 4) == 0;
    }
    // Whether two rows at a time keep a device busy, whose pairs lie at the same places in eight bytes.
    static bool enough_rows(std::span<const Matmul::Product> products) {
        int64_t n = 0;
        for (const Matmul::Product& p : products) {
            if (weight_of(*p.w).row_bytes % 8 != 0) return false;
            n += p.w->rows;
        }
        return n >= gpu::Geometry::many_rows;
    }

    // Rows [first, first + n) of x.
    void encode(StepEncoder& step, const Kernel& kernel, int64_t first, int64_t n) const {
        gpu::MatmulArgs args = args_;
        args.n_tokens = u32(n);
        std::array<Binding, out + n_most> buffers = buffers_;
        buffers[0].offset += static_cast<size_t>(first * x_.row_stride) * sizeof(float);
        for (size_t i = 0; i < args.n_products; ++i) {
            gpu::MatmulProduct& p = args.products[i];
            p.first_block = args.n_blocks;
            args.n_blocks += u32(divide_up(p.rows, kernel.w_rows));
            buffers[out + i].offset += static_cast<size_t>(first) * p.out_stride * sizeof(float);
        }
        step.dispatch(*kernel.pipeline, args, buffers,
                      matmul_grid(divide_up(n, kernel.x_rows), args.n_blocks,
                                  kernel.matrices ? 1 : gpu::Geometry::matmul_simdgroups));
    }

    Tensor x_;
    gpu::MatmulArgs args_;  // without what the number of rows decides
    std::array<Binding, out + n_most> buffers_;
    std::optional<Kernel> one_row_, matrices_;
    std::vector<Kernel> by_lanes_;  // by x_rows
};

}  // namespace

void Compiler::add(const Matmul& op) {
    in_batches(
        op.all(),
        [](const Matmul::Product& a, const Matmul::Product& b) { return a.w->format == b.w->format; },
        [&](std::span<const Matmul::Product> batch) {
            commands_.push_back(std::make_unique<MatmulCommand>(gpu_, op, batch, matrices_add_in_order_));
        });
}

void Compiler::add(const GatedMatmul&) {
    CHECK(false, "describe() does not ask for it");
}

}  // namespace smelt::metal
