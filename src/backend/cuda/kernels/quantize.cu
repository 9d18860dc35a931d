// Rows of x as integers, for the products of matmul_tiles.cuh.
#include "backend/cuda/kernels/matmul_tiles.cuh"

namespace smelt::cuda {

KERNEL(quantize_rows, QuantizeRowsArgs, 256) {
    quantize_rows_of(a);
}

}  // namespace smelt::cuda
