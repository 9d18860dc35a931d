// Passes over one row of logits as long as a vocabulary: the largest, the k largest, all above a bar, softmax
// weights. Remembers the largest logit of each block of 64, so that only the first pass reads the whole row.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <vector>

namespace smelt {

struct Candidate {
    int32_t id;
    float logit;
    float weight = 0;  // exp((logit - largest) / temperature)
};

// The order of every selection: larger logits first, of equal ones the smaller id.
inline bool ranks_before(const Candidate& a, const Candidate& b) {
    return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

class VocabScan {
 public:
    static constexpr size_t block_len = 64;  // floats; long enough that a test per block costs nothing

    explicit VocabScan(int vocab_size);

    // Borrows the row until the next call.
    void scan(std::span<const float> logits);
    // The logits of these ids have changed since; none is NaN.
    void rescan(std::span<const int32_t> ids);

    int vocab_size() const { return vocab_size_; }
    bool has_nan() const { return has_nan_; }
    float largest() const { return largest_; }
    int32_t argmax() const;

    // Replace what is in `out`. Logits of -inf are never taken.
    void take_top_k(int k, std::vector<Candidate>& out);                 // in order
    void take_above(float bar, std::vector<Candidate>& out) const;       // logit >= bar, by id
    void take_heavier(float weight, std::vector<Candidate>& out) const;  // after weigh(), by id

    // Softmax weights exp((logit - largest) * inverse_temperature) of all; returns their sum.
    double weigh(float inverse_temperature);
    // After weigh(): the id at which the running sum of weights passes `mass`, which is less than the sum.
    int32_t find_mass(double mass) const;

 private:
    std::span<const float> block(size_t b) const;

    int vocab_size_;
    std::span<const float> logits_;
    std::vector<float> largest_of_block_;
    std::vector<float> bars_;  // scratch of take_top_k
    std::vector<float> weights_;
    std::vector<double> mass_of_block_;
    float largest_ = -std::numeric_limits<float>::infinity();
    bool has_nan_ = false;
};

}  // namespace smelt
