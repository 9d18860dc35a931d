// Memory of the device. It is the host's too, so that weights stay where the model file is mapped; here alone
// the backend touches it from the host's side: to zero, to fill and to read out.
#pragma once

#include <Metal/Metal.hpp>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "backend/metal/gpu.h"
#include "backend/tensor.h"

namespace smelt::metal {

// Where an argument of a kernel begins.
struct Binding {
    MTL::Buffer* buffer = nullptr;
    size_t offset = 0;
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

struct DeviceStorage : Storage {
    DeviceStorage(const Gpu& gpu, size_t bytes)
        : resident(gpu, make_buffer(gpu, bytes)), buffer(resident.buffer()) {}
    Resident resident;
    Buffer buffer;
};

template <class View>
MTL::Buffer* buffer_of(const View& v) {
    CHECK(v.storage != nullptr);
    return static_cast<DeviceStorage*>(v.storage)->buffer.get();
}
inline Binding bind(const Tensor& t) {
    return {buffer_of(t), t.offset};
}
std::byte* host_bytes(const Binding& b);

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

    // Of the first of several experts: where each of them lies, for each pair of buffers that holds some.
    // Made when first used.
    struct Places {
        Buffer data, scales;
        Buffer table;  // gpu::ExpertPlace each
    };
    std::vector<Places> expert_places;
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

// Memory for the length of a step, at multiples of 256 bytes, from buffers that are kept.
class Scratch {
 public:
    explicit Scratch(const Gpu& gpu) : gpu_(gpu) {}
    Binding take(size_t bytes);
    void reset();

 private:
    const Gpu& gpu_;
    std::vector<Buffer> buffers_;
    size_t used_ = 0;  // of the last one
};

}  // namespace smelt::metal
