// A fixed team of threads that runs one function on every member at once. The caller is member 0.
// Members meet at barriers inside the function; they spin briefly, because in decode the next barrier is
// microseconds away, then sleep.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <thread>
#include <vector>

namespace smelt {

class ThreadPool {
 public:
    explicit ThreadPool(int n_threads);
    ~ThreadPool();
    ThreadPool(const ThreadPool&) = delete;
    ThreadPool& operator=(const ThreadPool&) = delete;

    int size() const { return n_threads_; }

    // Runs f(member) for member in [0, size()); returns when all have finished. One run at a time.
    void run(const std::function<void(int)>& f);

    // The same in two halves: start() sets the other members to work and returns, finish() is the caller's
    // share as member 0 and waits for all. Whoever writes f must not need member 0 to go on.
    using Job = void (*)(void* context, int member);
    void start(Job job, void* context);
    void finish();

    // Inside run(): returns when every member has called it; everything written before is visible after.
    void barrier();

 private:
    void work(int member);
    void end();

    int n_threads_;
    std::vector<std::thread> threads_;
    Job job_ = nullptr;
    void* context_ = nullptr;
    std::atomic<uint32_t> run_count_{0};
    std::atomic<bool> stop_{false};
    std::atomic<int> arrived_{0};
    std::atomic<uint32_t> barrier_count_{0};
};

}  // namespace smelt
