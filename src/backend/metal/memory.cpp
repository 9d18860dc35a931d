// Buffers: made, aliased and shared out.
#include "backend/metal/memory.h"

#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "base/memory_error.h"

namespace smelt::metal {

namespace {

constexpr size_t buffer_alignment = 256;  // of pieces that are bound: the most any Metal device asks for
constexpr size_t copies_chunk = size_t{8} << 20;  // bytes; small against a model, large against its vectors

size_t round_up(size_t n, size_t multiple) {
    return (n + multiple - 1) / multiple * multiple;
}

}  // namespace

Buffer make_buffer(const Gpu& gpu, size_t bytes) {
    // Loads of aligned words may begin before and end behind what they are after.
    const size_t size = round_up(std::max<size_t>(bytes, 1), buffer_alignment);
    const size_t largest = gpu.device().maxBufferLength();
    if (size > largest) {
        throw Error("device metal: {} bytes in one piece, at most {} are possible", bytes, largest);
    }
    Buffer buffer = NS::TransferPtr(gpu.device().newBuffer(size, MTL::ResourceStorageModeShared));
    if (!buffer) throw MemoryError("device metal: no memory for {} bytes", bytes);
    std::memset(buffer->contents(), 0, size);
    return buffer;
}

std::byte* host_bytes(MTL::Buffer* buffer, size_t offset) {
    return static_cast<std::byte*>(buffer->contents()) + offset;
}

void GrowingBuffer::grow(const Gpu& gpu, size_t bytes) {
    if (bytes <= size()) return;
    auto larger = std::make_unique<Resident>(gpu, make_buffer(gpu, bytes));
    if (now_) std::memcpy(host_bytes(larger->buffer().get()), host_bytes(buffer()), size());
    now_ = std::move(larger);
}

std::unique_ptr<Storage> WeightMemory::map(std::span<const std::byte> bytes) {
    const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    if (bytes.empty() || reinterpret_cast<uintptr_t>(bytes.data()) % page != 0) return nullptr;
    std::erase_if(mappings_, [](const auto& m) { return m.expired(); });
    auto storage = std::make_unique<MappingStorage>();
    storage->mapping = std::make_shared<Mapping>(Mapping{bytes.data(), round_up(bytes.size(), page), {}});
    mappings_.push_back(storage->mapping);
    return storage;
}

std::shared_ptr<const Resident> WeightMemory::window(Mapping& m, size_t begin, size_t end, size_t& first) {
    const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    const size_t largest = gpu_.device().maxBufferLength() / page * page;
    size_t size = m.size;
    first = 0;
    if (m.size > largest) {
        const size_t half = largest / 2 / page * page;
        first = begin / half * half;
        if (end > first + largest) first = begin / page * page;
        size = std::min(largest, m.size - first);
        if (end > first + size) return {};  // longer than a buffer may be
    }
    for (const auto& [start, resident] : m.windows) {
        if (start == first) return resident;
    }
    // The backend never writes weights.
    void* memory = const_cast<std::byte*>(m.begin + first);
    Buffer buffer =
        NS::TransferPtr(gpu_.device().newBuffer(memory, size, MTL::ResourceStorageModeShared, nullptr));
    if (!buffer) return {};
    return m.windows.emplace_back(first, std::make_shared<Resident>(gpu_, buffer)).second;
}

WeightBytes WeightMemory::place(std::span<const std::byte> bytes, size_t alignment) {
    const bool aligned = reinterpret_cast<uintptr_t>(bytes.data()) % alignment == 0;
    for (const auto& weak : mappings_) {
        const std::shared_ptr<Mapping> m = weak.lock();
        if (!aligned || m == nullptr || bytes.data() < m->begin ||
            bytes.data() + bytes.size() > m->begin + m->size) {
            continue;
        }
        const auto begin = static_cast<size_t>(bytes.data() - m->begin);
        size_t first = 0;
        if (const auto resident = window(*m, begin, begin + bytes.size(), first)) {
            return {resident->buffer(), begin - first, resident};
        }
    }
    return copy(bytes);
}

WeightBytes WeightMemory::copy(std::span<const std::byte> bytes) {
    const size_t size = round_up(std::max<size_t>(bytes.size(), 1), buffer_alignment);
    WeightBytes to;
    if (size > copies_chunk) {
        const auto own = std::make_shared<const Resident>(gpu_, make_buffer(gpu_, size));
        to = {own->buffer(), 0, own};
    } else {
        if (!chunk_ || chunk_used_ + size > copies_chunk) {
            chunk_ = std::make_shared<const Resident>(gpu_, make_buffer(gpu_, copies_chunk));
            chunk_used_ = 0;
        }
        to = {chunk_->buffer(), chunk_used_, chunk_};
        chunk_used_ += size;
    }
    if (!bytes.empty()) std::memcpy(host_bytes(to.buffer.get(), to.offset), bytes.data(), bytes.size());
    return to;
}

}  // namespace smelt::metal
