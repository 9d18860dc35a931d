// How fast this machine reads memory: the bound of every decode step.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/thread_pool.h"

namespace smelt {

class BandwidthProbe {
 public:
    // 512 MiB by default: more than a core's share of any cache of 2026, so that memory is what is read.
    explicit BandwidthProbe(int n_threads, size_t bytes = size_t{512} << 20);

    // Bytes per second of one pass of all threads over the buffer.
    double measure();

 private:
    ThreadPool pool_;
    std::vector<uint64_t> buffer_;
    std::vector<uint64_t> sums_;  // one a thread, so that no read is optimised away
};

}  // namespace smelt
