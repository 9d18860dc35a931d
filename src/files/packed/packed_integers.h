// One weight of GPTQ or AWQ: integers in 32-bit words, a scale and a zero point for each group of inputs.
#pragma once

#include <string>
#include <vector>

#include "files/packed/packed_weights.h"

namespace smelt {

// AWQ: which nibble of a word has output 8 i + j.
inline constexpr int awq_nibble[8] = {0, 4, 1, 5, 2, 6, 3, 7};

struct PackedParts {
    const SafetensorsEntry *qweight, *qzeros, *scales, *g_idx;  // null: missing
};

class PackedIntegers {
 public:
    // Throws Error naming what is missing or does not fit.
    PackedIntegers(const QuantScheme& scheme, const PackedParts& parts, const std::string& name,
                   const std::string& source);

    int64_t n_out() const { return n_out_; }
    int64_t n_in() const { return n_in_; }
    // Q4_Z or Q8_Z where the 32 weights of a block share a group. Else, when groups are by importance
    // ("act-order"), F16: what the reference implementations multiply with, at 16 bits/weight.
    Format format() const { return format_; }

    // Rows [first, last) of (n_out, n_in) to their place in out.
    void write_rows(int64_t first, int64_t last, std::span<std::byte> out) const;

 private:
    template <int bits>
    uint32_t quant(int64_t in, int64_t out) const;
    uint32_t zero(int64_t group, int64_t out) const;
    float scale(int64_t group, int64_t out) const;
    template <int bits>
    void write_rows_of(int64_t first, int64_t last, std::span<std::byte> out) const;
    void check_groups();
    [[noreturn]] void fail(const std::string& expected, const std::string& found) const;

    QuantScheme scheme_;
    std::string name_, source_;
    std::vector<uint32_t> zeros_;
    std::vector<float> scales_;
    std::span<const std::byte> words_;
    std::vector<int32_t> groups_;  // of each input
    int64_t n_in_ = 0, n_out_ = 0, n_groups_ = 0;
    Format format_ = Format::F16;
};

}  // namespace smelt
