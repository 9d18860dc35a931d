// How fast this machine reads memory: the bound of every decode step.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/affinity.h"
#include "base/thread_pool.h"

namespace smelt {

// Reads a buffer much larger than the caches with all threads, each kept on its own core and reading what it
// wrote first. Tries the system's pages and large ones, and loads with and without a hint that the data will
// not be used again, and keeps the fastest way.
class BandwidthProbe {
 public:
    // Of 1 GiB or four times the last-level caches, whichever is more, but at most a quarter of the memory
    // that is free.
    explicit BandwidthProbe(int n_threads);
    ~BandwidthProbe();

    // Bytes per second of the best of a few passes.
    double measure();

    std::string way() const;  // "large pages, ordinary loads"
    size_t bytes() const;

 private:
    class Buffer;
    std::unique_ptr<PinnedThread> pin(size_t member) const;
    double pass(bool passing);
    void allocate(size_t bytes, bool large);

    ThreadPool pool_;
    std::vector<int> processors_;
    std::unique_ptr<Buffer> buffer_;
    bool passing_ = false;  // loads are hinted as not used again
    struct alignas(64) Member {
        uint64_t sum;       // so that no read is optimised away
        double start, end;  // seconds
    };
    std::vector<Member> members_;
};

}  // namespace smelt
