// Matrix products: which kernel, and what each threadgroup has of them.
#include <algorithm>
#include <vector>

#include "backend/metal/kernel_args.h"
#include "backend/metal/record.h"

namespace smelt::metal {

namespace {

constexpr int64_t unit = 16;  // weights that a lane has at a time

// Rows of x and of w that a simdgroup has: what its registers hold, and few rows of w where there are few
// simdgroups to keep a device busy. With simdgroup matrices it is a threadgroup that has them.
struct Tile {
    enum class Kernel { lanes, row, few_rows, matrices };
    int64_t n_tokens, n_rows;
    Kernel kind = Kernel::lanes;
    std::string kernel(Format f) const {
        switch (kind) {
            case Kernel::row:
                return fmt::format("matmul_row_{}", to_string(f));
            case Kernel::few_rows:
                return fmt::format("matmul_few_rows_{}", to_string(f));
            case Kernel::matrices:
                return fmt::format("matmul_tiles_{}", to_string(f));
            case Kernel::lanes:
                break;
        }
        return fmt::format("matmul_{}_{}", to_string(f), n_tokens);
    }
};
constexpr Tile row_tile = {1, 8, Tile::Kernel::row}, few_rows_tile = {1, 4, Tile::Kernel::few_rows};
constexpr Tile matrix_tile = {16, 16, Tile::Kernel::matrices};
constexpr int64_t matrix_rows = 8;  // of x: whole simdgroup matrices
// What matmul_row.metal asks for: one row of x that is read by 16 bytes, rows of w of whole pairs of blocks,
// the pairs at multiples of 4 or, in MXFP4, of 2.
bool has_row_kernel(const Tensor& x, const MatmulOut& m) {
    const Format f = m.w->format;
    if (f != Format::Q8_0 && f != Format::Q4_0 && f != Format::MXFP4) return false;
    return x.n_rows() == 1 && is_aligned(x) && x.row_len() % 64 == 0 &&
           weight_of(*m.w).data.offset % (f == Format::MXFP4 ? 2 : 4) == 0;
}
Tile choose_row_tile(std::span<const MatmulOut> outs) {
    int64_t n_rows = 0;
    bool together = true;  // rows whose pairs lie at the same places in eight bytes
    for (const MatmulOut& m : outs) {
        n_rows += m.w->rows;
        together = together && weight_of(*m.w).row_bytes % 8 == 0;
    }
    return together && n_rows >= gpu::Geometry::many_rows ? row_tile : few_rows_tile;
}
Tile choose_tile(int64_t n_tokens) {
    if (n_tokens == 1) return {1, 2};
    if (n_tokens <= 4) return {4, 2};
    return {8, 4};
}

int64_t divide_up(int64_t n, int64_t by) {
    return (n + by - 1) / by;
}
uint32_t u32(int64_t n) {
    CHECK(n >= 0 && n <= UINT32_MAX, "{}", n);
    return static_cast<uint32_t>(n);
}

Grid matmul_grid(int64_t n_tiles, int64_t n_blocks, bool matrices = false) {
    const int64_t n_simdgroups = gpu::Geometry::matmul_simdgroups, per_group = matrices ? 1 : n_simdgroups;
    return {MTL::Size(static_cast<NS::UInteger>(n_tiles),
                      static_cast<NS::UInteger>(divide_up(n_blocks, per_group)), 1),
            MTL::Size(static_cast<NS::UInteger>(n_simdgroups * gpu::Geometry::simd_width), 1, 1)};
}

// Products of one format in one dispatch.
void record_products(Recorder& r, std::span<const MatmulOut> outs, const Tensor& x, const Tile& tile) {
    const int64_t cols = x.row_len();
    gpu::MatmulArgs args{.n_tokens = u32(x.n_rows()),
                         .cols = u32(cols),
                         .n_units = u32(divide_up(cols, unit)),
                         .x_stride = u32(x.row_stride),
                         .x_aligned = is_aligned(x),
                         .w_aligned = true,
                         .n_products = u32(static_cast<int64_t>(outs.size())),
                         .n_blocks = 0,
                         .products = {}};
    // Every argument of the kernel is bound; those that are not used to x.
    Binding w[3], scales[3], bias[3], out[3];
    for (size_t i = 0; i < 3; ++i) w[i] = scales[i] = bias[i] = out[i] = bind(x);
    for (size_t i = 0; i < outs.size(); ++i) {
        const MatmulOut& m = outs[i];
        const DeviceWeight& weight = weight_of(*m.w);
        CHECK(m.w->cols == cols && m.w->rows == m.out.row_len() && m.out.n_rows() == x.n_rows(),
              "weight ({}, {}), rows of {} and {}", m.w->rows, m.w->cols, cols, m.out.row_len());
        args.products[i] = {.rows = u32(m.w->rows),
                            .first_block = args.n_blocks,
                            .out_stride = u32(m.out.row_stride),
                            .has_bias = m.bias != nullptr,
                            .w_offset = weight.data.offset,
                            .w_row_bytes = weight.row_bytes,
                            .s_offset = weight.scales.offset,
                            .s_row_bytes = weight.scale_row_bytes};
        args.n_blocks += u32(divide_up(m.w->rows, tile.n_rows));
        args.w_aligned = args.w_aligned && weight.aligned;
        w[i].buffer = scales[i].buffer = weight.data.buffer.get();
        w[i].offset = scales[i].offset = 0;  // is in args, where it has 64 bits and any alignment
        if (weight.scales.buffer) scales[i].buffer = weight.scales.buffer.get();
        if (m.bias != nullptr) bias[i] = floats_of(*m.bias);
        out[i] = bind(m.out);
    }
    r.add(r.gpu.pipeline(tile.kernel(outs[0].w->format)), args,
          {bind(x), w[0], w[1], w[2], scales[0], scales[1], scales[2], bias[0], bias[1], bias[2], out[0],
           out[1], out[2]},
          matmul_grid(divide_up(x.n_rows(), tile.n_tokens), args.n_blocks,
                      tile.kind == Tile::Kernel::matrices));
}

// --- Experts ---

using Places = DeviceWeight::Places;

// Where the experts lie. Those of a file are in one buffer; a file larger than a buffer may be, or experts
// that were copied, can be in several, each with a table of its own in which the others are absent.
const std::vector<Places>& places_of(Recorder& r, std::span<const Weight> experts) {
    std::vector<Places>& places = weight_of(experts[0]).expert_places;
    if (!places.empty()) return places;
    std::vector<std::vector<gpu::ExpertPlace>> tables;
    for (size_t e = 0; e < experts.size(); ++e) {
        const DeviceWeight& w = weight_of(experts[e]);
        size_t i = 0;
        while (i < places.size() && (places[i].data.get() != w.data.buffer.get() ||
                                     places[i].scales.get() != w.scales.buffer.get())) {
            ++i;
        }
        if (i == places.size()) {
            places.push_back({w.data.buffer, w.scales.buffer, {}});
            tables.emplace_back(experts.size(), gpu::ExpertPlace{gpu::AbsentExpert::offset, 0});
        }
        tables[i][e] = {w.data.offset, w.scales.offset};
    }
    for (size_t i = 0; i < places.size(); ++i) {
        const size_t bytes = tables[i].size() * sizeof(gpu::ExpertPlace);
        places[i].table = make_buffer(r.gpu, bytes);
        std::memcpy(host_bytes({places[i].table.get(), 0}), tables[i].data(), bytes);
    }
    return places;
}

bool same(const Tensor& a, const Tensor& b) {
    return a.storage == b.storage && a.offset == b.offset && a.shape == b.shape;
}

void record_groups(Recorder& r, ExpertGroups& groups, const Tensor& ids, int64_t n_experts,
                   int64_t tile_len) {
    if (groups.tile_len == u32(tile_len) && same(groups.ids, ids)) return;
    const int64_t n_pairs = ids.n_elements();
    const int64_t max_tiles = std::min(n_pairs, n_experts + n_pairs / tile_len);
    groups = {.ids = ids,
              .tile_len = u32(tile_len),
              .tiles = r.scratch.take(static_cast<size_t>(max_tiles) * sizeof(gpu::ExpertTile)),
              .pairs = r.scratch.take(static_cast<size_t>(n_pairs) * sizeof(uint32_t)),
              .n_tiles = u32(max_tiles)};
    const gpu::GroupArgs args{.n_pairs = u32(n_pairs),
                              .n_experts = u32(n_experts),
                              .n_used = u32(ids.row_len()),
                              .ids_stride = u32(ids.row_stride),
                              .tile_len = u32(tile_len),
                              .max_tiles = u32(max_tiles)};
    r.add(r.gpu.pipeline("group_pairs"), args,
          {bind(ids), groups.pairs, groups.tiles,
           r.scratch.take(static_cast<size_t>(n_experts) * sizeof(uint32_t))},
          {MTL::Size(1, 1, 1), MTL::Size(gpu::Geometry::wide_threads, 1, 1)});
}

struct PlacedProduct {
    const ExpertsOut* out;
    const Places* places;
};

void record_expert_products(Recorder& r, std::span<const PlacedProduct> products, const Tensor& x,
                            const Tensor& ids, const ExpertGroups& groups, bool single, const Tile& tile) {
    const ExpertsOut& first = *products[0].out;
    const int64_t cols = first.experts[0].cols;
    const bool own_rows = x.rank == 3;
    gpu::ExpertsArgs args{.n_used = u32(ids.row_len()),
                          .n_experts = u32(static_cast<int64_t>(first.experts.size())),
                          .cols = u32(cols),
                          .n_units = u32(divide_up(cols, unit)),
                          .x_stride = u32(x.row_stride),
                          .own_rows = own_rows,
                          .x_aligned = is_aligned(x) && (!own_rows || cols % 4 == 0),
                          .w_aligned = true,
                          .n_products = u32(static_cast<int64_t>(products.size())),
                          .n_blocks = 0,
                          .single = single,
                          .products = {}};
    Binding w[3], scales[3], bias[3], out[3], places[3];
    for (size_t i = 0; i < 3; ++i) w[i] = scales[i] = bias[i] = out[i] = places[i] = bind(x);
    for (size_t i = 0; i < products.size(); ++i) {
        const ExpertsOut& m = *products[i].out;
        const Places& placed = *products[i].places;
        const Weight& one = m.experts[0];
        CHECK(one.cols == cols && m.out.row_len() == ids.row_len() * one.rows &&
                  m.experts.size() == args.n_experts,
              "experts of ({}, {}), rows of {} and {}", one.rows, one.cols, cols, m.out.row_len());
        args.products[i] = {.rows = u32(one.rows),
                            .first_block = args.n_blocks,
                            .out_stride = u32(m.out.row_stride),
                            .has_bias = m.bias != nullptr,
                            .w_row_bytes = weight_of(one).row_bytes,
                            .s_row_bytes = weight_of(one).scale_row_bytes};
        args.n_blocks += u32(divide_up(one.rows, tile.n_rows));
        for (const Weight& e : m.experts) args.w_aligned = args.w_aligned && weight_of(e).aligned;
        w[i] = scales[i] = {placed.data.get(), 0};
        if (placed.scales) scales[i].buffer = placed.scales.get();
        places[i] = {placed.table.get(), 0};
        if (m.bias != nullptr) bias[i] = floats_of(*m.bias);
        out[i] = bind(m.out);
    }
    const int64_t n_tiles = single ? ids.n_elements() : groups.n_tiles;
    const Binding tiles = single ? bind(ids) : groups.tiles, pairs = single ? bind(ids) : groups.pairs;
    const std::string name =
        fmt::format("matmul_experts_{}_{}", to_string(first.experts[0].format), tile.n_tokens);
    r.add(r.gpu.pipeline(name), args,
          {bind(x), w[0], w[1], w[2], scales[0], scales[1], scales[2], bias[0], bias[1], bias[2], out[0],
           out[1], out[2], places[0], places[1], places[2], bind(ids), tiles, pairs},
          matmul_grid(n_tiles, args.n_blocks));
}

// Calls f with pieces of `items`, in order, that belong together and are no more than a dispatch takes.
template <class T, class Together, class F>
void in_batches(std::vector<T>& items, Together together, F f) {
    for (size_t i = 0; i < items.size();) {
        size_t end = i + 1;
        while (end < items.size() && end - i < gpu::Geometry::max_products && together(items[i], items[end]))
            ++end;
        f(std::span<const T>(items).subspan(i, end - i));
        i = end;
    }
}

Tensor rows_from(Tensor t, int64_t first, int64_t n) {
    t.offset += static_cast<size_t>(first * t.row_stride) * dtype_bytes(t.dtype);
    t.shape[0] = n;
    return t;
}

// As many rows of x as fill simdgroup matrices by those, where they add as the other kernels do; the rest by
// these.
void record_rows(Recorder& r, std::span<const MatmulOut> outs, const Tensor& x) {
    const int64_t n = x.n_rows();
    if (std::ranges::all_of(outs, [&](const MatmulOut& m) { return has_row_kernel(x, m); })) {
        return record_products(r, outs, x, choose_row_tile(outs));
    }
    if (!r.matrices_add_in_order || n < matrix_tile.n_tokens || x.row_len() % unit != 0) {
        return record_products(r, outs, x, choose_tile(n));
    }
    const int64_t n_whole = n / matrix_rows * matrix_rows;
    const auto part = [&](int64_t first, int64_t count, const Tile& tile) {
        std::vector<MatmulOut> own(outs.begin(), outs.end());
        for (MatmulOut& m : own) m.out = rows_from(m.out, first, count);
        record_products(r, own, rows_from(x, first, count), tile);
    };
    part(0, n_whole, matrix_tile);
    if (n > n_whole) part(n_whole, n - n_whole, choose_tile(n - n_whole));
}

}  // namespace

bool is_aligned(const Tensor& t) {
    return t.offset % 16 == 0 && t.row_stride % 4 == 0;
}

void record_matmul(Recorder& r, std::span<const MatmulOut> outs, const Tensor& x) {
    std::vector<MatmulOut> products(outs.begin(), outs.end());
    in_batches(
        products, [](const MatmulOut& a, const MatmulOut& b) { return a.w->format == b.w->format; },
        [&](std::span<const MatmulOut> batch) { record_rows(r, batch, x); });
}

void record_matmul_experts(Recorder& r, ExpertGroups& groups, std::span<const ExpertsOut> outs,
                           const Tensor& x, const Tensor& expert_ids) {
    const auto n_experts = static_cast<int64_t>(outs[0].experts.size());
    CHECK(expert_ids.dense() && x.n_rows() == expert_ids.n_rows());
    // Where hardly two rows can share an expert, each goes by itself.
    const bool single =
        expert_ids.n_rows() == 1 || (expert_ids.row_len() == 1 && expert_ids.n_rows() <= n_experts);
    const Tile tile = single ? choose_tile(1) : choose_tile(8);
    if (!single) record_groups(r, groups, expert_ids, n_experts, tile.n_tokens);
    std::vector<PlacedProduct> products;
    for (const ExpertsOut& m : outs) {
        for (const Places& p : places_of(r, m.experts)) products.push_back({&m, &p});
    }
    in_batches(
        products,
        [](const PlacedProduct& a, const PlacedProduct& b) {
            return a.out->experts[0].format == b.out->experts[0].format;
        },
        [&](std::span<const PlacedProduct> batch) {
            record_expert_products(r, batch, x, expert_ids, groups, single, tile);
        });
}

}  // namespace smelt::metal
