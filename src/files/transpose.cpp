// By square tiles, so that both sides stay in cache.
#include "files/transpose.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"

namespace smelt {

namespace {

template <class T>
void transpose(const std::byte* in, std::byte* out, int64_t rows, int64_t cols) {
    constexpr int64_t tile = 32;
    for (int64_t r0 = 0; r0 < rows; r0 += tile) {
        for (int64_t c0 = 0; c0 < cols; c0 += tile) {
            for (int64_t r = r0; r < std::min(rows, r0 + tile); ++r) {
                for (int64_t c = c0; c < std::min(cols, c0 + tile); ++c) {
                    std::memcpy(out + static_cast<size_t>(c * rows + r) * sizeof(T),
                                in + static_cast<size_t>(r * cols + c) * sizeof(T), sizeof(T));
                }
            }
        }
    }
}

}  // namespace

std::vector<std::byte> transposed(std::span<const std::byte> matrix, int64_t rows, int64_t cols,
                                  size_t element_bytes) {
    CHECK(element_bytes == 2 || element_bytes == 4, "{}", element_bytes);
    CHECK(matrix.size() == static_cast<size_t>(rows) * static_cast<size_t>(cols) * element_bytes);
    std::vector<std::byte> out(matrix.size());
    if (element_bytes == 2) {
        transpose<uint16_t>(matrix.data(), out.data(), rows, cols);
    } else {
        transpose<uint32_t>(matrix.data(), out.data(), rows, cols);
    }
    return out;
}

}  // namespace smelt
