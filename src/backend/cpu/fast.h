// Fast<Block>: how the CPU's kernels read a format. The one place to add a fast one: a specialisation in
// fast_32.h, fast_k.h or fast_lookup.h. Formats without one are decoded to floats. For kernel files only.
#pragma once

#include "backend/cpu/simd_int8.h"

namespace smelt::cpu::SMELT_ISA {

enum class Product { decoded, floats, int8 };

template <class Block>
struct Fast {
    static constexpr Product product = Product::decoded;
};

// Floats: `lanes` weights, or the first n < lanes.
template <>
struct Fast<BlockF32> {
    static constexpr Product product = Product::floats;
    SIMD F load_all(const uint8_t* p) { return load(p); }
    SIMD F load_some(const uint8_t* p, int n) { return load_first(p, n); }
};
template <>
struct Fast<BlockF16> {
    static constexpr Product product = Product::floats;
    SIMD F load_all(const uint8_t* p) { return load_f16(p); }
    SIMD F load_some(const uint8_t* p, int n) { return load_f16_first(p, n); }
};
template <>
struct Fast<BlockBF16> {
    static constexpr Product product = Product::floats;
    SIMD F load_all(const uint8_t* p) { return load_bf16(p); }
    SIMD F load_some(const uint8_t* p, int n) { return load_bf16_first(p, n); }
};

// panel_rows rows of weights as pack.h lays them out, one stream of bytes that is read from front to end: cut
// into numbers of 4 bytes, number by number, each with those of all rows side by side. What is no multiple of
// 4 bytes, or lies apart in the file, comes before, for as many units together as fill 64 bytes.
struct Panel {
    const uint8_t* data;
};

// How the integer products of a group become floats. Weights are, for quants q of 0 .. max_quant (255: signed
// bytes) and numbers of a row in a group:
enum class Zero {
    constant,  // scale * (q - offset)
    row,       // scale * (q + zero)
    min,       // scale * q + zero
};

// n_scales = 2: each half of a group has numbers of its own. `numbers` holds the scales, then the zeros.
template <int max_quant, Zero kind, int offset, int n_scales>
struct Arithmetic {
    static constexpr int n_numbers = kind == Zero::constant ? n_scales : 2 * n_scales;
    static_assert(offset == 0 || start_scale % offset == 0);
    static_assert(n_scales == 1 || kind != Zero::row);

    // -offset times the sum of x, so that sums of q * x become those of (q - offset) * x.
    SIMD I begin(const int32_t& start) {
        if constexpr (kind != Zero::constant || offset == 0) return I{};
        return (I{} + start) >> __builtin_ctz(start_scale / (offset == 0 ? start_scale : offset));
    }

    // acc + the products of one group with group `at` of the activations. Sums of integers are exact in
    // float.
    SIMD F add(F acc, const Group& w, const F* numbers, const QuantizedRows& x, int64_t at) {
        const int8_t* q = x.q + at * group_len;
        const float d = x.groups[at].d;
        if constexpr (n_scales == 2) {
            constexpr int half = n_quads / 2;
            const QuantizedHalves& sums = x.halves[at];
            const I first = dot<max_quant, half>(w.quad, q, begin(sums.start[0]));
            const I second = dot<max_quant, half>(w.quad + half, q + 4 * half, begin(sums.start[1]));
            F part = fma(to_float(second), numbers[1], to_float(first) * numbers[0]);
            if constexpr (kind == Zero::min) {
                part = fma(numbers[2], broadcast(sums.sum[0]), part);
                part = fma(numbers[3], broadcast(sums.sum[1]), part);
            }
            return fma(part, broadcast(d), acc);
        } else {
            const QuantizedGroup& sums = x.groups[at];
            F products = to_float(dot<max_quant, n_quads>(w.quad, q, begin(sums.start)));
            if constexpr (kind == Zero::min) {
                return fma(fma(numbers[1], broadcast(sums.sum), products * numbers[0]), broadcast(d), acc);
            }
            if constexpr (kind == Zero::row) products = fma(numbers[1], broadcast(sums.sum), products);
            return fma(products, numbers[0] * d, acc);
        }
    }
};

// What specialisations for int8 products derive from. Rows are read unit by unit: a block, or the blocks that
// make up a group. A specialisation has
//   numbers(panel, unit, to[unit_groups])   the numbers of every group
//   shared(panel, unit)                     what several steps need
//   load(panel, unit, step, shared) -> Raw  the bytes of step_groups groups
//   group(raw, k) -> Group                  the k-th of them
template <class Block, class Sums, int groups_of_a_step>
struct Int8 {
    static constexpr Product product = Product::int8;
    using Sum = Sums;
    static constexpr int unit_len = Block::block_len > group_len ? Block::block_len : group_len;
    static constexpr int unit_groups = unit_len / group_len;
    static constexpr int step_groups = groups_of_a_step;
    static constexpr int unit_blocks = unit_len / Block::block_len;
    static constexpr int unit_scale_bytes = [] {
        if constexpr (requires { Block::planar_scale_bytes; }) {
            return unit_blocks * Block::planar_scale_bytes;
        } else {
            return 0;
        }
    }();
    static constexpr int unit_bytes = unit_blocks * static_cast<int>(sizeof(Block)) - unit_scale_bytes;
    // Of a unit's bytes in the file, side_len from side_begin on are aside.
    static constexpr int side_len = unit_bytes % 4;
    static constexpr int side_begin = [] {
        if constexpr (side_len > 0 && requires { Block::d_offset; }) {
            return Block::d_offset;
        } else {
            return 0;
        }
    }();
    static constexpr int unit_words = (unit_bytes - side_len) / 4;
    static constexpr int unit_side = unit_scale_bytes > 0 ? unit_scale_bytes : side_len;
    static constexpr int words_bytes = unit_words * 4 * panel_rows, side_bytes = unit_side * panel_rows;
    static constexpr int side_units = side_bytes == 0 || side_bytes >= 64 ? 1 : 64 / side_bytes;
    static_assert(side_units * side_bytes % 64 == 0);
    static_assert(side_begin % 4 == 0 && (side_len == 0 || unit_scale_bytes == 0));
    typedef F Numbers[Sum::n_numbers];

    // What byte `offset` of the unit in the file begins.
    SIMD const uint8_t* word(const Panel& p, int64_t unit, int offset) {
        const int at = offset > side_begin ? offset - side_len : offset;
        return p.data + (unit / side_units + 1) * (side_units * side_bytes) + unit * words_bytes +
               at * panel_rows;
    }
    SIMD const uint8_t* side(const Panel& p, int64_t unit) {
        return p.data + unit * side_bytes + unit / side_units * (side_units * words_bytes);
    }
    struct Shared {};
    SIMD Shared shared(const Panel&, int64_t) { return {}; }
};

// Products of formats with Product::int8; instantiated format by format in matmul_*.cpp.
template <class Block>
void matmul_int8(const MatmulArgs& a);
size_t int8_scratch(int64_t cols);
// All panels of [first_row, last_row) of a matrix as a file holds it, to where row 0's begins.
template <class Block>
void pack_int8(const MatrixRows& w, int64_t first_row, int64_t last_row, uint8_t* to);

}  // namespace smelt::cpu::SMELT_ISA
