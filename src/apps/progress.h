// A bar on stderr for work that takes seconds: only where a person looks at it (stderr is a terminal, not
// --quiet).
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace smelt {

class ProgressBar {
 public:
    enum class Unit { bytes, tokens, tensors };
    explicit ProgressBar(std::string label, Unit unit = Unit::bytes);
    ~ProgressBar();  // wipes the bar: the line belongs to the next message
    ProgressBar(const ProgressBar&) = delete;
    ProgressBar& operator=(const ProgressBar&) = delete;

    // In the unit.
    void show(uint64_t done, uint64_t total);

 private:
    std::string label_;
    Unit unit_;
    bool enabled_;
    bool drawn_ = false;
    uint64_t first_done_ = 0;  // the rate is of what came after it
    std::chrono::steady_clock::time_point started_, last_;
};

}  // namespace smelt
