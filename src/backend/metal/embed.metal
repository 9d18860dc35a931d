// Rows of a table as floats, exactly as the format says them. A thread has 16 values: the bytes of a row and 4 bytes a
// value are moved, 13 kB for a token of a 4B model in Q8_0: a launch's time.
#include <metal_stdlib>

#include "backend/metal/kernel_args.h"
#include "backend/metal/weights.h"

using namespace metal;
#pragma clang fp contract(off)

namespace smelt {
using namespace gpu;

// Id -1 - row is what the step before drew for that row, nothing where that is negative. An id that the table does not
// have would be a bug of the caller and shows as NaN.
template <typename Block>
kernel void embed(constant EmbedArgs& a [[buffer(0)]], device float* out [[buffer(1)]],
                  device const int* ids [[buffer(2)]], device const uchar* w [[buffer(3)]],
                  device const uchar* scales [[buffer(4)]], device const int* drawn [[buffer(5)]],
                  uint2 at [[thread_position_in_grid]]) {
    if (at.x >= a.n_units) return;
    const int given = ids[at.y], id = given < 0 ? drawn[-1 - given] : given;
    float values[16];
    if (given < 0 && id < 0) {
        for (int i = 0; i < 16; ++i) values[i] = 0;
    } else if (uint(id) < a.table_rows) {
        const WeightRow row = {w, scales, a.w_offset + uint(id) * a.w_row_bytes, a.s_offset + uint(id) * a.s_row_bytes, a.cols,
                               a.aligned != 0};
        WeightLoad<Block>::unit(row, at.x, values);
    } else {
        for (int i = 0; i < 16; ++i) values[i] = NAN;
    }
    device float* to = out + (ulong(at.y) * a.out_stride + 16 * at.x);
    const uint n = min(16u, a.cols - 16 * at.x);
    for (uint i = 0; i < n; ++i) to[i] = values[i];
}
#define X(name, id, text, encodes) \
    template [[host_name("embed_" text)]] kernel decltype(embed<Block##name>) embed<Block##name>;
QUANT_FORMATS(X)
#undef X

}  // namespace smelt
