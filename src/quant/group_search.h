// Scales, mins and codes for weights, by weighted least squares: what GGUF's integer formats are encoded
// with. Weights are rounded here each by itself; what one weight's error does to the others' product is the
// lab's business.
#pragma once

#include <span>

#include "quant/group_codes.h"

namespace smelt {

// Makes the sum of importance * (x - value)² over a block small. Importance is not negative.
GroupCodes search_block(const GroupLayout& layout, std::span<const float> x,
                        std::span<const float> importance);

// The same for group g alone, where d and dmin stay: x and importance are the group's.
void search_group(const GroupLayout& layout, int g, std::span<const float> x,
                  std::span<const float> importance, GroupCodes& codes);

// A row in a format of groups: search_block() for each block. x.size() is a multiple of the block's length,
// importance is as long. encode_row() takes larger weights for more important.
void encode_weighted(Format f, std::span<const float> x, std::span<const float> importance, std::byte* data);

// The same where importance says what the columns of a matrix count for: larger weights count more as well.
void encode_important(Format f, std::span<const float> x, std::span<const float> importance, std::byte* data);

// The code whose level is nearest to v, in units of the group's scale.
uint8_t nearest_code(const GroupLayout& layout, float v);

}  // namespace smelt
