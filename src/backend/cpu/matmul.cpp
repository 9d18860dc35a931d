// A format's kernel, as its Fast<Block> says.
#include "backend/cpu/fast_lookup.h"
#include "backend/cpu/kernel_set.h"
#include "backend/cpu/pack.h"

namespace smelt::cpu::SMELT_ISA {

namespace {

template <class Block>
constexpr bool is_int8(int64_t cols) {
    if constexpr (Fast<Block>::product == Product::int8) {
        return cols % Fast<Block>::unit_len == 0;
    } else {
        return false;
    }
}

template <class Block>
size_t scratch_of(int64_t cols) {
    if (is_int8<Block>(cols)) return int8_scratch(cols);
    return Fast<Block>::product == Product::floats ? 0 : decode_scratch(cols);
}

template <class Block>
void run(const MatmulArgs& a) {
    if constexpr (Fast<Block>::product == Product::int8) {
        if (is_int8<Block>(a.w.cols)) return matmul_int8<Block>(a);
    }
    if constexpr (Fast<Block>::product == Product::floats) return matmul_float(a);
    matmul_decoded(a);
}

template <class Block>
size_t packed_bytes_of(int64_t rows, int64_t cols) {
    if constexpr (Fast<Block>::product == Product::int8) {
        const int64_t n_panels = (rows + panel_rows - 1) / panel_rows;
        return static_cast<size_t>(n_panels * panel_bytes<Fast<Block>>(cols));
    } else {
        return 0;
    }
}
template <class Block>
void pack_rows(const MatrixRows& w, int64_t first_row, int64_t last_row, uint8_t* to) {
    if constexpr (Fast<Block>::product == Product::int8) pack_int8<Block>(w, first_row, last_row, to);
}

}  // namespace

bool takes_int8(Format f, int64_t cols) {
    switch (f) {
#define X(name, ...)   \
    case Format::name: \
        return is_int8<Block##name>(cols);
        QUANT_FORMATS(X)
#undef X
    }
    return false;
}

size_t matmul_scratch(Format f, int64_t cols) {
    switch (f) {
#define X(name, ...)   \
    case Format::name: \
        return scratch_of<Block##name>(cols);
        QUANT_FORMATS(X)
#undef X
    }
    return 0;
}

void matmul(const MatmulArgs& a) {
    switch (a.w.format) {
#define X(name, ...)   \
    case Format::name: \
        return run<Block##name>(a);
        QUANT_FORMATS(X)
#undef X
    }
}

size_t packed_bytes(Format f, int64_t rows, int64_t cols) {
    switch (f) {
#define X(name, ...)   \
    case Format::name: \
        return packed_bytes_of<Block##name>(rows, cols);
        QUANT_FORMATS(X)
#undef X
    }
    return 0;
}

void pack(const MatrixRows& w, int64_t first_row, int64_t last_row, uint8_t* to) {
    switch (w.format) {
#define X(name, ...)   \
    case Format::name: \
        return pack_rows<Block##name>(w, first_row, last_row, to);
        QUANT_FORMATS(X)
#undef X
    }
}

}  // namespace smelt::cpu::SMELT_ISA
