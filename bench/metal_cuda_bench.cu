// The Metal backend's decode kernels on an NVIDIA GPU: the matrix-vector products of a token of Qwen3-4B, against the
// card's measured read bandwidth. It says how well the kernels use memory, nothing about Apple's devices.
// usage: metal_cuda_bench [--check]     --check: results alone, of small matrices
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "backend/metal/kernel_args.h"
#include "metal_stdlib"
#include "quant/block.h"
#include "quant/block_mx.h"
#include "softmetal/execute.h"

namespace {

using smelt::gpu::Geometry;
using smelt::gpu::MatmulArgs;

void check(cudaError_t error, const char* what) {
    if (error == cudaSuccess) return;
    std::fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(error));
    std::exit(1);
}

struct Format {
    const char* name;
    int block_bytes;
    void (*fill)(uint8_t* block, std::mt19937& random);
    void (*decode)(const uint8_t* block, float* out);
};

template <class Block>
void decode(const uint8_t* block, float* out) {
    for (int half = 0; half < 2; ++half) Block::decode16(reinterpret_cast<const Block*>(block), half, out + 16 * half);
}
void fill_bytes(uint8_t* block, int n, std::mt19937& random) {
    for (int i = 0; i < n; ++i) block[i] = static_cast<uint8_t>(random());
}
// The bits of a half between 2^-8 and 2^-7.
void fill_half_scale(uint8_t* block, std::mt19937& random) {
    const uint16_t bits = static_cast<uint16_t>(0x1c00 + random() % 0x400);
    std::memcpy(block, &bits, 2);
}
constexpr Format formats[] = {
    {"q8_0", sizeof(smelt::BlockQ8_0), [](uint8_t* b, std::mt19937& r) { fill_bytes(b, 34, r), fill_half_scale(b, r); },
     decode<smelt::BlockQ8_0>},
    {"q4_0", sizeof(smelt::BlockQ4_0), [](uint8_t* b, std::mt19937& r) { fill_bytes(b, 18, r), fill_half_scale(b, r); },
     decode<smelt::BlockQ4_0>},
    {"mxfp4", sizeof(smelt::BlockMXFP4),
     [](uint8_t* b, std::mt19937& r) { fill_bytes(b, 17, r), b[0] = static_cast<uint8_t>(118 + r() % 6); }, decode<smelt::BlockMXFP4>},
};

struct Shape {
    const char* name;
    int cols;
    std::vector<int> rows;  // of products in one dispatch
    size_t weights() const {
        size_t n = 0;
        for (int r : rows) n += static_cast<size_t>(r) * static_cast<size_t>(cols);
        return n;
    }
};

const softmetal::Kernel& kernel(const std::string& name) {
    for (const softmetal::Registration* file : softmetal::registrations())
        for (const softmetal::Kernel& k : file->kernels)
            if (k.name == name) return k;
    std::fprintf(stderr, "no kernel %s\n", name.c_str());
    std::exit(1);
}

// What StepEncoder binds for a matmul of one row, see backend/metal/compile_matmul.cpp.
struct Product {
    const softmetal::Kernel* function;
    softmetal::CudaLaunch launch{};
    dim3 grid;

    // few: with the kernel for products of few rows
    Product(const Format& f, const Shape& s, bool few, const char* weights, const float* x, float* out)
        : function(&kernel(std::string(few ? "matmul_few_rows_" : "matmul_row_") + f.name)) {
        MatmulArgs args{};
        args.n_tokens = 1;
        args.cols = static_cast<uint32_t>(s.cols);
        args.n_units = static_cast<uint32_t>(s.cols / 16);
        args.x_stride = args.cols;
        args.x_aligned = 1;
        args.n_products = static_cast<uint32_t>(s.rows.size());
        const size_t row_bytes = static_cast<size_t>(s.cols / 32 * f.block_bytes);
        size_t at = 0, out_at = 0;
        for (void*& b : launch.buffers) b = const_cast<float*>(x);
        for (size_t i = 0; i < s.rows.size(); ++i) {
            const auto rows = static_cast<uint32_t>(s.rows[i]);
            args.products[i].rows = rows;
            args.products[i].first_block = args.n_blocks;
            args.products[i].out_stride = rows;
            args.products[i].w_offset = at;
            args.products[i].w_row_bytes = row_bytes;
            const uint32_t rows_of_a_block = few ? 4 : 8;
            args.n_blocks += (rows + rows_of_a_block - 1) / rows_of_a_block;
            launch.buffers[2 + i] = const_cast<char*>(weights);
            launch.buffers[11 + i] = out + out_at;
            at += rows * row_bytes;
            out_at += rows;
        }
        static_assert(sizeof args <= softmetal::CudaLaunch::reference_bytes);
        std::memcpy(launch.references[0], &args, sizeof args);
        grid = dim3(1, (args.n_blocks + Geometry::matmul_simdgroups - 1) / Geometry::matmul_simdgroups);
    }
    void run(cudaStream_t stream) {
        void* parameters[] = {&launch};
        check(cudaLaunchKernel(function->function, grid, dim3(Geometry::matmul_simdgroups * Geometry::simd_width), parameters, 0, stream),
              function->name);
    }
};

__global__ void nothing() {}

__global__ void read_all(const uint4* p, size_t n, uint32_t* sink) {
    uint32_t sum = 0;
    const size_t step = size_t{gridDim.x} * blockDim.x;
    size_t i = size_t{blockIdx.x} * blockDim.x + threadIdx.x;
    for (; i + 3 * step < n; i += 4 * step) {
        const uint4 a = p[i], b = p[i + step], c = p[i + 2 * step], d = p[i + 3 * step];
        sum += a.x ^ a.y ^ a.z ^ a.w ^ b.x ^ b.y ^ b.z ^ b.w ^ c.x ^ c.y ^ c.z ^ c.w ^ d.x ^ d.y ^ d.z ^ d.w;
    }
    for (; i < n; i += step) sum += p[i].x ^ p[i].y ^ p[i].z ^ p[i].w;
    if (sum == 0x12345678) *sink = sum;
}

// Seconds of `launches` as one graph: median of 15 replays.
template <class Launches>
double seconds(Launches launches) {
    cudaStream_t stream;
    cudaGraph_t graph;
    cudaGraphExec_t ready;
    cudaEvent_t begin, end;
    check(cudaStreamCreate(&stream), "stream");
    check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal), "capture");
    launches(stream);
    check(cudaStreamEndCapture(stream, &graph), "capture");
    check(cudaGraphInstantiate(&ready, graph, 0), "graph");
    check(cudaEventCreate(&begin), "event");
    check(cudaEventCreate(&end), "event");
    std::vector<float> times;
    for (int i = 0; i < 18; ++i) {
        check(cudaEventRecord(begin, stream), "event");
        check(cudaGraphLaunch(ready, stream), "launch");
        check(cudaEventRecord(end, stream), "event");
        check(cudaStreamSynchronize(stream), "run");
        float ms = 0;
        check(cudaEventElapsedTime(&ms, begin, end), "time");
        if (i >= 3) times.push_back(ms);
    }
    cudaGraphExecDestroy(ready);
    cudaGraphDestroy(graph);
    cudaStreamDestroy(stream);
    std::nth_element(times.begin(), times.begin() + 7, times.end());
    return static_cast<double>(times[7]) / 1000;
}

// Products that do not wait for each other, as between two barriers of a concurrent encoder: over sixteen streams.
void run_beside(std::vector<Product>& products, cudaStream_t stream) {
    constexpr size_t n_more = 15;
    cudaStream_t more[n_more];
    cudaEvent_t fork, join;
    check(cudaEventCreateWithFlags(&fork, cudaEventDisableTiming), "event");
    check(cudaEventRecord(fork, stream), "event");
    for (cudaStream_t& m : more) {
        check(cudaStreamCreateWithFlags(&m, cudaStreamNonBlocking), "stream");
        check(cudaStreamWaitEvent(m, fork, 0), "fork");
    }
    for (size_t i = 0; i < products.size(); ++i) products[i].run(i % (n_more + 1) == 0 ? stream : more[i % (n_more + 1) - 1]);
    for (cudaStream_t& m : more) {
        check(cudaEventCreateWithFlags(&join, cudaEventDisableTiming), "event");
        check(cudaEventRecord(join, m), "event");
        check(cudaStreamWaitEvent(stream, join, 0), "join");
    }
}

template <class T>
T* on_device(size_t n) {
    void* p = nullptr;
    check(cudaMalloc(&p, n * sizeof(T)), "cudaMalloc");
    return static_cast<T*>(p);
}

// Largest error of a product against sums in double, of the sum of magnitudes.
double worst_error(const Format& f, const Shape& s, const std::vector<uint8_t>& weights, const std::vector<float>& x,
                   const std::vector<float>& out) {
    double worst = 0;
    const size_t blocks = static_cast<size_t>(s.cols / 32);
    size_t rows = 0;
    for (int r : s.rows) rows += static_cast<size_t>(r);
    for (size_t r = 0; r < rows; r += rows < 300 ? 1 : 37) {
        double sum = 0, magnitude = 0;
        for (size_t b = 0; b < blocks; ++b) {
            float w[32];
            f.decode(weights.data() + (r * blocks + b) * static_cast<size_t>(f.block_bytes), w);
            for (size_t i = 0; i < 32; ++i) {
                sum += static_cast<double>(w[i]) * static_cast<double>(x[b * 32 + i]);
                magnitude += std::abs(static_cast<double>(w[i]) * static_cast<double>(x[b * 32 + i]));
            }
        }
        const double error = std::abs(static_cast<double>(out[r]) - sum) / magnitude;
        worst = error <= worst ? worst : error;  // also when it is no number
    }
    return worst;
}

}  // namespace

int main(int argc, char** argv) {
    const bool small = argc > 1 && std::string(argv[1]) == "--check";
    cudaDeviceProp device;
    check(cudaGetDeviceProperties(&device, 0), "device");
    const int n_layers = small ? 2 : 36;
    // Small ones of less than a step, with a last step that is not full, and of more than are in threadgroup memory together.
    const int dim = small ? 768 : 2560, attention = small ? 256 : 4096, hidden = small ? 4864 : 9728, fewer = small ? 16 : 1;
    const std::vector<Shape> shapes = {{"q, k, v", dim, {4096 / fewer, 1024 / fewer, 1024 / fewer}},
                                       {"attention output", attention, {2560 / fewer}},
                                       {"gate, up", dim, {9728 / fewer, 9728 / fewer}},
                                       {"down", hidden, {2560 / fewer}},
                                       {"head", dim, {151936 / fewer}}};
    double bandwidth = 0;
    if (!small) {
        const size_t n = size_t{8} << 30;
        uint4* p = on_device<uint4>(n / 16);
        uint32_t* sink = on_device<uint32_t>(1);
        check(cudaMemset(p, 0x5a, n), "memset");
        for (int per_sm : {4, 8, 16}) {
            const double t = seconds([&](cudaStream_t s) { read_all<<<device.multiProcessorCount * per_sm, 256, 0, s>>>(p, n / 16, sink); });
            bandwidth = std::max(bandwidth, static_cast<double>(n) / t);
        }
        cudaFree(p);
        std::printf("# %s, read bandwidth measured %.0f GB/s (8 GiB, best of three grids, median of 15)\n", device.name, bandwidth / 1e9);
        const double empty = seconds([&](cudaStream_t stream) { for (int i = 0; i < 145; ++i) nothing<<<640, 128, 0, stream>>>(); });
        std::printf("# 145 kernels that do nothing, as many as a token has products: %.0f us\n", empty * 1e6);
        std::printf("format,product,kernel,cols,rows,megabytes,microseconds,of_read_bandwidth,microseconds_beside_others,of_read_bandwidth,worst_error\n");
    }
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    std::vector<float> x(9728);
    for (float& v : x) v = normal(random);
    float* x_device = on_device<float>(x.size());
    check(cudaMemcpy(x_device, x.data(), x.size() * 4, cudaMemcpyHostToDevice), "copy");
    float* out_device = on_device<float>(151936);
    bool good = true;
    for (const Format& f : formats) {
        // Each layer has memory of its own, so that nothing is read from cache; the same random blocks, shifted.
        size_t layer = 0;
        for (const Shape& s : shapes)
            if (std::strcmp(s.name, "head") != 0) layer += s.weights() / 32 * static_cast<size_t>(f.block_bytes);
        const size_t head = shapes.back().weights() / 32 * static_cast<size_t>(f.block_bytes);
        std::vector<uint8_t> blocks(head > layer ? head : layer);
        for (size_t i = 0; i + static_cast<size_t>(f.block_bytes) <= blocks.size(); i += static_cast<size_t>(f.block_bytes))
            f.fill(blocks.data() + i, random);
        char* weights = on_device<char>(layer * static_cast<size_t>(n_layers) + head + 64);
        for (int l = 0; l < n_layers; ++l)
            check(cudaMemcpy(weights + layer * static_cast<size_t>(l), blocks.data(), layer, cudaMemcpyHostToDevice), "copy");
        check(cudaMemcpy(weights + layer * static_cast<size_t>(n_layers), blocks.data(), head, cudaMemcpyHostToDevice), "copy");
        std::vector<Product> token;
        size_t at = 0, total = 0;
        for (const Shape& s : shapes) {
            const bool is_head = std::strcmp(s.name, "head") == 0;
            const size_t bytes = s.weights() / 32 * static_cast<size_t>(f.block_bytes);
            size_t n_out = 0;
            for (int r : s.rows) n_out += static_cast<size_t>(r);
            const std::vector<uint8_t> own(blocks.begin() + static_cast<ptrdiff_t>(is_head ? 0 : at),
                                           blocks.begin() + static_cast<ptrdiff_t>((is_head ? 0 : at) + bytes));
            for (const bool few : {false, true}) {
                std::vector<Product> products;
                for (int l = 0; l < (is_head ? 1 : n_layers); ++l) {
                    const char* w = is_head ? weights + layer * static_cast<size_t>(n_layers) : weights + layer * static_cast<size_t>(l) + at;
                    products.emplace_back(f, s, few, w, x_device, out_device);
                }
                // Poisoned, then run and compared.
                check(cudaMemset(out_device, 0xff, n_out * 4), "memset");
                products[0].run(nullptr);
                std::vector<float> out(n_out);
                check(cudaMemcpy(out.data(), out_device, n_out * 4, cudaMemcpyDeviceToHost), "copy");
                const double error = worst_error(f, s, own, x, out);
                good = good && error < 1e-6;
                if (small) {
                    std::printf("%s: worst error %.2g\n", products[0].function->name, error);
                } else {
                    // The head alone fits no cache either: several of its 36 stand-ins would not differ.
                    const auto n = static_cast<double>(products.size());
                    const double t = seconds([&](cudaStream_t stream) { for (Product& p : products) p.run(stream); }) / n;
                    const double beside = seconds([&](cudaStream_t stream) { run_beside(products, stream); }) / n;
                    std::printf("%s,\"%s\",%s,%d,%zu,%.1f,%.2f,%.3f,%.2f,%.3f,%.1e\n", f.name, s.name, few ? "few_rows" : "row", s.cols, n_out,
                                static_cast<double>(bytes) / 1e6, t * 1e6, static_cast<double>(bytes) / t / bandwidth, beside * 1e6,
                                static_cast<double>(bytes) / beside / bandwidth, error);
                }
                if (few != (n_out < Geometry::many_rows)) continue;
                total += bytes * products.size();
                token.insert(token.end(), products.begin(), products.end());
            }
            if (!is_head) at += bytes;
        }
        if (!small) {
            // As the backend has a token's: layer by layer, each product by the kernel for its rows.
            const double t = seconds([&](cudaStream_t stream) {
                for (int l = 0; l < n_layers; ++l)
                    for (size_t s = 0; s + 1 < shapes.size(); ++s) token[s * static_cast<size_t>(n_layers) + static_cast<size_t>(l)].run(stream);
                token.back().run(stream);
            });
            std::printf("%s,\"whole token\",,,,%.1f,%.2f,%.3f,,,\n", f.name, static_cast<double>(total) / 1e6, t * 1e6,
                        static_cast<double>(total) / t / bandwidth);
        }
        cudaFree(weights);
    }
    std::printf(good ? "# results agree with sums in double\n" : "# WRONG RESULTS\n");
    return good ? 0 : 1;
}
