// Tiles of quantized weights as the CUDA kernels read them: what was packed, read back on the host, is what
// the format says. No GPU, no software GPU.
#define SMELT_SOFTCUDA
#include "backend/cuda/kernels/tiles.cuh"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "quant/format.h"
#include "quant/random_weights.h"

namespace smelt::cuda {
namespace {

// Neither is a multiple of a tile's.
struct Matrix {
    Format format;
    int64_t rows = 37, cols;
    std::vector<std::byte> data, scales;
    std::vector<float> values;

    explicit Matrix(Format f)
        : format(f), cols(3 * std::max<int64_t>(format_info(f).block_len, 64)), values(size()) {
        const size_t row_bytes = data_bytes(f, cols), s_row_bytes = scale_bytes(f, cols);
        data.resize(row_bytes * static_cast<size_t>(rows));
        scales.resize(s_row_bytes * static_cast<size_t>(rows));
        for (int64_t r = 0; r < rows; ++r) {
            std::byte* row = data.data() + static_cast<size_t>(r) * row_bytes;
            std::byte* s = scales.data() + static_cast<size_t>(r) * s_row_bytes;
            random_row(f, cols, static_cast<uint64_t>(r) + 1, 0.3f, row, s);
            decode_row({f, row, s, cols},
                       std::span(values).subspan(static_cast<size_t>(r * cols), static_cast<size_t>(cols)));
        }
    }
    size_t size() const { return static_cast<size_t>(rows * cols); }
    double at(int64_t r, int64_t c) const {
        return r < rows && c < cols ? static_cast<double>(values[static_cast<size_t>(r * cols + c)]) : 0.0;
    }
};

template <class Block>
void expect_the_same_tile(const Matrix& m, int64_t first_row, int64_t first_col) {
    using T = Tile<Block>;
    const TileSource source{reinterpret_cast<const uint8_t*>(m.data.data()),
                            reinterpret_cast<const uint8_t*>(m.scales.data()),
                            data_bytes(m.format, m.cols),
                            scale_bytes(m.format, m.cols),
                            m.rows,
                            m.cols,
                            first_row,
                            first_col};
    alignas(16) uint8_t tile[T::bytes];
    std::fill(std::begin(tile), std::end(tile), uint8_t{0xa5});
    for (int lane = 0; lane < 32; ++lane) T::pack(source, tile, lane);
    for (int lane = 0; lane < 32; ++lane) {
        const auto loaded = T::load(FromShared{}, tile, lane);
        for (int c = 0; c < T::n_chunks; ++c) {
            uint32_t registers[T::words];
            T::fragment(loaded, c, registers);
            if constexpr (T::halves) {
                // Register r has two columns: of row g where r is even, of row g + 8 where it is odd.
                for (int i = 0; i < 16; ++i) {
                    const int r = i / 2;
                    const float value = f16_to_f32(static_cast<uint16_t>(registers[r] >> (16 * (i % 2))));
                    const int64_t row = first_row + lane / 4 + 8 * (r & 1),
                                  col = first_col + 32 * c + 8 * (lane & 3) + r / 2 * 2 + i % 2;
                    ASSERT_EQ(static_cast<double>(value * T::scales(loaded, c, 0).d[0] * halves_unit),
                              m.at(row, col))
                        << "row " << row << ", column " << col;
                }
                continue;
            }
            for (int i = 0; i < 16; ++i) {
                const int r = i / 4, side = r & 1;
                const GroupScales s = T::scales(loaded, c, T::group == 16 ? r / 2 : 0);
                const uint32_t code = registers[r] >> (8 * (i % 4)) & 255u;
                const int q = T::u8 ? static_cast<int>(code) : static_cast<int8_t>(code);
                const double got = static_cast<double>(s.d[side]) * (q - (T::has_zero ? s.zero[side] : 0)) -
                                   (T::has_min ? static_cast<double>(s.min[side]) : 0.0);
                const int64_t row = first_row + Place::row(lane, r),
                              col = first_col + 32 * c + Place::column(lane, r) + i % 4;
                const double size = std::fabs(static_cast<double>(s.d[side]) * q) + std::fabs(m.at(row, col));
                ASSERT_NEAR(got, m.at(row, col), size * 0x1p-22) << "row " << row << ", column " << col;
            }
        }
    }
}

template <class Block>
void expect_the_same(Format f) {
    if constexpr (Tile<Block>::native) {
        static_assert(Tile<Block>::cols % Block::block_len == 0);
        ASSERT_EQ(static_cast<int>(tile_shape(f).cols), Tile<Block>::cols);
        ASSERT_EQ(static_cast<int>(tile_shape(f).bytes), Tile<Block>::bytes);
        const Matrix m(f);
        for (int64_t row = 0; row < m.rows; row += rows_of_tile) {
            for (int64_t col = 0; col < m.cols; col += Tile<Block>::cols)
                expect_the_same_tile<Block>(m, row, col);
        }
        ASSERT_EQ(tile_shape(f).set_bytes,
                  static_cast<uint32_t>(Tile<Block>::halves ? half_set_bytes : tile_set_bytes));
    } else {
        EXPECT_EQ(tile_shape(f).bytes, 0U) << format_info(f).name;
    }
}

TEST(CudaTiles, WhatWasPackedIsReadBack) {
#define X(id, ...)                                  \
    {                                               \
        SCOPED_TRACE(format_info(Format::id).name); \
        expect_the_same<Block##id>(Format::id);     \
        if (HasFatalFailure()) return;              \
    }
    QUANT_FORMATS(X)
#undef X
}

}  // namespace
}  // namespace smelt::cuda
