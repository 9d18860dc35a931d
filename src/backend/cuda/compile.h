// Compiles the ops of a record into launches of kernels: functions are found, arguments filled in with the
// card's addresses and memory counted once. What changes from step to step (how many rows there are, how long
// sequences are) the kernels read on the card, so that the launches of a program can be one CUDA graph.
#pragma once

#include <cstring>
#include <optional>
#include <string_view>
#include <vector>

#include "backend/backend.h"
#include "backend/cuda/memory.h"
#include "backend/cuda/tile_args.h"

namespace smelt::cuda {

struct Grid {
    int64_t x = 1, y = 1, z = 1;
    unsigned threads = 1;
    size_t shared_bytes = 0;  // of the kernel's dynamic shared memory
};

struct KernelLaunch {
    Function function;
    Grid grid;
    std::vector<std::byte> args;
    int op = 0;  // of the record
};

// What some kernels of rows.cu take besides their tensors.
struct RowsParams {
    const int32_t* ids = nullptr;
    float alpha = 1, limit = 0;
};

class Compiler {
 public:
    Compiler(std::shared_ptr<Gpu> gpu, WeightMemory& weights, const SharedBuffers& shared,
             const Record& record)
        : gpu_(std::move(gpu)), weights_(weights), shared_(shared), record_(record) {}

    // Launches of all ops in order. Those that need more of a shared buffer than there is have wrong
    // addresses: grow by needs(), then compile again.
    std::vector<KernelLaunch> compile();
    size_t needs(Shared s) const { return needs_[static_cast<size_t>(s)]; }

 private:
    // One of each for every op.
#define X(Op) void add(const op::Op& op);
    SMELT_OPS(X)
#undef X

    template <class Args>
    void launch(Function function, const Args& args, const Grid& grid) {
        static_assert(std::is_trivially_copyable_v<Args> && sizeof(Args) <= 4096);  // what a launch takes
        if (grid.x * grid.y * grid.z == 0) return;
        KernelLaunch l{function, grid, std::vector<std::byte>(sizeof(Args)), op_};
        std::memcpy(l.args.data(), &args, sizeof(Args));
        launches_.push_back(std::move(l));
    }

    void launch_rows(std::string_view kernel, const Tensor& out, const Tensor& x, const Tensor& y,
                     const RowsParams& p = {});

    template <class T = float>
    T* at(const Tensor& t) const {
        const Shared space = t.space == Space::workspace ? Shared::workspace : Shared::input;
        return reinterpret_cast<T*>(shared_.address(space) + t.offset);
    }
    template <class T = float>
    T* at_or_null(const Tensor& t) const {
        return t ? at<T>(t) : nullptr;
    }
    Rows rows_of(const Tensor& t) const;
    StateArgs args_of(const op::StateRows& s) const;
    // For the launches of one op: what it holds is open when the next one begins.
    template <class T>
    T* shared(Shared s, size_t bytes, size_t offset = 0) {
        size_t& n = needs_[static_cast<size_t>(s)];
        n = std::max(n, offset + bytes);
        return reinterpret_cast<T*>(shared_.address(s) + offset);
    }
    // Zeros, which a kernel leaves as it found them.
    uint32_t* counters(int64_t n) {
        return shared<uint32_t>(Shared::counters, static_cast<size_t>(n) * sizeof(uint32_t));
    }
    void add_groups(const Tensor& ids, int64_t n_experts);
    void add_experts(const Tensor& x, const Tensor& ids,
                     std::span<const op::MatmulExperts::Product> products);
    void add_products(const Tensor& x, std::span<const op::Matmul::Product> products);
    void add_tiled_products(const Tensor& x, std::span<const op::Matmul::Product> products);
    void add_tiled_experts(const Tensor& x, const ExpertsArgs& args,
                           std::span<const op::MatmulExperts::Product> products, int64_t n_tiles,
                           bool one_by_one);
    const uint8_t* tiles_of(const Weight& weight);
    const uint8_t* quantized(const Tensor& x, const TileShape& shape, Rows rows, int64_t parts, int64_t cols,
                             int64_t n_groups, int64_t n_sets);
    TileMatmulArgs tiled_args(const Tensor& x, std::span<const op::Matmul::Product> products);
    int64_t ring_slots(Format format, int64_t cols, int64_t most_rows, bool normed) const;
    void launch_ring(const char* name, TileMatmulArgs args, Format format, int64_t most_rows);
    bool norm_goes_along(const Tensor& out, const TileNorm& norm, const Tensor& x);
    const ExpertPlace* places_of(WeightList experts);

    std::shared_ptr<Gpu> gpu_;
    WeightMemory& weights_;
    const SharedBuffers& shared_;
    const Record& record_;
    int op_ = 0;
    // Of the op before, made by the products of this one.
    struct PendingNorm {
        TileNorm norm;
        const float* x;
        uint32_t x_stride;
    };
    std::optional<PendingNorm> norm_;
    Tensor grouped_;  // the expert ids that Shared::groups was built from
    std::vector<KernelLaunch> launches_;
    std::array<size_t, n_shared> needs_{};
};

// Whether rows of floats can be read 16 bytes at a time.
inline bool is_aligned(const Tensor& t) {
    return t.offset % 16 == 0 && t.row_stride % 4 == 0;
}
// A thread for each element of rows.
inline Grid each_element(const Tensor& rows, int64_t row_len) {
    return {.x = rows.n_rows(), .y = divide_up(row_len, element_threads), .threads = element_threads};
}

// Calls f with pieces of `items`, in order, that belong together and are no more than a launch takes.
template <class T, class Together, class F>
void in_batches(std::span<const T> items, Together together, F f) {
    for (size_t i = 0; i < items.size();) {
        size_t end = i + 1;
        while (end < items.size() && end - i < most_products && together(items[i], items[end])) ++end;
        f(items.subspan(i, end - i));
        i = end;
    }
}

}  // namespace smelt::cuda
