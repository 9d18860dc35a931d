// Records ops as closures over pointers and runs them when the step is submitted. Weights alias the model
// file.
#include "backend/cpu/cpu_backend.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "backend/cpu/isa.h"
#include "backend/cpu/record.h"
#include "base/thread_pool.h"

namespace smelt {

namespace {

using cpu::Rows;
using cpu::rows_of;

constexpr int64_t chunk_elements = 16 << 10;  // of a row-wise op; about 3 µs
constexpr int max_threads = 1024;

struct CpuChoice {
    const cpu::Isa* isa;
    int n_threads;
};
CpuChoice choose(const BackendOptions& options) {
    const CpuInfo info = read_cpu_info();
    if (options.n_threads < 0 || options.n_threads > max_threads) {
        throw Error("threads: expected 1 to {}, got {}", max_threads, options.n_threads);
    }
    return {&cpu::choose_isa(options.isa, info),
            options.n_threads > 0 ? options.n_threads : std::min(info.physical_cores, max_threads)};
}
std::string describe(const CpuChoice& c) {
    return fmt::format("{} thread{}, {}", c.n_threads, c.n_threads == 1 ? "" : "s", c.isa->title);
}

class CpuBackend : public Backend {
 public:
    explicit CpuBackend(const CpuChoice& choice)
        : choice_(choice),
          pool_(choice.n_threads),
          record_{*choice.isa->kernels, choice.n_threads, {}, cpu::Scratch(choice.n_threads)} {}

    std::string_view name() const override { return "cpu"; }
    std::string description() const override { return describe(choice_); }

    uint64_t available_memory() const override { return read_memory_info().available; }

    Weight load(const WeightView& view, WeightUse use) override {
        auto storage = std::make_unique<cpu::HostWeight>();
        if (use != WeightUse::vector) {
            storage->data = view.data.data();
            storage->scales = view.scales.data();
            storage->row_step = view.row_step;
            return {view.format, view.rows, view.cols, std::move(storage)};
        }
        const int64_t n = view.rows * view.cols;
        storage->owned.resize(static_cast<size_t>(n));
        decode_row({view.format, view.data.data(), view.scales.data(), n}, storage->owned);
        storage->data = reinterpret_cast<const std::byte*>(storage->owned.data());
        return {Format::F32, view.rows, view.cols, std::move(storage)};
    }

    std::unique_ptr<Storage> allocate(size_t bytes) override {
        return std::make_unique<cpu::HostStorage>(bytes);
    }

    void write(const Tensor& t, const void* bytes) override {
        CHECK(t.dense());
        if (!recording_) {
            std::memcpy(cpu::bytes_of(t), bytes, t.n_bytes());
            return;
        }
        void* copy = record_.ops.take(t.n_bytes());
        std::memcpy(copy, bytes, t.n_bytes());
        record(1, [to = cpu::bytes_of(t), copy, n = t.n_bytes()](int, int) { std::memcpy(to, copy, n); });
    }
    void read(const Tensor& t, void* bytes) override {
        CHECK(t.dense());
        std::memcpy(bytes, cpu::bytes_of(t), t.n_bytes());
    }

    void begin() override {
        record_.ops.clear();
        recording_ = true;
    }
    void submit_and_wait() override {
        CHECK(recording_, "no step is being recorded");
        recording_ = false;
        run();
    }

    void embed(Tensor out, const Weight& table, Tensor ids) override {
        CHECK(out.row_len() == table.cols);
        const cpu::MatrixRows rows = cpu::matrix_of(table);
        const Rows<float> to = rows_of<float>(out);
        const int32_t* id = rows_of<int32_t>(ids).first;
        each_row(out.n_rows(), out.row_len(), [=, format = table.format](int64_t i) {
            CHECK(id[i] >= 0 && id[i] < rows.rows, "id {}", id[i]);
            decode_row(
                {format, reinterpret_cast<const std::byte*>(rows.data) + id[i] * rows.row_bytes,
                 reinterpret_cast<const std::byte*>(rows.scales) + id[i] * rows.row_scale_bytes, rows.cols},
                {to[i], static_cast<size_t>(rows.cols)});
        });
    }

    void matmul(std::span<const MatmulOut> outs, Tensor x) override {
        cpu::record_matmul(record_, outs, x);
        recorded();
    }

    void rms_norm(Tensor out, Tensor x, const Weight& w, float eps) override {
        const int64_t n = x.shape[static_cast<size_t>(x.rank - 1)], row_len = x.row_len();
        CHECK(n == w.cols && out.row_len() == row_len, "norm of {}, rows of {}", w.cols, n);
        each_row(x.n_rows(), row_len,
                 [=, norm = kernels().rms_norm, to = rows_of<float>(out), from = rows_of<float>(x),
                  weights = cpu::floats_of(w)](int64_t i) {
                     for (int64_t first = 0; first < row_len; first += n) {
                         norm(to[i] + first, from[i] + first, weights, n, eps);
                     }
                 });
    }

    void layer_norm(Tensor out, Tensor x, const Weight& w, const Weight& bias, float eps) override {
        const int64_t n = x.shape[static_cast<size_t>(x.rank - 1)], row_len = x.row_len();
        CHECK(n == w.cols && n == bias.cols && out.row_len() == row_len, "norm of {}, rows of {}", w.cols, n);
        each_row(x.n_rows(), row_len,
                 [=, norm = kernels().layer_norm, to = rows_of<float>(out), from = rows_of<float>(x),
                  weights = cpu::floats_of(w), biases = cpu::floats_of(bias)](int64_t i) {
                     for (int64_t first = 0; first < row_len; first += n) {
                         norm(to[i] + first, from[i] + first, weights, biases, n, eps);
                     }
                 });
    }

    void rope_table(Tensor table, Tensor positions, const Weight& inv_freq, float scale) override {
        // The C library's sine: exact to the last bit even where the angle is thousands of turns.
        constexpr int64_t sine_cost = 32;  // as much time as so many elements of other ops
        each_row(table.n_rows(), table.row_len() * sine_cost,
                 [=, to = rows_of<float>(table), position = rows_of<int32_t>(positions).first,
                  frequency = cpu::floats_of(inv_freq), n = table.shape[1]](int64_t t) {
                     for (int64_t i = 0; i < n; ++i) {
                         const float angle = static_cast<float>(position[t]) * frequency[i];
                         to[t][2 * i] = static_cast<float>(std::cos(static_cast<double>(angle))) * scale;
                         to[t][2 * i + 1] = static_cast<float>(std::sin(static_cast<double>(angle))) * scale;
                     }
                 });
    }

    void rope(Tensor x, Tensor table, RopePairing pairing, int64_t first) override {
        CHECK(first + 2 * table.shape[1] <= x.shape[2] && table.n_rows() == x.n_rows());
        each_row(x.n_rows(), x.row_len(),
                 [=, rotate = pairing == RopePairing::half ? kernels().rope_half : kernels().rope_interleaved,
                  heads = rows_of<float>(x), cos_sin = rows_of<float>(table), n_heads = x.shape[1],
                  head_dim = x.shape[2], n_pairs = table.shape[1]](int64_t t) {
                     for (int64_t h = 0; h < n_heads; ++h)
                         rotate(heads[t] + h * head_dim + first, cos_sin[t], n_pairs);
                 });
    }

    void store_kv(const KvLayer& kv, Tensor k, Tensor v, const BatchView& batch) override {
        const int32_t* slots = rows_of<int32_t>(batch.slots).first;
        store_rows(kv.k, k, slots, batch.n_tokens);
        if (!kv.v_in_k()) store_rows(kv.v, v, slots, batch.n_tokens);
    }

    void attention(Tensor out, Tensor q, const KvLayer& kv, const BatchView& batch,
                   const AttentionParams& p) override {
        cpu::record_attention(record_, out, q, kv, batch, p);
        recorded();
    }

    void add(Tensor x, Tensor y) override {
        CHECK(x.row_len() == y.row_len() && x.n_rows() == y.n_rows());
        each_row(x.n_rows(), x.row_len(),
                 [=, sum = kernels().add, to = rows_of<float>(x), from = rows_of<float>(y),
                  n = x.row_len()](int64_t i) { sum(to[i], from[i], n); });
    }

    void copy(Tensor out, Tensor x) override {
        CHECK(out.row_len() == x.row_len() && out.n_rows() == x.n_rows());
        each_row(x.n_rows(), x.row_len(),
                 [=, to = rows_of<float>(out), from = rows_of<float>(x), n = x.row_len()](int64_t i) {
                     std::copy_n(from[i], n, to[i]);
                 });
    }

    void silu_mul(Tensor out, Tensor gate, Tensor up) override {
        CHECK(out.row_len() == gate.row_len() && out.row_len() == up.row_len());
        each_row(out.n_rows(), out.row_len(),
                 [=, silu = kernels().silu_mul, to = rows_of<float>(out), g = rows_of<float>(gate),
                  u = rows_of<float>(up), n = out.row_len()](int64_t i) { silu(to[i], g[i], u[i], n); });
    }

    void clamped_silu_mul(Tensor out, Tensor gate, Tensor up, float alpha, float limit) override {
        CHECK(out.row_len() == gate.row_len() && out.row_len() == up.row_len());
        each_row(out.n_rows(), out.row_len(),
                 [=, silu = kernels().clamped_silu_mul, to = rows_of<float>(out), g = rows_of<float>(gate),
                  u = rows_of<float>(up),
                  n = out.row_len()](int64_t i) { silu(to[i], g[i], u[i], n, alpha, limit); });
    }

    void gelu(Tensor out, Tensor x) override {
        CHECK(out.row_len() == x.row_len());
        each_row(out.n_rows(), out.row_len(),
                 [=, activate = kernels().gelu, to = rows_of<float>(out), from = rows_of<float>(x),
                  n = out.row_len()](int64_t i) { activate(to[i], from[i], n); });
    }

    void gather_rows(Tensor out, Tensor x, Tensor rows) override {
        CHECK(out.row_len() == x.row_len());
        each_row(out.n_rows(), x.row_len(),
                 [=, to = rows_of<float>(out), from = rows_of<float>(x), row = rows_of<int32_t>(rows).first,
                  n_rows = x.n_rows(), n = x.row_len()](int64_t i) {
                     CHECK(row[i] >= 0 && row[i] < n_rows, "row {}", row[i]);
                     std::copy_n(from[row[i]], n, to[i]);
                 });
    }

    void top_k(Tensor values, Tensor ids, Tensor x) override {
        CHECK(ids.row_len() <= x.row_len() && values.row_len() == ids.row_len());
        each_row(x.n_rows(), x.row_len(),
                 [=, from = rows_of<float>(x), to = rows_of<float>(values), chosen = rows_of<int32_t>(ids),
                  n = x.row_len(),
                  k = ids.row_len()](int64_t i) { cpu::top_k_row(from[i], n, to[i], chosen[i], k); });
    }

    void route(Tensor expert_ids, Tensor expert_weights, Tensor logits, const RouteParams& p) override {
        const int64_t n_experts = logits.row_len();
        CHECK(expert_ids.row_len() <= n_experts && expert_weights.row_len() == expert_ids.row_len());
        const float* bias = p.selection_bias == nullptr ? nullptr : cpu::floats_of(*p.selection_bias);
        each_row(logits.n_rows(), n_experts * 8,
                 [=, from = rows_of<float>(logits), ids = rows_of<int32_t>(expert_ids),
                  weights = rows_of<float>(expert_weights), n_used = expert_ids.row_len()](int64_t t) {
                     cpu::route_row(from[t], n_experts, bias, p, ids[t], weights[t], n_used);
                 });
    }

    void matmul_experts(std::span<const ExpertsOut> outs, Tensor x, Tensor expert_ids) override {
        cpu::record_matmul_experts(record_, outs, x, expert_ids);
        recorded();
    }

    void add_experts(Tensor x, Tensor y, Tensor expert_weights) override {
        CHECK(y.rank == 3 && y.shape[2] == x.row_len() && y.shape[1] == expert_weights.row_len());
        each_row(
            x.n_rows(), y.row_len(),
            [=, to = rows_of<float>(x), from = rows_of<float>(y), weights = rows_of<float>(expert_weights),
             n_used = y.shape[1], dim = y.shape[2]](int64_t t) {
                for (int64_t i = 0; i < n_used; ++i) {
                    for (int64_t c = 0; c < dim; ++c) to[t][c] += weights[t][i] * from[t][i * dim + c];
                }
            });
    }

    void copy_kv_blocks(const KvLayer& kv, std::span<const int32_t> from,
                        std::span<const int32_t> to) override {
        CHECK(from.size() == to.size());
        auto* list = static_cast<int32_t*>(record_.ops.take(2 * from.size_bytes()));
        std::copy(from.begin(), from.end(), list);
        std::copy(to.begin(), to.end(), list + from.size());
        for (const KvRows* rows : {&kv.k, &kv.v}) {
            if (rows == &kv.v && kv.v_in_k()) break;
            // One chunk: a block may be copied on after it has been copied to.
            record(1,
                   [=, n = from.size(), base = cpu::bytes_of(*rows), bytes = rows->block_bytes()](int, int) {
                       for (size_t i = 0; i < n; ++i) {
                           std::memcpy(base + static_cast<size_t>(list[n + i]) * bytes,
                                       base + static_cast<size_t>(list[i]) * bytes, bytes);
                       }
                   });
        }
    }

 private:
    const cpu::Kernels& kernels() const { return record_.kernels; }

    template <class F>
    void record(int n_chunks, F f) {
        record_.ops.add(n_chunks, f);
        recorded();
    }
    // f(row) for every row, in chunks of about chunk_elements.
    template <class F>
    void each_row(int64_t n_rows, int64_t row_len, F f) {
        const int64_t chunk_rows = std::max<int64_t>(1, chunk_elements / std::max<int64_t>(1, row_len));
        record(static_cast<int>((n_rows + chunk_rows - 1) / chunk_rows), [=](int chunk, int) {
            const int64_t first = chunk * chunk_rows, last = std::min(n_rows, first + chunk_rows);
            for (int64_t i = first; i < last; ++i) f(i);
        });
    }
    void store_rows(const KvRows& cache, const Tensor& rows, const int32_t* slots, int64_t n_tokens) {
        const int64_t n = rows.row_len();
        CHECK(n == cache.n_heads * cache.dim && cache.dim % format_info(cache.format).block_len == 0 &&
                  std::ranges::find(kv_formats, cache.format) != std::end(kv_formats),
              "{} of {} heads of {}", n, cache.n_heads, cache.dim);
        each_row(n_tokens, n,
                 [=, encode = kernels().kv_encode, format = cache.format, from = rows_of<float>(rows),
                  to = cpu::bytes_of(cache), bytes = static_cast<size_t>(cache.n_heads) * cache.row_bytes](
                     int64_t t) { encode(format, from[t], n, to + static_cast<size_t>(slots[t]) * bytes); });
    }

    // An op outside begin() and submit_and_wait() runs at once.
    void recorded() {
        if (!recording_) run();
    }
    void run() {
        try {
            record_.scratch.reserve();
        } catch (...) {
            record_.ops.clear();
            throw;
        }
        record_.ops.run(pool_);
        record_.ops.clear();
    }

    CpuChoice choice_;
    ThreadPool pool_;
    cpu::Recorder record_;
    bool recording_ = false;
};

}  // namespace

std::unique_ptr<Backend> make_cpu_backend(const BackendOptions& options) {
    return std::make_unique<CpuBackend>(choose(options));
}

std::string describe_cpu_backend(const BackendOptions& options) {
    return describe(choose(options));
}

}  // namespace smelt
