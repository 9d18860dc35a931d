// Products of quant/block.h's formats.
#include "backend/cpu/matmul_int8.h"
#include "backend/cpu/fast_32.h"

namespace smelt::cpu::SMELT_ISA {

size_t int8_scratch(int64_t cols) {
    constexpr size_t largest_row_group = 40;  // quants and scales of a group in any format
    return int8::unpacked_bytes(cols) +
           static_cast<size_t>(cols / group_len) * panel_rows * largest_row_group + 64;
}

INT8_PRODUCTS(BlockQ8_0)
INT8_PRODUCTS(BlockQ4_0)
INT8_PRODUCTS(BlockQ4_1)
INT8_PRODUCTS(BlockQ5_0)
INT8_PRODUCTS(BlockQ5_1)
INT8_PRODUCTS(BlockQ8_G64)
INT8_PRODUCTS(BlockQ4_Z)
INT8_PRODUCTS(BlockQ8_Z)

}  // namespace smelt::cpu::SMELT_ISA
