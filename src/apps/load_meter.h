// What the machine does while something is measured: how busy processor and card are, and what they draw,
// where the system says so (NVIDIA's NVML for cards, RAPL for processors).
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "base/json.h"

namespace smelt {

struct Load {
    double cpu_percent = 0;             // of the cores that this process may use
    std::optional<double> gpu_percent;  // of the busiest card, the mean over time
    std::optional<double> watts;        // of that card, or else of the processors
};

// Measures from its beginning to finish(). One at a time.
class LoadMeter {
 public:
    LoadMeter();
    ~LoadMeter();
    LoadMeter(const LoadMeter&) = delete;
    LoadMeter& operator=(const LoadMeter&) = delete;

    Load finish();

 private:
    struct Cards;
    std::unique_ptr<Cards> cards_;  // null: none
    std::chrono::steady_clock::time_point began_;
    double cpu_seconds_ = 0;
    std::optional<double> joules_;  // of the processors, at the beginning
};

// Names of the cards that NVML sees; "" where there are none.
std::string card_names();

// "2026-12-01 09:30:00", here.
std::string date_and_time();
std::string processor_name();

// Processor, memory and its speed, system, cards.
Json describe_machine(int n_threads);

}  // namespace smelt
