// Products with a matrix for each expert or each head, and which tokens an expert has.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "backend/metal/compile.h"
#include "backend/metal/kernel_args.h"
#include "backend/metal/matmul_grid.h"

namespace smelt::metal {

using namespace op;

namespace {

using Places = DeviceWeight::Places;
using gpu::Pairing;

constexpr int64_t tile_len = 8;  // pairs of one expert that share a read of its weights

int64_t most_tiles(int64_t n_pairs, int64_t n_experts) {
    return std::min(n_pairs, n_experts + n_pairs / tile_len);
}

// Where hardly two rows can share an expert, each goes by itself.
bool is_single(int64_t n_tokens, int64_t n_used, int64_t n_experts) {
    return n_tokens == 1 || (n_used == 1 && n_tokens <= n_experts);
}

// Where tiles and sorted pairs begin in Shared::groups.
struct GroupPlaces {
    Binding tiles, pairs;
    size_t n_bytes;
    explicit GroupPlaces(int64_t most_pairs, int64_t n_experts) {
        const auto n_tiles = static_cast<size_t>(most_tiles(most_pairs, n_experts));
        const size_t tiles_bytes = (n_tiles * sizeof(gpu::ExpertTile) + 255) / 256 * 256;
        tiles = {nullptr, 0, Shared::groups};
        pairs = {nullptr, tiles_bytes, Shared::groups};
        n_bytes = tiles_bytes + static_cast<size_t>(most_pairs) * sizeof(uint32_t);
    }
};

// Sorts the pairs of token and expert by expert.
struct GroupCommand : Command {
    const MTL::ComputePipelineState& kernel;
    Tensor ids;
    gpu::GroupArgs args;
    std::array<Binding, 4> buffers;

    GroupCommand(const MTL::ComputePipelineState& k, const Tensor& t, const gpu::GroupArgs& a,
                 const std::array<Binding, 4>& b)
        : kernel(k), ids(t), args(a), buffers(b) {}
    void encode(StepEncoder& step) const override {
        const int64_t n_tokens = step.rows(ids);
        if (n_tokens == 0 || is_single(n_tokens, args.n_used, args.n_experts)) return;
        gpu::GroupArgs a = args;
        a.n_pairs = u32(n_tokens * args.n_used);
        a.max_tiles = u32(most_tiles(a.n_pairs, args.n_experts));
        step.dispatch(kernel, a, buffers, {size(1), size(gpu::Geometry::wide_threads)});
    }
};

// Where each expert is. The experts of one file share a buffer, unless the file is larger than a buffer can
// be or they were copied. Then each buffer has its own table, and experts in other buffers are marked absent.
const std::vector<Places>& places_of(Gpu& gpu, WeightList experts) {
    auto& known = weight_of(*experts[0]).expert_places;
    for (const auto& k : known) {
        if (std::ranges::equal(k.experts, experts)) return k.places;
    }
    std::vector<Places> places;
    std::vector<std::vector<gpu::ExpertPlace>> tables;
    for (size_t e = 0; e < experts.size(); ++e) {
        const DeviceWeight& w = weight_of(*experts[e]);
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
        places[i].table = make_buffer(gpu, bytes);
        std::memcpy(host_bytes(places[i].table.get()), tables[i].data(), bytes);
    }
    return known.emplace_back(std::vector(experts.begin(), experts.end()), std::move(places)).places;
}

// A product with those of the experts that lie in one pair of buffers.
struct PlacedProduct {
    Tensor out;
    WeightList experts;
    const Weight* bias;
    const Places* places;
};

// Products of one format in one dispatch.
class ExpertsCommand : public Command {
 public:
    // ids: of experts by token; empty: row t * n_experts + e of x goes to matrix e.
    ExpertsCommand(Gpu& gpu, const Tensor& x, const Tensor& ids, std::span<const PlacedProduct> products)
        : x_(x), ids_(ids) {
        const Weight& one = *products[0].experts[0];
        const bool own_rows = x.rank == 3 && ids;
        args_ = {.n_used = ids ? u32(ids.row_len()) : 1,
                 .n_experts = u32(std::ssize(products[0].experts)),
                 .cols = u32(one.cols),
                 .n_units = u32(divide_up(one.cols, unit)),
                 .x_stride = u32(x.row_stride),
                 .own_rows = own_rows,
                 .x_aligned = is_aligned(x) && (!own_rows || one.cols % 4 == 0),
                 .w_aligned = true,
                 .n_products = u32(std::ssize(products)),
                 .n_blocks = 0,
                 .pairing = Pairing::heads,
                 .n_tokens = 0,
                 .products = {}};
        CHECK(ids || x.row_len() == one.cols, "rows of {}, heads of {}", x.row_len(), one.cols);
        buffers_.fill(bind(x));
        for (size_t i = 0; i < products.size(); ++i) add_product(i, products[i]);
        if (ids) {
            const GroupPlaces groups(ids.n_elements(), args_.n_experts);
            buffers_[of_ids] = bind(ids);
            buffers_[tiles] = groups.tiles;
            buffers_[pairs] = groups.pairs;
        }
        const std::string_view format = to_string(one.format);
        single_ = {&gpu.pipeline(fmt::format("matmul_experts_{}_1", format)), 2};
        grouped_ = {&gpu.pipeline(fmt::format("matmul_experts_{}_{}", format, tile_len)), 4};
    }

    void encode(StepEncoder& step) const override {
        gpu::ExpertsArgs args = args_;
        const int64_t n_experts = args.n_experts, n_rows = step.rows(x_);
        bool one_by_one = false;
        int64_t n_tiles = 0;
        if (ids_) {
            one_by_one = is_single(n_rows, args.n_used, n_experts);
            const int64_t n_pairs = n_rows * args.n_used;
            args.pairing = one_by_one ? Pairing::single : Pairing::sorted;
            n_tiles = one_by_one ? n_pairs : most_tiles(n_pairs, n_experts);
        } else {
            args.n_tokens = u32(n_rows / n_experts);
            one_by_one = args.n_tokens == 1;
            n_tiles = n_experts * divide_up(args.n_tokens, one_by_one ? 1 : tile_len);
        }
        const Kernel& kernel = one_by_one ? single_ : grouped_;
        for (size_t i = 0; i < args.n_products; ++i) {
            args.products[i].first_block = args.n_blocks;
            args.n_blocks += u32(divide_up(args.products[i].rows, kernel.w_rows));
        }
        std::array<Binding, n_buffers> buffers = buffers_;
        if (one_by_one) buffers[tiles] = buffers[pairs] = buffers[of_ids];  // not looked at
        step.dispatch(*kernel.pipeline, args, buffers,
                      matmul_grid(n_tiles, args.n_blocks, gpu::Geometry::matmul_simdgroups));
    }

 private:
    static constexpr size_t n_most = gpu::Geometry::max_products;
    // Places in buffers_, in the kernel's order.
    static constexpr size_t w = 1, scales = w + n_most, bias = scales + n_most, out = bias + n_most,
                            tables = out + n_most, of_ids = tables + n_most, tiles = of_ids + 1,
                            pairs = tiles + 1, n_buffers = pairs + 1;
    struct Kernel {
        const MTL::ComputePipelineState* pipeline;
        int64_t w_rows;  // rows of w that a simdgroup has
    };

    void add_product(size_t i, const PlacedProduct& p) {
        const Weight& one = *p.experts[0];
        CHECK(one.cols == args_.cols && p.experts.size() == args_.n_experts &&
                  p.out.row_len() == args_.n_used * one.rows,
              "{} experts of ({}, {}), rows of {}", p.experts.size(), one.rows, one.cols, p.out.row_len());
        args_.products[i] = {.rows = u32(one.rows),
                             .first_block = 0,
                             .out_stride = u32(p.out.row_stride),
                             .has_bias = p.bias != nullptr,
                             .w_row_bytes = weight_of(one).row_bytes,
                             .s_row_bytes = weight_of(one).scale_row_bytes};
        for (const Weight* e : p.experts) args_.w_aligned = args_.w_aligned && weight_of(*e).aligned;
        buffers_[w + i] = buffers_[scales + i] = {p.places->data.get()};
        if (p.places->scales) buffers_[scales + i] = {p.places->scales.get()};
        buffers_[tables + i] = {p.places->table.get()};
        if (p.bias != nullptr) buffers_[bias + i] = floats_of(*p.bias);
        buffers_[out + i] = bind(p.out);
    }

    Tensor x_, ids_;
    gpu::ExpertsArgs args_;  // without what the number of rows decides
    std::array<Binding, n_buffers> buffers_;
    Kernel single_{}, grouped_{};
};

}  // namespace

// Products that follow with the same ids share the groups.
void Compiler::add_groups(const Tensor& ids, int64_t n_experts) {
    if (grouped_ == ids) return;
    grouped_ = ids;
    const GroupPlaces places(ids.n_elements(), n_experts);
    shared(Shared::groups, places.n_bytes);
    const gpu::GroupArgs args{.n_pairs = 0,
                              .n_experts = u32(n_experts),
                              .n_used = u32(ids.row_len()),
                              .ids_stride = u32(ids.row_stride),
                              .tile_len = u32(tile_len),
                              .max_tiles = 0};
    const Binding counts = shared(Shared::scratch, static_cast<size_t>(n_experts) * sizeof(uint32_t));
    commands_.push_back(std::make_unique<GroupCommand>(
        gpu_.pipeline("group_pairs"), ids, args,
        std::array<Binding, 4>{bind(ids), places.pairs, places.tiles, counts}));
}

void Compiler::add_experts(const Tensor& x, const Tensor& ids,
                           std::span<const MatmulExperts::Product> products) {
    std::vector<PlacedProduct> placed;
    for (const MatmulExperts::Product& p : products) {
        for (const Places& places : places_of(gpu_, p.experts))
            placed.push_back({p.out, p.experts, p.bias, &places});
    }
    in_batches(
        std::span<const PlacedProduct>(placed),
        [](const PlacedProduct& a, const PlacedProduct& b) {
            return a.experts[0]->format == b.experts[0]->format;
        },
        [&](std::span<const PlacedProduct> batch) {
            commands_.push_back(std::make_unique<ExpertsCommand>(gpu_, x, ids, batch));
        });
}

void Compiler::add(const MatmulExperts& op) {
    CHECK(op.ids.dense() && op.x.n_rows() == op.ids.n_rows(), "{} rows, experts of {}", op.x.n_rows(),
          op.ids.n_rows());
    const auto n_experts = std::ssize(op.products[0].experts);
    if (!is_single(op.ids.n_rows(), op.ids.row_len(), n_experts)) add_groups(op.ids, n_experts);
    add_experts(op.x, op.ids, op.all());
}

void Compiler::add(const MatmulHeads& op) {
    const MatmulExperts::Product product{op.out, op.heads, nullptr};
    add_experts(op.x, {}, {&product, 1});
}

}  // namespace smelt::metal
