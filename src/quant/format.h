// The one list of number formats and what is derived from it: names, sizes, rows to and from float.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "quant/block.h"

namespace smelt {

// name, GGUF type id (-1: GGUF has none), name users type, planar (scales apart from quants on disk)
#define QUANT_FORMATS(X)       \
    X(F32, 0, "f32", false)    \
    X(F16, 1, "f16", false)    \
    X(BF16, 30, "bf16", false) \
    X(Q4_0, 2, "q4_0", false)  \
    X(Q8_0, 8, "q8_0", false)  \
    X(Q8_G64, -1, "q8_g64", true)

enum class Format : uint8_t {
#define X(name, ...) name,
    QUANT_FORMATS(X)
#undef X
};

struct FormatInfo {
    Format format;
    int gguf_id;
    std::string_view name;
    bool planar;  // quants and float scales in two arrays; scale_bytes a block, block_bytes the quants alone
    int block_len;    // weights
    int block_bytes;  // bytes in TensorView::data per block
    int scale_bytes;  // bytes in TensorView::scales per block; 0 unless planar
};

const FormatInfo& format_info(Format f);
std::span<const FormatInfo> all_formats();
std::optional<Format> format_from_name(std::string_view name);
std::optional<Format> format_from_gguf(uint32_t id);

inline std::string_view to_string(Format f) {
    return format_info(f).name;
}

// A row (or any run of whole blocks) of weights where it lies in memory.
struct RowView {
    Format format;
    const std::byte* data;
    const std::byte* scales;  // null unless planar
    int64_t n;                // weights; a multiple of block_len
};

// Bytes of TensorView::data for n weights in whole blocks.
inline size_t data_bytes(Format f, int64_t n) {
    return static_cast<size_t>(n / format_info(f).block_len) *
           static_cast<size_t>(format_info(f).block_bytes);
}
inline size_t scale_bytes(Format f, int64_t n) {
    return static_cast<size_t>(n / format_info(f).block_len) *
           static_cast<size_t>(format_info(f).scale_bytes);
}

// Weights -> float; out has row.n places.
void decode_row(const RowView& row, std::span<float> out);

// Float -> weights, round to nearest (ties to even). x.size() is a multiple of block_len; data has
// data_bytes(), scales scale_bytes(). Values must be finite. Q8_0 and Q4_0 as published for GGUF; Q8_G64 as
// qwen3.c's export writes it, but an all-zero group is exact zeros.
void encode_row(Format f, std::span<const float> x, std::byte* data, std::byte* scales);

}  // namespace smelt
