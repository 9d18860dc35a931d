// Products of quant/block.h's formats.
#include "backend/cpu/matmul_int8.h"
#include "backend/cpu/fast_32.h"

namespace smelt::cpu::SMELT_ISA {

size_t int8_scratch(int64_t cols) {
    return int8::panel_bytes(cols) +
           static_cast<size_t>(cols / group_len) * panel_rows * int8::largest_row_group;
}

template void matmul_int8<BlockQ8_0>(const MatmulArgs& a);
template void matmul_int8<BlockQ4_0>(const MatmulArgs& a);
template void matmul_int8<BlockQ4_1>(const MatmulArgs& a);
template void matmul_int8<BlockQ5_0>(const MatmulArgs& a);
template void matmul_int8<BlockQ5_1>(const MatmulArgs& a);
template void matmul_int8<BlockQ8_G64>(const MatmulArgs& a);
template void matmul_int8<BlockQ4_Z>(const MatmulArgs& a);
template void matmul_int8<BlockQ8_Z>(const MatmulArgs& a);

}  // namespace smelt::cpu::SMELT_ISA
