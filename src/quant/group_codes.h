// GGUF's integer formats as one kind of thing: a block of groups, w = d * scale * level[code] - dmin * min,
// with a scale and a min for each group and a code for each weight. What encoders search in; packing makes
// bytes of it. No search here.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>

#include "quant/format.h"

namespace smelt {

struct GroupLayout {
    int block_len = 0, group_len = 0;
    std::span<const float> levels = {};  // of the codes, ascending
    // Of groups; both 1 where the block is a single group without a scale of its own.
    int scale_low = 1, scale_high = 1;
    int min_high = 0;            // mins are 0 to this; 0: none
    bool signed_offset = false;  // the single min may lie on either side of zero
    int n_groups() const { return block_len / group_len; }
    bool has_min() const { return min_high > 0; }
    bool has_scales() const { return scale_high > scale_low; }
    bool evenly() const { return levels.size() > 16 || levels[1] - levels[0] == levels[2] - levels[1]; }
};

// The formats that are groups: GGUF's of 32 weights with one scale, and its super-blocks.
constexpr bool is_of_groups(Format f) {
    switch (f) {
        case Format::Q4_0:
        case Format::Q4_1:
        case Format::Q5_0:
        case Format::Q5_1:
        case Format::Q8_0:
        case Format::Q2_K:
        case Format::Q3_K:
        case Format::Q4_K:
        case Format::Q5_K:
        case Format::Q6_K:
        case Format::IQ4_NL:
        case Format::IQ4_XS:
            return true;
        default:
            return false;
    }
}

// Nothing for formats of another kind.
std::optional<GroupLayout> group_layout(Format f);

// A block, of which only the layout's groups and weights count.
struct GroupCodes {
    static constexpr int most_groups = 16, most_weights = 256;
    float d = 0, dmin = 0;  // values of a half
    std::array<int16_t, most_groups> scale{}, min{};
    std::array<uint8_t, most_weights> code{};
};

// To and from the format's block, to the bit; scales, mins and codes are within the layout.
void pack_block(Format f, const GroupCodes& codes, std::byte* block);
GroupCodes unpack_block(Format f, const std::byte* block);

// The weights that the codes stand for: those of a packed block up to the rounding of the sum.
void values_of(const GroupLayout& layout, const GroupCodes& codes, std::span<float> out);

}  // namespace smelt
