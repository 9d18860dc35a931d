// Rows of x in two planes, for products with tiles: as integers, or as halves for weights that are halves.
#include "backend/cuda/kernels/tile_operands.cuh"

namespace smelt::cuda {

KERNEL(quantize_rows, QuantizeRowsArgs, 256) {
    put_rows<false>(a);
}
KERNEL(split_rows, QuantizeRowsArgs, 256) {
    put_rows<true>(a);
}

}  // namespace smelt::cuda
