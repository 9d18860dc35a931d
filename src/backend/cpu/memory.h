// Host memory as the CPU backend sees it: tensors to pointers, weights to rows, and scratch that grows to the
// largest step.
#pragma once

#include <cstdlib>
#include <memory>
#include <span>
#include <vector>

#include "backend/backend.h"
#include "backend/cpu/kernels.h"

namespace smelt::cpu {

struct FreeDeleter {
    void operator()(void* p) const { std::free(p); }
};

inline constexpr size_t large_page = 2 << 20;
// Asks the system for them in memory that is aligned to one.
void want_large_pages(void* p, size_t n_bytes);

// Zeroed by the system page by page on first touch, so that a large KV cache costs what is used of it.
struct HostStorage : Storage {
    explicit HostStorage(size_t n_bytes);  // in large pages where it is large
    size_t alignment;
    std::unique_ptr<void, FreeDeleter> memory;
    std::byte* data;  // aligned to 64
};

// A weight in the kernels' layout, see packer.h; among others in the same pages.
struct Packed {
    std::shared_ptr<const uint8_t> data;
};

// Aliases the bytes of the file, or owns floats.
struct HostWeight : Storage {
    const std::byte* data = nullptr;
    const std::byte* scales = nullptr;
    int64_t row_step = 1;
    std::vector<float> owned;
    std::shared_ptr<const Packed> packed = {};  // null: not
};

// The plain layout of kv_storage.h.
class HostKv : public KvStorage {
 public:
    explicit HostKv(const KvShape& shape) : KvStorage(shape), rows(shape), memory(rows.n_bytes) {}
    void copy_blocks(std::span<const BlockPair> copies) override;
    void read_block(int32_t block, std::span<std::byte> to) override;
    void write_block(int32_t block, std::span<const std::byte> from) override;

    PlainKv rows;
    HostStorage memory;
};

// Of a weight loaded for WeightUse::vector.
inline const float* floats_of(const Weight& w) {
    CHECK(w.format == Format::F32 && w.storage != nullptr);
    return reinterpret_cast<const float*>(static_cast<const HostWeight*>(w.storage.get())->data);
}
MatrixRows matrix_of(const Weight& w);

// Scratch memory while stages run: one piece that all threads see, and one for each thread. Ops say while
// they are compiled what they will need; reserve() then makes it so.
class Scratch {
 public:
    struct Member {
        std::byte* memory = nullptr;
        uint64_t prepared = 0;  // launch and op whose input this thread has prepared
    };
    explicit Scratch(int n_members) : members_(static_cast<size_t>(n_members)) {}

    void need_shared(size_t bytes) { shared_needed_ = bytes > shared_needed_ ? bytes : shared_needed_; }
    void need_member(size_t bytes) { member_needed_ = bytes > member_needed_ ? bytes : member_needed_; }
    void reserve();

    std::byte* shared() const { return shared_->data; }
    Member& member(int i) { return members_[static_cast<size_t>(i)]; }

 private:
    size_t shared_needed_ = 0, member_needed_ = 0, shared_size_ = 0, member_size_ = 0;
    std::unique_ptr<HostStorage> shared_, all_members_;
    std::vector<Member> members_;
};

// Hands out pieces of a buffer; with a null buffer only counts.
class Carver {
 public:
    explicit Carver(std::byte* memory) : memory_(memory) {}
    template <class T>
    T* take(int64_t n) {
        T* result = memory_ == nullptr ? nullptr : reinterpret_cast<T*>(memory_ + used_);
        used_ += (static_cast<size_t>(n) * sizeof(T) + 63) / 64 * 64;
        return result;
    }
    size_t used() const { return used_; }

 private:
    std::byte* memory_;
    size_t used_ = 0;
};

}  // namespace smelt::cpu
