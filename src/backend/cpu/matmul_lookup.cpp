// Products of formats whose nibbles are looked up.
#include "backend/cpu/fast_lookup.h"
#include "backend/cpu/matmul_int8.h"

namespace smelt::cpu::SMELT_ISA {

INT8_PRODUCTS(BlockIQ4_NL)
INT8_PRODUCTS(BlockIQ4_XS)
INT8_PRODUCTS(BlockMXFP4)
INT8_PRODUCTS(BlockMXFP4_HF)
INT8_PRODUCTS(BlockNVFP4)
INT8_PRODUCTS(BlockNVFP4_HF)

}  // namespace smelt::cpu::SMELT_ISA
