// out = x · wᵀ for int8 and int4 weights: activations in int8, exact integer sums within a group, and the
// groups added in order: acc = fma(float(sum of group), d_w * d_x, acc). Any path to the same sums is the
// same result, so few tokens read the weights where they lie and many share one unpacked panel.
#include "backend/cpu/kernel_set.h"
#include "backend/cpu/simd_int8.h"

namespace smelt::cpu::SMELT_ISA {

namespace {

constexpr int max_direct_tokens = 4;  // up to here unpacking to memory does not pay
constexpr int tile_tokens = 8;

// Bytes from the start of a block to its quants, and blocks apart.
struct Layout {
    int64_t group_bytes, quants;
    int offset;  // what the quants are too large by
};
SIMD constexpr Layout layout(WeightKind kind) {
    if (kind == WeightKind::q8_0) return {34, 2, byte_offset};
    if (kind == WeightKind::q4_0) return {18, 2, nibble_offset};
    return {32, 0, byte_offset};  // q8_g64: scales apart, one for two groups
}

// panel_rows rows where a model file holds them.
template <WeightKind kind>
struct Stored {
    const uint8_t* data;
    const uint8_t* scales;
    int64_t row_bytes, row_scale_bytes;

    SIMD Group quants(const Stored& s, int64_t g) {
        const uint8_t* p = s.data + g * layout(kind).group_bytes + layout(kind).quants;
        if constexpr (kind == WeightKind::q4_0) {
            return load_nibbles(p, s.row_bytes);
        } else {
            return load_bytes(p, s.row_bytes);
        }
    }
    SIMD F scale(const Stored& s, int64_t g) {
        if constexpr (kind == WeightKind::q8_g64) {
            return load_scales_f32(s.scales + g / 2 * 4, s.row_scale_bytes);
        } else {
            return load_scales_f16(s.data + g * layout(kind).group_bytes, s.row_bytes);
        }
    }
};

// The same, unpacked.
struct Panel {
    Group* groups;  // (cols / group_len)
    F* scales;

    SIMD const Group& quants(const Panel& p, int64_t g) { return p.groups[g]; }
    SIMD F scale(const Panel& p, int64_t g) { return p.scales[g]; }
};

// Where a panel's results go: column first_row + r of out for its rows r >= skip.
struct Target {
    float* out;
    int64_t stride, first_row;
    const float* bias;
    int skip;
};

// T tokens from `token` on: acc[t] over all groups, then out.
template <int T, int offset, class Source>
SIMD void tile(const Source& w, const QuantizedRows& x, int64_t token, int64_t n_groups, const Target& to) {
    F acc[T] = {};
    const int8_t* q = x.q + token * n_groups * group_len;
    const float* d = x.d + token * n_groups;
    const int32_t* sums = x.sums + token * n_groups;
    for (int64_t g = 0; g < n_groups; ++g) {
        const Group& quants = Source::quants(w, g);
        const F scale = Source::scale(w, g);
        UNROLL for (int t = 0; t < T; ++t) {
            I products = dot(quants, q + (t * n_groups + g) * group_len);
            if constexpr (offset != 0) products -= sums[t * n_groups + g] * offset;
            acc[t] = fma(to_float(products), scale * d[t * n_groups + g], acc[t]);
        }
    }
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

template <WeightKind kind>
void few_tokens(const Stored<kind>& w, const MatmulArgs& a, const Target& to) {
    constexpr int offset = layout(kind).offset;
    const int64_t n_groups = a.w.cols / group_len;
    if (a.n_tokens == 1) tile<1, offset>(w, a.xq, 0, n_groups, to);
    if (a.n_tokens == 2) tile<2, offset>(w, a.xq, 0, n_groups, to);
    if (a.n_tokens == 3) tile<3, offset>(w, a.xq, 0, n_groups, to);
    if (a.n_tokens == 4) tile<4, offset>(w, a.xq, 0, n_groups, to);
}

template <WeightKind kind>
void many_tokens(const Stored<kind>& w, const MatmulArgs& a, const Target& to) {
    constexpr int offset = layout(kind).offset;
    const int64_t n_groups = a.w.cols / group_len;
    Panel panel{reinterpret_cast<Group*>(a.scratch),
                reinterpret_cast<F*>(a.scratch + static_cast<size_t>(n_groups) * sizeof(Group))};
    for (int64_t g = 0; g < n_groups; ++g) {
        panel.groups[g] = Stored<kind>::quants(w, g);
        panel.scales[g] = Stored<kind>::scale(w, g);
    }
    int64_t token = 0;
    for (; token + tile_tokens <= a.n_tokens; token += tile_tokens) {
        tile<tile_tokens, offset>(panel, a.xq, token, n_groups, to);
    }
    if (token + 4 <= a.n_tokens) {
        tile<4, offset>(panel, a.xq, token, n_groups, to);
        token += 4;
    }
    if (token + 2 <= a.n_tokens) {
        tile<2, offset>(panel, a.xq, token, n_groups, to);
        token += 2;
    }
    if (token < a.n_tokens) tile<1, offset>(panel, a.xq, token, n_groups, to);
}

template <WeightKind kind>
void panels(const MatmulArgs& a) {
    const MatrixRows& w = a.w;
    for (int64_t row = a.first_row; row < a.last_row; row += panel_rows) {
        // The last panel starts early enough to be whole; its first rows are another panel's.
        const int64_t first = row + panel_rows <= w.rows ? row : w.rows - panel_rows;
        const uint8_t* data = w.data;
        const uint8_t* scales = w.scales;
        const float* bias = a.bias;
        int64_t row_bytes = w.row_bytes, row_scale_bytes = w.row_scale_bytes;
        float padded_bias[panel_rows] = {};
        if (first >= 0) {
            data += first * w.row_bytes;
            if (scales != nullptr) scales += first * w.row_scale_bytes;
            if (bias != nullptr) bias += first;
        } else {
            // Fewer rows than a panel: a copy with rows of zeros before them.
            const auto missing = static_cast<size_t>(-first);
            uint8_t* copy = a.scratch + matmul_scratch(w.cols) / 2;
            const auto n_groups = static_cast<size_t>(w.cols / group_len);
            const size_t n_bytes = n_groups * static_cast<size_t>(layout(kind).group_bytes),
                         n_scales = n_groups / 2 * sizeof(float);  // q8_g64's
            const auto n_rows = static_cast<size_t>(w.rows);
            __builtin_memset(copy, 0, missing * n_bytes);
            for (size_t r = 0; r < n_rows; ++r) {
                const uint8_t* row_data = w.data + static_cast<int64_t>(r) * w.row_bytes;
                __builtin_memcpy(copy + (missing + r) * n_bytes, row_data, n_bytes);
            }
            data = copy;
            row_bytes = static_cast<int64_t>(n_bytes);
            if (scales != nullptr) {
                uint8_t* scale_copy = copy + panel_rows * n_bytes;
                __builtin_memset(scale_copy, 0, missing * n_scales);
                for (size_t r = 0; r < n_rows; ++r) {
                    const uint8_t* row_scales = w.scales + static_cast<int64_t>(r) * w.row_scale_bytes;
                    __builtin_memcpy(scale_copy + (missing + r) * n_scales, row_scales, n_scales);
                }
                scales = scale_copy;
                row_scale_bytes = static_cast<int64_t>(n_scales);
            }
            if (a.bias != nullptr) {
                __builtin_memcpy(padded_bias + missing, a.bias, n_rows * sizeof(float));
                bias = padded_bias;
            }
        }
        const Stored<kind> stored{data, scales, row_bytes, row_scale_bytes};
        const Target to{a.out, a.out_stride, first, bias, static_cast<int>(row - first)};
        if (a.n_tokens <= max_direct_tokens) {
            few_tokens(stored, a, to);
        } else {
            many_tokens(stored, a, to);
        }
    }
}

}  // namespace

// A panel, and as much again for the copy of a matrix smaller than a panel.
size_t matmul_scratch(int64_t cols) {
    const size_t n_groups = static_cast<size_t>((cols + group_len - 1) / group_len);
    const size_t panel = n_groups * (sizeof(Group) + sizeof(F) + 4 * panel_rows);
    return 2 * ((panel + 63) / 64 * 64);
}

void matmul_int8(const MatmulArgs& a) {
    switch (a.w.kind) {
        case WeightKind::q8_0:
            return panels<WeightKind::q8_0>(a);
        case WeightKind::q4_0:
            return panels<WeightKind::q4_0>(a);
        case WeightKind::q8_g64:
            return panels<WeightKind::q8_g64>(a);
        default:
            return;
    }
}

}  // namespace smelt::cpu::SMELT_ISA
