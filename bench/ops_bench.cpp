// Speed of the backend's matmul and attention at the shapes of Qwen3-0.6B, next to the memory bandwidth
// measured in alternation. Not a test: run it on a quiet machine, before and after a change.
//   ops_bench [--backend cpu] [--isa avx2] [--threads 2] [--format q8_0]
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <ctime>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "base/bandwidth.h"

namespace {

using namespace smelt;

// One thread is measured in processor time, so that others on the machine matter less.
double seconds_of(const std::function<void()>& f, bool processor_time) {
    const auto start = std::chrono::steady_clock::now();
    const std::clock_t clock_start = std::clock();
    f();
    if (processor_time) return static_cast<double>(std::clock() - clock_start) / CLOCKS_PER_SEC;
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}
double median(std::vector<double> v) {
    std::sort(v.begin(), v.end());
    return v[v.size() / 2];
}

struct Shape {
    const char* name;
    int64_t rows, cols;
};
constexpr Shape shapes[] = {{"attn_q", 2048, 1024},   {"attn_k", 1024, 1024},   {"attn_output", 1024, 2048},
                            {"ffn_gate", 3072, 1024}, {"ffn_down", 1024, 3072}, {"output", 151936, 1024}};

class Bench {
 public:
    Bench(Backend& be, int n_threads) : be_(be), n_threads_(n_threads), probe_(n_threads) {}

    Tensor tensor(DType type, std::initializer_list<int64_t> shape) {
        Tensor t;
        t.dtype = type;
        t.rank = static_cast<int>(shape.size());
        std::copy(shape.begin(), shape.end(), t.shape.begin());
        t.row_stride = t.row_len();
        storages_.push_back(be_.allocate(t.n_bytes()));
        t.storage = storages_.back().get();
        return t;
    }

    // Enough copies of the weight that none is in a cache when its turn comes again.
    void matmul(Format f, const Shape& s, int64_t n_tokens) {
        const size_t bytes = data_bytes(f, s.rows * s.cols);
        const size_t n_copies = n_tokens > 1 ? 1 : std::max<size_t>(1, (300u << 20) / bytes);
        std::vector<std::byte> data(bytes * n_copies);
        std::mt19937 random(1);
        for (std::byte& b : data) b = static_cast<std::byte>(random() & 0x3f);  // no NaN in any format
        std::vector<std::byte> scales(scale_bytes(f, s.rows * s.cols));
        std::vector<Weight> weights;
        for (size_t i = 0; i < n_copies; ++i) {
            weights.push_back(
                be_.load({f, s.rows, s.cols, {data.data() + i * bytes, bytes}, scales}, WeightUse::matrix));
        }
        const Tensor x = tensor(DType::F32, {n_tokens, s.cols}), out = tensor(DType::F32, {n_tokens, s.rows});
        const auto step = [&] {
            be_.begin();
            for (const Weight& w : weights) be_.matmul(std::vector<MatmulOut>{{out, &w, nullptr}}, x);
            be_.submit_and_wait();
        };
        step();
        std::vector<double> times, ratios;
        for (int run = 0; run < 7; ++run) {
            times.push_back(seconds_of(step, n_threads_ == 1));
            const double run_rate = static_cast<double>(bytes * n_copies) / times.back();
            if (n_tokens == 1 && n_threads_ > 1) {
                ratios.push_back(run_rate / probe_.measure());
            }
        }
        const double t = median(times);
        const double rate = static_cast<double>(bytes * n_copies) / t / 1e9;
        fmt::print("{:<12} {:>6} x {:<5} {:>4} tokens", s.name, s.rows, s.cols, n_tokens);
        if (n_tokens > 1) {
            fmt::print(" {:8.1f} GMAC/s\n", static_cast<double>(s.rows * s.cols * n_tokens) / t / 1e9);
        } else if (ratios.empty()) {
            fmt::print(" {:8.2f} GB/s\n", rate);
        } else {
            fmt::print(" {:8.2f} GB/s {:5.1f} % of read bandwidth\n", rate, 100 * median(ratios));
        }
        storages_.clear();
    }

    // 16 query heads, 8 kv heads of 128, F16; n_new tokens after `past` positions.
    void attention(int past, int n_new) {
        const int64_t block_len = 32, len = past + n_new, n_blocks = (len + block_len - 1) / block_len;
        KvLayer kv;
        for (KvRows* rows : {&kv.k, &kv.v}) {
            *rows = KvRows(Format::F16, n_blocks, block_len, 8, 128);
            rows->storage = tensor(DType::F16, {n_blocks, block_len, 8, 128}).storage;
        }
        BatchView batch;
        batch.n_tokens = n_new;
        batch.n_seqs = 1;
        batch.max_blocks = static_cast<int>(n_blocks);
        batch.max_kv_len = static_cast<int>(len);
        std::vector<int32_t> positions, blocks;
        for (int i = past; i < len; ++i) positions.push_back(i);
        for (int i = 0; i < n_blocks; ++i) blocks.push_back(i);
        const int32_t starts[] = {0, n_new};
        batch.positions = tensor(DType::I32, {n_new});
        batch.seq_start = tensor(DType::I32, {2});
        batch.block_table = tensor(DType::I32, {1, n_blocks});
        be_.write(batch.positions, positions.data());
        be_.write(batch.seq_start, starts);
        be_.write(batch.block_table, blocks.data());
        const Tensor q = tensor(DType::F32, {n_new, 16, 128}), out = tensor(DType::F32, {n_new, 16, 128});
        const int n_layers = n_new > 1 ? 2 : 28;
        const auto step = [&] {
            be_.begin();
            for (int i = 0; i < n_layers; ++i) be_.attention(out, q, kv, batch, {.scale = 0.1f, .window = 0});
            be_.submit_and_wait();
        };
        step();
        std::vector<double> times;
        for (int run = 0; run < 9; ++run) times.push_back(seconds_of(step, n_threads_ == 1) / n_layers);
        fmt::print("attention    {:>6} past, {:>4} new {:10.1f} us {:8.2f} GB/s of kv read once\n", past,
                   n_new, median(times) * 1e6, static_cast<double>(len * 8 * 128 * 4) / median(times) / 1e9);
        storages_.clear();
    }

 private:
    Backend& be_;
    int n_threads_;
    BandwidthProbe probe_;
    std::vector<std::unique_ptr<Storage>> storages_;
};

}  // namespace

int main(int argc, char** argv) {
    std::string backend = "cpu", isa, format = "q8_0";
    int n_threads = 2;
    for (int i = 1; i + 1 < argc; i += 2) {
        const std::string key = argv[i];
        if (key == "--backend") backend = argv[i + 1];
        if (key == "--isa") isa = argv[i + 1];
        if (key == "--threads") n_threads = std::atoi(argv[i + 1]);
        if (key == "--format") format = argv[i + 1];
    }
    try {
        const auto be = make_backend(backend, {.n_threads = n_threads, .isa = isa});
        const auto f = format_from_name(format);
        if (!f) throw Error("--format {}: no such format", format);
        fmt::print("{}: {}, {}\n", be->name(), be->description(), format);
        Bench bench(*be, n_threads);
        for (const Shape& s : shapes) bench.matmul(*f, s, 1);
        for (const int n : {2, 4, 8, 16, 64, 512}) bench.matmul(*f, shapes[3], n);
        bench.matmul(*f, shapes[4], 512);
        for (const int past : {100, 1000, 4000, 16000}) bench.attention(past, 1);
        bench.attention(0, 512);
        bench.attention(3584, 512);
    } catch (const Error& e) {
        fmt::print(stderr, "{}\n", e.what());
        return 1;
    }
}
