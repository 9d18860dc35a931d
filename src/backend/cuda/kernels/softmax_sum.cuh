// A softmax in parts: what the kernels of attention share. The order of operations is said at AttentionArgs.
#pragma once

#include "backend/cuda/kernels/soft_cap.cuh"
#include "backend/cuda/kernels/weights.cuh"

namespace smelt::cuda {

struct SoftmaxSum {
    float top, sum;  // largest score, and sum of exp(score - top)
};
// What the sums so far and those of the next span are multiplied by.
struct MergeFactors {
    float keep, take;
};
INLINE MergeFactors merge(SoftmaxSum& total, SoftmaxSum span) {
    const float top = fmaxf(total.top, span.top);
    const MergeFactors f = {expf(total.top - top), expf(span.top - top)};
    total.sum = total.sum * f.keep + span.sum * f.take;
    total.top = top;
    return f;
}
INLINE float finish(float v_sum, SoftmaxSum total, const float* sink) {
    if (sink == nullptr) return v_sum / total.sum;
    const float top = fmaxf(total.top, *sink), keep = expf(total.top - top);
    return v_sum * keep / (total.sum * keep + expf(*sink - top));
}
// The first position that a token at `position` sees.
INLINE uint32_t first_seen(uint32_t position, uint32_t window) {
    return window > 0 && position + 1 > window ? position + 1 - window : 0;
}
// Where the cache has a position of a sequence.
INLINE uint64_t slot_of(const AttentionArgs& a, const int32_t* blocks, uint32_t position) {
    return static_cast<uint64_t>(static_cast<uint32_t>(blocks[position / a.block_len])) * a.block_len +
           position % a.block_len;
}

}  // namespace smelt::cuda
