// Products of formats whose nibbles are looked up.
#include "backend/cpu/fast_lookup.h"
#include "backend/cpu/matmul_int8.h"

namespace smelt::cpu::SMELT_ISA {

template void matmul_int8<BlockIQ4_NL>(const MatmulArgs& a);
template void matmul_int8<BlockIQ4_XS>(const MatmulArgs& a);
template void matmul_int8<BlockMXFP4>(const MatmulArgs& a);
template void matmul_int8<BlockMXFP4_HF>(const MatmulArgs& a);
template void matmul_int8<BlockNVFP4>(const MatmulArgs& a);
template void matmul_int8<BlockNVFP4_HF>(const MatmulArgs& a);

}  // namespace smelt::cpu::SMELT_ISA
