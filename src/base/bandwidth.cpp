// Sums a buffer; the sum itself is of no interest.
#include "base/bandwidth.h"

#include <chrono>

namespace smelt {

BandwidthProbe::BandwidthProbe(int n_threads, size_t bytes)
    : pool_(n_threads), buffer_(bytes / sizeof(uint64_t), 1), sums_(static_cast<size_t>(n_threads)) {}

double BandwidthProbe::measure() {
    const auto start = std::chrono::steady_clock::now();
    pool_.run([this](int member) {
        const size_t share = buffer_.size() / static_cast<size_t>(pool_.size());
        const uint64_t* data = buffer_.data() + share * static_cast<size_t>(member);
        // Four sums: one alone would wait for its own additions.
        uint64_t a = 0, b = 0, c = 0, d = 0;
        for (size_t i = 0; i + 32 <= share; i += 32) {
            for (size_t j = 0; j < 8; ++j) {
                a += data[i + j];
                b += data[i + 8 + j];
                c += data[i + 16 + j];
                d += data[i + 24 + j];
            }
        }
        sums_[static_cast<size_t>(member)] = a + b + c + d;
    });
    const std::chrono::duration<double> t = std::chrono::steady_clock::now() - start;
    // Uses the sums where the compiler cannot know them.
    const auto check = static_cast<double>(sums_[0] == 0);
    return static_cast<double>(buffer_.size() * sizeof(uint64_t)) / (t.count() + check);
}

}  // namespace smelt
