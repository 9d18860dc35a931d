// Products of quant/block_k.h's K-quants.
#include "backend/cpu/fast_k.h"
#include "backend/cpu/matmul_int8.h"

namespace smelt::cpu::SMELT_ISA {

template void matmul_int8<BlockQ2_K>(const MatmulArgs& a);
template void matmul_int8<BlockQ3_K>(const MatmulArgs& a);
template void matmul_int8<BlockQ4_K>(const MatmulArgs& a);
template void matmul_int8<BlockQ5_K>(const MatmulArgs& a);
template void matmul_int8<BlockQ6_K>(const MatmulArgs& a);
template void matmul_int8<BlockQ8_K>(const MatmulArgs& a);

}  // namespace smelt::cpu::SMELT_ISA
