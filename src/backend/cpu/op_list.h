// The record of a step on the CPU: ops in order, each cut into chunks that the threads of a pool claim one by
// one. A thread goes on to the next op when all chunks of the one before are done; one that is late or sent
// to sleep by the system with no chunk in hand holds up nobody. Knows nothing of tensors.
#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <new>
#include <type_traits>
#include <vector>

#include "base/error.h"
#include "base/thread_pool.h"

namespace smelt::cpu {

// Memory that is handed out in order and taken back all at once; grows to the largest step and stays.
class Bump {
 public:
    static constexpr size_t alignment = 64;
    void* take(size_t bytes);
    void reset() { chunk_ = used_ = 0; }

 private:
    struct Free {
        void operator()(std::byte* p) const { ::operator delete[](p, std::align_val_t{alignment}); }
    };
    struct Chunk {
        std::unique_ptr<std::byte[], Free> memory;
        size_t size;
    };
    std::vector<Chunk> chunks_;
    size_t chunk_ = 0, used_ = 0;
};

class OpList {
 public:
    // f(chunk, member) for chunk in [0, n_chunks), on any thread of the pool and in any order.
    template <class F>
    void add(int n_chunks, F f) {
        static_assert(std::is_trivially_copyable_v<F> && std::is_trivially_destructible_v<F>);
        if (n_chunks <= 0) return;
        Op* op = new (bump_.take(sizeof(Op))) Op;
        op->args = new (bump_.take(sizeof(F))) F(f);
        op->run = [](const void* args, int chunk, int member) {
            (*static_cast<const F*>(args))(chunk, member);
        };
        op->n_chunks = n_chunks;
        ops_.push_back(op);
    }
    // Memory that lives until clear().
    void* take(size_t bytes) { return bump_.take(bytes); }

    void run(ThreadPool& pool);
    void clear();
    bool empty() const { return ops_.empty(); }

 private:
    struct alignas(Bump::alignment) Op {
        std::atomic<int> next{0};
        std::atomic<int> done{0};
        int n_chunks = 0;
        const void* args = nullptr;
        void (*run)(const void* args, int chunk, int member) = nullptr;
    };
    void work(int member);

    Bump bump_;
    std::vector<Op*> ops_;
};

}  // namespace smelt::cpu
