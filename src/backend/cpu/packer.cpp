// Memory in large pages, and the threads of the pool packing one weight after the other.
#include "backend/cpu/packer.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <mutex>
#include <tuple>
#include <utility>

#include "base/cpu_info.h"

namespace smelt::cpu {

namespace {

constexpr size_t least_pages = 64 << 20;     // taken from the system at once
constexpr size_t pack_together = 256 << 10;  // bytes from which waking the threads pays

// What the backends of this process have packed. The bytes of a weight outlive it, so that an address names
// them for as long as somebody has them packed.
struct Shared {
    using Key = std::tuple<const Kernels*, const uint8_t*, const uint8_t*, Format, int64_t, int64_t, int64_t>;
    std::mutex mutex;
    std::map<Key, std::weak_ptr<const Packed>> weights;
};
Shared& all_packed() {
    static Shared shared;
    return shared;
}

size_t rounded(size_t n, size_t unit) {
    return (n + unit - 1) / unit * unit;
}

}  // namespace

Packer::Packer(const Kernels& kernels, ThreadPool& pool, bool wanted)
    : kernels_(kernels), pool_(pool), wanted_(wanted) {
    Shared& shared = all_packed();
    const std::scoped_lock lock(shared.mutex);
    std::erase_if(shared.weights, [](const auto& known) { return known.second.expired(); });
}

std::shared_ptr<uint8_t> Packer::take(size_t n_bytes) {
    n_bytes = rounded(n_bytes, 64);
    if (pages_ == nullptr || used_ + n_bytes > size_) {
        const size_t size = rounded(std::max(n_bytes, least_pages), large_page);
        const MemoryInfo memory = read_memory_info();
        auto* p = memory.available < n_bytes + memory.total / 4
                      ? nullptr
                      : static_cast<uint8_t*>(std::aligned_alloc(large_page, size));
        if (p == nullptr) {
            spdlog::info("memory is short: weights are read as the file holds them, which is slower");
            wanted_ = false;
            return nullptr;
        }
        want_large_pages(p, size);
        pages_ = std::shared_ptr<uint8_t>(p, [](uint8_t* taken) { std::free(taken); });
        used_ = 0;
        size_ = size;
    }
    std::shared_ptr<uint8_t> result(pages_, pages_.get() + used_);
    used_ += n_bytes;
    return result;
}

void Packer::fill(const MatrixRows& rows, uint8_t* to) {
    if (kernels_.packed_bytes(rows.format, rows.rows, rows.cols) < pack_together) {
        return kernels_.pack(rows, 0, rows.rows, to);
    }
    const int64_t n_panels = (rows.rows + kernels_.panel_rows - 1) / kernels_.panel_rows;
    const auto begin = [&](int64_t member) {
        return std::min(rows.rows, n_panels * member / pool_.size() * kernels_.panel_rows);
    };
    pool_.run([&](int member) { kernels_.pack(rows, begin(member), begin(member + 1), to); });
}

void Packer::pack(const Weight& w) {
    auto* storage = static_cast<HostWeight*>(w.storage.get());
    if (!wanted_ || storage->packed != nullptr || !kernels_.takes_int8(w.format, w.cols)) return;
    const MatrixRows rows = matrix_of(w);
    Shared& shared = all_packed();
    const std::scoped_lock lock(shared.mutex);
    std::weak_ptr<const Packed>& known =
        shared
            .weights[{&kernels_, rows.data, rows.scales, rows.format, rows.rows, rows.cols, rows.row_bytes}];
    storage->packed = known.lock();
    if (storage->packed != nullptr) return;
    std::shared_ptr<uint8_t> to = take(kernels_.packed_bytes(w.format, w.rows, w.cols));
    if (to == nullptr) return;
    fill(rows, to.get());
    storage->packed = std::make_shared<const Packed>(Packed{std::move(to)});
    known = storage->packed;
}

}  // namespace smelt::cpu
