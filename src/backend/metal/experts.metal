// Mixtures of experts beside their products: which experts a token has, which tokens an expert has, and the weighted
// sum. Logits and sums are a few kB a token; these take a launch's time each.
#include <metal_stdlib>

#include "backend/metal/kernel_args.h"
#include "backend/metal/lanes.h"

using namespace metal;
#pragma clang fp contract(off)

namespace smelt {
using namespace gpu;

inline float score_of(float logit, float largest, bool sigmoid) {
    return sigmoid ? 1.0f / (1.0f + exp(-logit)) : exp(logit - largest);
}

// Of a group's two best, or its only one.
inline float group_score(threadgroup const float* ranks, uint group, uint n_each) {
    float first = -INFINITY, second = -INFINITY;
    for (uint e = group * n_each; e < (group + 1) * n_each; ++e) {
        second = max(second, min(first, ranks[e]));
        first = max(first, ranks[e]);
    }
    return n_each > 1 ? first + second : first;
}

// One simdgroup a token. `ranks` has room for all experts: scores with the selection bias, -inf when taken.
kernel void route(constant RouteArgs& a [[buffer(0)]], device int* ids [[buffer(1)]],
                  device float* weights [[buffer(2)]], device const float* logits [[buffer(3)]],
                  device const float* bias [[buffer(4)]], threadgroup float* ranks [[threadgroup(0)]],
                  uint2 at [[threadgroup_position_in_grid]], uint lane [[thread_index_in_simdgroup]]) {
    threadgroup uint left_out[64];
    const uint token = at.y;
    device const float* row = logits + ulong(token) * a.logits_stride;
    device int* chosen = ids + ulong(token) * a.ids_stride;
    device float* chosen_weights = weights + ulong(token) * a.weights_stride;
    const bool sigmoid = a.sigmoid != 0;

    float largest = -INFINITY;
    for (uint e = lane; e < a.n_experts; e += 32) largest = max(largest, row[e]);
    largest = simd_max(largest);
    float total = 0;
    for (uint e = lane; e < a.n_experts; e += 32) total += score_of(row[e], largest, sigmoid);
    total = lanes_sum(total);
    const float divisor = sigmoid ? 1.0f : total;
    for (uint e = lane; e < a.n_experts; e += 32) {
        ranks[e] = score_of(row[e], largest, sigmoid) / divisor + (a.has_bias != 0 ? bias[e] : 0.0f);
    }
    // a group that is not among the best: fewer than n_groups_used others are better, or as good and before it
    if (a.n_groups_used < a.n_groups) {
        threadgroup_barrier(mem_flags::mem_threadgroup);
        const uint n_each = a.n_experts / a.n_groups;
        for (uint first = 0; first < a.n_groups; first += 32) {
            const uint own = first + lane;
            uint n_better = 0;
            const float own_score = own < a.n_groups ? group_score(ranks, own, n_each) : 0.0f;
            for (uint g = 0; g < a.n_groups && own < a.n_groups; ++g) {
                const float score = group_score(ranks, g, n_each);
                if (score > own_score || (score == own_score && g < own)) ++n_better;
            }
            left_out[own % 64] = own < a.n_groups && n_better >= a.n_groups_used ? 1 : 0;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        for (uint e = lane; e < a.n_experts; e += 32) {
            if (left_out[e / n_each] != 0) ranks[e] = -INFINITY;
        }
    }
    // the best that is left, the lower id among equals; a lane looks at its own experts alone
    float sum = 0;
    for (uint i = 0; i < a.n_used; ++i) {
        float best = -INFINITY;
        uint best_id = a.n_experts;
        for (uint e = lane; e < a.n_experts; e += 32) {
            if (ranks[e] > best) {
                best = ranks[e];
                best_id = e;
            }
        }
        const float top = simd_max(best);
        const uint id = min(simd_min(best == top ? best_id : a.n_experts), a.n_experts - 1);
        const float score = score_of(row[id], largest, sigmoid) / divisor;
        sum += score;
        if (id % 32 == lane) {
            ranks[id] = -INFINITY;
            chosen[i] = int(id);
            chosen_weights[i] = score;
        }
    }
    // Whoever wrote a weight reads it again.
    for (uint i = 0; i < a.n_used; ++i) {
        if (uint(chosen[i]) % 32 != lane) continue;
        const float weight = a.normalize != 0 ? chosen_weights[i] / (sum + 1e-20f) : chosen_weights[i];
        chosen_weights[i] = weight * a.scale;
    }
}

// Sorts the pairs of token and expert by expert and cuts each expert's list into tiles of tile_len pairs, so that a
// product reads an expert's weights once for a whole tile. One threadgroup.
kernel void group_pairs(constant GroupArgs& a [[buffer(0)]], device const int* ids [[buffer(1)]],
                        device uint* pairs [[buffer(2)]], device ExpertTile* tiles [[buffer(3)]],
                        device uint* counts [[buffer(4)]], uint thread_index [[thread_index_in_threadgroup]],
                        uint n_threads [[threads_per_threadgroup]]) {
    for (uint e = thread_index; e < a.n_experts; e += n_threads) {
        uint n = 0;
        for (uint i = 0; i < a.n_pairs; ++i) {
            if (uint(ids[ulong(i / a.n_used) * a.ids_stride + i % a.n_used]) == e) ++n;
        }
        counts[e] = n;
    }
    threadgroup_barrier(mem_flags::mem_device);
    // each thread sums up what lies before its experts
    uint before = 0, tiles_before = 0, seen = 0;
    for (uint e = thread_index; e < a.n_experts; e += n_threads) {
        for (; seen < e; ++seen) {
            before += counts[seen];
            tiles_before += (counts[seen] + a.tile_len - 1) / a.tile_len;
        }
        uint at = before;
        for (uint i = 0; i < a.n_pairs; ++i) {
            if (uint(ids[ulong(i / a.n_used) * a.ids_stride + i % a.n_used]) == e) pairs[at++] = i;
        }
        uint tile = tiles_before;
        for (uint first = 0; first < counts[e]; first += a.tile_len) {
            ExpertTile t = {e, before + first, min(a.tile_len, counts[e] - first)};
            tiles[tile++] = t;
        }
    }
    // what no expert took
    if (thread_index == 0) {
        uint n = 0;
        for (uint e = 0; e < a.n_experts; ++e) n += (counts[e] + a.tile_len - 1) / a.tile_len;
        for (; n < a.max_tiles; ++n) {
            ExpertTile t = {0, 0, 0};
            tiles[n] = t;
        }
    }
}

// x[t] += sum over i of weights[t][i] * y[t][i]
kernel void add_experts(constant AddExpertsArgs& a [[buffer(0)]], device float* x [[buffer(1)]],
                        device const float* y [[buffer(2)]], device const float* weights [[buffer(3)]],
                        uint2 at [[thread_position_in_grid]]) {
    if (at.x >= a.dim) return;
    float sum = x[ulong(at.y) * a.x_stride + at.x];
    for (uint i = 0; i < a.n_used; ++i) {
        sum = fma(weights[ulong(at.y) * a.weights_stride + i], y[ulong(at.y) * a.y_stride + i * a.dim + at.x], sum);
    }
    x[ulong(at.y) * a.x_stride + at.x] = sum;
}

}  // namespace smelt
