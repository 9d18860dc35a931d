// Claiming chunks and waiting for them.
#include "backend/cpu/op_list.h"

#include <algorithm>
#include <functional>

#include "base/spin.h"

namespace smelt::cpu {

namespace {

constexpr size_t bump_chunk = 256 << 10;  // bytes; a step of 28 layers records about 150 KB

void wait_for(const std::atomic<int>& done, int n) {
    for (int i = 0; i < spin_rounds; ++i) {
        if (done.load(std::memory_order_acquire) == n) return;
        spin_pause();
    }
    for (int now = done.load(std::memory_order_acquire); now != n;
         now = done.load(std::memory_order_acquire)) {
        done.wait(now, std::memory_order_acquire);
    }
}

}  // namespace

void* Bump::take(size_t bytes) {
    bytes = (bytes + alignment - 1) / alignment * alignment;
    while (chunk_ < chunks_.size() && used_ + bytes > chunks_[chunk_].size) {
        ++chunk_;
        used_ = 0;
    }
    if (chunk_ == chunks_.size()) {
        const size_t size = std::max(bytes, bump_chunk);
        auto* memory = static_cast<std::byte*>(::operator new[](size, std::align_val_t{alignment}));
        chunks_.push_back({std::unique_ptr<std::byte[], Free>(memory), size});
        used_ = 0;
    }
    void* result = chunks_[chunk_].memory.get() + used_;
    used_ += bytes;
    return result;
}

void OpList::run(ThreadPool& pool) {
    if (ops_.empty()) return;
    // std::function keeps a reference_wrapper in place: no allocation.
    const auto job = [this](int member) { work(member); };
    pool.run(std::function<void(int)>(std::cref(job)));
}

void OpList::work(int member) {
    for (size_t i = 0; i < ops_.size(); ++i) {
        Op& op = *ops_[i];
        int chunk = op.next.load(std::memory_order_relaxed);
        if (chunk < op.n_chunks) {
            if (i > 0) wait_for(ops_[i - 1]->done, ops_[i - 1]->n_chunks);
            while ((chunk = op.next.fetch_add(1, std::memory_order_relaxed)) < op.n_chunks) {
                op.run(op.args, chunk, member);
                if (op.done.fetch_add(1, std::memory_order_acq_rel) + 1 == op.n_chunks) op.done.notify_all();
            }
        }
    }
}

void OpList::clear() {
    ops_.clear();
    bump_.reset();
}

}  // namespace smelt::cpu
