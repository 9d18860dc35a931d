// Insertion into short sorted lists.
#include "backend/cpu/row_ops.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace smelt::cpu {

namespace {

float score_of(float logit, float largest, const RouteParams& p) {
    return p.score == RouteParams::Score::softmax ? std::exp(logit - largest) : 1 / (1 + std::exp(-logit));
}

// Whether each group is among the best; `all` where every group is. rank(e) as route_row has it.
constexpr int64_t most_groups = 64;
template <class Rank>
uint64_t chosen_groups(int64_t n_experts, const RouteParams& p, Rank rank) {
    const int64_t n_each = n_experts / p.n_groups;
    uint64_t chosen = 0;
    for (int32_t i = 0; i < p.n_groups_used; ++i) {
        int64_t best = -1;
        float best_score = 0;
        for (int64_t g = 0; g < p.n_groups; ++g) {
            if ((chosen >> g & 1) != 0) continue;
            float first = -std::numeric_limits<float>::infinity(), second = first;
            for (int64_t e = g * n_each; e < (g + 1) * n_each; ++e) {
                const float r = rank(e);
                second = std::max(second, std::min(first, r));
                first = std::max(first, r);
            }
            const float score = n_each > 1 ? first + second : first;
            if (best < 0 || score > best_score) {
                best = g;
                best_score = score;
            }
        }
        chosen |= uint64_t{1} << best;
    }
    return chosen;
}

}  // namespace

void top_k_row(const float* x, int64_t n, float* values, int32_t* ids, int64_t k) {
    const auto larger = [](float a, float b) {
        return b == b && (a != a || a > b);
    };  // NaN is larger than all
    int64_t n_known = 0;
    for (int64_t e = 0; e < n; ++e) {
        if (n_known == k && !larger(x[e], values[k - 1])) continue;
        int64_t i = n_known < k ? n_known++ : k - 1;
        for (; i > 0 && larger(x[e], values[i - 1]); --i) {
            values[i] = values[i - 1];
            ids[i] = ids[i - 1];
        }
        values[i] = x[e];
        ids[i] = static_cast<int32_t>(e);
    }
}

void route_row(const float* logits, int64_t n_experts, const float* bias, const RouteParams& p, int32_t* ids,
               float* weights, int64_t n_used) {
    const float largest = *std::max_element(logits, logits + n_experts);
    float total = 0;
    for (int64_t e = 0; e < n_experts; ++e) total += score_of(logits[e], largest, p);
    const float divisor = p.score == RouteParams::Score::softmax ? total : 1;
    const auto rank_of = [&](int64_t e) {
        return score_of(logits[e], largest, p) / divisor + (bias == nullptr ? 0 : bias[e]);
    };
    const bool grouped = p.n_groups_used < p.n_groups;
    const uint64_t groups = grouped ? chosen_groups(n_experts, p, rank_of) : 0;
    // Insertion into a short sorted list; ranks live in weights until all experts are seen.
    int64_t n = 0;
    for (int64_t e = 0; e < n_experts; ++e) {
        if (grouped && (groups >> (e / (n_experts / p.n_groups)) & 1) == 0) continue;
        const float rank = rank_of(e);
        if (n == n_used && !(rank > weights[n - 1])) continue;
        int64_t i = n < n_used ? n++ : n - 1;
        for (; i > 0 && rank > weights[i - 1]; --i) {
            weights[i] = weights[i - 1];
            ids[i] = ids[i - 1];
        }
        weights[i] = rank;
        ids[i] = static_cast<int32_t>(e);
    }
    float chosen = 0;
    for (int64_t i = 0; i < n; ++i) chosen += weights[i] = score_of(logits[ids[i]], largest, p) / divisor;
    for (int64_t i = 0; i < n; ++i) weights[i] = weights[i] / (p.normalize ? chosen + 1e-20f : 1) * p.scale;
}

}  // namespace smelt::cpu
