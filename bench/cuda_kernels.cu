// The CUDA backend's fast kernels on their own. It checks each against a plain loop in double, then times it at
// the shapes of Qwen3 and prints the card's read bandwidth for comparison. nvcc builds it without the library.
// usage: cuda_kernels [check|time]...
#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "backend/cuda/kernels/matmul_sets.cuh"

using namespace smelt;
using namespace smelt::cuda;

// The format that is compiled: -DFORMAT=Q8_0.
#ifndef FORMAT
#define FORMAT Q8_0
#endif
#define JOINED2(a, b) a##b
#define JOINED(a, b) JOINED2(a, b)
#define TEXT2(a) #a
#define TEXT(a) TEXT2(a)

namespace {

using FormatBlock = JOINED(smelt::Block, FORMAT);
constexpr const char* format_name = TEXT(FORMAT);

void ok(cudaError_t error, const char* what) {
    if (error == cudaSuccess) return;
    std::printf("%s: %s\n", what, cudaGetErrorString(error));
    std::exit(1);
}
#define OK(call) ok(call, #call)

cudaStream_t stream;
int n_sms = 132;

template <class T>
T* device_copy(const std::vector<T>& v) {
    T* p = nullptr;
    OK(cudaMalloc(&p, v.size() * sizeof(T) + 16));
    OK(cudaMemcpy(p, v.data(), v.size() * sizeof(T), cudaMemcpyHostToDevice));
    return p;
}

// --- Kernels ---

template <class Block, int n_x, bool gated>
__global__ void __launch_bounds__(ring_threads, 1) ring_kernel(const __grid_constant__ TileMatmulArgs a) {
    matmul_ring<Block, n_x, gated>(a);
}
template <class Block>
__global__ void __launch_bounds__(wide_block) wide_kernel(const __grid_constant__ TileMatmulArgs a) {
    let_next_start();
    wait_for_previous();
    matmul_wide<Block>(a);
}
template <class Block, int n_sets, int n_down>
__global__ void __launch_bounds__(256, 1) sets_kernel(const __grid_constant__ TileMatmulArgs a) {
    let_next_start();
    wait_for_previous();
    matmul_sets<Block, n_sets, n_down>(a);
}
template <class Block>
__global__ void __launch_bounds__(128) pack_kernel(const __grid_constant__ PackTilesArgs a) {
    pack_tiles<Block>(a);
}
__global__ void __launch_bounds__(256) quantize_kernel(const __grid_constant__ QuantizeRowsArgs a) {
    let_next_start();
    wait_for_previous();
    put_rows<false>(a);
}
__global__ void fill_kernel(uint32_t* p, size_t n, uint32_t seed) {
    for (size_t i = blockIdx.x * size_t{blockDim.x} + threadIdx.x; i < n;
         i += size_t{gridDim.x} * blockDim.x) {
        uint32_t x = static_cast<uint32_t>(i) * 2654435761u + seed;
        x ^= x >> 16, x *= 0x7feb352du, x ^= x >> 15, x *= 0x846ca68bu, x ^= x >> 16;
        p[i] = x & 0xbfffbfffu;  // no half or float of it is infinite
    }
}
__global__ void read_kernel(const uint4* p, size_t n, uint32_t* out) {
    uint32_t sum = 0;
    for (size_t i = blockIdx.x * size_t{blockDim.x} + threadIdx.x; i < n;
         i += size_t{gridDim.x} * blockDim.x * 4) {
#pragma unroll
        for (int k = 0; k < 4; ++k) {
            const size_t at = i + size_t{gridDim.x} * blockDim.x * k;
            if (at < n) {
                const uint4 v = FromMemory{}.words4(reinterpret_cast<const uint8_t*>(p + at));
                sum += v.x ^ v.y ^ v.z ^ v.w;
            }
        }
    }
    if (sum == 12345) *out = sum;
}
// What stands between products in a layer: a norm of one row, say.
__global__ void __launch_bounds__(256) norm_kernel(float* out, const float* x, int n) {
    let_next_start();
    wait_for_previous();
    __shared__ float sums[8];
    float s = 0;
    for (int i = threadIdx.x; i < n; i += 256) s += x[i] * x[i];
    for (int d = 16; d; d /= 2) s += __shfl_xor_sync(~0u, s, d);
    if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = s;
    __syncthreads();
    s = 0;
    for (int i = 0; i < 8; ++i) s += sums[i];
    const float r = rsqrtf(s / n + 1e-6f);
    for (int i = threadIdx.x; i < n; i += 256) out[i] = x[i] * r * 0.5f;
}

template <class Kernel, class Args>
void launch(Kernel kernel, dim3 grid, int threads, size_t shared, bool overlap, const Args& args) {
    if (shared > 40000)
        OK(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                static_cast<int>(shared)));
    cudaLaunchConfig_t config = {};
    config.gridDim = grid;
    config.blockDim = dim3(threads);
    config.dynamicSmemBytes = shared;
    config.stream = stream;
    cudaLaunchAttribute attribute = {};
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
    config.attrs = &attribute;
    config.numAttrs = overlap ? 1 : 0;
    OK(cudaLaunchKernelEx(&config, kernel, args));
}

// Median time of a graph of what `record` launches, seconds.
double time_of(const std::function<void()>& record, int repeats = 15) {
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    OK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    record();
    OK(cudaStreamEndCapture(stream, &graph));
    OK(cudaGraphInstantiate(&exec, graph, 0));
    cudaEvent_t begin, end;
    OK(cudaEventCreate(&begin));
    OK(cudaEventCreate(&end));
    std::vector<double> times;
    for (int i = 0; i < repeats + 3; ++i) {
        OK(cudaEventRecord(begin, stream));
        OK(cudaGraphLaunch(exec, stream));
        OK(cudaEventRecord(end, stream));
        OK(cudaEventSynchronize(end));
        float ms = 0;
        OK(cudaEventElapsedTime(&ms, begin, end));
        if (i >= 3) times.push_back(ms * 1e-3);
    }
    OK(cudaGraphExecDestroy(exec));
    OK(cudaGraphDestroy(graph));
    std::sort(times.begin(), times.end());
    return times[times.size() / 2];
}

// --- Weights on the host ---

template <class Block>
struct Planar {
    static constexpr int quants = 0, scale = 0;
};
template <>
struct Planar<BlockQ8_G64> {
    static constexpr int quants = 64, scale = 4;
};
template <>
struct Planar<BlockMXFP4_HF> {
    static constexpr int quants = 16, scale = 1;
};
template <>
struct Planar<BlockNVFP4_HF> {
    static constexpr int quants = 8, scale = 4;
};

template <class Block>
std::vector<Block> random_blocks(size_t n, std::mt19937& random) {
    std::vector<Block> blocks(n);
    const auto half = [&](auto& to) {
        const uint16_t h = static_cast<uint16_t>(0x1c00 + random() % 0x400);
        std::memcpy(&to, &h, 2);
    };
    for (Block& b : blocks) {
        auto* bytes = reinterpret_cast<uint8_t*>(&b);
        for (size_t i = 0; i < sizeof b; ++i) bytes[i] = static_cast<uint8_t>(random());
        if constexpr (requires { b.d; }) {
            if constexpr (sizeof(b.d) == 2) {
                half(b.d);
            } else {
                b.d = 0.01f * static_cast<float>(1 + random() % 7);
            }
        }
        if constexpr (requires { b.m; }) half(b.m);
        if constexpr (requires { b.dmin; }) half(b.dmin);
        if constexpr (requires { b.z; }) b.z = F16::from(static_cast<float>(random() % 16));
        if constexpr (requires { b.scale.bits; }) {
            b.scale.bits = static_cast<uint8_t>(118 + random() % 6);
        } else if constexpr (std::is_same_v<Block, BlockNVFP4_HF>) {
            b.scale = 0.03f * static_cast<float>(1 + random() % 5);
        }
    }
    return blocks;
}

template <class Block>
struct Matrix {
    int rows, cols, k_tiles, n_tiles;
    std::vector<Block> blocks;
    std::vector<float> values;
    uint8_t* tiles;
    Matrix(int r, int c, std::mt19937& random) : rows(r), cols(c) {
        using T = Tile<Block>;
        const int n = cols / Block::block_len;
        blocks = random_blocks<Block>(static_cast<size_t>(rows) * n, random);
        values.resize(static_cast<size_t>(rows) * cols);
        for (size_t i = 0; i < blocks.size(); ++i)
            decode_whole(blocks[i], values.data() + i * Block::block_len);
        k_tiles = (cols + T::cols - 1) / T::cols;
        n_tiles = (rows + 15) / 16;
        OK(cudaMalloc(&tiles, static_cast<size_t>(n_tiles) * k_tiles * T::bytes));
        PackTilesArgs a = {};
        std::vector<uint8_t> quants, scales;
        if constexpr (Planar<Block>::quants > 0) {
            for (const Block& b : blocks) {
                const auto* p = reinterpret_cast<const uint8_t*>(&b);
                scales.insert(scales.end(), p, p + Planar<Block>::scale);
                quants.insert(quants.end(), p + sizeof(Block) - Planar<Block>::quants, p + sizeof(Block));
            }
            a.data = device_copy(quants);
            a.scales = device_copy(scales);
            a.row_bytes = static_cast<uint64_t>(n) * Planar<Block>::quants;
            a.s_row_bytes = static_cast<uint64_t>(n) * Planar<Block>::scale;
        } else {
            a.data = reinterpret_cast<uint8_t*>(device_copy(blocks));
            a.row_bytes = static_cast<uint64_t>(n) * sizeof(Block);
        }
        a.tiles = tiles;
        a.rows = static_cast<uint32_t>(rows);
        a.cols = static_cast<uint32_t>(cols);
        a.k_tiles = static_cast<uint32_t>(k_tiles);
        a.n_tiles = static_cast<uint32_t>(n_tiles * k_tiles);
        pack_kernel<Block><<<(a.n_tiles + 3) / 4, 128, 0, stream>>>(a);
        OK(cudaStreamSynchronize(stream));
    }
};

// --- Launches ---

template <class Block, int n_x, bool gated>
void run_ring(TileMatmulArgs a, bool overlap) {
    using T = Tile<Block>;
    const int64_t slot = int64_t{tile_warps} * T::bytes,
                  x = int64_t{a.k_tiles} * T::n_chunks * n_x * (tile_set_bytes / tile_tokens);
    a.n_slots =
        static_cast<uint32_t>(std::clamp<int64_t>(((205 << 10) - x) / (ring_teams * slot), 2, most_slots));
    launch(ring_kernel<Block, n_x, gated>,
           dim3(std::min<uint32_t>(a.n_tiles, n_sms), (a.rows.most + n_x - 1) / n_x), ring_threads,
           static_cast<size_t>(ring_teams * a.n_slots * slot + x), overlap, a);
}
template <class Block>
void quantize(TileMatmulArgs& a, bool overlap, uint8_t* values, int n_sets) {
    a.values = values;
    a.n_sets = (a.rows.most + 4 * n_sets - 1) / (4 * n_sets) * n_sets;
    QuantizeRowsArgs q = {
        a.rows, a.x, values, a.x_stride, a.cols, a.n_sets, a.k_tiles * Tile<Block>::n_chunks, 1};
    launch(quantize_kernel, dim3((q.n_groups * 8 + 255) / 256, a.n_sets), 256, 0, overlap, q);
}
template <class Block, int n_sets, int n_down>
void run_sets(TileMatmulArgs a, bool overlap, uint8_t* values) {
    quantize<Block>(a, overlap, values, n_sets);
    launch(sets_kernel<Block, n_sets, n_down>, dim3((a.n_tiles + n_down - 1) / n_down, a.n_sets / n_sets),
           256, 0, overlap, a);
}
template <class Block>
void run_wide(TileMatmulArgs a, bool overlap, uint8_t* values) {
    using T = Tile<Block>;
    quantize<Block>(a, overlap, values, wide_rows / tile_tokens);
    const int64_t stage = wide_tiles * T::bytes + T::n_chunks * (wide_rows / tile_tokens) * tile_set_bytes;
    a.n_slots = static_cast<uint32_t>(std::min<int64_t>((220 << 10) / stage, 8));
    launch(wide_kernel<Block>,
           dim3((a.n_tiles + wide_tiles - 1) / wide_tiles, a.n_sets / (wide_rows / tile_tokens)), wide_block,
           static_cast<size_t>(a.n_slots * stage), overlap, a);
}

// --- Check ---

int n_wrong = 0;
template <class Block>
void check(const char* name) {
    std::mt19937 random(7);
    const int cols = 2880 / Block::block_len * Block::block_len, n_x = 77;
    Matrix<Block> m(200, cols, random), up(200, cols, random);
    std::vector<float> x(static_cast<size_t>(n_x) * cols), bias(200);
    std::normal_distribution<float> normal;
    for (float& v : x) v = normal(random);
    for (float& v : bias) v = normal(random);
    std::vector<float> tops(static_cast<size_t>(n_x) * (cols / 32 + 1));
    for (int t = 0; t < n_x; ++t) {
        for (int c = 0; c < cols; ++c) {
            float& top = tops[static_cast<size_t>(t) * (cols / 32 + 1) + c / 32];
            top = std::max(top, std::fabs(x[static_cast<size_t>(t) * cols + c]));
        }
    }
    float *dx = device_copy(x), *db = device_copy(bias), *out;
    uint8_t* values;
    OK(cudaMalloc(&out, static_cast<size_t>(n_x) * 400 * 4));
    OK(cudaMalloc(&values, size_t{256} * 4096 * 3));
    TileMatmulArgs a = {};
    a.x = dx;
    a.x_stride = static_cast<uint32_t>(cols);
    a.cols = static_cast<uint32_t>(cols);
    a.k_tiles = static_cast<uint32_t>(m.k_tiles);
    a.n_products = 2;
    a.n_tiles = static_cast<uint32_t>(2 * m.n_tiles);
    a.products[0] = {out, m.tiles, db, 200, 0, 400};
    a.products[1] = {out + 200, up.tiles, nullptr, 200, static_cast<uint32_t>(m.n_tiles), 400};
    TileMatmulArgs gated = a;
    gated.n_tiles = static_cast<uint32_t>(m.n_tiles);
    gated.products[0].bias = nullptr;
    std::vector<float> got(static_cast<size_t>(n_x) * 400), first;
    double worst = 0;
    bool same = true, good = true;
    const auto compare = [&](int n, bool is_gated) {
        OK(cudaStreamSynchronize(stream));
        OK(cudaMemcpy(got.data(), out, got.size() * 4, cudaMemcpyDeviceToHost));
        for (int t = 0; t < n; ++t) {
            double sums[2], bounds[2];
            for (int r = 0; r < 200; ++r) {
                for (int p = 0; p < 2; ++p) {
                    const auto& w = p == 0 ? m.values : up.values;
                    double sum = p == 0 && !is_gated ? bias[r] : 0, bound = 1e-6;
                    for (int c = 0; c < cols; ++c) {
                        const double v = w[static_cast<size_t>(r) * cols + c];
                        sum += v * x[static_cast<size_t>(t) * cols + c];
                        const float top = tops[static_cast<size_t>(t) * (cols / 32 + 1) + c / 32];
                        bound += std::fabs(v) * (top / 65278.0 * 1.01 +
                                                 2e-6 * std::fabs(x[static_cast<size_t>(t) * cols + c]));
                    }
                    sums[p] = sum;
                    bounds[p] = bound;
                }
                const double expected[2] = {is_gated ? sums[0] / (1 + std::exp(-sums[0])) * sums[1] : sums[0],
                                            sums[1]};
                for (int p = 0; p < (is_gated ? 1 : 2); ++p) {
                    const double error =
                        std::fabs(got[static_cast<size_t>(t) * 400 + 200 * p + r] - expected[p]);
                    const double bound = is_gated ? 1.2 * bounds[0] * (std::fabs(sums[1]) + bounds[1]) +
                                                        bounds[1] * std::fabs(sums[0]) +
                                                        1e-5 * std::fabs(expected[0])
                                                  : bounds[p];
                    worst = std::max(worst, error / bound);
                    if (!(error <= bound)) good = false;
                }
            }
        }
        if (is_gated) return;
        if (first.empty()) first = got;
        for (int t = 0; t < n; ++t) {
            for (int i = 0; i < 400; ++i) {
                if (first[static_cast<size_t>(t) * 400 + i] != got[static_cast<size_t>(t) * 400 + i])
                    same = false;
            }
        }
    };
    const auto rows = [&](TileMatmulArgs b, int n) {
        b.rows = {nullptr, 1, static_cast<uint32_t>(n)};
        OK(cudaMemset(out, 0xff, got.size() * 4));
        return b;
    };
    run_ring<Block, 1, false>(rows(a, n_x), false);
    compare(n_x, false);
    run_ring<Block, 4, false>(rows(a, n_x), true);
    compare(n_x, false);
    run_sets<Block, 1, 1>(rows(a, n_x), true, values);
    compare(n_x, false);
    run_sets<Block, 2, 1>(rows(a, n_x), true, values);
    compare(n_x, false);
    run_sets<Block, 8, 2>(rows(a, n_x), false, values);
    compare(n_x, false);
    run_wide<Block>(rows(a, n_x), true, values);
    compare(n_x, false);
    run_ring<Block, 1, true>(rows(gated, 3), true);
    compare(3, true);
    std::printf("%-10s %s, %s, worst error %.3f of the bound\n", name, good ? "right" : "WRONG",
                same ? "same bits in all kernels" : "BITS DIFFER", worst);
    n_wrong += !good || !same;
}

// --- Time ---

double peak = 0;
uint8_t* pool = nullptr;
size_t pool_bytes = 0;

struct Model {
    const char* name;
    int layers, dim, q, kv, ffn, vocab;
};

// All products of a token, with three small kernels a layer between them where `norms`.
template <class Block, int n_x>
void time_token(const char* format, const Model& m, bool overlap, bool norms, int rows) {
    using T = Tile<Block>;
    static float *x = nullptr, *out = nullptr;
    if (x == nullptr) {
        OK(cudaMalloc(&x, size_t{4} * 64 * 32768));
        OK(cudaMalloc(&out, size_t{4} * 64 * 200000));
        fill_kernel<<<512, 256, 0, stream>>>(reinterpret_cast<uint32_t*>(x), size_t{64} * 32768, 3);
    }
    size_t used = 0;
    const auto take = [&](int r, int c) {
        const size_t bytes = size_t{(r + 15) / 16u} * ((c + T::cols - 1) / T::cols) * T::bytes;
        uint8_t* at = pool + used;
        used += bytes;
        if (used > pool_bytes) {
            std::printf("pool too small\n");
            std::exit(1);
        }
        return at;
    };
    const auto product = [&](int cols, std::vector<int> outs, bool gated) {
        TileMatmulArgs a = {};
        a.rows = {nullptr, 1, static_cast<uint32_t>(rows)};
        a.x = x;
        a.x_stride = static_cast<uint32_t>(cols);
        a.cols = static_cast<uint32_t>(cols);
        a.k_tiles = static_cast<uint32_t>((cols + T::cols - 1) / T::cols);
        a.n_products = static_cast<uint32_t>(outs.size());
        for (size_t i = 0; i < outs.size(); ++i) {
            a.products[i] = {out + 8192 * i, take(outs[i], cols),
                             nullptr,        static_cast<uint32_t>(outs[i]),
                             a.n_tiles,      static_cast<uint32_t>(outs[i])};
            if (!gated || i == 0) a.n_tiles += static_cast<uint32_t>((outs[i] + 15) / 16);
        }
        if (gated) {
            run_ring<Block, n_x, true>(a, overlap);
        } else {
            run_ring<Block, n_x, false>(a, overlap);
        }
    };
    const auto norm = [&] {
        if (!norms) return;
        cudaLaunchConfig_t config = {};
        config.gridDim = dim3(1);
        config.blockDim = dim3(256);
        config.stream = stream;
        cudaLaunchAttribute attribute = {};
        attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
        attribute.val.programmaticStreamSerializationAllowed = 1;
        config.attrs = &attribute;
        config.numAttrs = overlap ? 1 : 0;
        OK(cudaLaunchKernelEx(&config, norm_kernel, out, static_cast<const float*>(x), m.dim));
    };
    const double seconds = time_of([&] {
        used = 0;
        for (int l = 0; l < m.layers; ++l) {
            norm();
            product(m.dim, {m.q, m.kv, m.kv}, false);
            norm();
            product(m.q, {m.dim}, false);
            norm();
            product(m.dim, {m.ffn, m.ffn}, true);
            product(m.ffn, {m.dim}, false);
        }
        product(m.dim, {m.vocab}, false);
    });
    std::printf("%-5s %-7s x%d %s%s: %8.1f us, %6.0f a second, %.3f of read bandwidth\n", m.name, format,
                rows, overlap ? "overlapped" : "in order  ", norms ? ", norms" : "       ", seconds * 1e6,
                1 / seconds, static_cast<double>(used) / seconds / peak);
    std::fflush(stdout);
}

template <class Block>
void time_product(const char* format, int cols, int rows, bool gated) {
    using T = Tile<Block>;
    static float *x = nullptr, *out = nullptr;
    if (x == nullptr) {
        OK(cudaMalloc(&x, size_t{4} * 32768));
        OK(cudaMalloc(&out, size_t{4} * 200000));
        fill_kernel<<<512, 256, 0, stream>>>(reinterpret_cast<uint32_t*>(x), size_t{32768}, 3);
    }
    TileMatmulArgs a = {};
    a.rows = {nullptr, 1, 1};
    a.x = x;
    a.x_stride = a.cols = static_cast<uint32_t>(cols);
    a.k_tiles = static_cast<uint32_t>((cols + T::cols - 1) / T::cols);
    a.n_products = gated ? 2 : 1;
    a.n_tiles = static_cast<uint32_t>((rows + 15) / 16);
    const size_t bytes = size_t{a.n_tiles} * a.k_tiles * T::bytes, all = bytes * (gated ? 2 : 1);
    const int copies = 16;
    const auto seconds = [&](bool overlap) {
        return time_of([&] {
                   for (int i = 0; i < copies; ++i) {
                       a.products[0] = {out,     pool + i * all,
                                        nullptr, static_cast<uint32_t>(rows),
                                        0,       static_cast<uint32_t>(rows)};
                       a.products[1] = {out, pool + i * all + bytes,     nullptr, static_cast<uint32_t>(rows),
                                        0,   static_cast<uint32_t>(rows)};
                       if (gated) {
                           run_ring<Block, 1, true>(a, overlap);
                       } else {
                           run_ring<Block, 1, false>(a, overlap);
                       }
                   }
               }) /
               copies;
    };
    const double one = seconds(false), over = seconds(true);
    std::printf("%-7s %5d x %6d%s: %7.2f us (%.3f), overlapped %7.2f us (%.3f of read bandwidth)\n", format,
                cols, rows, gated ? " gated" : "      ", one * 1e6, static_cast<double>(all) / one / peak,
                over * 1e6, static_cast<double>(all) / over / peak);
}

constexpr Model qwen4 = {"4B", 36, 2560, 4096, 1024, 9728, 151936};
constexpr Model qwen06 = {"0.6B", 28, 1024, 2048, 1024, 3072, 151936};

template <class Block>
void time_format(const char* name) {
    for (const Model& m : {qwen4, qwen06}) {
        time_token<Block, 1>(name, m, false, false, 1);
        time_token<Block, 1>(name, m, true, false, 1);
        time_token<Block, 1>(name, m, true, true, 1);
    }
    time_token<Block, 4>(name, qwen4, true, false, 4);
    // Single products, one after another over different weights.
    for (const auto& [cols, rows, gated] : {std::tuple{2560, 6144, false},
                                            {4096, 2560, false},
                                            {2560, 9728, true},
                                            {9728, 2560, false},
                                            {2560, 151936, false}}) {
        time_product<Block>(name, cols, rows, gated);
    }
}

// A product with many rows of x. `run` launches its kernels.
template <class Block, class Run>
void time_many(const char* name, const char* kernel, int rows, int per_cols, int per_rows, Run run) {
    using T = Tile<Block>;
    static float *x = nullptr, *out = nullptr;
    static uint8_t* values = nullptr;
    if (x == nullptr) {
        OK(cudaMalloc(&x, size_t{4} * 2048 * 16384));
        OK(cudaMalloc(&out, size_t{4} * 2048 * 20000));
        OK(cudaMalloc(&values, size_t{2048} * 16384 * 3));
        fill_kernel<<<512, 256, 0, stream>>>(reinterpret_cast<uint32_t*>(x), size_t{2048} * 16384, 3);
    }
    TileMatmulArgs a = {};
    a.rows = {nullptr, 1, static_cast<uint32_t>(rows)};
    a.x = x;
    a.x_stride = a.cols = static_cast<uint32_t>(per_cols);
    a.k_tiles = static_cast<uint32_t>((per_cols + T::cols - 1) / T::cols);
    a.n_products = 1;
    a.n_tiles = static_cast<uint32_t>((per_rows + 15) / 16);
    const size_t bytes = size_t{a.n_tiles} * a.k_tiles * T::bytes;
    const int copies = rows > 256 ? 4 : 24;
    const double seconds = time_of([&] {
                               for (int i = 0; i < copies; ++i) {
                                   a.products[0] = {out,     pool + i * bytes,
                                                    nullptr, static_cast<uint32_t>(per_rows),
                                                    0,       static_cast<uint32_t>(per_rows)};
                                   run(a, values);
                               }
                           }) /
                           copies;
    std::printf("%-7s %5d x %5d, %4d rows, %-6s: %8.1f us, %.3f of read bandwidth, %.0f TFLOP/s\n", name,
                per_cols, per_rows, rows, kernel, seconds * 1e6, static_cast<double>(bytes) / seconds / peak,
                2e-12 * per_cols * per_rows * rows / seconds);
}

void measure_peak() {
    pool_bytes = size_t{9} << 30;
    OK(cudaMalloc(&pool, pool_bytes));
    fill_kernel<<<n_sms * 8, 256, 0, stream>>>(reinterpret_cast<uint32_t*>(pool), pool_bytes / 4, 1);
    uint32_t* out;
    OK(cudaMalloc(&out, 4));
    const size_t n = size_t{8} << 30;
    for (const int per_sm : {2, 4, 8}) {
        const double s = time_of([&] {
            read_kernel<<<n_sms * per_sm, 256, 0, stream>>>(reinterpret_cast<const uint4*>(pool), n / 16,
                                                            out);
        });
        peak = std::max(peak, static_cast<double>(n) / s);
    }
    std::printf("read bandwidth %.0f GB/s (8 GiB)\n", peak * 1e-9);
    std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
    std::string what = argc > 1 ? argv[1] : "check time";
    cudaDeviceProp card;
    OK(cudaGetDeviceProperties(&card, 0));
    n_sms = card.multiProcessorCount;
    OK(cudaStreamCreate(&stream));
    std::printf("# %s, %d multiprocessors\n", card.name, n_sms);
    if (what.find("check") != std::string::npos) {
        check<FormatBlock>(format_name);
    }
#ifndef CHECK_ONLY
    if (what.find("time") != std::string::npos) {
        measure_peak();
        time_format<FormatBlock>(format_name);
        const auto many = [](const char* kernel, int rows, int cols, int of_rows, auto run) {
            time_many<FormatBlock>(format_name, kernel, rows, cols, of_rows, run);
        };
        const auto sets1 = [](const TileMatmulArgs& a, uint8_t* v) {
            run_sets<FormatBlock, 1, 1>(a, true, v);
        };
        const auto sets2 = [](const TileMatmulArgs& a, uint8_t* v) {
            run_sets<FormatBlock, 2, 1>(a, true, v);
        };
        const auto sets8 = [](const TileMatmulArgs& a, uint8_t* v) {
            run_sets<FormatBlock, 8, 2>(a, true, v);
        };
        const auto wide = [](const TileMatmulArgs& a, uint8_t* v) { run_wide<FormatBlock>(a, true, v); };
        many("sets 1", 4, 2560, 9728, sets1);
        many("sets 2", 8, 2560, 9728, sets2);
        many("sets 2", 16, 2560, 9728, sets2);
        for (const int rows : {16, 32, 64, 128, 256}) many("sets 8", rows, 2560, 9728, sets8);
        for (const int rows : {16, 32, 64, 128, 256, 512, 2048}) many("wide", rows, 2560, 9728, wide);
        many("sets 8", 64, 9728, 2560, sets8);
        for (const int rows : {64, 256, 2048}) many("wide", rows, 9728, 2560, wide);
    }
#endif
    std::printf(n_wrong == 0 ? "all right\n" : "%d WRONG\n", n_wrong);
    return n_wrong != 0;
}
