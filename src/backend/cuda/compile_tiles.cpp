// Products with weights in tiles: weights are brought into tiles for the first of them, and the number of
// rows of the shape class decides between kernels that make the same bits.
#include <fmt/format.h>

#include <algorithm>

#include "backend/cuda/compile.h"
#include "backend/cuda/tile_weights.h"
#include "quant/format.h"

namespace smelt::cuda {

using namespace op;

namespace {

// Static shared memory of a ring kernel, and what the card keeps of each block's.
constexpr int64_t ring_overhead = 19 << 10;
// What a ring needs at least: two slots for each team.
constexpr int64_t fewest_slots = 2;
constexpr int64_t most_ring_rows = 4;

// Rows of x by the kernel of the many that has the fewest sets for them.
struct SetsKernel {
    const char* name;
    int64_t n_sets, n_down;
};
constexpr SetsKernel sets_kernels[] = {
    {"matmul_sets_1", 1, 1}, {"matmul_sets_2", 2, 1}, {"matmul_sets_8", 8, 2}};

// Hundreds of rows: with tens, too few multiprocessors would have a block.
constexpr int64_t fewest_wide_rows = 65;
constexpr int64_t wide_overhead = 2 << 10, most_stages = 8;

// Bulk copies, which came with Hopper, and shared memory that is worth them.
bool has_rings(const GpuInfo& info) {
    return info.major >= 9 && info.shared_bytes >= 160 << 10;
}

int64_t ring_x_bytes(const TileShape& shape, int64_t cols, int64_t n_x, bool normed) {
    const int64_t n_groups = divide_up(cols, shape.cols) * shape.cols / 32;
    return n_x * (n_groups * (shape.set_bytes / tile_tokens) +
                  (normed ? cols * static_cast<int64_t>(sizeof(float)) : 0));
}

const SetsKernel& sets_kernel_for(int64_t most_rows) {
    for (const SetsKernel& k : sets_kernels) {
        if (most_rows <= k.n_sets * tile_tokens) return k;
    }
    return std::end(sets_kernels)[-1];
}

}  // namespace

// Of an embedding, which keeps its rows too, they are made for the first product.
const uint8_t* Compiler::tiles_of(const Weight& weight) {
    DeviceWeight& w = weight_of(weight);
    if (w.tiles.address == 0) {
        w.tiles = make_tiles(*gpu_, weights_, weight.format, weight.rows, weight.cols,
                             {w.data.get(), w.scales.get(), w.row_bytes, w.scale_row_bytes});
    }
    return w.tiles.get();
}

// The slots of a ring beside so many rows of x, and beside their floats where a norm makes them; 0: there is
// no room, or the card has no bulk copies.
int64_t Compiler::ring_slots(Format format, int64_t cols, int64_t most_rows, bool normed) const {
    const TileShape shape = tile_shape(format);
    if (shape.bytes == 0 || most_rows > most_ring_rows || !has_rings(gpu_->info())) return 0;
    const int64_t n_x = most_rows == 1 ? 1 : most_ring_rows;
    const int64_t room = gpu_->info().shared_bytes - ring_overhead - ring_x_bytes(shape, cols, n_x, normed);
    const int64_t slots = room / (int64_t{ring_teams} * tile_warps * shape.bytes);
    return slots < fewest_slots ? 0 : std::min<int64_t>(slots, most_slots);
}

void Compiler::launch_ring(const char* name, TileMatmulArgs args, Format format, int64_t most_rows) {
    const TileShape shape = tile_shape(format);
    const int64_t n_x = most_rows == 1 ? 1 : most_ring_rows;
    const bool normed = args.norm.w != nullptr;
    args.n_slots = u32(ring_slots(format, args.cols, most_rows, normed));
    const int64_t ring = int64_t{ring_teams} * args.n_slots * tile_warps * shape.bytes;
    launch(gpu_->kernel("tiles", fmt::format("{}_{}", name, n_x), format), args,
           {.x = std::min<int64_t>(args.n_tiles, gpu_->info().multiprocessors),
            .y = divide_up(most_rows, n_x),
            .threads = ring_threads,
            .shared_bytes = static_cast<size_t>(ring + ring_x_bytes(shape, args.cols, n_x, normed))});
}

// Whether the products that follow can make the norm on their way. Their other outputs are written all the
// same.
bool Compiler::norm_goes_along(const Tensor& out, const TileNorm& norm, const Tensor& x) {
    // Block 0 writes what others may not have read yet.
    const bool in_place = out.space == x.space && out.offset == x.offset;
    if (in_place || out.rank != 2 || static_cast<size_t>(op_) + 1 >= record_.ops().size()) return false;
    const AnyOp& next = record_.ops()[static_cast<size_t>(op_) + 1];
    const auto* matmul = std::get_if<Matmul>(&next);
    const auto* gated = std::get_if<GatedMatmul>(&next);
    if (matmul == nullptr && gated == nullptr) return false;
    const Tensor& read = matmul != nullptr ? matmul->x : gated->x;
    const Format format = matmul != nullptr ? matmul->products[0].w->format : gated->gate->format;
    if (!(read == out) || ring_slots(format, out.row_len(), out.n_rows(), true) == 0) return false;
    norm_ = {norm, at(x), u32(x.row_stride)};
    return true;
}

// Arguments but for kernel and ring.
TileMatmulArgs Compiler::tiled_args(const Tensor& x, std::span<const Matmul::Product> products) {
    const TileShape shape = tile_shape(products[0].w->format);
    const int64_t cols = x.row_len();
    TileMatmulArgs args{.rows = rows_of(x),
                        .x = at(x),
                        .values = nullptr,
                        .x_stride = u32(x.row_stride),
                        .cols = u32(cols),
                        .n_sets = 0,
                        .k_tiles = u32(divide_up(cols, shape.cols)),
                        .n_slots = 0,
                        .n_products = u32(std::ssize(products)),
                        .n_tiles = 0,
                        .products = {},
                        .norm = {}};
    for (size_t i = 0; i < products.size(); ++i) {
        const Matmul::Product& p = products[i];
        CHECK(p.w->cols == cols && p.w->rows == p.out.row_len() && p.out.n_rows() == x.n_rows(),
              "weight ({}, {}), rows of {} and {}", p.w->rows, p.w->cols, cols, p.out.row_len());
        args.products[i] = {.out = at(p.out),
                            .w = tiles_of(*p.w),
                            .bias = floats_of(p.bias),
                            .rows = u32(p.w->rows),
                            .first_tile = args.n_tiles,
                            .out_stride = u32(p.out.row_stride)};
        args.n_tiles += u32(divide_up(p.w->rows, rows_of_tile));
    }
    if (norm_.has_value()) {
        args.norm = norm_->norm;
        args.x = norm_->x;
        args.x_stride = norm_->x_stride;
        norm_.reset();
    }
    return args;
}

// Sets of rows of x as the tiles want them, in Shared::scratch; a row of x is `parts` rows of `cols` columns.
const uint8_t* Compiler::quantized(const Tensor& x, const TileShape& shape, Rows rows, int64_t parts,
                                   int64_t cols, int64_t n_groups, int64_t n_sets) {
    auto* values = shared<uint8_t>(Shared::scratch, static_cast<size_t>(n_sets * n_groups * shape.set_bytes));
    constexpr unsigned threads = 256;
    launch(gpu_->kernel("quantize", shape.set_bytes == half_set_bytes ? "split_rows" : "quantize_rows"),
           QuantizeRowsArgs{.rows = rows,
                            .x = at(x),
                            .values = values,
                            .x_stride = u32(x.row_stride),
                            .cols = u32(cols),
                            .n_sets = u32(n_sets),
                            .n_groups = u32(n_groups),
                            .parts = u32(parts)},
           {.x = divide_up(n_groups * 8, threads), .y = n_sets, .threads = threads});
    return values;
}

void Compiler::add_tiled_products(const Tensor& x, std::span<const Matmul::Product> products) {
    const Format format = products[0].w->format;
    const TileShape shape = tile_shape(format);
    TileMatmulArgs args = tiled_args(x, products);
    const int64_t most_rows = x.n_rows();
    if (ring_slots(format, args.cols, most_rows, args.norm.w != nullptr) > 0)
        return launch_ring("matmul_ring", args, format, most_rows);

    const int64_t stage =
        int64_t{wide_tiles} * shape.bytes + shape.cols / 32 * (wide_rows / tile_tokens) * shape.set_bytes;
    const int64_t stages =
        std::min<int64_t>((gpu_->info().shared_bytes - wide_overhead) / stage, most_stages);
    const bool is_wide = most_rows >= fewest_wide_rows && has_rings(gpu_->info()) && stages >= 2;
    const SetsKernel kernel =
        is_wide ? SetsKernel{"matmul_wide", wide_rows / tile_tokens, wide_tiles} : sets_kernel_for(most_rows);
    const int64_t n_blocks = divide_up(most_rows, kernel.n_sets * tile_tokens),
                  n_sets = n_blocks * kernel.n_sets;
    args.values =
        quantized(x, shape, args.rows, 1, args.cols, int64_t{args.k_tiles} * shape.cols / 32, n_sets);
    args.n_sets = u32(n_sets);
    args.n_slots = u32(std::max<int64_t>(stages, 0));
    launch(gpu_->kernel("tiles", kernel.name, format), args,
           {.x = divide_up(args.n_tiles, kernel.n_down),
            .y = n_blocks,
            .threads = is_wide ? unsigned{wide_block} : unsigned{tile_warps * warp_size},
            .shared_bytes = is_wide ? static_cast<size_t>(stages * stage) : 0});
}

// n_tiles: of pairs, each expert_tile of them at most; one_by_one: a pair each.
void Compiler::add_tiled_experts(const Tensor& x, const ExpertsArgs& args,
                                 std::span<const MatmulExperts::Product> products, int64_t n_tiles,
                                 bool one_by_one) {
    const Format format = products[0].experts[0]->format;
    const TileShape shape = tile_shape(format);
    const bool by_pair = args.own_rows != 0;
    const int64_t k_tiles = divide_up(args.cols, shape.cols), parts = by_pair ? args.n_used : 1,
                  n_sets = divide_up(x.n_rows() * parts, tile_tokens);
    TileExpertsArgs to{
        .rows = args.rows,
        .values = quantized(x, shape, args.rows, parts, args.cols, k_tiles * shape.cols / 32, n_sets),
        .ids = args.ids,
        .tiles = args.tiles,
        .pairs = args.pairs,
        .n_used = args.n_used,
        .n_experts = args.n_experts,
        .x_share = by_pair ? 1 : args.n_used,
        .n_sets = u32(n_sets),
        .k_tiles = u32(k_tiles),
        .n_products = args.n_products,
        .pairing = args.pairing,
        .products = {}};
    uint32_t n_row_tiles = 0;
    for (size_t i = 0; i < products.size(); ++i) {
        const ExpertProduct& p = args.products[i];
        to.products[i] = {p.out, p.places, p.bias, p.rows, n_row_tiles, p.out_stride};
        n_row_tiles += u32(divide_up(p.rows, rows_of_tile));
    }
    launch(gpu_->kernel("tiles", one_by_one ? "experts_sets_1" : "experts_sets_2", format), to,
           {.x = n_row_tiles, .y = n_tiles, .threads = tile_warps * warp_size});
}

void Compiler::add(const GatedMatmul& op) {
    const Matmul::Product gate{op.gate_out, op.gate, nullptr}, up{op.up_out, op.up, nullptr};
    const bool normed = norm_.has_value();
    if (op.gate->format != op.up->format ||
        ring_slots(op.gate->format, op.x.row_len(), op.x.n_rows(), normed) == 0) {
        Matmul both{.x = op.x, .products = {gate, up}, .n = 2};
        add(both);
        add(SiluMul{op.out, op.gate_out, op.up_out});
        return;
    }
    const Matmul::Product products[] = {{op.out, op.gate, nullptr}, {op.out, op.up, nullptr}};
    TileMatmulArgs args = tiled_args(op.x, products);
    args.n_tiles = args.products[1].first_tile;  // both have as many
    launch_ring("gated_ring", args, op.gate->format, op.x.n_rows());
}

}  // namespace smelt::cuda
