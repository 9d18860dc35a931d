// Allocation, and weights as rows of bytes.
#include "backend/cpu/memory.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <cstring>
#include <utility>

#include "base/memory_error.h"

namespace smelt::cpu {

void want_large_pages(void* p, size_t n_bytes) {
#if defined(MADV_HUGEPAGE)
    madvise(p, n_bytes, MADV_HUGEPAGE);
#else
    (void)p, (void)n_bytes;
#endif
}

// Of storage that is smaller, too much would be touched for nothing.
constexpr size_t large_pages_from = 16 << 20;

HostStorage::HostStorage(size_t n_bytes)
    : alignment(n_bytes >= large_pages_from ? large_page : 64), memory(std::calloc(n_bytes + alignment, 1)) {
    if (memory == nullptr) {
        throw MemoryError("memory: expected {:.1f} MiB more, the system has none",
                          static_cast<double>(n_bytes) / 0x1p20);
    }
    data = static_cast<std::byte*>(memory.get());
    data += (alignment - reinterpret_cast<uintptr_t>(data) % alignment) % alignment;
    if (alignment == large_page) want_large_pages(data, n_bytes);
}

void HostKv::copy_blocks(std::span<const BlockPair> copies) {
    for (const KvRows* r : {&rows.k, &rows.v}) {
        if (r == &rows.v && rows.v_in_k) break;
        const size_t n = r->block_bytes();
        std::byte* base = memory.data + r->offset;
        for (const BlockPair& c : copies) {
            std::memcpy(base + static_cast<size_t>(c.to) * n, base + static_cast<size_t>(c.from) * n, n);
        }
    }
}

void HostKv::read_block(int32_t block, std::span<std::byte> to) {
    const size_t k = rows.k.block_bytes();
    std::memcpy(to.data(), memory.data + rows.k.offset + static_cast<size_t>(block) * k, k);
    if (rows.v_in_k) return;
    const size_t v = rows.v.block_bytes();
    std::memcpy(to.data() + k, memory.data + rows.v.offset + static_cast<size_t>(block) * v, v);
}

void HostKv::write_block(int32_t block, std::span<const std::byte> from) {
    const size_t k = rows.k.block_bytes();
    std::memcpy(memory.data + rows.k.offset + static_cast<size_t>(block) * k, from.data(), k);
    if (rows.v_in_k) return;
    const size_t v = rows.v.block_bytes();
    std::memcpy(memory.data + rows.v.offset + static_cast<size_t>(block) * v, from.data() + k, v);
}

MatrixRows matrix_of(const Weight& w) {
    CHECK(w.storage != nullptr);
    const auto* storage = static_cast<const HostWeight*>(w.storage.get());
    return {.format = w.format,
            .data = reinterpret_cast<const uint8_t*>(storage->data),
            .scales = reinterpret_cast<const uint8_t*>(storage->scales),
            .row_bytes = static_cast<int64_t>(data_bytes(w.format, storage->row_step * w.cols)),
            .row_scale_bytes = static_cast<int64_t>(scale_bytes(w.format, storage->row_step * w.cols)),
            .rows = w.rows,
            .cols = w.cols,
            .packed = storage->packed == nullptr ? nullptr : storage->packed->data.get()};
}

void Scratch::reserve() {
    // Each record says anew what it needs, so that one that asks for too much fails alone.
    const size_t shared_needed = std::exchange(shared_needed_, 0);
    const size_t member_needed = std::exchange(member_needed_, 0);
    if (shared_needed > shared_size_) {
        shared_size_ = 0;
        shared_.reset();
        shared_ = std::make_unique<HostStorage>(shared_needed);
        shared_size_ = shared_needed;
    }
    if (member_needed > member_size_) {
        const size_t size = (member_needed + 4095) / 4096 * 4096;
        member_size_ = 0;
        all_members_.reset();
        all_members_ = std::make_unique<HostStorage>(size * members_.size());
        member_size_ = size;
        for (size_t i = 0; i < members_.size(); ++i) members_[i] = {all_members_->data + i * size, 0};
    }
}

}  // namespace smelt::cpu
