// The kernels of matmul_tiles.cuh and matmul_sets.cuh for the format that SMELT_FORMAT names, where it has
// tiles.
#include "backend/cuda/kernels/matmul_sets.cuh"

namespace smelt::cuda {

// The software GPU's files have several formats.
#undef TILED
#define TILED SMELT_BLOCK(SMELT_FORMAT)

FORMAT_KERNEL(pack_tiles, PackTilesArgs, 128) {
    if constexpr (Tile<TILED>::native) pack_tiles<TILED>(a);
}
FORMAT_KERNEL(matmul_sets_1, TileMatmulArgs, 256) {
    if constexpr (Tile<TILED>::native) matmul_sets<TILED, 1, 1>(a);
}
FORMAT_KERNEL(matmul_sets_2, TileMatmulArgs, 256) {
    if constexpr (Tile<TILED>::native) matmul_sets<TILED, 2, 1>(a);
}
FORMAT_KERNEL(matmul_sets_8, TileMatmulArgs, 256) {
    if constexpr (Tile<TILED>::native) matmul_sets<TILED, 8, 2>(a);
}
FORMAT_KERNEL(experts_sets_1, TileExpertsArgs, 256) {
    if constexpr (Tile<TILED>::native) experts_sets<TILED, 1>(a);
}
FORMAT_KERNEL(experts_sets_2, TileExpertsArgs, 256) {
    if constexpr (Tile<TILED>::native) experts_sets<TILED, 2>(a);
}

// Bulk copies came with Hopper.
#if defined(SMELT_SOFTCUDA) || (defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900)
FORMAT_KERNEL(matmul_wide, TileMatmulArgs, wide_block) {
    if constexpr (Tile<TILED>::native) matmul_wide<TILED>(a);
}
OVERLAPPING_FORMAT_KERNEL(matmul_ring_1, TileMatmulArgs, ring_threads) {
    if constexpr (Tile<TILED>::native) matmul_ring<TILED, 1, false>(a);
}
OVERLAPPING_FORMAT_KERNEL(matmul_ring_4, TileMatmulArgs, ring_threads) {
    if constexpr (Tile<TILED>::native) matmul_ring<TILED, 4, false>(a);
}
OVERLAPPING_FORMAT_KERNEL(gated_ring_1, TileMatmulArgs, ring_threads) {
    if constexpr (Tile<TILED>::native) matmul_ring<TILED, 1, true>(a);
}
OVERLAPPING_FORMAT_KERNEL(gated_ring_4, TileMatmulArgs, ring_threads) {
    if constexpr (Tile<TILED>::native) matmul_ring<TILED, 4, true>(a);
}
#endif

}  // namespace smelt::cuda
