// Products with a matrix for each expert or each head, and which tokens an expert has.
#include <algorithm>

#include "backend/cuda/compile.h"
#include "backend/cuda/tile_weights.h"

namespace smelt::cuda {

using namespace op;

namespace {

int64_t most_tiles(int64_t n_pairs, int64_t n_experts) {
    return std::min(n_pairs, n_experts + n_pairs / expert_tile);
}

// Where hardly two rows can share an expert, each goes by itself.
bool is_single(int64_t n_tokens, int64_t n_used, int64_t n_experts) {
    return n_tokens == 1 || (n_used == 1 && n_tokens <= n_experts);
}

// Where tiles, sorted pairs and counts begin in Shared::groups.
struct GroupPlaces {
    size_t tiles_bytes, pairs_bytes, counts_bytes, pairs, counts;
    GroupPlaces(int64_t most_pairs, int64_t n_experts) {
        const auto padded = [](size_t n) { return (n + 255) / 256 * 256; };
        tiles_bytes = padded(static_cast<size_t>(most_tiles(most_pairs, n_experts)) * sizeof(ExpertTile));
        pairs_bytes = padded(static_cast<size_t>(most_pairs) * sizeof(uint32_t));
        counts_bytes = static_cast<size_t>(n_experts) * sizeof(uint32_t);
        pairs = tiles_bytes;
        counts = pairs + pairs_bytes;
    }
};

}  // namespace

// Products that follow with the same ids share the groups.
void Compiler::add_groups(const Tensor& ids, int64_t n_experts) {
    if (grouped_ == ids) return;
    grouped_ = ids;
    const int64_t n_pairs = ids.n_elements();
    const GroupPlaces places(n_pairs, n_experts);
    const GroupArgs args{.rows = rows_of(ids),
                         .ids = at<int32_t>(ids),
                         .pairs = shared<uint32_t>(Shared::groups, places.pairs_bytes, places.pairs),
                         .tiles = shared<ExpertTile>(Shared::groups, places.tiles_bytes),
                         .counts = shared<uint32_t>(Shared::groups, places.counts_bytes, places.counts),
                         .n_experts = u32(n_experts),
                         .n_used = u32(ids.row_len()),
                         .ids_stride = u32(ids.row_stride),
                         .max_tiles = u32(most_tiles(n_pairs, n_experts))};
    launch(gpu_->kernel("experts", "group_pairs"), args, {.threads = wide_threads});
}

const ExpertPlace* Compiler::places_of(WeightList experts) {
    auto& known = weight_of(*experts[0]).expert_places;
    const auto found =
        std::ranges::find_if(known, [&](const auto& k) { return std::ranges::equal(k.experts, experts); });
    if (found != known.end()) return reinterpret_cast<const ExpertPlace*>(found->table.address);
    std::vector<ExpertPlace> places;
    for (const Weight* e : experts) {
        const DeviceWeight& w = weight_of(*e);
        if (has_tiles(e->format)) {
            places.push_back({tiles_of(*e), nullptr});
        } else {
            places.push_back({w.data.get(), w.scales.get()});
        }
    }
    WeightBytes table = weights_.copy(std::as_bytes(std::span(places)));
    known.push_back({std::vector(experts.begin(), experts.end()), std::move(table)});
    return reinterpret_cast<const ExpertPlace*>(known.back().table.address);
}

// Of one format. ids: of experts by token; empty: row t * n_experts + e of x goes to matrix e.
void Compiler::add_experts(const Tensor& x, const Tensor& ids,
                           std::span<const MatmulExperts::Product> products) {
    const Weight& first = *products[0].experts[0];
    const int64_t cols = first.cols, n_experts = std::ssize(products[0].experts);
    const bool own_rows = x.rank == 3 && ids;
    CHECK(ids || x.row_len() == cols, "rows of {}, heads of {}", x.row_len(), cols);
    ExpertsArgs args{.rows = rows_of(x),
                     .x = at(x),
                     .ids = at_or_null<int32_t>(ids),
                     .tiles = nullptr,
                     .pairs = nullptr,
                     .n_used = ids ? u32(ids.row_len()) : 1,
                     .n_experts = u32(n_experts),
                     .cols = u32(cols),
                     .n_units = u32(divide_up(cols, unit_len)),
                     .x_stride = u32(x.row_stride),
                     .own_rows = own_rows,
                     .x_aligned = is_aligned(x) && (!own_rows || cols % 4 == 0),
                     .w_aligned = true,
                     .n_products = u32(std::ssize(products)),
                     .n_blocks = 0,
                     .pairing = Pairing::heads,
                     .products = {}};
    int64_t n_tiles = 0;
    bool one_by_one = false;
    if (ids) {
        one_by_one = is_single(x.n_rows(), args.n_used, n_experts);
        const int64_t n_pairs = ids.n_elements();
        n_tiles = one_by_one ? n_pairs : most_tiles(n_pairs, n_experts);
        args.pairing = one_by_one ? Pairing::single : Pairing::sorted;
        if (!one_by_one) {
            const GroupPlaces places(n_pairs, n_experts);
            args.tiles = shared<ExpertTile>(Shared::groups, places.tiles_bytes);
            args.pairs = shared<uint32_t>(Shared::groups, places.pairs_bytes, places.pairs);
        }
    } else {
        const int64_t each = x.n_rows() / n_experts;
        one_by_one = each == 1;
        n_tiles = n_experts * divide_up(each, one_by_one ? 1 : expert_tile);
    }
    const int64_t w_rows = one_by_one ? 2 : 4;
    for (size_t i = 0; i < products.size(); ++i) {
        const MatmulExperts::Product& p = products[i];
        const Weight& one = *p.experts[0];
        CHECK(one.cols == cols && std::ssize(p.experts) == n_experts &&
                  p.out.row_len() == args.n_used * one.rows,
              "{} experts of ({}, {}), rows of {}", p.experts.size(), one.rows, one.cols, p.out.row_len());
        args.products[i] = {.out = at(p.out),
                            .places = places_of(p.experts),
                            .bias = floats_of(p.bias),
                            .w_row_bytes = weight_of(one).row_bytes,
                            .s_row_bytes = weight_of(one).scale_row_bytes,
                            .rows = u32(one.rows),
                            .first_block = args.n_blocks,
                            .out_stride = u32(p.out.row_stride)};
        args.n_blocks += u32(divide_up(one.rows, w_rows));
        args.w_aligned = args.w_aligned && weight_of(one).aligned;
    }
    if (has_tiles(first.format)) return add_tiled_experts(x, args, products, n_tiles, one_by_one);
    launch(gpu_->kernel("matmul", one_by_one ? "matmul_experts_1" : "matmul_experts_8", first.format), args,
           {.x = n_tiles, .y = divide_up(args.n_blocks, matmul_warps), .threads = matmul_warps * warp_size});
}

void Compiler::add(const MatmulExperts& op) {
    CHECK(op.ids.dense() && op.x.n_rows() == op.ids.n_rows(), "{} rows, experts of {}", op.x.n_rows(),
          op.ids.n_rows());
    const auto n_experts = std::ssize(op.products[0].experts);
    if (!is_single(op.ids.n_rows(), op.ids.row_len(), n_experts)) add_groups(op.ids, n_experts);
    in_batches(
        op.all(),
        [](const MatmulExperts::Product& a, const MatmulExperts::Product& b) {
            return a.experts[0]->format == b.experts[0]->format;
        },
        [&](std::span<const MatmulExperts::Product> batch) { add_experts(op.x, op.ids, batch); });
}

void Compiler::add(const MatmulHeads& op) {
    const MatmulExperts::Product product{op.out, op.heads, nullptr};
    add_experts(op.x, {}, {&product, 1});
}

}  // namespace smelt::cuda
