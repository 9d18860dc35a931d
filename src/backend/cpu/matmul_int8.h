// out = x · wᵀ for integer weights: activations in int8, exact integer sums within a group, and the groups
// added in order, as Fast<Block>::Sum::add says. Any path to the same sums is the same result, so few tokens
// read a panel's bits and many share its unpacked numbers. For kernel files that instantiate it.
#pragma once

#include "backend/cpu/fast.h"
#include "backend/cpu/kernel_set.h"
#include "backend/cpu/pack.h"

namespace smelt::cpu::SMELT_ISA {

namespace int8 {

constexpr int max_direct_tokens = 8;  // up to here unpacking to memory does not pay
constexpr int tile_tokens = 8;

template <class Sum>
struct PanelGroup {
    Group quants;
    F numbers[Sum::n_numbers];
};

// Where a panel's results go: column first_row + r of out for its first n_rows rows.
struct Target {
    float* out;
    int64_t stride, first_row;
    F bias;
    int64_t n_rows;
};

// visit(g, quants, numbers) for every group of the panel, in order.
template <class Format, class Visit>
SIMD void each_group(const Panel& p, int64_t n_groups, const Visit& visit) {
    constexpr int step_groups = Format::step_groups, n_steps = Format::unit_groups / step_groups;
    for (int64_t unit = 0; unit < n_groups / Format::unit_groups; ++unit) {
        typename Format::Numbers numbers[Format::unit_groups];
        Format::numbers(p, unit, numbers);
        const auto shared = Format::shared(p, unit);
        for (int step = 0; step < n_steps; ++step) {
            const auto raw = Format::load(p, unit, step, shared);
            UNROLL for (int k = 0; k < step_groups; ++k) {
                const int in_unit = step * step_groups + k;
                visit(unit * Format::unit_groups + in_unit, Format::group(raw, k), numbers[in_unit]);
            }
        }
    }
}

template <int T>
SIMD void store_sums(const F* acc, int64_t token, const Target& to) {
    UNROLL for (int t = 0; t < T; ++t) {
        const F sum = acc[t] + to.bias;
        float* out = to.out + (token + t) * to.stride + to.first_row;
        if (to.n_rows == panel_rows) {
            store(out, sum);
        } else {
            store_first(out, sum, static_cast<int>(to.n_rows));
        }
    }
}

// All tokens, from the panel's bits.
template <class Format, int T>
void direct(const Panel& p, const QuantizedRows& x, int64_t n_groups, const Target& to) {
    F acc[T] = {};
    each_group<Format>(
        p, n_groups, [&](int64_t g, const Group& quants, const F* numbers) __attribute__((always_inline)) {
            UNROLL for (int t = 0; t < T; ++t) {
                const int64_t at = t * n_groups + g;
                acc[t] = Format::Sum::add(acc[t], quants, numbers, x, at);
            }
        });
    store_sums<T>(acc, 0, to);
}

// T tokens from `token` on, from unpacked numbers.
template <class Sum, int T>
void tile(const PanelGroup<Sum>* panel, const QuantizedRows& x, int64_t token, int64_t n_groups,
          const Target& to) {
    F acc[T] = {};
    const int64_t first = token * n_groups;
    const QuantizedRows part = {x.q + first * group_len, x.groups + first, x.halves + first};
    for (int64_t g = 0; g < n_groups; ++g) {
        UNROLL for (int t = 0; t < T; ++t) {
            const int64_t at = t * n_groups + g;
            acc[t] = Sum::add(acc[t], panel[g].quants, panel[g].numbers, part, at);
        }
    }
    store_sums<T>(acc, token, to);
}

template <class Format, int T = max_direct_tokens>
void few_tokens(const Panel& p, const MatmulArgs& a, const Target& to) {
    if constexpr (T > 1) {
        if (a.n_tokens < T) return few_tokens<Format, T - 1>(p, a, to);
    }
    direct<Format, T>(p, a.xq, a.w.cols / group_len, to);
}

template <class Format>
void many_tokens(const Panel& p, const MatmulArgs& a, const Target& to) {
    using Sum = typename Format::Sum;
    const int64_t n_groups = a.w.cols / group_len;
    auto* panel = reinterpret_cast<PanelGroup<Sum>*>(a.scratch);
    each_group<Format>(
        p, n_groups, [&](int64_t g, const Group& quants, const F* numbers) __attribute__((always_inline)) {
            panel[g].quants = quants;
            UNROLL for (int i = 0; i < Sum::n_numbers; ++i) panel[g].numbers[i] = numbers[i];
        });
    int64_t token = 0;
    for (; token + tile_tokens <= a.n_tokens; token += tile_tokens) {
        tile<Sum, tile_tokens>(panel, a.xq, token, n_groups, to);
    }
    if (token + 4 <= a.n_tokens) {
        tile<Sum, 4>(panel, a.xq, token, n_groups, to);
        token += 4;
    }
    if (token + 2 <= a.n_tokens) {
        tile<Sum, 2>(panel, a.xq, token, n_groups, to);
        token += 2;
    }
    if (token < a.n_tokens) tile<Sum, 1>(panel, a.xq, token, n_groups, to);
}

// Bytes of the largest unpacked panel.
constexpr size_t largest_panel_group = sizeof(PanelGroup<Arithmetic<255, Zero::min, 0, 2>>);
SIMD size_t unpacked_bytes(int64_t cols) {
    return static_cast<size_t>(cols / group_len) * largest_panel_group;
}

}  // namespace int8

template <class Block>
void matmul_int8(const MatmulArgs& a) {
    using Format = Fast<Block>;
    const MatrixRows& w = a.w;
    const int64_t n_bytes = panel_bytes<Format>(w.cols);
    for (int64_t row = a.first_row; row < a.last_row; row += panel_rows) {
        const uint8_t* packed = w.packed + row / panel_rows * n_bytes;
        if (w.packed == nullptr) {
            uint8_t* made = a.scratch + int8::unpacked_bytes(w.cols);
            pack_panel<Format>(w, row, made);
            packed = made;
        }
        const int64_t n_rows = w.rows - row < panel_rows ? w.rows - row : panel_rows;
        int8::Target to{a.out, a.out_stride, row, {}, n_rows};
        if (a.bias != nullptr) {
            to.bias = n_rows == panel_rows ? load(a.bias + row)
                                           : load_first(a.bias + row, static_cast<int>(n_rows));
        }
        const Panel panel{packed};
        if (a.n_tokens <= int8::max_direct_tokens) {
            int8::few_tokens<Format>(panel, a, to);
        } else {
            int8::many_tokens<Format>(panel, a, to);
        }
    }
}

template <class Block>
void pack_int8(const MatrixRows& w, int64_t first_row, int64_t last_row, uint8_t* to) {
    using Format = Fast<Block>;
    const int64_t n_bytes = panel_bytes<Format>(w.cols);
    for (int64_t row = first_row; row < last_row; row += panel_rows) {
        pack_panel<Format>(w, row, to + row / panel_rows * n_bytes);
    }
}

#define INT8_PRODUCTS(Block)                               \
    template void matmul_int8<Block>(const MatmulArgs& a); \
    template void pack_int8<Block>(const MatrixRows& w, int64_t first_row, int64_t last_row, uint8_t* to);

}  // namespace smelt::cpu::SMELT_ISA
