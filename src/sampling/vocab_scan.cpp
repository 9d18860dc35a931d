// Loops over blocks of 64 floats in 16 independent lanes, a form that compilers vectorise without fast-math.
#include "sampling/vocab_scan.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include "base/error.h"

namespace smelt {

namespace {

constexpr float inf = std::numeric_limits<float>::infinity();
constexpr size_t block_len = VocabScan::block_len;
constexpr size_t n_lanes = 16;

using Padded = std::array<float, block_len>;

// A whole block of floats; the last of the vocabulary is filled up with -inf.
const float* whole(std::span<const float> block, Padded& padded) {
    if (block.size() == block_len) return block.data();
    padded.fill(-inf);
    std::ranges::copy(block, padded.begin());
    return padded.data();
}

struct BlockScan {
    float largest;
    bool has_nan;
};

BlockScan scan_block(const float* x) {
    std::array<float, n_lanes> largest;
    std::array<int32_t, n_lanes> nan{};
    largest.fill(-inf);
    for (size_t i = 0; i < block_len; i += n_lanes) {
        for (size_t j = 0; j < n_lanes; ++j) {
            largest[j] = x[i + j] > largest[j] ? x[i + j] : largest[j];
            nan[j] |= x[i + j] != x[i + j] ? 1 : 0;
        }
    }
    int32_t any_nan = 0;
    for (const int32_t n : nan) any_nan |= n;
    return {*std::max_element(largest.begin(), largest.end()), any_nan != 0};
}

// exp(x) for x <= 0 with a relative error below 1e-6; 0 below -87. Cephes' expf: x = n ln 2 + r, a polynomial
// in r, times 2^n. The range is checked on the bits without a condition, which would become a branch and keep
// loops scalar.
inline float exp_negative(float x) {
    constexpr int32_t limit = std::bit_cast<int32_t>(87.0f);
    const int32_t magnitude = std::bit_cast<int32_t>(x) & 0x7fffffff;
    const float clamped = -std::bit_cast<float>(magnitude < limit ? magnitude : limit);
    const int32_t n = static_cast<int32_t>(clamped * 1.44269504f - 0.5f);
    const float nf = static_cast<float>(n);
    const float r = clamped - nf * 0.693359375f + nf * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    const int32_t result = std::bit_cast<int32_t>(p * std::bit_cast<float>((n + 127) << 23));
    const int32_t in_range = (magnitude - limit - 1) >> 31;  // all ones or zero
    return std::bit_cast<float>(result & in_range);
}

float weigh_block(const float* x, float largest, float inverse_temperature, float* weights) {
    std::array<float, n_lanes> sum{};
    for (size_t i = 0; i < block_len; i += n_lanes) {
        for (size_t j = 0; j < n_lanes; ++j) {
            const float w = exp_negative((x[i + j] - largest) * inverse_temperature);
            weights[i + j] = w;
            sum[j] += w;
        }
    }
    float total = 0;
    for (const float s : sum) total += s;
    return total;
}

}  // namespace

VocabScan::VocabScan(int vocab_size) : vocab_size_(vocab_size) {
    CHECK(vocab_size > 0);
    const size_t n_blocks = (static_cast<size_t>(vocab_size) + block_len - 1) / block_len;
    largest_of_block_.resize(n_blocks);
    bars_.reserve(n_blocks);
    weights_.resize(n_blocks * block_len);
    mass_of_block_.resize(n_blocks);
}

std::span<const float> VocabScan::block(size_t b) const {
    const size_t first = b * block_len;
    return logits_.subspan(first, std::min(block_len, logits_.size() - first));
}

void VocabScan::scan(std::span<const float> logits) {
    CHECK(logits.size() == static_cast<size_t>(vocab_size_), "{} logits", logits.size());
    logits_ = logits;
    has_nan_ = false;
    largest_ = -inf;
    Padded padded;
    for (size_t b = 0; b < largest_of_block_.size(); ++b) {
        const BlockScan s = scan_block(whole(block(b), padded));
        largest_of_block_[b] = s.largest;
        largest_ = std::max(largest_, s.largest);
        has_nan_ |= s.has_nan;
    }
}

void VocabScan::rescan(std::span<const int32_t> ids) {
    for (const int32_t id : ids) {
        const size_t b = static_cast<size_t>(id) / block_len;
        largest_of_block_[b] = *std::ranges::max_element(block(b));
    }
    largest_ = *std::ranges::max_element(largest_of_block_);
}

int32_t VocabScan::argmax() const {
    const auto b =
        static_cast<size_t>(std::ranges::find(largest_of_block_, largest_) - largest_of_block_.begin());
    const auto at = std::ranges::find(block(b), largest_) - block(b).begin();
    return static_cast<int32_t>(b * block_len) + static_cast<int32_t>(at);
}

void VocabScan::take_above(float bar, std::vector<Candidate>& out) const {
    out.clear();
    for (size_t b = 0; b < largest_of_block_.size(); ++b) {
        if (largest_of_block_[b] < bar) continue;
        int32_t id = static_cast<int32_t>(b * block_len);
        for (const float x : block(b)) {
            if (x >= bar && x != -inf) out.push_back({id, x});
            ++id;
        }
    }
}

void VocabScan::take_top_k(int k, std::vector<Candidate>& out) {
    CHECK(k > 0);
    // k blocks have their largest at or above the k-th largest of these: so have the k largest of all.
    float bar = -inf;
    const auto kth = static_cast<size_t>(k) - 1;
    if (kth < largest_of_block_.size()) {
        bars_ = largest_of_block_;
        std::ranges::nth_element(bars_, bars_.begin() + static_cast<ptrdiff_t>(kth), std::greater<>());
        bar = bars_[kth];
    }
    take_above(bar, out);
    if (kth + 1 < out.size()) {
        std::ranges::nth_element(out, out.begin() + static_cast<ptrdiff_t>(kth), ranks_before);
        out.resize(kth + 1);
    }
    std::ranges::sort(out, ranks_before);
}

double VocabScan::weigh(float inverse_temperature) {
    double sum = 0;
    Padded padded;
    for (size_t b = 0; b < largest_of_block_.size(); ++b) {
        const float mass =
            weigh_block(whole(block(b), padded), largest_, inverse_temperature, &weights_[b * block_len]);
        mass_of_block_[b] = static_cast<double>(mass);
        sum += mass_of_block_[b];
    }
    return sum;
}

void VocabScan::take_heavier(float weight, std::vector<Candidate>& out) const {
    out.clear();
    for (size_t b = 0; b < largest_of_block_.size(); ++b) {
        if (mass_of_block_[b] < static_cast<double>(weight)) continue;
        const std::span<const float> logits = block(b);
        for (size_t i = 0; i < logits.size(); ++i) {
            const float w = weights_[b * block_len + i];
            if (w >= weight && w > 0) {
                out.push_back({static_cast<int32_t>(b * block_len + i), logits[i], w});
            }
        }
    }
}

int32_t VocabScan::find_mass(double mass) const {
    int32_t last = argmax();  // where rounding leaves nothing to find
    for (size_t b = 0; b < mass_of_block_.size(); ++b) {
        if (mass >= mass_of_block_[b]) {
            mass -= mass_of_block_[b];
            continue;
        }
        for (size_t i = 0; i < block(b).size(); ++i) {
            const float w = weights_[b * block_len + i];
            if (w <= 0) continue;
            last = static_cast<int32_t>(b * block_len + i);
            mass -= static_cast<double>(w);
            if (mass < 0) return last;
        }
        return last;
    }
    return last;
}

}  // namespace smelt
