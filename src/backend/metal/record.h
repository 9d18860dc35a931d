// The ops that take more than a line to record, apart from the backend's class.
#pragma once

#include <span>

#include "backend/backend.h"
#include "backend/metal/recorder.h"

namespace smelt::metal {

// Whether rows of floats can be read 16 bytes at a time.
bool is_aligned(const Tensor& t);

void record_matmul(Recorder& r, std::span<const MatmulOut> outs, const Tensor& x);

// Of the expert ids of the last product: products that follow with the same ids share it.
struct ExpertGroups {
    Tensor ids = {};
    uint32_t tile_len = 0;
    Binding tiles = {}, pairs = {};
    uint32_t n_tiles = 0;
};
void record_matmul_experts(Recorder& r, ExpertGroups& groups, std::span<const ExpertsOut> outs,
                           const Tensor& x, const Tensor& expert_ids);

void record_prepare(Recorder& r, const KvLayer& kv, const Tensor& q, const Tensor& k, const Tensor& v,
                    const BatchView& batch, const PrepareParams& p);
void record_attention(Recorder& r, const Tensor& out, const Tensor& q, const KvLayer& kv,
                      const BatchView& batch, const AttentionParams& p);

}  // namespace smelt::metal
