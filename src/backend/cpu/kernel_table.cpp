// The table of one instruction set.
#include "backend/cpu/kernel_set.h"
#include "backend/cpu/simd.h"

#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)

namespace smelt::cpu::SMELT_ISA {

const Kernels kernels = {
    .isa = TEXT(SMELT_ISA),
    .panel_rows = panel_rows,
    .takes_int8 = takes_int8,
    .matmul_scratch = matmul_scratch,
    .matmul = matmul,
    .packed_bytes = packed_bytes,
    .pack = pack,
    .quantize = quantize,
    .attend_scratch = attend_scratch,
    .attend = attend,
    .attend_merge = attend_merge,
    .attend_finish = attend_finish,
    .rms_norm = rms_norm,
    .layer_norm = layer_norm,
    .add = add,
    .silu_mul = silu_mul,
    .clamped_silu_mul = clamped_silu_mul,
    .gelu = gelu,
    .gelu_mul = gelu_mul,
    .sigmoid_mul = sigmoid_mul,
    .soft_cap = soft_cap,
    .causal_conv = causal_conv,
    .delta_rule = delta_rule,
    .rope_half = rope_half,
    .rope_interleaved = rope_interleaved,
    .kv_encode = kv_encode,
};

}  // namespace smelt::cpu::SMELT_ISA
