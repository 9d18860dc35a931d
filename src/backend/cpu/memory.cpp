// Allocation, and the one place where formats meet kernels.
#include "backend/cpu/memory.h"

#include <utility>

#include "base/memory_error.h"

namespace smelt::cpu {

HostStorage::HostStorage(size_t n_bytes) : memory(std::calloc(n_bytes + 64, 1)) {
    if (memory == nullptr) {
        throw MemoryError("memory: expected {:.1f} MiB more, the system has none",
                          static_cast<double>(n_bytes) / 0x1p20);
    }
    data = static_cast<std::byte*>(memory.get());
    data += (64 - reinterpret_cast<uintptr_t>(data) % 64) % 64;
}

namespace {

WeightKind kind_of(Format f) {
    switch (f) {
        case Format::F32:
            return WeightKind::f32;
        case Format::F16:
            return WeightKind::f16;
        case Format::BF16:
            return WeightKind::bf16;
        case Format::Q8_0:
            return WeightKind::q8_0;
        case Format::Q4_0:
            return WeightKind::q4_0;
        case Format::Q8_G64:
            return WeightKind::q8_g64;
        default:
            return WeightKind::decoded;
    }
}

}  // namespace

MatrixRows matrix_of(const Weight& w) {
    CHECK(w.storage != nullptr);
    const auto* storage = static_cast<const HostWeight*>(w.storage.get());
    return {.kind = kind_of(w.format),
            .format = w.format,
            .data = reinterpret_cast<const uint8_t*>(storage->data),
            .scales = reinterpret_cast<const uint8_t*>(storage->scales),
            .row_bytes = static_cast<int64_t>(data_bytes(w.format, storage->row_step * w.cols)),
            .row_scale_bytes = static_cast<int64_t>(scale_bytes(w.format, storage->row_step * w.cols)),
            .rows = w.rows,
            .cols = w.cols};
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
