// Mixtures of experts beside their products: which experts a token has, and which tokens an expert has.
#include "backend/cuda/kernels/dialect.cuh"

namespace smelt::cuda {

INLINE float score_of(float logit, float largest, bool sigmoid) {
    return sigmoid ? 1.0f / (1.0f + expf(-logit)) : expf(logit - largest);
}

// Of a group's two best, or its only one.
INLINE float group_score(const float* ranks, uint32_t group, uint32_t n_each) {
    float first = -infinity, second = -infinity;
    for (uint32_t e = group * n_each; e < (group + 1) * n_each; ++e) {
        second = fmaxf(second, fminf(first, ranks[e]));
        first = fmaxf(first, ranks[e]);
    }
    return n_each > 1 ? first + second : first;
}

// One warp a token. `ranks` has room for all experts: scores with the selection bias, -inf when taken; and
// behind them for all groups.
KERNEL(route, RouteArgs, 32) {
    DYNAMIC_SHARED(float, ranks);
    const uint32_t token = blockIdx.x;
    if (token >= rows_of(a.rows)) return;
    const float* row = a.logits + static_cast<uint64_t>(token) * a.logits_stride;
    int32_t* chosen = a.ids + static_cast<uint64_t>(token) * a.ids_stride;
    float* chosen_weights = a.weights + static_cast<uint64_t>(token) * a.weights_stride;
    const bool sigmoid = a.sigmoid != 0;

    float largest = -infinity;
    for (uint32_t e = lane(); e < a.n_experts; e += 32) largest = fmaxf(largest, row[e]);
    largest = lanes_max(largest);
    float total = 0;
    for (uint32_t e = lane(); e < a.n_experts; e += 32) total += score_of(row[e], largest, sigmoid);
    total = lanes_sum(total);
    const float divisor = sigmoid ? 1.0f : total;
    for (uint32_t e = lane(); e < a.n_experts; e += 32)
        ranks[e] = score_of(row[e], largest, sigmoid) / divisor + (a.bias != nullptr ? a.bias[e] : 0.0f);
    // a group that is not among the best: fewer than n_groups_used others are better, or as good and before
    // it
    if (a.n_groups_used < a.n_groups) {
        float* left_out = ranks + a.n_experts;
        const uint32_t n_each = a.n_experts / a.n_groups;
        __syncwarp();
        for (uint32_t own = lane(); own < a.n_groups; own += 32) {
            const float own_score = group_score(ranks, own, n_each);
            uint32_t n_better = 0;
            for (uint32_t g = 0; g < a.n_groups; ++g) {
                const float score = group_score(ranks, g, n_each);
                if (score > own_score || (score == own_score && g < own)) ++n_better;
            }
            left_out[own] = n_better >= a.n_groups_used ? 1.0f : 0.0f;
        }
        __syncwarp();
        for (uint32_t e = lane(); e < a.n_experts; e += 32) {
            if (left_out[e / n_each] != 0) ranks[e] = -infinity;
        }
    }
    // the best that is left, the lower id among equals; a lane looks at its own experts alone
    float sum = 0;
    for (uint32_t i = 0; i < a.n_used; ++i) {
        float best = -infinity;
        uint32_t best_id = a.n_experts;
        for (uint32_t e = lane(); e < a.n_experts; e += 32) {
            if (ranks[e] > best) {
                best = ranks[e];
                best_id = e;
            }
        }
        const float top = lanes_max(best);
        const uint32_t id = least(lanes_min(best == top ? best_id : a.n_experts), a.n_experts - 1);
        const float score = score_of(row[id], largest, sigmoid) / divisor;
        sum += score;
        if (id % 32 == lane()) {
            ranks[id] = -infinity;
            chosen[i] = static_cast<int32_t>(id);
            chosen_weights[i] = score;
        }
    }
    // Whoever wrote a weight reads it again.
    __syncwarp();
    for (uint32_t i = 0; i < a.n_used; ++i) {
        if (static_cast<uint32_t>(chosen[i]) % 32 != lane()) continue;
        const float weight = a.normalize != 0 ? chosen_weights[i] / (sum + 1e-20f) : chosen_weights[i];
        chosen_weights[i] = weight * a.scale;
    }
}

// Sorts the pairs of token and expert by expert and cuts each expert's list into tiles, so that a product
// reads an expert's weights once for a whole tile. One block.
KERNEL(group_pairs, GroupArgs, 256) {
    const uint32_t n_pairs = rows_of(a.rows) * a.n_used;
    const auto expert_of = [&](uint32_t pair) {
        return static_cast<uint32_t>(
            a.ids[static_cast<uint64_t>(pair / a.n_used) * a.ids_stride + pair % a.n_used]);
    };
    for (uint32_t e = threadIdx.x; e < a.n_experts; e += blockDim.x) {
        uint32_t n = 0;
        for (uint32_t i = 0; i < n_pairs; ++i) n += expert_of(i) == e ? 1 : 0;
        a.counts[e] = n;
    }
    __syncthreads();
    // each thread sums up what lies before its experts
    uint32_t before = 0, tiles_before = 0, seen = 0;
    for (uint32_t e = threadIdx.x; e < a.n_experts; e += blockDim.x) {
        for (; seen < e; ++seen) {
            before += a.counts[seen];
            tiles_before += (a.counts[seen] + expert_tile - 1) / expert_tile;
        }
        uint32_t to = before;
        for (uint32_t i = 0; i < n_pairs; ++i) {
            if (expert_of(i) == e) a.pairs[to++] = i;
        }
        uint32_t tile = tiles_before;
        for (uint32_t first = 0; first < a.counts[e]; first += expert_tile)
            a.tiles[tile++] = {e, before + first, least(expert_tile, a.counts[e] - first)};
    }
    // what no expert took
    if (threadIdx.x == 0) {
        uint32_t n = 0;
        for (uint32_t e = 0; e < a.n_experts; ++e) n += (a.counts[e] + expert_tile - 1) / expert_tile;
        for (; n < a.max_tiles; ++n) a.tiles[n] = {0, 0, 0};
    }
}

}  // namespace smelt::cuda
