// Claiming chunks and waiting for them.
#include "backend/cpu/stage_list.h"

#include <algorithm>
#include <chrono>

#include "base/spin.h"

namespace smelt::cpu {

namespace {

constexpr size_t bump_chunk = 64 << 10;  // bytes

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

double now() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

void* Bump::take(size_t bytes) {
    bytes = (bytes + alignment - 1) / alignment * alignment;
    if (chunks_.empty() || used_ + bytes > chunks_.back().size) {
        const size_t size = std::max(bytes, bump_chunk);
        auto* memory = static_cast<std::byte*>(::operator new[](size, std::align_val_t{alignment}));
        chunks_.push_back({std::unique_ptr<std::byte[], Free>(memory), size});
        used_ = 0;
    }
    void* result = chunks_.back().memory.get() + used_;
    used_ += bytes;
    return result;
}

void StageList::end() {
    active_ = std::make_unique<Active[]>(stages_.size());
}

void StageList::start(const Frame& frame, ThreadPool& pool, std::vector<Timing>* timings) {
    frame_ = frame;
    timings_ = timings;
    n_members_ = pool.size();
    n_active_ = 0;
    for (const Stage& stage : stages_) {
        const int n_chunks = stage.begin(stage.args, frame_);
        if (n_chunks <= 0) continue;
        Active& a = active_[n_active_++];
        a.next.store(0, std::memory_order_relaxed);
        a.done.store(0, std::memory_order_relaxed);
        a.n_chunks = n_chunks;
        a.stage = &stage;
    }
    if (timings_ != nullptr) began_ = now();
    pool.start([](void* list, int member) { static_cast<StageList*>(list)->work(member); }, this);
}

void StageList::finish(ThreadPool& pool) {
    pool.finish();
    if (timings_ == nullptr) return;
    double begin = began_;
    for (size_t i = 0; i < n_active_; ++i) {
        // Whoever ended a stage may have looked at the clock after others ended the next.
        const double end = std::max(begin, active_[i].end);
        timings_->push_back({active_[i].stage->op, begin, end});
        begin = end;
    }
}

StageList::Claim StageList::claim(Active& a) const {
    int first = a.next.load(std::memory_order_relaxed);
    while (first < a.n_chunks) {
        // Half of an even share of what is left: whoever comes last has little to do.
        const int left = a.n_chunks - first;
        const int n = n_members_ == 1 ? left : std::max(1, left / (2 * n_members_));
        if (a.next.compare_exchange_weak(first, first + n, std::memory_order_relaxed)) return {first, n};
    }
    return {first, 0};
}

void StageList::work(int member) {
    for (size_t i = 0; i < n_active_; ++i) {
        Active& a = active_[i];
        if (a.next.load(std::memory_order_relaxed) >= a.n_chunks) continue;
        if (i > 0) wait_for(active_[i - 1].done, active_[i - 1].n_chunks);
        for (Claim c = claim(a); c.n > 0; c = claim(a)) {
            for (int chunk = c.first; chunk < c.first + c.n; ++chunk) {
                a.stage->run(a.stage->args, frame_, chunk, member);
            }
            if (a.done.fetch_add(c.n, std::memory_order_acq_rel) + c.n < a.n_chunks) continue;
            if (timings_ != nullptr) a.end = now();
            a.done.notify_all();
        }
    }
}

}  // namespace smelt::cpu
