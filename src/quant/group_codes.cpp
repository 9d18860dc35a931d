// A pair of functions for each format, and what its groups may hold.
#include "quant/group_codes.h"

#include <cstring>

#include "base/error.h"

namespace smelt {

namespace {

template <int low, int n>
constexpr std::array<float, n> integers() {
    std::array<float, n> levels{};
    for (int i = 0; i < n; ++i) levels[static_cast<size_t>(i)] = static_cast<float>(low + i);
    return levels;
}
constexpr std::array<float, 16> iq4_levels() {
    std::array<float, 16> levels{};
    for (int i = 0; i < 16; ++i) levels[static_cast<size_t>(i)] = iq4_value(i);
    return levels;
}

constexpr auto unsigned_2 = integers<0, 4>();
constexpr auto unsigned_4 = integers<0, 16>();
constexpr auto unsigned_5 = integers<0, 32>();
constexpr auto signed_3 = integers<-4, 8>();
constexpr auto signed_4 = integers<-8, 16>();
constexpr auto signed_5 = integers<-16, 32>();
constexpr auto signed_6 = integers<-32, 64>();
constexpr auto signed_8 = integers<-127, 255>();
constexpr auto uneven_4 = iq4_levels();

uint8_t byte(int v) {
    return static_cast<uint8_t>(v);
}
void put(uint8_t& b, int bits) {
    b = byte(b | bits);
}

// Nibbles of 32 weights: the low ones are weights 0 to 15.
template <class Codes>
void pack_nibbles(const Codes& code, uint8_t* qs) {
    for (size_t i = 0; i < 16; ++i) qs[i] = byte((code[i] & 15) | ((code[i + 16] & 15) << 4));
}
void unpack_nibbles(const uint8_t* qs, GroupCodes& c) {
    for (size_t i = 0; i < 32; ++i) c.code[i] = byte((qs[i % 16] >> (i / 16 * 4)) & 15);
}
template <class Codes>
void pack_fifth(const Codes& code, uint8_t* qh) {
    for (size_t i = 0; i < 32; ++i) put(qh[i / 8], ((code[i] >> 4) & 1) << (i % 8));
}
void unpack_fifth(const uint8_t* qh, GroupCodes& c) {
    for (size_t i = 0; i < 32; ++i) put(c.code[i], ((qh[i / 8] >> (i % 8)) & 1) << 4);
}
void ones(GroupCodes& c, bool min) {
    c.scale[0] = 1;
    c.min[0] = min ? 1 : 0;
}

void pack(const GroupCodes& c, BlockQ8_0& b) {
    b.d = F16::from(c.d);
    for (size_t i = 0; i < 32; ++i) b.qs[i] = static_cast<int8_t>(c.code[i] - 127);
}
void unpack(const BlockQ8_0& b, GroupCodes& c) {
    c.d = b.d;
    ones(c, false);
    for (size_t i = 0; i < 32; ++i) c.code[i] = byte(std::max<int>(b.qs[i], -127) + 127);
}

void pack(const GroupCodes& c, BlockQ4_0& b) {
    b.d = F16::from(c.d);
    pack_nibbles(c.code, b.qs);
}
void unpack(const BlockQ4_0& b, GroupCodes& c) {
    c.d = b.d;
    ones(c, false);
    unpack_nibbles(b.qs, c);
}

void pack(const GroupCodes& c, BlockIQ4_NL& b) {
    b.d = F16::from(c.d);
    pack_nibbles(c.code, b.qs);
}
void unpack(const BlockIQ4_NL& b, GroupCodes& c) {
    c.d = b.d;
    ones(c, false);
    unpack_nibbles(b.qs, c);
}

void pack(const GroupCodes& c, BlockQ4_1& b) {
    b.d = F16::from(c.d);
    b.m = F16::from(-c.dmin);
    pack_nibbles(c.code, b.qs);
}
void unpack(const BlockQ4_1& b, GroupCodes& c) {
    c.d = b.d;
    c.dmin = -static_cast<float>(b.m);
    ones(c, true);
    unpack_nibbles(b.qs, c);
}

void pack(const GroupCodes& c, BlockQ5_0& b) {
    b.d = F16::from(c.d);
    pack_fifth(c.code, b.qh);
    pack_nibbles(c.code, b.qs);
}
void unpack(const BlockQ5_0& b, GroupCodes& c) {
    c.d = b.d;
    ones(c, false);
    unpack_nibbles(b.qs, c);
    unpack_fifth(b.qh, c);
}

void pack(const GroupCodes& c, BlockQ5_1& b) {
    b.d = F16::from(c.d);
    b.m = F16::from(-c.dmin);
    pack_fifth(c.code, b.qh);
    pack_nibbles(c.code, b.qs);
}
void unpack(const BlockQ5_1& b, GroupCodes& c) {
    c.d = b.d;
    c.dmin = -static_cast<float>(b.m);
    ones(c, true);
    unpack_nibbles(b.qs, c);
    unpack_fifth(b.qh, c);
}

// Place of weight i of a super-block among bytes that hold four quarters of 32 one above the other.
size_t quarter_byte(size_t i) {
    return i / 128 * 32 + i % 32;
}
int quarter_shift(size_t i) {
    return static_cast<int>(i / 32 % 4 * 2);
}
// The same of nibbles, two groups of 32 in 32 bytes.
size_t nibble_byte(size_t i) {
    return i / 64 * 32 + i % 32;
}
int nibble_shift(size_t i) {
    return static_cast<int>(i / 32 % 2 * 4);
}

void pack(const GroupCodes& c, BlockQ2_K& b) {
    b.d = F16::from(c.d);
    b.dmin = F16::from(c.dmin);
    for (size_t g = 0; g < 16; ++g) b.scales[g] = byte(c.scale[g] | (c.min[g] << 4));
    for (size_t i = 0; i < 256; ++i) put(b.qs[quarter_byte(i)], c.code[i] << quarter_shift(i));
}
void unpack(const BlockQ2_K& b, GroupCodes& c) {
    c.d = b.d;
    c.dmin = b.dmin;
    for (size_t g = 0; g < 16; ++g) {
        c.scale[g] = b.scales[g] & 15;
        c.min[g] = b.scales[g] >> 4;
    }
    for (size_t i = 0; i < 256; ++i) c.code[i] = byte((b.qs[quarter_byte(i)] >> quarter_shift(i)) & 3);
}

void pack(const GroupCodes& c, BlockQ3_K& b) {
    b.d = F16::from(c.d);
    for (size_t g = 0; g < 16; ++g) {
        const int s = c.scale[g] + 32;
        put(b.scales[g % 8], (s & 15) << (g / 8 * 4));
        put(b.scales[8 + g % 4], (s >> 4) << (g / 4 * 2));
    }
    for (size_t i = 0; i < 256; ++i) {
        put(b.qs[quarter_byte(i)], (c.code[i] & 3) << quarter_shift(i));
        put(b.hmask[i % 32], (c.code[i] >> 2) << (i / 32));
    }
}
void unpack(const BlockQ3_K& b, GroupCodes& c) {
    c.d = b.d;
    for (size_t g = 0; g < 16; ++g) {
        c.scale[g] = static_cast<int16_t>(BlockQ3_K::scale(&b, static_cast<int>(g)));
    }
    for (size_t i = 0; i < 256; ++i) {
        c.code[i] = byte(((b.qs[quarter_byte(i)] >> quarter_shift(i)) & 3) |
                         (((b.hmask[i % 32] >> (i / 32)) & 1) << 2));
    }
}

void pack_scales(const GroupCodes& c, uint8_t* scales) {
    for (size_t g = 0; g < 8; ++g) {
        const int s = c.scale[g], m = c.min[g];
        if (g < 4) {
            put(scales[g], s);
            put(scales[g + 4], m);
        } else {
            scales[g + 4] = byte((s & 15) | ((m & 15) << 4));
            put(scales[g - 4], s >> 4 << 6);
            put(scales[g], m >> 4 << 6);
        }
    }
}
void unpack_scales(const uint8_t* scales, GroupCodes& c) {
    for (size_t g = 0; g < 8; ++g) {
        const ScaleAndMin s = scale_and_min(scales, static_cast<int>(g));
        c.scale[g] = static_cast<int16_t>(s.scale);
        c.min[g] = static_cast<int16_t>(s.min);
    }
}

void pack(const GroupCodes& c, BlockQ4_K& b) {
    b.d = F16::from(c.d);
    b.dmin = F16::from(c.dmin);
    pack_scales(c, b.scales);
    for (size_t i = 0; i < 256; ++i) put(b.qs[nibble_byte(i)], c.code[i] << nibble_shift(i));
}
void unpack(const BlockQ4_K& b, GroupCodes& c) {
    c.d = b.d;
    c.dmin = b.dmin;
    unpack_scales(b.scales, c);
    for (size_t i = 0; i < 256; ++i) c.code[i] = byte((b.qs[nibble_byte(i)] >> nibble_shift(i)) & 15);
}

void pack(const GroupCodes& c, BlockQ5_K& b) {
    b.d = F16::from(c.d);
    b.dmin = F16::from(c.dmin);
    pack_scales(c, b.scales);
    for (size_t i = 0; i < 256; ++i) {
        put(b.qs[nibble_byte(i)], (c.code[i] & 15) << nibble_shift(i));
        put(b.qh[i % 32], (c.code[i] >> 4) << (i / 32));
    }
}
void unpack(const BlockQ5_K& b, GroupCodes& c) {
    c.d = b.d;
    c.dmin = b.dmin;
    unpack_scales(b.scales, c);
    for (size_t i = 0; i < 256; ++i) {
        c.code[i] =
            byte(((b.qs[nibble_byte(i)] >> nibble_shift(i)) & 15) | (((b.qh[i % 32] >> (i / 32)) & 1) << 4));
    }
}

// Of each half, the first 64 weights are low nibbles.
size_t q6_byte(size_t i) {
    return i / 128 * 64 + i % 64;
}
int q6_shift(size_t i) {
    return static_cast<int>(i % 128 / 64 * 4);
}
void pack(const GroupCodes& c, BlockQ6_K& b) {
    b.d = F16::from(c.d);
    for (size_t g = 0; g < 16; ++g) b.scales[g] = static_cast<int8_t>(c.scale[g]);
    for (size_t i = 0; i < 256; ++i) {
        put(b.ql[q6_byte(i)], (c.code[i] & 15) << q6_shift(i));
        put(b.qh[quarter_byte(i)], (c.code[i] >> 4) << quarter_shift(i));
    }
}
void unpack(const BlockQ6_K& b, GroupCodes& c) {
    c.d = b.d;
    for (size_t g = 0; g < 16; ++g) c.scale[g] = b.scales[g];
    for (size_t i = 0; i < 256; ++i) {
        c.code[i] = byte(((b.ql[q6_byte(i)] >> q6_shift(i)) & 15) |
                         (((b.qh[quarter_byte(i)] >> quarter_shift(i)) & 3) << 4));
    }
}

void pack(const GroupCodes& c, BlockIQ4_XS& b) {
    b.d = F16::from(c.d);
    for (size_t g = 0; g < 8; ++g) {
        const int s = c.scale[g] + 32;
        put(b.scales_l[g / 2], (s & 15) << (g % 2 * 4));
        put(b.scales_h[g / 4], (s >> 4) << (g % 4 * 2));
    }
    for (size_t g = 0; g < 8; ++g) pack_nibbles(std::span(c.code).subspan(32 * g, 32), b.qs + 16 * g);
}
void unpack(const BlockIQ4_XS& b, GroupCodes& c) {
    c.d = b.d;
    for (size_t g = 0; g < 8; ++g) {
        c.scale[g] = static_cast<int16_t>(BlockIQ4_XS::scale(&b, static_cast<int>(g)));
    }
    for (size_t i = 0; i < 256; ++i) c.code[i] = byte((b.qs[i / 32 * 16 + i % 16] >> (i % 32 / 16 * 4)) & 15);
}

// f(Block) for the formats that are groups.
template <class F>
bool with_block(Format format, F&& f) {
    switch (format) {
        case Format::Q4_0:
            return f(BlockQ4_0{}), true;
        case Format::Q4_1:
            return f(BlockQ4_1{}), true;
        case Format::Q5_0:
            return f(BlockQ5_0{}), true;
        case Format::Q5_1:
            return f(BlockQ5_1{}), true;
        case Format::Q8_0:
            return f(BlockQ8_0{}), true;
        case Format::Q2_K:
            return f(BlockQ2_K{}), true;
        case Format::Q3_K:
            return f(BlockQ3_K{}), true;
        case Format::Q4_K:
            return f(BlockQ4_K{}), true;
        case Format::Q5_K:
            return f(BlockQ5_K{}), true;
        case Format::Q6_K:
            return f(BlockQ6_K{}), true;
        case Format::IQ4_NL:
            return f(BlockIQ4_NL{}), true;
        case Format::IQ4_XS:
            return f(BlockIQ4_XS{}), true;
        default:
            return false;
    }
}

}  // namespace

std::optional<GroupLayout> group_layout(Format f) {
    switch (f) {
        case Format::Q4_0:
            return GroupLayout{.block_len = 32, .group_len = 32, .levels = signed_4};
        case Format::Q4_1:
            return GroupLayout{
                .block_len = 32, .group_len = 32, .levels = unsigned_4, .min_high = 1, .signed_offset = true};
        case Format::Q5_0:
            return GroupLayout{.block_len = 32, .group_len = 32, .levels = signed_5};
        case Format::Q5_1:
            return GroupLayout{
                .block_len = 32, .group_len = 32, .levels = unsigned_5, .min_high = 1, .signed_offset = true};
        case Format::Q8_0:
            return GroupLayout{.block_len = 32, .group_len = 32, .levels = signed_8};
        case Format::IQ4_NL:
            return GroupLayout{.block_len = 32, .group_len = 32, .levels = uneven_4};
        case Format::Q2_K:
            return GroupLayout{.block_len = 256,
                               .group_len = 16,
                               .levels = unsigned_2,
                               .scale_low = 0,
                               .scale_high = 15,
                               .min_high = 15};
        case Format::Q3_K:
            return GroupLayout{
                .block_len = 256, .group_len = 16, .levels = signed_3, .scale_low = -32, .scale_high = 31};
        case Format::Q4_K:
        case Format::Q5_K:
            return GroupLayout{.block_len = 256,
                               .group_len = 32,
                               .levels = f == Format::Q4_K ? std::span<const float>(unsigned_4) : unsigned_5,
                               .scale_low = 0,
                               .scale_high = 63,
                               .min_high = 63};
        case Format::Q6_K:
            return GroupLayout{
                .block_len = 256, .group_len = 16, .levels = signed_6, .scale_low = -128, .scale_high = 127};
        case Format::IQ4_XS:
            return GroupLayout{
                .block_len = 256, .group_len = 32, .levels = uneven_4, .scale_low = -32, .scale_high = 31};
        default:
            return std::nullopt;
    }
}

void pack_block(Format f, const GroupCodes& codes, std::byte* block) {
    const bool known = with_block(f, [&](auto b) {
        pack(codes, b);
        std::memcpy(block, &b, sizeof(b));
    });
    CHECK(known, "{}", to_string(f));
}

GroupCodes unpack_block(Format f, const std::byte* block) {
    GroupCodes codes;
    const bool known = with_block(f, [&](auto b) {
        std::memcpy(&b, block, sizeof(b));
        unpack(b, codes);
    });
    CHECK(known, "{}", to_string(f));
    return codes;
}

void values_of(const GroupLayout& layout, const GroupCodes& c, std::span<float> out) {
    for (int g = 0; g < layout.n_groups(); ++g) {
        const auto at = static_cast<size_t>(g);
        const float scale = c.d * static_cast<float>(c.scale[at]),
                    min = c.dmin * static_cast<float>(c.min[at]);
        const auto first = static_cast<size_t>(g * layout.group_len);
        for (size_t i = first; i < first + static_cast<size_t>(layout.group_len); ++i) {
            out[i] = scale * layout.levels[c.code[i]] - min;
        }
    }
}

}  // namespace smelt
