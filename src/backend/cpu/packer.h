// Weights of products as the kernels read them fastest, in memory of the process beside the bytes of the
// file. The products have the same bits either way. The layout itself is pack.h's.
#pragma once

#include <memory>

#include "backend/cpu/memory.h"
#include "base/thread_pool.h"

namespace smelt::cpu {

class Packer {
 public:
    Packer(const Kernels& kernels, ThreadPool& pool, bool wanted);
    // Where the weight is not packed yet, its format has kernels and memory is left; while no step is under
    // way. Backends of one process share what they pack of the same bytes.
    void pack(const Weight& w);

 private:
    // Null where the system would be left with less than a quarter of its memory.
    std::shared_ptr<uint8_t> take(size_t n_bytes);
    void fill(const MatrixRows& rows, uint8_t* to);

    const Kernels& kernels_;
    ThreadPool& pool_;
    bool wanted_;
    // Small weights share large pages, which live until the last of them goes.
    std::shared_ptr<uint8_t> pages_;
    size_t used_ = 0, size_ = 0;
};

}  // namespace smelt::cpu
