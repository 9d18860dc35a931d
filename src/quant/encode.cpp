// Float to weights, format by format.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/error.h"
#include "quant/format.h"
#include "quant/group_search.h"

namespace smelt {

namespace {

float largest_magnitude(std::span<const float> x) {
    float largest = 0;
    for (const float v : x) largest = std::max(largest, std::fabs(v));
    return largest;
}

// Ties to even; beyond the largest number that number.
template <class Element>
uint32_t nearest_code(double v) {
    constexpr int m = Element::mantissa_bits;
    const uint32_t sign = std::signbit(v) ? 1u << (Element::n_bits - 1) : 0;
    const double magnitude = std::fabs(v);
    if (magnitude == 0) return sign;
    const int exponent = std::max(std::ilogb(magnitude), 1 - Element::bias);
    // In steps of the binade; a subnormal has an exponent of 0 and so no leading one to take off.
    const auto steps = static_cast<int>(std::nearbyint(std::ldexp(magnitude, m - exponent)));
    const int code = ((exponent + Element::bias) << m) + steps - (1 << m);
    return sign | static_cast<uint32_t>(std::min(code, Element::largest_code));
}

void encode(std::span<const float> x, BlockF32& b) {
    b.value = x[0];
}
void encode(std::span<const float> x, BlockF16& b) {
    b.value = F16::from(x[0]);
}
void encode(std::span<const float> x, BlockBF16& b) {
    b.value = BF16::from(x[0]);
}

// Of a scale so small that 1 / d is infinite, and 0 as a half anyway: quants of 0, the same on every device.
float inverse_of(float d) {
    return std::fabs(d) < 0x1p-126f ? 0 : 1 / d;
}

// The quants are made with the unrounded scale, as the published encoder does, so that files are the same to
// the byte.
void encode(std::span<const float> x, BlockQ8_0& b) {
    const float d = largest_magnitude(x) / 127;
    const float inverse = inverse_of(d);
    b.d = F16::from(d);
    for (size_t i = 0; i < x.size(); ++i) b.qs[i] = static_cast<int8_t>(std::round(x[i] * inverse));
}

// The value of largest magnitude maps to -8, the end of the range that has no counterpart.
void encode(std::span<const float> x, BlockQ4_0& b) {
    float extreme = 0;
    for (const float v : x) {
        if (std::fabs(v) > std::fabs(extreme)) extreme = v;
    }
    const float d = extreme / -8;
    const float inverse = inverse_of(d);
    b.d = F16::from(d);
    const auto nibble = [&](float v) {
        return static_cast<uint8_t>(std::min(15, static_cast<int>(v * inverse + 8.5f)));
    };
    for (size_t i = 0; i < 16; ++i) b.qs[i] = static_cast<uint8_t>(nibble(x[i]) | (nibble(x[i + 16]) << 4));
}

void encode(std::span<const float> x, BlockQ8_G64& b) {
    b.d = largest_magnitude(x) / 127;
    for (size_t i = 0; i < x.size(); ++i) {
        b.qs[i] = b.d == 0 ? int8_t{0} : static_cast<int8_t>(std::nearbyint(x[i] / b.d));
    }
}

void encode(std::span<const float> x, BlockNVFP4_HF& b) {
    b = {};
    b.scale = largest_magnitude(x) / static_cast<float>(E2M1::value(E2M1::largest_code));
    for (size_t i = 0; i < x.size(); ++i) {
        const double v = b.scale == 0 ? 0 : static_cast<double>(x[i]) / static_cast<double>(b.scale);
        b.qs[i / 2] = static_cast<uint8_t>(b.qs[i / 2] | nearest_code<E2M1>(v) << (i % 2 * 4));
    }
}

// The power of two that brings the largest magnitude into the element's last binade.
template <class Block>
requires requires {
    typename Block::Element;
}
void encode(std::span<const float> x, Block& b) {
    using Element = typename Block::Element;
    const float largest = largest_magnitude(x);
    const int exponent =
        largest == 0 ? -127 : std::clamp(std::ilogb(largest) - Element::largest_exponent, -127, 127);
    b = {};
    b.scale = {static_cast<uint8_t>(exponent + 127)};
    for (int i = 0; i < Block::block_len; ++i) {
        const float v = x[static_cast<size_t>(i)];
        Block::set_code(&b, i, nearest_code<Element>(std::ldexp(static_cast<double>(v), -exponent)));
    }
}

// What a weight counts for where nobody says: the more the larger it is, since large ones are met by larger
// products. Chosen by the KL of demo-23m.
void importance_by_size(std::span<const float> x, std::span<float> w) {
    float squares = 0;
    for (const float v : x) squares += v * v;
    const float deviation = std::sqrt(squares / static_cast<float>(x.size()));
    for (size_t i = 0; i < x.size(); ++i) w[i] = deviation + std::fabs(x[i]);
}

void encode_by_size(Format f, std::span<const float> x, std::byte* data) {
    encode_important(f, x, {}, data);
}

template <class Block>
void encode_blocks(Format f, std::span<const float> x, std::byte* data, std::byte* scales) {
    const FormatInfo& info = format_info(f);
    for (size_t i = 0; i < x.size() / Block::block_len; ++i) {
        Block b;
        encode(x.subspan(i * Block::block_len, Block::block_len), b);
        const auto scale_size = static_cast<size_t>(info.scale_bytes),
                   size = static_cast<size_t>(info.block_bytes);
        if (info.planar) std::memcpy(scales + i * scale_size, &b, scale_size);
        std::memcpy(data + i * size, reinterpret_cast<const std::byte*>(&b) + scale_size, size);
    }
}

}  // namespace

void encode_weighted(Format f, std::span<const float> x, std::span<const float> importance, std::byte* data) {
    const auto layout = group_layout(f);
    CHECK(layout && x.size() % static_cast<size_t>(layout->block_len) == 0 && importance.size() == x.size());
    const auto n = static_cast<size_t>(layout->block_len);
    for (size_t i = 0; i < x.size(); i += n, data += format_info(f).block_bytes) {
        pack_block(f, search_block(*layout, x.subspan(i, n), importance.subspan(i, n)), data);
    }
}

void encode_important(Format f, std::span<const float> x, std::span<const float> importance,
                      std::byte* data) {
    std::vector<float> all(x.size());
    const auto n = static_cast<size_t>(format_info(f).block_len);
    for (size_t i = 0; i < x.size(); i += n)
        importance_by_size(x.subspan(i, n), std::span(all).subspan(i, n));
    for (size_t i = 0; i < importance.size(); ++i) all[i] *= importance[i];
    encode_weighted(f, x, all, data);
}

void encode_row(Format f, std::span<const float> x, std::byte* data, std::byte* scales) {
    CHECK(format_info(f).can_encode && static_cast<int64_t>(x.size()) % format_info(f).block_len == 0);
    if (is_of_groups(f) && f != Format::Q8_0 && f != Format::Q4_0) return encode_by_size(f, x, data);
    switch (f) {
#define X(name, id, text, encodes)                                                    \
    case Format::name:                                                                \
        if constexpr (encodes) return encode_blocks<Block##name>(f, x, data, scales); \
        break;
        QUANT_FORMATS(X)
#undef X
    }
}

}  // namespace smelt
