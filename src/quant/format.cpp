// Decoding by the list, encoding format by format.
#include "quant/format.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "base/error.h"

namespace smelt {

namespace {

template <class Block>
constexpr FormatInfo make_info(Format f, int gguf_id, std::string_view name, bool planar) {
    const int scale = planar ? static_cast<int>(sizeof(float)) : 0;
    return {f, gguf_id, name, planar, Block::block_len, static_cast<int>(sizeof(Block)) - scale, scale};
}

constexpr std::array formats = {
#define X(fmt_name, id, text, planar) make_info<Block##fmt_name>(Format::fmt_name, id, text, planar),
    QUANT_FORMATS(X)
#undef X
};

template <class Block>
void decode_blocks(const RowView& row, std::span<float> out) {
    const FormatInfo& info = format_info(row.format);
    for (int64_t i = 0; i < row.n / Block::block_len; ++i) {
        Block b;
        if (info.planar) {
            std::memcpy(&b, row.scales + i * info.scale_bytes, static_cast<size_t>(info.scale_bytes));
            std::memcpy(reinterpret_cast<std::byte*>(&b) + info.scale_bytes, row.data + i * info.block_bytes,
                        static_cast<size_t>(info.block_bytes));
        } else {
            std::memcpy(&b, row.data + i * static_cast<int64_t>(sizeof(Block)), sizeof(Block));
        }
        Block::decode(b, out.data() + i * Block::block_len);
    }
}

float largest_magnitude(std::span<const float> x) {
    float largest = 0;
    for (const float v : x) largest = std::max(largest, std::fabs(v));
    return largest;
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

// The quants are made with the unrounded scale, as the published encoder does, so that files are the same to
// the byte.
void encode(std::span<const float> x, BlockQ8_0& b) {
    const float d = largest_magnitude(x) / 127;
    const float inverse = d == 0 ? 0 : 1 / d;
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
    const float inverse = d == 0 ? 0 : 1 / d;
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

const FormatInfo& format_info(Format f) {
    return formats[static_cast<size_t>(f)];
}

std::span<const FormatInfo> all_formats() {
    return formats;
}

std::optional<Format> format_from_name(std::string_view name) {
    for (const FormatInfo& info : formats) {
        if (info.name == name) return info.format;
    }
    return std::nullopt;
}

std::optional<Format> format_from_gguf(uint32_t id) {
    for (const FormatInfo& info : formats) {
        if (info.gguf_id >= 0 && static_cast<uint32_t>(info.gguf_id) == id) return info.format;
    }
    return std::nullopt;
}

void decode_row(const RowView& row, std::span<float> out) {
    CHECK(static_cast<int64_t>(out.size()) == row.n && row.n % format_info(row.format).block_len == 0);
    switch (row.format) {
#define X(name, ...)   \
    case Format::name: \
        return decode_blocks<Block##name>(row, out);
        QUANT_FORMATS(X)
#undef X
    }
}

void encode_row(Format f, std::span<const float> x, std::byte* data, std::byte* scales) {
    CHECK(static_cast<int64_t>(x.size()) % format_info(f).block_len == 0);
    switch (f) {
#define X(name, ...)   \
    case Format::name: \
        return encode_blocks<Block##name>(f, x, data, scales);
        QUANT_FORMATS(X)
#undef X
    }
}

}  // namespace smelt
