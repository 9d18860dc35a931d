// The one launch outside of programs: weights into tiles.
#include "backend/cuda/tile_weights.h"

namespace smelt::cuda {

WeightBytes make_tiles(Gpu& gpu, WeightMemory& memory, Format format, int64_t rows, int64_t cols,
                       const WeightRows& from) {
    const TileShape shape = tile_shape(format);
    const int64_t k_tiles = divide_up(cols, shape.cols), n_tiles = divide_up(rows, rows_of_tile) * k_tiles;
    WeightBytes tiles = memory.room(static_cast<size_t>(n_tiles) * shape.bytes);
    PackTilesArgs args{.data = from.data,
                       .scales = from.scales,
                       .tiles = reinterpret_cast<uint8_t*>(tiles.address),
                       .row_bytes = from.row_bytes,
                       .s_row_bytes = from.scale_row_bytes,
                       .rows = u32(rows),
                       .cols = u32(cols),
                       .k_tiles = u32(k_tiles),
                       .n_tiles = u32(n_tiles)};
    constexpr unsigned warps = 4;
    const Function function = gpu.kernel("tiles", "pack_tiles", format);
    gpu.make_current();
    void* parameters[] = {&args};
    const LaunchConfig config{
        u32(divide_up(n_tiles, warps)), 1, 1, warps * warp_size, 1, 1, 0, gpu.stream(), nullptr, 0};
    gpu.check(gpu.driver().launch(&config, function, parameters, nullptr), "cuLaunchKernelEx");
    return tiles;
}

}  // namespace smelt::cuda
