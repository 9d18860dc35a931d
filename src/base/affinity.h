// Keeps the calling thread on one processor while an object lives. For measurements: a server's threads are
// left to the system.
#pragma once

#include <vector>

namespace smelt {

// Processors that this process may use, one of each core before their siblings. Empty where the system does
// not say.
std::vector<int> usable_processors();

class PinnedThread {
 public:
    explicit PinnedThread(int processor);
    ~PinnedThread();
    PinnedThread(const PinnedThread&) = delete;
    PinnedThread& operator=(const PinnedThread&) = delete;

 private:
    std::vector<int> before_;  // empty: was not moved
};

}  // namespace smelt
