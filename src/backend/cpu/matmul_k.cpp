// Products of quant/block_k.h's K-quants.
#include "backend/cpu/fast_k.h"
#include "backend/cpu/matmul_int8.h"

namespace smelt::cpu::SMELT_ISA {

INT8_PRODUCTS(BlockQ2_K)
INT8_PRODUCTS(BlockQ3_K)
INT8_PRODUCTS(BlockQ4_K)
INT8_PRODUCTS(BlockQ5_K)
INT8_PRODUCTS(BlockQ6_K)
INT8_PRODUCTS(BlockQ8_K)

}  // namespace smelt::cpu::SMELT_ISA
