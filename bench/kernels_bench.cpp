// Speed of the CPU's matrix kernels by themselves, on one thread: every number format, every instruction set
// that this processor has, for 1 to 64 tokens at once. The rows fit in the second-level cache, so that it is
// the kernel that is measured and not the memory. Before and after a change: run both binaries in
// alternation.
//   kernels_bench --benchmark_filter=avx512/q4_k
#include <benchmark/benchmark.h>

#include <algorithm>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "backend/cpu/isa.h"
#include "backend/cpu/matmul_plan.h"
#include "base/cpu_info.h"
#include "quant/random_weights.h"

namespace {

using namespace smelt;

constexpr int64_t rows = 64, cols = 2048;

void product(benchmark::State& state, const cpu::Kernels& k, Format f, int64_t n_tokens, bool packed) {
    std::vector<std::byte> data(data_bytes(f, rows * cols)), scales(scale_bytes(f, rows * cols));
    random_row(f, rows * cols, 1, 0.05f, data.data(), scales.data());
    std::mt19937 random(2);
    std::normal_distribution<float> normal;
    std::vector<float> x(static_cast<size_t>(n_tokens * cols)), out(static_cast<size_t>(n_tokens * rows));
    for (float& v : x) v = normal(random);

    const auto carve = [&](cpu::Carver carver) {
        const auto* scratch = carver.take<uint8_t>(static_cast<int64_t>(k.matmul_scratch(f, cols)));
        const cpu::QuantizedBuffer xq = cpu::carve_quantized(carver, n_tokens, cols);
        return std::tuple{const_cast<uint8_t*>(scratch), xq, carver.used()};
    };
    const cpu::HostStorage memory(std::get<size_t>(carve(cpu::Carver(nullptr))));
    const auto [scratch, xq, used] = carve(cpu::Carver(memory.data));
    for (int64_t t = 0; k.takes_int8(f, cols) && t < n_tokens; ++t) {
        cpu::quantize_row(k, x.data() + t * cols, cols, xq, t);
    }
    cpu::MatrixRows w{.format = f,
                      .data = reinterpret_cast<const uint8_t*>(data.data()),
                      .scales = reinterpret_cast<const uint8_t*>(scales.data()),
                      .row_bytes = static_cast<int64_t>(data_bytes(f, cols)),
                      .row_scale_bytes = static_cast<int64_t>(scale_bytes(f, cols)),
                      .rows = rows,
                      .cols = cols};
    const cpu::HostStorage panels(k.packed_bytes(f, rows, cols));
    if (packed && k.takes_int8(f, cols)) {
        auto* to = reinterpret_cast<uint8_t*>(panels.data);
        k.pack(w, 0, rows, to);
        w.packed = to;
    }
    const cpu::MatmulArgs args{.w = w,
                               .first_row = 0,
                               .last_row = rows,
                               .x = x.data(),
                               .x_stride = cols,
                               .xq = xq.from(0, cols),
                               .n_tokens = n_tokens,
                               .out = out.data(),
                               .out_stride = rows,
                               .bias = nullptr,
                               .scratch = scratch};
    for (auto _ : state) {
        k.matmul(args);
        benchmark::ClobberMemory();
    }
    const auto runs = static_cast<double>(state.iterations());
    state.counters["GB/s"] = benchmark::Counter(runs * static_cast<double>(data.size() + scales.size()) / 1e9,
                                                benchmark::Counter::kIsRate);
    state.counters["GMAC/s"] = benchmark::Counter(runs * static_cast<double>(rows * cols * n_tokens) / 1e9,
                                                  benchmark::Counter::kIsRate);
}

}  // namespace

int main(int argc, char** argv) {
    const CpuInfo info = read_cpu_info();
    for (const cpu::Isa& isa : cpu::built_isas()) {
        if (!std::ranges::all_of(isa.needs, [&](const std::string& f) { return info.has(f); })) continue;
        for (const FormatInfo& format : all_formats()) {
            for (const int64_t n : {1, 2, 4, 8, 16, 64}) {
                for (const bool packed : {true, false}) {
                    const std::string name =
                        fmt::format("{}/{}/{}{}", isa.name, format.name, n, packed ? "" : "/stored");
                    benchmark::RegisterBenchmark(name.c_str(),
                                                 [&isa, &format, n, packed](benchmark::State& state) {
                                                     product(state, *isa.kernels, format.format, n, packed);
                                                 });
                }
            }
        }
    }
    benchmark::Initialize(&argc, argv);
    benchmark::RunSpecifiedBenchmarks();
}
