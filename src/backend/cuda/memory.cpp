// Memory: taken, grown, filled.
#include "backend/cuda/memory.h"

#include <algorithm>
#include <cstring>

#include "base/memory_error.h"

namespace smelt::cuda {

namespace {

constexpr size_t alignment = 256;
// Loads of whole words and of 16 bytes may end after what they are after.
constexpr size_t slack = 64;
constexpr size_t chunk_bytes = size_t{32} << 20;   // small against a model, large against its vectors
constexpr size_t staging_half = size_t{16} << 20;  // bytes; long enough to hide what a copy costs to start

size_t round_up(size_t n) {
    return (n + alignment - 1) / alignment * alignment;
}

}  // namespace

DeviceBuffer::DeviceBuffer(std::shared_ptr<const Gpu> gpu, size_t bytes, Contents contents)
    : gpu_(std::move(gpu)), size_(std::max<size_t>(bytes, 1)) {
    gpu_->make_current();
    const Status s = gpu_->driver().memory_allocate(&address_, size_ + slack);
    if (s == status::out_of_memory) {
        throw MemoryError("device cuda: no memory for {} MiB: {} MiB of {} MiB are free", (size_ >> 20) + 1,
                          gpu_->free_memory() >> 20, gpu_->info().memory >> 20);
    }
    gpu_->check(s, "cuMemAlloc");
    if (contents == Contents::open) return;
    const Status filled = gpu_->driver().fill(address_, 0, size_ + slack, gpu_->stream());
    if (filled != status::success) gpu_->driver().memory_free(address_);
    gpu_->check(filled, "cuMemsetD8Async");
}
DeviceBuffer::~DeviceBuffer() {
    // A lost device answers with errors; there is nothing else to do.
    gpu_->driver().stream_synchronize(gpu_->stream());
    gpu_->driver().memory_free(address_);
}

PinnedBuffer::PinnedBuffer(std::shared_ptr<const Gpu> gpu, size_t bytes)
    : gpu_(std::move(gpu)), size_(std::max<size_t>(bytes, 1)) {
    gpu_->make_current();
    void* memory = nullptr;
    gpu_->check(gpu_->driver().host_allocate(&memory, size_, 0), "cuMemHostAlloc");
    data_ = static_cast<std::byte*>(memory);
}
PinnedBuffer::~PinnedBuffer() {
    gpu_->driver().host_free(data_);
}

void SharedBuffers::grow(Shared s, size_t bytes) {
    auto& now = buffers_[static_cast<size_t>(s)];
    if (now != nullptr && now->size() >= bytes) return;
    gpu_->wait();
    auto larger = std::make_unique<DeviceBuffer>(gpu_, round_up(bytes));
    if (now != nullptr) {
        gpu_->check(
            gpu_->driver().copy_within(larger->address(), now->address(), now->size(), gpu_->stream()),
            "cuMemcpyDtoDAsync");
        gpu_->wait();
    }
    now = std::move(larger);
    ++generation_;
}

WeightMemory::~WeightMemory() {
    if (staging_ == nullptr) return;
    try {
        gpu_->wait();
    } catch (const Error&) {
        // lost: what travelled has stopped
    }
    for (const Event e : travelled_) {
        if (e != nullptr) gpu_->driver().event_destroy(e);
    }
}

WeightBytes WeightMemory::place(size_t bytes) {
    const size_t size = round_up(bytes + slack);
    if (size > chunk_bytes / 4) {
        auto own = std::make_shared<const DeviceBuffer>(gpu_, size, Contents::open);
        return {own->address(), own};
    }
    if (chunk_ == nullptr || chunk_used_ + size > chunk_bytes) {
        chunk_ = std::make_shared<const DeviceBuffer>(gpu_, chunk_bytes, Contents::open);
        chunk_used_ = 0;
    }
    const WeightBytes to{chunk_->address() + chunk_used_, chunk_};
    chunk_used_ += size;
    return to;
}

void WeightMemory::upload(DeviceAddress to, std::span<const std::byte> bytes) {
    const Driver& driver = gpu_->driver();
    gpu_->make_current();
    if (staging_ == nullptr) staging_ = std::make_unique<PinnedBuffer>(gpu_, 2 * staging_half);
    for (Event& e : travelled_) {
        if (e == nullptr) gpu_->check(driver.event_create(&e, event_default), "cuEventCreate");
    }
    while (!bytes.empty()) {
        const size_t n = std::min(bytes.size(), staging_half);
        std::byte* half = staging_->data() + half_ * staging_half;
        gpu_->check(driver.event_synchronize(travelled_[half_]), "cuEventSynchronize");
        std::memcpy(half, bytes.data(), n);
        gpu_->check(driver.copy_in(to, half, n, gpu_->stream()), "cuMemcpyHtoDAsync");
        gpu_->check(driver.event_record(travelled_[half_], gpu_->stream()), "cuEventRecord");
        half_ ^= 1;
        to += n;
        bytes = bytes.subspan(n);
    }
}

WeightBytes WeightMemory::copy(std::span<const std::byte> bytes) {
    WeightBytes to = place(bytes.size());
    upload(to.address, bytes);
    return to;
}

void WeightMemory::upload_rows(DeviceAddress to, std::span<const std::byte> bytes, size_t row_bytes,
                               int64_t n_rows, int64_t step) {
    if (step == 1) return upload(to, bytes.first(row_bytes * static_cast<size_t>(n_rows)));
    std::vector<std::byte> rows(row_bytes * static_cast<size_t>(n_rows));
    for (size_t r = 0; r < static_cast<size_t>(n_rows); ++r) {
        std::memcpy(rows.data() + r * row_bytes, bytes.data() + r * static_cast<size_t>(step) * row_bytes,
                    row_bytes);
    }
    upload(to, rows);
}

WeightBytes WeightMemory::copy_rows(std::span<const std::byte> bytes, size_t row_bytes, int64_t n_rows,
                                    int64_t step) {
    WeightBytes to = place(row_bytes * static_cast<size_t>(n_rows));
    upload_rows(to.address, bytes, row_bytes, n_rows, step);
    return to;
}

const uint8_t* WeightMemory::pass_rows(size_t number, std::span<const std::byte> bytes, size_t row_bytes,
                                       int64_t n_rows, int64_t step) {
    const size_t n = row_bytes * static_cast<size_t>(n_rows);
    auto& buffer = passing_[number];
    if (buffer == nullptr || buffer->size() < n) {
        buffer = nullptr;  // before there is another: memory may be short
        buffer = std::make_unique<DeviceBuffer>(gpu_, n, Contents::open);
    }
    upload_rows(buffer->address(), bytes, row_bytes, n_rows, step);
    return reinterpret_cast<const uint8_t*>(buffer->address());
}

}  // namespace smelt::cuda
