// out = x · wᵀ for every format without a kernel of its own: a few rows are decoded to floats in scratch,
// once for all tokens, and go through the float kernel.
#include "backend/cpu/kernel_set.h"
#include "backend/cpu/simd.h"

namespace smelt::cpu::SMELT_ISA {

namespace {

constexpr int64_t few_tokens = 4;  // up to here the rows are better kept small, near the core
constexpr int64_t few_rows = 4;    // as many as the float kernel takes at once

template <class Block>
constexpr int64_t scale_bytes_of() {
    if constexpr (requires { Block::planar_scale_bytes; }) {
        return Block::planar_scale_bytes;
    } else {
        return 0;
    }
}

// Formats whose 4-bit codes stand for 16 uneven numbers, which compilers look up one by one.
alignas(64) constexpr auto e2m1_values = [] {
    struct Table {
        float v[16];
    } t{};
    for (int c = 0; c < 16; ++c) t.v[c] = E2M1::value(static_cast<uint32_t>(c));
    return t;
}();
alignas(64) constexpr auto iq4_values = [] {
    struct Table {
        float v[16];
    } t{};
    for (int c = 0; c < 16; ++c) t.v[c] = iq4_value(c);
    return t;
}();

// 16 bytes whose low nibbles are weights 0 .. 15 and whose high ones are 16 .. 31.
SIMD void decode_halves(const uint8_t* qs, const float* table, float scale, float* out) {
    UNROLL for (int i = 0; i < 16; i += lanes) {
        const I both = load_bytes_wide(qs + i);
        store(out + i, lookup16(table, both & 15) * scale);
        store(out + 16 + i, lookup16(table, both >> 4) * scale);
    }
}
SIMD void decode_block(const BlockMXFP4& b, float* out) {
    decode_halves(b.qs, e2m1_values.v, b.scale, out);
}
SIMD void decode_block(const BlockIQ4_NL& b, float* out) {
    decode_halves(b.qs, iq4_values.v, b.d, out);
}
SIMD void decode_block(const BlockIQ4_XS& b, float* out) {
    const float d = b.d;
    for (int g = 0; g < 8; ++g) {
        const float scale = d * static_cast<float>(BlockIQ4_XS::scale(&b, g));
        decode_halves(b.qs + 16 * g, iq4_values.v, scale, out + 32 * g);
    }
}
SIMD void decode_block(const BlockMXFP4_HF& b, float* out) {
    const float scale = b.scale;
    UNROLL for (int i = 0; i < 16; i += lanes) {
        const I both = load_bytes_wide(b.qs + i);
        const F even = lookup16(e2m1_values.v, both & 15), odd = lookup16(e2m1_values.v, both >> 4);
        interleave_store(out + 2 * i, {even * scale, odd * scale});
    }
}
// All others as their format says it.
template <class Block>
SIMD void decode_block(const Block& b, float* out) {
    decode_whole(b, out);
}

template <class Block>
void decode_row(const uint8_t* __restrict data, const uint8_t* __restrict scales, int64_t n,
                float* __restrict out) {
    constexpr int64_t scale_bytes = scale_bytes_of<Block>();
    constexpr int64_t block_bytes = static_cast<int64_t>(sizeof(Block)) - scale_bytes;
    for (int64_t i = 0; i < n; i += Block::block_len, data += block_bytes, scales += scale_bytes) {
        if constexpr (scale_bytes == 0 && alignof(Block) == 1) {
            decode_block(*reinterpret_cast<const Block*>(data), out + i);
        } else {
            Block b;
            auto* bytes = reinterpret_cast<uint8_t*>(&b);
            if constexpr (scale_bytes > 0) __builtin_memcpy(bytes, scales, static_cast<size_t>(scale_bytes));
            __builtin_memcpy(bytes + scale_bytes, data, static_cast<size_t>(block_bytes));
            decode_block(b, out + i);
        }
    }
}

template <class Block>
void decode_rows(const MatrixRows& w, int64_t first, int64_t n, float* out) {
    for (int64_t r = 0; r < n; ++r) {
        const uint8_t* scales =
            scale_bytes_of<Block>() == 0 ? nullptr : w.scales + (first + r) * w.row_scale_bytes;
        decode_row<Block>(w.data + (first + r) * w.row_bytes, scales, w.cols, out + r * w.cols);
    }
}

void decode_rows(const MatrixRows& w, int64_t first, int64_t n, float* out) {
    switch (w.format) {
#define X(name, ...)   \
    case Format::name: \
        return decode_rows<Block##name>(w, first, n, out);
        QUANT_FORMATS(X)
#undef X
    }
}

}  // namespace

size_t decode_scratch(int64_t cols) {
    return static_cast<size_t>(panel_rows * cols) * sizeof(float);
}

void matmul_decoded(const MatmulArgs& a) {
    auto* floats = reinterpret_cast<float*>(a.scratch);
    const int64_t step = a.n_tokens <= few_tokens ? few_rows : panel_rows;
    for (int64_t row = a.first_row; row < a.last_row; row += step) {
        const int64_t n = a.last_row - row < step ? a.last_row - row : step;
        decode_rows(a.w, row, n, floats);
        MatmulArgs part = a;
        part.w = {.kind = WeightKind::f32,
                  .format = Format::F32,
                  .data = a.scratch,
                  .scales = nullptr,
                  .row_bytes = a.w.cols * static_cast<int64_t>(sizeof(float)),
                  .row_scale_bytes = 0,
                  .rows = n,
                  .cols = a.w.cols};
        part.first_row = 0;
        part.last_row = n;
        part.out = a.out + row;
        part.bias = a.bias == nullptr ? nullptr : a.bias + row;
        matmul_float(part);
    }
}

}  // namespace smelt::cpu::SMELT_ISA
