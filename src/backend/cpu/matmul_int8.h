// out = x · wᵀ for integer weights: activations in int8, exact integer sums within a group, and the groups
// added in order, as Fast<Block>::Sum::add says. Any path to the same sums is the same result, so few tokens
// read the weights where they lie and many share one unpacked panel. For kernel files that instantiate it.
#pragma once

#include "backend/cpu/fast.h"
#include "backend/cpu/kernel_set.h"

namespace smelt::cpu::SMELT_ISA {

namespace int8 {

constexpr int max_direct_tokens = 4;  // up to here unpacking to memory does not pay
constexpr int tile_tokens = 8;

template <class Sum>
struct PanelGroup {
    Group quants;
    F numbers[Sum::n_numbers];
};

// Where a panel's results go: column first_row + r of out for its rows r >= skip.
struct Target {
    float* out;
    int64_t stride, first_row;
    const float* bias;
    int skip;
};

// The first n bytes of a unit of every row, `ahead` of this one, at most all of a row; units after the last
// are those of the rows that follow.
template <int n, int locality>
SIMD void fetch(const StoredRows& w, int64_t unit, int64_t ahead, int64_t unit_bytes, int64_t n_units) {
    const int64_t at = unit + (ahead < n_units ? ahead : n_units);
    const uint8_t* p = at < n_units ? w.data + at * unit_bytes : w.next + (at - n_units) * unit_bytes;
    UNROLL for (int i = 0; i < n; i += 64) {
        UNROLL for (int r = 0; r < panel_rows; ++r) __builtin_prefetch(p + r * w.row_bytes + i, 0, locality);
    }
}

// The rows' streams are too short for the processor to see them coming, so they are fetched ahead: `far`
// bytes into the second cache, the next unit of a large one into the first, which cannot hold more of so many
// streams. At the end of the rows comes the panel after them.
template <class Format>
SIMD void fetch_ahead(const StoredRows& w, int64_t unit, int64_t n_units) {
    constexpr int far = 1024;  // 1024: best of 256 to 1536, rows of 1024 and 4096 columns, Zen 4
    constexpr int n_bytes = Format::unit_bytes, each = n_bytes >= 64 ? 1 : 64 / n_bytes;
    if (unit % each != 0) return;
    fetch<n_bytes * each, 2>(w, unit, (far + n_bytes - 1) / n_bytes, n_bytes, n_units);
    if (each == 1) fetch<n_bytes, 3>(w, unit, 1, n_bytes, n_units);
}

// visit(g, quants, numbers) for every group of the rows, in order.
template <class Format, class Visit>
SIMD void each_group(const StoredRows& w, int64_t n_groups, const Visit& visit) {
    constexpr int step_groups = Format::step_groups, n_steps = Format::unit_groups / step_groups;
    const int64_t n_units = n_groups / Format::unit_groups;
    for (int64_t unit = 0; unit < n_units; ++unit) {
        fetch_ahead<Format>(w, unit, n_units);
        typename Format::Numbers numbers[Format::unit_groups];
        Format::numbers(w, unit, numbers);
        const auto shared = Format::shared(w, unit);
        for (int step = 0; step < n_steps; ++step) {
            const auto raw = Format::load(w, unit, step, shared);
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
        F sum = acc[t];
        if (to.bias != nullptr) sum += load(to.bias);
        const int64_t first = (token + t) * to.stride + to.first_row;
        if (to.skip == 0) {
            store(to.out + first, sum);
        } else {
            float all[lanes];
            store(all, sum);
            for (int r = to.skip; r < panel_rows; ++r) to.out[first + r] = all[r];
        }
    }
}

// All tokens, from the rows as stored.
template <class Format, int T>
void direct(const StoredRows& w, const QuantizedRows& x, int64_t n_groups, const Target& to) {
    F acc[T] = {};
    each_group<Format>(
        w, n_groups, [&](int64_t g, const Group& quants, const F* numbers) __attribute__((always_inline)) {
            UNROLL for (int t = 0; t < T; ++t) {
                const int64_t at = t * n_groups + g;
                acc[t] = Format::Sum::add(acc[t], quants, numbers, x, at);
            }
        });
    store_sums<T>(acc, 0, to);
}

// T tokens from `token` on, from a panel.
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

template <class Format>
void few_tokens(const StoredRows& w, const MatmulArgs& a, const Target& to) {
    const int64_t n_groups = a.w.cols / group_len;
    if (a.n_tokens == 1) direct<Format, 1>(w, a.xq, n_groups, to);
    if (a.n_tokens == 2) direct<Format, 2>(w, a.xq, n_groups, to);
    if (a.n_tokens == 3) direct<Format, 3>(w, a.xq, n_groups, to);
    if (a.n_tokens == 4) direct<Format, 4>(w, a.xq, n_groups, to);
}

template <class Format>
void many_tokens(const StoredRows& w, const MatmulArgs& a, const Target& to) {
    using Sum = typename Format::Sum;
    const int64_t n_groups = a.w.cols / group_len;
    auto* panel = reinterpret_cast<PanelGroup<Sum>*>(a.scratch);
    each_group<Format>(
        w, n_groups, [&](int64_t g, const Group& quants, const F* numbers) __attribute__((always_inline)) {
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

// Bytes of the largest panel, and of a copy of a matrix that has fewer rows than a panel.
constexpr size_t largest_panel_group = sizeof(PanelGroup<Arithmetic<255, Zero::min, 0, 2>>);
constexpr size_t largest_row_group = 40;  // quants and scales of a group in any format
SIMD size_t panel_bytes(int64_t cols) {
    return static_cast<size_t>(cols / group_len) * largest_panel_group;
}

// A copy of all rows of a matrix that is smaller than a panel, with rows of zeros before them.
template <class Format>
StoredRows padded_copy(const MatrixRows& w, uint8_t* to) {
    const auto n_units = static_cast<size_t>(w.cols / Format::unit_len);
    const auto missing = static_cast<size_t>(panel_rows - w.rows), n_rows = static_cast<size_t>(w.rows);
    const size_t n_bytes = n_units * Format::unit_bytes, n_scales = n_units * Format::unit_scale_bytes;
    static_assert(Format::unit_bytes + Format::unit_scale_bytes <=
                  static_cast<int>(largest_row_group) * Format::unit_groups);
    uint8_t* scales = to + panel_rows * n_bytes;
    __builtin_memset(to, 0, panel_rows * (n_bytes + n_scales));
    for (size_t r = 0; r < n_rows; ++r) {
        const auto row = static_cast<int64_t>(r);
        __builtin_memcpy(to + (missing + r) * n_bytes, w.data + row * w.row_bytes, n_bytes);
        if (n_scales == 0) continue;
        __builtin_memcpy(scales + (missing + r) * n_scales, w.scales + row * w.row_scale_bytes, n_scales);
    }
    return {to, scales, static_cast<int64_t>(n_bytes), static_cast<int64_t>(n_scales), to};
}

}  // namespace int8

template <class Block>
void matmul_int8(const MatmulArgs& a) {
    using Format = Fast<Block>;
    const MatrixRows& w = a.w;
    for (int64_t row = a.first_row; row < a.last_row; row += panel_rows) {
        // The last panel starts early enough to be whole; its first rows are another panel's.
        const int64_t first = row + panel_rows <= w.rows ? row : w.rows - panel_rows;
        StoredRows rows;
        const float* bias = a.bias;
        float padded_bias[panel_rows] = {};
        if (first >= 0) {
            rows = {w.data + first * w.row_bytes,
                    Format::unit_scale_bytes == 0 ? nullptr : w.scales + first * w.row_scale_bytes,
                    w.row_bytes, w.row_scale_bytes, nullptr};
            rows.next = rows.data + (row + 2 * panel_rows <= a.last_row ? panel_rows * w.row_bytes : 0);
            if (bias != nullptr) bias += first;
        } else {
            rows = int8::padded_copy<Format>(w, a.scratch + int8::panel_bytes(w.cols));
            if (bias != nullptr) {
                __builtin_memcpy(padded_bias - first, bias, static_cast<size_t>(w.rows) * sizeof(float));
                bias = padded_bias;
            }
        }
        const int8::Target to{a.out, a.out_stride, first, bias, static_cast<int>(row - first)};
        if (a.n_tokens <= int8::max_direct_tokens) {
            int8::few_tokens<Format>(rows, a, to);
        } else {
            int8::many_tokens<Format>(rows, a, to);
        }
    }
}

}  // namespace smelt::cpu::SMELT_ISA
