// The ops that take planning: how matmuls and attention are cut into chunks.
#pragma once

#include <span>

#include "backend/backend.h"
#include "backend/cpu/memory.h"
#include "backend/cpu/op_list.h"

namespace smelt::cpu {

// What ops are recorded into and run with; outlives the record.
struct Recorder {
    const Kernels& kernels;
    int n_threads;
    OpList ops;
    Scratch scratch;
    uint64_t n_matmuls = 0;
};

void record_matmul(Recorder& r, std::span<const MatmulOut> outs, const Tensor& x);
void record_matmul_experts(Recorder& r, std::span<const ExpertsOut> outs, const Tensor& x,
                           const Tensor& expert_ids);
// See Backend::top_k.
void top_k_row(const float* x, int64_t n, float* values, int32_t* ids, int64_t k);
// One token's experts; see Backend::route.
void route_row(const float* logits, int64_t n_experts, const float* bias, const RouteParams& p, int32_t* ids,
               float* weights, int64_t n_used);
void record_attention(Recorder& r, const Tensor& out, const Tensor& q, const KvLayer& kv,
                      const BatchView& batch, const AttentionParams& p);

}  // namespace smelt::cpu
