// A format's kernel, as its Fast<Block> says.
#include "backend/cpu/fast_lookup.h"
#include "backend/cpu/kernel_set.h"

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

}  // namespace smelt::cpu::SMELT_ISA
