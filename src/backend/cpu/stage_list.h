// A compiled step: stages in order, each cut into chunks. The threads of a pool claim runs of neighbouring
// chunks, long ones first, so that memory is read in long streams and the threads still end together. A
// thread goes on to the next stage when all chunks of the one before are done; one that is late or sent to
// sleep by the system with no chunk in hand holds up nobody. Knows nothing of ops.
#pragma once

#include <atomic>
#include <cstddef>
#include <functional>
#include <memory>
#include <new>
#include <type_traits>
#include <vector>

#include "backend/cpu/frame.h"
#include "backend/trace.h"
#include "base/thread_pool.h"

namespace smelt::cpu {

// Memory that is handed out in order and given back all at once.
class Bump {
 public:
    static constexpr size_t alignment = 64;
    void* take(size_t bytes);

 private:
    struct Free {
        void operator()(std::byte* p) const { ::operator delete[](p, std::align_val_t{alignment}); }
    };
    struct Chunk {
        std::unique_ptr<std::byte[], Free> memory;
        size_t size;
    };
    std::vector<Chunk> chunks_;
    size_t used_ = 0;
};

class StageList {
 public:
    // Stages that follow belong to this op of the record: what traces name them by.
    void begin_op(int op) { op_ = op; }

    // S::begin(const Frame&) is called once a launch, before any chunk, and says how many chunks there are;
    // S::run (const Frame&, int chunk, int member) on any thread of the pool and in any order.
    template <class S>
    S& add(const S& stage) {
        static_assert(std::is_trivially_copyable_v<S> && std::is_trivially_destructible_v<S>);
        S* copy = new (bump_.take(sizeof(S))) S(stage);
        stages_.push_back({copy, [](void* s, const Frame& f) { return static_cast<S*>(s)->begin(f); },
                           [](const void* s, const Frame& f, int chunk, int member) {
                               static_cast<const S*>(s)->run(f, chunk, member);
                           },
                           op_});
        return *copy;
    }
    // Memory that lives as long as the list.
    template <class T>
    T* take(size_t n) {
        static_assert(std::is_trivially_copyable_v<T>);
        return new (bump_.take(n * sizeof(T))) T[n]();
    }
    size_t size() const { return stages_.size(); }
    // No stage follows: all that a launch needs is allocated.
    void end();

    using Timing = Trace::Timing;
    // Lays out the chunks of a step and starts the pool's threads on them; finish() is the caller's share.
    // With timings, every stage of the step appends one to them.
    void start(const Frame& frame, ThreadPool& pool, std::vector<Timing>* timings);
    void finish(ThreadPool& pool);

 private:
    struct Stage {
        void* args;
        int (*begin)(void* args, const Frame& frame);
        void (*run)(const void* args, const Frame& frame, int chunk, int member);
        int op;
    };
    // Stages of this step that have chunks. What threads write is on cache lines of its own: those that wait
    // read `done`, those that work `next`.
    struct Active {
        alignas(64) std::atomic<int> next{0};
        alignas(64) std::atomic<int> done{0};
        alignas(64) int n_chunks = 0;
        const Stage* stage = nullptr;
        double end = 0;  // where timings are wanted; written by the thread that finishes the stage
    };
    void work(int member);
    // The chunks that a thread does next; none where first is past the last.
    struct Claim {
        int first, n;
    };
    Claim claim(Active& a) const;

    Bump bump_;
    std::vector<Stage> stages_;
    int op_ = 0;

    Frame frame_;
    std::unique_ptr<Active[]> active_;
    size_t n_active_ = 0;
    int n_members_ = 1;
    std::vector<Timing>* timings_ = nullptr;
    double began_ = 0;
};

}  // namespace smelt::cpu
