// What is derived from the list of number formats: names, sizes, rows to and from float.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "quant/format_list.h"

namespace smelt {

struct FormatInfo {
    Format format;
    int gguf_id;
    std::string_view name;
    bool can_encode;  // else encode_row() must not be asked for it
    bool planar;      // quants and scales in two arrays; scale_bytes a block, block_bytes the quants alone
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

// Float -> weights, to nearest (ties to even) or by group_search.h, for formats that can_encode. x.size() is
// a multiple of block_len; data has data_bytes(), scales scale_bytes(). Values must be finite. Q8_0, Q4_0 as
// published; Q8_G64 as qwen3.c's export writes it, but an all-zero group is exact zeros; MX formats by OCP's
// rule: scale 2^(floor(log2(max)) - emax), elements beyond the largest number become that number.
void encode_row(Format f, std::span<const float> x, std::byte* data, std::byte* scales);

// "f32, f16, ...": what encode_row() makes and GGUF has a type for.
std::string encodable_names();

}  // namespace smelt
