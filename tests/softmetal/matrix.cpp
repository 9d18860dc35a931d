// The product of simdgroup matrices, apart so that it is compiled for speed.
#include <cmath>

#include "softmetal/launch.h"

namespace softmetal {

void multiply_accumulate(const MatrixOperands* lanes, MatrixProduct& result) {
    alignas(32) float left[8][8], right[8][8];
    for (int l = 0; l < 32; ++l) {
        const MatrixOperands& o = lanes[l];
        for (int i = 0; i < 2; ++i) {
            left[o.row][o.column + i] = o.a[i];
            right[o.row][o.column + i] = o.b[i];
            result.at[o.row][o.column + i] = o.c[i];
        }
    }
    for (int i = 0; i < 8; ++i) {
        float row[8];
        for (int j = 0; j < 8; ++j) row[j] = result.at[i][j];
        for (int k = 0; k < 8; ++k)
            for (int j = 0; j < 8; ++j) row[j] = __builtin_fmaf(left[i][k], right[k][j], row[j]);
        for (int j = 0; j < 8; ++j) result.at[i][j] = row[j];
    }
}

}  // namespace softmetal
