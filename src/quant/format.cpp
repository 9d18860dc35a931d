// What is derived from the list, and decoding. Encoding is encode.cpp's.
#include "quant/format.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "base/error.h"
#include "quant/group_codes.h"

namespace smelt {

namespace {

template <class Block>
constexpr FormatInfo make_info(Format f, int gguf_id, std::string_view name, bool can_encode) {
    int scale = 0;
    if constexpr (requires { Block::planar_scale_bytes; }) scale = Block::planar_scale_bytes;
    return {.format = f,
            .gguf_id = gguf_id,
            .name = name,
            .can_encode = can_encode || is_of_groups(f),
            .planar = scale > 0,
            .block_len = Block::block_len,
            .block_bytes = static_cast<int>(sizeof(Block)) - scale,
            .scale_bytes = scale};
}

constexpr std::array formats = {
#define X(fmt_name, id, text, encodes) make_info<Block##fmt_name>(Format::fmt_name, id, text, encodes),
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
        decode_whole(b, out.data() + i * Block::block_len);
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
    // Q8_0 is how model names on the hub spell it.
    const auto same = [](char a, char b) { return a == (b >= 'A' && b <= 'Z' ? b + 32 : b); };
    for (const FormatInfo& info : formats) {
        if (std::ranges::equal(info.name, name, same)) return info.format;
    }
    return std::nullopt;
}

std::optional<Format> format_from_gguf(uint32_t id) {
    for (const FormatInfo& info : formats) {
        if (info.gguf_id >= 0 && static_cast<uint32_t>(info.gguf_id) == id) return info.format;
    }
    return std::nullopt;
}

std::string encodable_names() {
    std::string names;
    for (const FormatInfo& info : formats) {
        if (!info.can_encode || info.gguf_id < 0) continue;
        names += (names.empty() ? "" : ", ") + std::string(info.name);
    }
    return names;
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

}  // namespace smelt
