// Runs one threadgroup after the other on a thread of the host: its threads as fibers that give way at
// barriers and functions of the simdgroup, and its memory.
#pragma once

#include <memory>

#include "softmetal/fibers.h"
#include "softmetal/launch.h"

namespace softmetal {

constexpr size_t max_threadgroup_memory = 32 * 1024;
constexpr uint32_t max_threads = 1024;

class ThreadgroupRunner {
 public:
    ThreadgroupRunner();
    // The runner of this thread of the host.
    static ThreadgroupRunner& current();

    void begin(const Launch& launch);  // of another dispatch
    void run(const Dim3& position);    // throws Violation

    // For the thread that runs.
    void run_next_lane();
    [[noreturn]] void report_divergence(const char* function, Place place);
    void barrier(Place place);
    [[noreturn]] void report_race(const void* data, bool write, uint64_t earlier, bool earlier_wrote);
    void simdgroup_barrier(Place place);
    void yield(Place place);
    const Range& argument(int index) const { return arguments_[index]; }
    const Range& shared(const void* site, const char* name, size_t bytes, size_t alignment);
    std::string where() const;

 private:
    struct Shared {
        const void* site;
        size_t offset;
        std::unique_ptr<Range> range;
    };
    void renew_stamp();
    char* memory() const;
    static void fiber_entry(void* self);
    [[noreturn]] void run_fiber();
    void run_thread(uint32_t thread);
    ThreadId id_of(uint32_t thread) const;
    void set_running(uint32_t thread);
    // The next thread of the simdgroup, or of the simdgroups behind it that have threads to run.
    uint32_t next_lane() const;
    bool next_simdgroup(uint32_t& thread) const;
    bool can_run(uint32_t thread) const;
    void switch_to_thread(uint32_t thread);

    const Launch* launch_ = nullptr;
    Dim3 position_, size_;
    uint32_t n_threads_ = 0, n_finished_ = 0, n_at_barrier_ = 0, running_ = 0, n_simdgroups_ = 0;
    Place barrier_place_{};
    std::vector<int> fiber_of_;      // of each thread; not_started, finished
    std::vector<Place> yielded_at_;  // of each simdgroup, for messages
    uint64_t n_yields_ = 0;          // of a threadgroup
    std::unique_ptr<Simdgroup[]> simdgroups_;
    std::unique_ptr<char[]> memory_;
    Range arguments_[Launch::max_buffers];
    std::vector<Shared> shared_;
    size_t memory_used_ = 0;
    std::vector<Word> words_;
    uint32_t n_barriers_ = 0;  // since the runner was made; a threadgroup begins with one
    std::exception_ptr error_;
    Fibers fibers_;
};

}  // namespace softmetal
