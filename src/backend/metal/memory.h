// Memory of the device. It is the host's too, so that weights stay where the model file is mapped; here alone
// the backend touches it from the host's side: to zero, to fill and to read out.
#pragma once

#include <Metal/Metal.hpp>
#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <vector>

#include "backend/metal/gpu.h"
#include "backend/tensor.h"

namespace smelt::metal {

// Buffers of the device that all programs share. They grow when a program is compiled that needs more.
enum class Shared : uint8_t {
    workspace,  // of the record
    drawn,      // tokens that the last step drew, by row of logits
    scratch,    // of one op
    groups,     // which tokens an expert has: from group_pairs to the products that follow
    input,      // the step's packed input, which each step under way has of its own
};
constexpr size_t n_shared = 4;  // without the last

// Where an argument of a kernel begins.
struct Binding {
    MTL::Buffer* buffer = nullptr;  // null: the shared one
    size_t offset = 0;
    Shared shared = Shared::workspace;
};

// A buffer that stays resident as long as this lives: what a model is loaded into and its cache.
class Resident {
 public:
    Resident(const Gpu& gpu, Buffer buffer) : set_(gpu.residency()), buffer_(std::move(buffer)) {
        set_->add(buffer_);
    }
    ~Resident() { set_->remove(buffer_); }
    Resident(const Resident&) = delete;
    Resident& operator=(const Resident&) = delete;
    const Buffer& buffer() const { return buffer_; }

 private:
    std::shared_ptr<ResidencySet> set_;
    Buffer buffer_;
};

// Throws Error naming the size when the device has no room, or no buffers that large.
Buffer make_buffer(const Gpu& gpu, size_t bytes);

inline Binding bind(const Tensor& t) {
    return {nullptr, t.offset, t.space == Space::workspace ? Shared::workspace : Shared::input};
}

// A buffer that becomes larger while no step is under way. What it holds stays.
class GrowingBuffer {
 public:
    void grow(const Gpu& gpu, size_t bytes);
    size_t size() const { return now_ ? now_->buffer()->length() : 0; }
    MTL::Buffer* buffer() const { return now_ ? now_->buffer().get() : nullptr; }

 private:
    std::unique_ptr<Resident> now_;
};

// The shared buffers by name.
class SharedBuffers {
 public:
    GrowingBuffer& operator[](Shared s) { return buffers_[static_cast<size_t>(s)]; }
    const GrowingBuffer& operator[](Shared s) const { return buffers_[static_cast<size_t>(s)]; }

 private:
    std::array<GrowingBuffer, n_shared> buffers_;
};

// What the host sees of a buffer.
std::byte* host_bytes(MTL::Buffer* buffer, size_t offset = 0);

// Bytes of weights in a buffer that they share with others.
struct WeightBytes {
    Buffer buffer;
    size_t offset = 0;
    std::shared_ptr<const Resident> resident = {};
};

struct DeviceWeight : Storage {
    WeightBytes data, scales;                   // scales: planar formats only
    size_t row_bytes = 0, scale_row_bytes = 0;  // from row to row
    bool aligned = false;                       // every row begins at a multiple of 16 bytes

    // Where each of several experts lies, for each pair of buffers that holds some of them. Kept with the
    // first of the list, made when first used.
    struct Places {
        Buffer data, scales;
        Buffer table;  // gpu::ExpertPlace each
    };
    struct ExpertPlaces {
        std::vector<const Weight*> experts;
        std::vector<Places> places;
    };
    std::deque<ExpertPlaces> expert_places;
};
inline DeviceWeight& weight_of(const Weight& w) {
    CHECK(w.storage != nullptr);
    return *static_cast<DeviceWeight*>(w.storage.get());
}
inline Binding floats_of(const Weight& w) {
    CHECK(w.format == Format::F32);
    return {weight_of(w).data.buffer.get(), weight_of(w).data.offset};
}

// Decides where weights lie: in a mapped file, or copied behind one another into buffers.
class WeightMemory {
 public:
    explicit WeightMemory(const Gpu& gpu) : gpu_(gpu) {}
    // See Backend::map_file().
    std::unique_ptr<Storage> map(std::span<const std::byte> bytes);
    WeightBytes place(std::span<const std::byte> bytes, size_t alignment);
    WeightBytes copy(std::span<const std::byte> bytes);

 private:
    // A mapped file, seen through buffers that alias it. One is enough but where the file is larger than a
    // buffer may be: then they begin at every half of that size, and what is longer than a half gets one of
    // its own.
    struct Mapping {
        const std::byte* begin;
        size_t size;
        std::vector<std::pair<size_t, std::shared_ptr<const Resident>>> windows;  // by first byte
    };
    struct MappingStorage : Storage {
        std::shared_ptr<Mapping> mapping;
    };
    std::shared_ptr<const Resident> window(Mapping& m, size_t begin, size_t end, size_t& first);

    const Gpu& gpu_;
    std::vector<std::weak_ptr<Mapping>> mappings_;
    std::shared_ptr<const Resident> chunk_;  // copies go behind one another
    size_t chunk_used_ = 0;
};

}  // namespace smelt::metal
