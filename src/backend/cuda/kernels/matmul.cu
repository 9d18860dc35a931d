// The kernels of matmul.cuh for the format that SMELT_FORMAT names.
#include "backend/cuda/kernels/matmul.cuh"

namespace smelt::cuda {

FORMAT_KERNEL(matmul_1, MatmulArgs, 128) {
    matmul<SMELT_BLOCK(SMELT_FORMAT), 1, 2>(a);
}
FORMAT_KERNEL(matmul_4, MatmulArgs, 128) {
    matmul<SMELT_BLOCK(SMELT_FORMAT), 4, 2>(a);
}
FORMAT_KERNEL(matmul_8, MatmulArgs, 128) {
    matmul<SMELT_BLOCK(SMELT_FORMAT), 8, 4>(a);
}
FORMAT_KERNEL(matmul_experts_1, ExpertsArgs, 128) {
    matmul_experts<SMELT_BLOCK(SMELT_FORMAT), 1, 2>(a);
}
FORMAT_KERNEL(matmul_experts_8, ExpertsArgs, 128) {
    matmul_experts<SMELT_BLOCK(SMELT_FORMAT), 8, 4>(a);
}
FORMAT_KERNEL(embed, EmbedArgs, 256) {
    embed<SMELT_BLOCK(SMELT_FORMAT)>(a);
}

}  // namespace smelt::cuda
