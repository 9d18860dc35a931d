// From rows as a file holds them to panels, which products read from front to end: see Panel in fast.h. For
// kernel files.
#pragma once

#include "backend/cpu/fast.h"

namespace smelt::cpu::SMELT_ISA {

// Of a panel, a multiple of 64.
template <class Format>
SIMD int64_t panel_bytes(int64_t cols) {
    const int64_t n_units = cols / Format::unit_len;
    const int64_t n_sides = (n_units + Format::side_units - 1) / Format::side_units;
    return n_sides * (Format::side_units * Format::side_bytes) +
           (n_units * Format::words_bytes + 63) / 64 * 64;
}

// n bytes of n_rows rows, side by side.
template <int n>
SIMD void pack_number(const uint8_t* from, int64_t row_bytes, int64_t n_rows, uint8_t* to) {
    for (int64_t r = 0; r < n_rows; ++r) __builtin_memcpy(to + r * n, from + r * row_bytes, n);
}

// n_bytes of a unit, whose numbers have 4.
SIMD void pack_words(const uint8_t* from, int64_t row_bytes, int64_t n_rows, int n_bytes, uint8_t* to) {
    int i = 0;
    for (; n_rows == panel_rows && i + 16 <= n_bytes; i += 16) {
        Bytes quads[4];
        load_transposed(from + i, row_bytes, quads);
        __builtin_memcpy(to + i * panel_rows, quads, sizeof quads);
    }
    for (; i < n_bytes; i += 4) pack_number<4>(from + i, row_bytes, n_rows, to + i * panel_rows);
}

// Rows from `first` on; rows after the matrix's last are zeros.
template <class Format>
void pack_panel(const MatrixRows& w, int64_t first, uint8_t* to) {
    constexpr int before = Format::side_begin, after = Format::unit_words * 4 - before;
    constexpr int side_number = Format::unit_side > 4 ? 4 : Format::unit_side;
    const int64_t n_rows = w.rows - first < panel_rows ? w.rows - first : panel_rows;
    if (n_rows < panel_rows) {
        __builtin_memset(to, 0, static_cast<size_t>(panel_bytes<Format>(w.cols)));
    }
    const uint8_t* from = w.data + first * w.row_bytes;
    const uint8_t* scales = Format::unit_scale_bytes == 0 ? nullptr : w.scales + first * w.row_scale_bytes;
    for (int64_t unit = 0; unit < w.cols / Format::unit_len; ++unit) {
        uint8_t* words = to + (Format::word({to}, unit, 0) - to);
        uint8_t* side = to + (Format::side({to}, unit) - to);
        pack_words(from, w.row_bytes, n_rows, before, words);
        pack_words(from + before + Format::side_len, w.row_bytes, n_rows, after, words + before * panel_rows);
        if constexpr (Format::unit_scale_bytes > 0) {
            UNROLL for (int i = 0; i < Format::unit_side; i += side_number) {
                pack_number<side_number>(scales + i, w.row_scale_bytes, n_rows, side + i * panel_rows);
            }
            scales += Format::unit_scale_bytes;
        } else if constexpr (Format::side_len > 0) {
            pack_number<side_number>(from + before, w.row_bytes, n_rows, side);
        }
        from += Format::unit_bytes;
    }
}

}  // namespace smelt::cpu::SMELT_ISA
