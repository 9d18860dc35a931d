// Memory of the card and pinned memory of the host; weights on the card, as their files have them.
#pragma once

#include <array>
#include <cstddef>
#include <deque>
#include <memory>
#include <span>
#include <vector>

#include "backend/cuda/gpu.h"
#include "backend/cuda/kernel_args.h"
#include "backend/tensor.h"

namespace smelt::cuda {

inline uint32_t u32(int64_t n) {
    CHECK(n >= 0 && n <= UINT32_MAX, "{}", n);
    return static_cast<uint32_t>(n);
}
inline int64_t divide_up(int64_t n, int64_t by) {
    return (n + by - 1) / by;
}

// Owns a piece of the card's memory. Throws MemoryError with numbers.
enum class Contents : uint8_t { zeros, open };
class DeviceBuffer {
 public:
    DeviceBuffer(std::shared_ptr<const Gpu> gpu, size_t bytes, Contents contents = Contents::zeros);
    ~DeviceBuffer();
    DeviceBuffer(const DeviceBuffer&) = delete;
    DeviceBuffer& operator=(const DeviceBuffer&) = delete;
    DeviceAddress address() const { return address_; }
    size_t size() const { return size_; }

 private:
    std::shared_ptr<const Gpu> gpu_;
    DeviceAddress address_ = 0;
    size_t size_;
};

class PinnedBuffer {
 public:
    PinnedBuffer(std::shared_ptr<const Gpu> gpu, size_t bytes);
    ~PinnedBuffer();
    PinnedBuffer(const PinnedBuffer&) = delete;
    PinnedBuffer& operator=(const PinnedBuffer&) = delete;
    std::byte* data() const { return data_; }
    size_t size() const { return size_; }

 private:
    std::shared_ptr<const Gpu> gpu_;
    std::byte* data_ = nullptr;
    size_t size_;
};

// Buffers of the card that all programs share. They grow when a program is compiled that needs more.
enum class Shared : uint8_t {
    workspace,  // of the record
    input,      // the step's packed input
    drawn,      // tokens that the last step drew, by row of logits
    scratch,    // of one op
    groups,     // which tokens an expert has: from group_pairs to the products that follow
    counters,   // zero between launches
};
constexpr size_t n_shared = 6;

class SharedBuffers {
 public:
    explicit SharedBuffers(std::shared_ptr<const Gpu> gpu) : gpu_(std::move(gpu)) {}
    DeviceAddress address(Shared s) const {
        const auto& b = buffers_[static_cast<size_t>(s)];
        return b == nullptr ? 0 : b->address();
    }
    // What a buffer holds stays. Not while a step runs.
    void grow(Shared s, size_t bytes);
    // Changes when a buffer has moved: programs that hold addresses are built anew.
    uint64_t generation() const { return generation_; }

 private:
    std::shared_ptr<const Gpu> gpu_;
    std::array<std::unique_ptr<DeviceBuffer>, n_shared> buffers_;
    uint64_t generation_ = 1;
};

// Bytes of weights in a buffer that they may share with others.
struct WeightBytes {
    DeviceAddress address = 0;
    std::shared_ptr<const DeviceBuffer> buffer = {};
    const uint8_t* get() const { return reinterpret_cast<const uint8_t*>(address); }
};

struct DeviceWeight : Storage {
    WeightBytes data, scales;                   // scales: planar formats only
    size_t row_bytes = 0, scale_row_bytes = 0;  // from row to row
    bool aligned = false;                       // every row begins at a multiple of 16 bytes
    WeightBytes tiles;  // see kernels/tiles.cuh; then there are no data, but an embedding's

    // Where each of several experts lies, a table on the card. Kept with the first of the list, made when
    // first used.
    struct ExpertPlaces {
        std::vector<const Weight*> experts;
        WeightBytes table;
    };
    std::deque<ExpertPlaces> expert_places;
};
inline DeviceWeight& weight_of(const Weight& w) {
    CHECK(w.storage != nullptr);
    return *static_cast<DeviceWeight*>(w.storage.get());
}
inline const float* floats_of(const Weight* w) {
    if (w == nullptr) return nullptr;
    CHECK(w->format == Format::F32);
    return reinterpret_cast<const float*>(weight_of(*w).data.address);
}

// Brings weights to the card, small ones one after another in shared buffers, through pinned memory.
class WeightMemory {
 public:
    explicit WeightMemory(std::shared_ptr<const Gpu> gpu) : gpu_(std::move(gpu)) {}
    ~WeightMemory();
    WeightMemory(const WeightMemory&) = delete;
    WeightMemory& operator=(const WeightMemory&) = delete;

    WeightBytes copy(std::span<const std::byte> bytes);
    // For what the card makes itself.
    WeightBytes room(size_t bytes) { return place(bytes); }
    // Of rows that lie `step` rows apart, the first of each.
    WeightBytes copy_rows(std::span<const std::byte> bytes, size_t row_bytes, int64_t n_rows, int64_t step);
    // The same for what becomes something else: until the next call with this number (0 or 1).
    const uint8_t* pass_rows(size_t number, std::span<const std::byte> bytes, size_t row_bytes,
                             int64_t n_rows, int64_t step);
    void end_passing() { passing_ = {}; }

 private:
    WeightBytes place(size_t bytes);
    void upload_rows(DeviceAddress to, std::span<const std::byte> bytes, size_t row_bytes, int64_t n_rows,
                     int64_t step);
    void upload(DeviceAddress to, std::span<const std::byte> bytes);

    std::shared_ptr<const Gpu> gpu_;
    std::shared_ptr<const DeviceBuffer> chunk_;
    size_t chunk_used_ = 0;
    std::array<std::unique_ptr<DeviceBuffer>, 2> passing_;
    // Two halves of pinned memory: one is filled while the other travels.
    std::unique_ptr<PinnedBuffer> staging_;
    std::array<Event, 2> travelled_{};
    size_t half_ = 0;
};

}  // namespace smelt::cuda
