// The Metal backend: every op becomes a dispatch of a kernel, a step one command buffer. Nothing is computed
// on the processor but the addresses of arguments.
#include <algorithm>
#include <cmath>
#include <random>

#include "backend/metal/kernel_args.h"
#include "backend/metal/record.h"
#include "backend/metal_entry.h"
#include "base/cpu_info.h"

namespace smelt {

namespace {

using metal::bind;
using metal::Binding;
using metal::Grid;

uint32_t u32(int64_t n) {
    CHECK(n >= 0 && n <= UINT32_MAX, "{}", n);
    return static_cast<uint32_t>(n);
}

gpu::RowsArgs rows_args(const Tensor& out, const Tensor& x, const Tensor& y) {
    CHECK(out.row_len() == x.row_len() && out.row_len() == y.row_len() && out.n_rows() <= x.n_rows() &&
              out.n_rows() <= y.n_rows(),
          "rows of {}, {} and {}", out.row_len(), x.row_len(), y.row_len());
    return {.n_rows = u32(x.n_rows()),
            .row_len = u32(out.row_len()),
            .out_stride = u32(out.row_stride),
            .x_stride = u32(x.row_stride),
            .y_stride = u32(y.row_stride),
            .alpha = 1,
            .limit = 0};
}

// What a block needs its first byte to be a multiple of: no member is larger than its alignment, and all but
// bytes add up to a multiple of it.
size_t alignment_of(int64_t block_bytes) {
    return block_bytes % 4 == 0 ? 4 : block_bytes % 2 == 0 ? 2 : 1;
}

class MetalBackend : public Backend {
 public:
    MetalBackend() : weights_(gpu_), record_(gpu_) {
        record_.matrices_add_in_order = matrices_add_in_order();
    }

    std::string_view name() const override { return "metal"; }
    std::string description() const override { return gpu_.description(); }

    uint64_t available_memory() const override {
        const uint64_t limit = gpu_.device().recommendedMaxWorkingSetSize(),
                       used = gpu_.device().currentAllocatedSize();
        return std::min(limit > used ? limit - used : 0, read_memory_info().available);
    }

    std::unique_ptr<Storage> map_file(std::span<const std::byte> bytes) override {
        return weights_.map(bytes);
    }

    Weight load(const WeightView& view, WeightUse use) override {
        auto storage = std::make_unique<metal::DeviceWeight>();
        if (use == WeightUse::vector) {
            std::vector<float> values(static_cast<size_t>(view.rows * view.cols));
            decode_row({view.format, view.data.data(), view.scales.data(), view.rows * view.cols}, values);
            storage->data = weights_.copy(std::as_bytes(std::span(values)));
            return {Format::F32, view.rows, view.cols, std::move(storage)};
        }
        const FormatInfo& info = format_info(view.format);
        const int64_t n_rows =
            (view.rows - 1) * view.row_step + 1;  // that lie between the first and the last
        storage->row_bytes = data_bytes(view.format, view.cols * view.row_step);
        storage->scale_row_bytes = scale_bytes(view.format, view.cols * view.row_step);
        storage->data = weights_.place(view.data.first(data_bytes(view.format, n_rows * view.cols)),
                                       alignment_of(info.block_bytes));
        if (info.planar) {
            storage->scales = weights_.place(view.scales.first(scale_bytes(view.format, n_rows * view.cols)),
                                             alignment_of(info.scale_bytes));
        }
        const bool whole_units = info.block_len > 1 || view.cols % 16 == 0;
        storage->aligned = whole_units && storage->data.offset % 16 == 0 && storage->row_bytes % 16 == 0;
        return {view.format, view.rows, view.cols, std::move(storage)};
    }

    std::unique_ptr<Storage> allocate(size_t bytes) override {
        return std::make_unique<metal::DeviceStorage>(gpu_, bytes);
    }

    void write(const Tensor& t, const void* bytes) override {
        CHECK(t.dense());
        forget_groups();
        if (record_.empty()) {
            std::memcpy(metal::host_bytes(bind(t)), bytes, t.n_bytes());
            return;
        }
        const Binding staged = record_.scratch.take(t.n_bytes());
        std::memcpy(metal::host_bytes(staged), bytes, t.n_bytes());
        const gpu::CopyArgs args{.n_blocks = 1, .block_units = u32(static_cast<int64_t>(t.n_bytes()))};
        add("copy_bytes", args, {bind(t), staged}, metal::each_element(static_cast<int64_t>(t.n_bytes()), 1));
    }
    void read(const Tensor& t, void* bytes) override {
        CHECK(t.dense());
        std::memcpy(bytes, metal::host_bytes(bind(t)), t.n_bytes());
    }

    void begin() override {
        record_.clear();
        forget_groups();
        last_add_ = {};
        recording_ = true;
    }
    void submit_and_wait() override {
        CHECK(recording_, "no step is being recorded");
        recording_ = false;
        record_.run();
    }

    void embed(Tensor out, const Weight& table, Tensor ids) override {
        const metal::DeviceWeight& w = metal::weight_of(table);
        CHECK(out.row_len() == table.cols);
        const int64_t n_units = (table.cols + 15) / 16;
        const gpu::EmbedArgs args{.n_ids = u32(out.n_rows()),
                                  .cols = u32(table.cols),
                                  .n_units = u32(n_units),
                                  .out_stride = u32(out.row_stride),
                                  .table_rows = u32(table.rows),
                                  .aligned = w.aligned,
                                  .w_offset = w.data.offset,
                                  .w_row_bytes = w.row_bytes,
                                  .s_offset = w.scales.offset,
                                  .s_row_bytes = w.scale_row_bytes};
        MTL::Buffer* data = w.data.buffer.get();
        add(fmt::format("embed_{}", to_string(table.format)), args,
            {bind(out), bind(ids), {data, 0}, {w.scales.buffer ? w.scales.buffer.get() : data, 0}},
            metal::each_element(n_units, out.n_rows()));
    }

    void matmul(std::span<const MatmulOut> outs, Tensor x) override {
        metal::record_matmul(record_, outs, x);
        recorded();
    }

    void rms_norm(Tensor out, Tensor x, const Weight& w, float eps) override {
        // A layer's end and the next one's beginning: x += y, norm(x).
        if (x.rank == 2 && !record_.empty() && record_.size() == last_add_.at && same(last_add_.x, x) &&
            !overlap(out, last_add_.y)) {
            const Tensor y = last_add_.y;
            record_.drop_last();
            return add_rms_norm(out, x, y, w, eps);
        }
        const gpu::NormArgs args = norm_args(out, x, w, eps);
        add("rms_norm", args, {bind(out), bind(x), metal::floats_of(w)}, norm_grid(args, x.n_rows()));
    }
    void layer_norm(Tensor out, Tensor x, const Weight& w, const Weight& bias, float eps) override {
        const gpu::NormArgs args = norm_args(out, x, w, eps);
        add("layer_norm", args, {bind(out), bind(x), metal::floats_of(w), metal::floats_of(bias)},
            norm_grid(args, x.n_rows()));
    }
    void add_rms_norm(Tensor out, Tensor residual, Tensor x, const Weight& w, float eps) override {
        gpu::NormArgs args = norm_args(out, x, w, eps);
        CHECK(args.groups == 1 && residual.row_len() == x.row_len());
        args.residual_stride = u32(residual.row_stride);
        add("add_rms_norm", args, {bind(out), bind(residual), bind(x), metal::floats_of(w)},
            norm_grid(args, x.n_rows()));
    }

    void rope_table(Tensor table, Tensor positions, const Weight& inv_freq, float scale) override {
        const gpu::RopeTableArgs args{.n_rows = u32(table.n_rows()),
                                      .n_pairs = u32(table.shape[1]),
                                      .stride = u32(table.row_stride),
                                      .scale = scale};
        add("rope_table", args, {bind(table), bind(positions), metal::floats_of(inv_freq)},
            metal::each_element(table.shape[1], table.n_rows()));
    }
    void rope(Tensor x, Tensor table, RopePairing pairing, int64_t first) override {
        const int64_t n_pairs = table.shape[1];
        CHECK(first + 2 * n_pairs <= x.shape[2] && table.n_rows() == x.n_rows());
        const gpu::RopeArgs args{.n_heads = u32(x.shape[1]),
                                 .head_dim = u32(x.shape[2]),
                                 .n_pairs = u32(n_pairs),
                                 .first = u32(first),
                                 .x_stride = u32(x.row_stride),
                                 .table_stride = u32(table.row_stride),
                                 .interleaved = pairing == RopePairing::interleaved};
        Grid grid = metal::each_element(n_pairs, x.shape[1]);
        grid.groups.depth = u32(x.n_rows());
        add("rope", args, {bind(x), bind(table)}, grid);
    }

    void store_kv(const KvLayer& kv, Tensor k, Tensor v, const BatchView& batch) override {
        prepare_attention(kv, {}, k, v, batch, {});
    }
    void prepare_attention(const KvLayer& kv, Tensor q, Tensor k, Tensor v, const BatchView& batch,
                           const PrepareParams& p) override {
        metal::record_prepare(record_, kv, q, k, v, batch, p);
        recorded();
    }
    void attention(Tensor out, Tensor q, const KvLayer& kv, const BatchView& batch,
                   const AttentionParams& p) override {
        metal::record_attention(record_, out, q, kv, batch, p);
        recorded();
    }

    void add(Tensor x, Tensor y) override {
        add("add", rows_args(x, x, y), {bind(x), bind(y)}, metal::each_element(x.row_len(), x.n_rows()));
        last_add_ = {record_.size(), x, y};
    }
    void copy(Tensor out, Tensor x) override {
        add("copy", rows_args(out, x, x), {bind(out), bind(x)},
            metal::each_element(out.row_len(), out.n_rows()));
    }
    void silu_mul(Tensor out, Tensor gate, Tensor up) override {
        add("silu_mul", rows_args(out, gate, up), {bind(out), bind(gate), bind(up)},
            metal::each_element(out.row_len(), out.n_rows()));
    }
    void clamped_silu_mul(Tensor out, Tensor gate, Tensor up, float alpha, float limit) override {
        gpu::RowsArgs args = rows_args(out, gate, up);
        args.alpha = alpha;
        args.limit = limit;
        add("clamped_silu_mul", args, {bind(out), bind(gate), bind(up)},
            metal::each_element(out.row_len(), out.n_rows()));
    }
    void gelu(Tensor out, Tensor x) override {
        add("gelu", rows_args(out, x, x), {bind(out), bind(x)},
            metal::each_element(out.row_len(), out.n_rows()));
    }
    void gather_rows(Tensor out, Tensor x, Tensor rows) override {
        CHECK(out.row_len() == x.row_len());
        const gpu::RowsArgs args{.n_rows = u32(x.n_rows()),
                                 .row_len = u32(out.row_len()),
                                 .out_stride = u32(out.row_stride),
                                 .x_stride = u32(x.row_stride),
                                 .y_stride = 0,
                                 .alpha = 1,
                                 .limit = 0};
        add("gather_rows", args, {bind(out), bind(x), bind(rows)},
            metal::each_element(out.row_len(), out.n_rows()));
    }

    bool prefers_top_k() const override { return true; }
    void top_k(Tensor values, Tensor ids, Tensor x) override {
        CHECK(ids.row_len() <= x.row_len() && values.row_len() == ids.row_len());
        const gpu::TopKArgs args{.n = u32(x.row_len()),
                                 .k = u32(ids.row_len()),
                                 .x_stride = u32(x.row_stride),
                                 .values_stride = u32(values.row_stride),
                                 .ids_stride = u32(ids.row_stride)};
        add("top_k", args, {bind(values), bind(ids), bind(x)},
            {MTL::Size(u32(x.n_rows()), 1, 1), MTL::Size(gpu::Geometry::wide_threads, 1, 1)});
    }

    void copy_kv_blocks(const KvLayer& kv, std::span<const int32_t> from,
                        std::span<const int32_t> to) override {
        CHECK(from.size() == to.size());
        const Binding pairs = record_.scratch.take(2 * from.size_bytes());
        auto* list = reinterpret_cast<int32_t*>(metal::host_bytes(pairs));
        std::copy(from.begin(), from.end(), list);
        std::copy(to.begin(), to.end(), list + from.size());
        for (const KvRows* rows : {&kv.k, &kv.v}) {
            if (rows == &kv.v && kv.v_in_k()) break;
            const int64_t unit = rows->block_bytes() % 16 == 0 ? 16 : 1,
                          units = static_cast<int64_t>(rows->block_bytes()) / unit;
            const gpu::CopyArgs args{.n_blocks = u32(static_cast<int64_t>(from.size())),
                                     .block_units = u32(units)};
            record_.add(gpu_.pipeline(fmt::format("copy_blocks_{}", unit)), args,
                        {{metal::buffer_of(*rows), 0}, pairs}, metal::each_element(units, 1));
        }
        recorded();
    }

    void route(Tensor expert_ids, Tensor expert_weights, Tensor logits, const RouteParams& p) override {
        const int64_t n_experts = logits.row_len();
        CHECK(expert_ids.row_len() <= n_experts && expert_weights.row_len() == expert_ids.row_len());
        forget_groups();
        const gpu::RouteArgs args{.n_experts = u32(n_experts),
                                  .n_used = u32(expert_ids.row_len()),
                                  .logits_stride = u32(logits.row_stride),
                                  .ids_stride = u32(expert_ids.row_stride),
                                  .weights_stride = u32(expert_weights.row_stride),
                                  .sigmoid = p.score == RouteParams::Score::sigmoid,
                                  .normalize = p.normalize,
                                  .has_bias = p.selection_bias != nullptr,
                                  .scale = p.scale};
        add("route", args,
            {bind(expert_ids), bind(expert_weights), bind(logits),
             p.selection_bias != nullptr ? metal::floats_of(*p.selection_bias) : bind(logits)},
            {MTL::Size(u32(logits.n_rows()), 1, 1), MTL::Size(gpu::Geometry::simd_width, 1, 1),
             static_cast<size_t>(n_experts) * sizeof(float)});
    }
    void matmul_experts(std::span<const ExpertsOut> outs, Tensor x, Tensor expert_ids) override {
        metal::record_matmul_experts(record_, groups_, outs, x, expert_ids);
        recorded();
    }
    void add_experts(Tensor x, Tensor y, Tensor expert_weights) override {
        CHECK(y.rank == 3 && y.shape[2] == x.row_len() && y.shape[1] == expert_weights.row_len());
        const gpu::AddExpertsArgs args{.n_used = u32(y.shape[1]),
                                       .dim = u32(y.shape[2]),
                                       .x_stride = u32(x.row_stride),
                                       .y_stride = u32(y.row_stride),
                                       .weights_stride = u32(expert_weights.row_stride)};
        add("add_experts", args, {bind(x), bind(y), bind(expert_weights)},
            metal::each_element(x.row_len(), x.n_rows()));
    }

 private:
    // One product in both ways, of numbers of all magnitudes so that every order of additions rounds
    // differently.
    bool matrices_add_in_order() {
        constexpr int64_t n = 16, cols = 1040;
        std::mt19937 random(1);
        const auto fill = [&](const Tensor& t) {
            std::vector<float> values(static_cast<size_t>(t.n_elements()));
            for (float& v : values) {
                v = std::ldexp(static_cast<float>(random() % 65536) - 32768, static_cast<int>(random() % 24));
            }
            write(t, values.data());
            return values;
        };
        const auto storage = allocate(4 * n * cols * sizeof(float));
        const auto tensor = [&](int64_t at, int64_t width) {
            return Tensor{.storage = storage.get(),
                          .offset = static_cast<size_t>(at * n * cols) * sizeof(float),
                          .rank = 2,
                          .shape = {n, width, 0, 0},
                          .row_stride = width};
        };
        const Tensor x = tensor(0, cols);
        fill(x);
        const std::vector<float> values = fill(tensor(1, cols));
        const Weight w =
            load({Format::F32, n, cols, std::as_bytes(std::span(values)), {}}, WeightUse::matrix);
        const auto product = [&](bool matrices) {
            const Tensor out = tensor(2, n);
            const MatmulOut m{out, &w};
            record_.matrices_add_in_order = matrices;
            matmul({&m, 1}, x);
            std::vector<uint32_t> bits(static_cast<size_t>(out.n_elements()));
            read(out, bits.data());
            return bits;
        };
        return product(false) == product(true);
    }

    struct LastAdd {
        size_t at = 0;  // the record's length behind it
        Tensor x = {}, y = {};
    };

    template <class Args>
    void add(const std::string& kernel, const Args& args, std::initializer_list<Binding> buffers,
             const Grid& grid) {
        record_.add(gpu_.pipeline(kernel), args, buffers, grid);
        recorded();
    }
    // An op outside begin() and submit_and_wait() runs at once.
    void recorded() {
        if (!recording_) record_.run();
    }
    void forget_groups() { groups_ = {}; }

    static bool same(const Tensor& a, const Tensor& b) {
        return a.storage == b.storage && a.offset == b.offset && a.shape == b.shape &&
               a.row_stride == b.row_stride;
    }
    static bool overlap(const Tensor& a, const Tensor& b) {
        const auto end = [](const Tensor& t) {
            return t.offset + static_cast<size_t>(t.n_rows() * t.row_stride) * dtype_bytes(t.dtype);
        };
        return a.storage == b.storage && a.offset < end(b) && b.offset < end(a);
    }
    static gpu::NormArgs norm_args(const Tensor& out, const Tensor& x, const Weight& w, float eps) {
        const int64_t n = x.shape[static_cast<size_t>(x.rank - 1)];
        CHECK(n == w.cols && out.row_len() == x.row_len(), "norm of {}, rows of {}", w.cols, n);
        return {.n = u32(n),
                .groups = u32(x.row_len() / n),
                .out_stride = u32(out.row_stride),
                .x_stride = u32(x.row_stride),
                .residual_stride = 0,
                .eps = eps};
    }
    // By the length of the norm alone, so that its order of additions does not depend on the batch.
    static Grid norm_grid(const gpu::NormArgs& args, int64_t n_rows) {
        const bool wide = args.n > gpu::Geometry::wide_row;
        return {MTL::Size(args.groups, u32(n_rows), 1),
                MTL::Size(wide ? gpu::Geometry::wide_threads : gpu::Geometry::simd_width, 1, 1)};
    }

    metal::Gpu gpu_;
    metal::WeightMemory weights_;
    metal::Recorder record_;
    metal::ExpertGroups groups_;
    LastAdd last_add_;
    bool recording_ = false;
};

}  // namespace

BackendInfo metal_backend_info() {
    return {"metal", metal::Gpu::describe_default(), metal::Gpu::missing()};
}

std::unique_ptr<Backend> make_metal_backend(const BackendOptions& options) {
    (void)options;
    return std::make_unique<MetalBackend>();
}

}  // namespace smelt
