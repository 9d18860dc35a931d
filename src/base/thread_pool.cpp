// Spin, then sleep on the atomic (a futex on Linux, __ulock on macOS).
#include "base/thread_pool.h"

#include "base/error.h"
#include "base/spin.h"

namespace smelt {

namespace {

void wait_while_equal(const std::atomic<uint32_t>& value, uint32_t old) {
    for (int i = 0; i < spin_rounds; ++i) {
        if (value.load(std::memory_order_acquire) != old) return;
        spin_pause();
    }
    value.wait(old, std::memory_order_acquire);
}

}  // namespace

ThreadPool::ThreadPool(int n_threads) : n_threads_(n_threads) {
    CHECK(n_threads >= 1);
    try {
        for (int member = 1; member < n_threads; ++member)
            threads_.emplace_back([this, member] { work(member); });
    } catch (...) {  // the system has no more threads
        end();
        throw;
    }
}

ThreadPool::~ThreadPool() {
    end();
}

void ThreadPool::end() {
    stop_ = true;
    run_count_.fetch_add(1);
    run_count_.notify_all();
    for (std::thread& t : threads_) t.join();
}

void ThreadPool::work(int member) {
    uint32_t seen = 0;
    while (true) {
        wait_while_equal(run_count_, seen);
        ++seen;
        if (stop_) return;
        job_(context_, member);
        barrier();
    }
}

void ThreadPool::run(const std::function<void(int)>& f) {
    start(
        [](void* function, int member) { (*static_cast<const std::function<void(int)>*>(function))(member); },
        const_cast<std::function<void(int)>*>(&f));
    finish();
}

void ThreadPool::start(Job job, void* context) {
    job_ = job;
    context_ = context;
    run_count_.fetch_add(1, std::memory_order_release);
    run_count_.notify_all();
}

void ThreadPool::finish() {
    job_(context_, 0);
    barrier();
}

void ThreadPool::barrier() {
    if (n_threads_ == 1) return;
    const uint32_t generation = barrier_count_.load(std::memory_order_acquire);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == n_threads_) {
        arrived_.store(0, std::memory_order_relaxed);
        barrier_count_.fetch_add(1, std::memory_order_release);
        barrier_count_.notify_all();
    } else {
        wait_while_equal(barrier_count_, generation);
    }
}

}  // namespace smelt
