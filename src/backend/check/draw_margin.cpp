// The stages of a draw in double, each with the distance to its next decision.
#include "backend/check/draw_margin.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

namespace smelt {

namespace {

// In float, as every device does it.
float edited(float x, const LogitEdit& e, const DrawRow& row) {
    x += e.bias;
    if (e.seen != 0) {
        x = x > 0 ? x / row.repetition_penalty : x * row.repetition_penalty;
        x -= static_cast<float>(e.n_generated) * row.frequency_penalty;
        if (e.n_generated > 0) x -= row.presence_penalty;
    }
    return e.banned != 0 ? -std::numeric_limits<float>::infinity() : x;
}

}  // namespace

bool draw_is_clear(std::span<const float> logits, const DrawRow& row, const LogitEdit* edits,
                   const uint64_t* mask) {
    if (row.draws == 0) return true;
    std::vector<float> x(logits.begin(), logits.end());
    // A row with a problem has no token that could be another.
    if (!std::ranges::all_of(x, [](float v) { return v < std::numeric_limits<float>::infinity(); }))
        return true;
    for (size_t i = 0; row.masked != 0 && i < x.size(); ++i) {
        if ((mask[i / 64] >> (i % 64) & 1) == 0) x[i] = -std::numeric_limits<float>::infinity();
    }
    for (int32_t e = row.first_edit; e < row.first_edit + row.n_edits; ++e)
        x[static_cast<size_t>(edits[e].id)] = edited(x[static_cast<size_t>(edits[e].id)], edits[e], row);
    const float largest = *std::ranges::max_element(x);
    if (std::isinf(largest) || row.temperature < 1e-5f || row.top_k == 1) return true;

    const double inverse = 1 / static_cast<double>(row.temperature);
    const auto weight = [&](int32_t id) {
        return std::exp((static_cast<double>(x[static_cast<size_t>(id)]) - static_cast<double>(largest)) *
                        inverse);
    };
    const auto error = [&](int32_t id) {
        const double w = weight(id);
        const double d = static_cast<double>(largest) - static_cast<double>(x[static_cast<size_t>(id)]);
        return w > 0 ? w * (8 * float_eps + 4 * float_eps * d * inverse) : 0;
    };
    std::vector<int32_t> ranked(x.size());
    std::iota(ranked.begin(), ranked.end(), 0);
    std::ranges::stable_sort(
        ranked, [&](int32_t a, int32_t b) { return x[static_cast<size_t>(a)] > x[static_cast<size_t>(b)]; });
    const bool has_top_k = row.top_k > 0 && row.top_k < static_cast<int32_t>(x.size());
    if (has_top_k) ranked.resize(static_cast<size_t>(row.top_k));
    // Of all weights that are left: how much they sum to, and how far off that may be.
    double sum = 0, off = 0;
    const auto add_up = [&] {
        sum = off = 0;
        for (const int32_t id : ranked) {
            sum += weight(id);
            off += error(id);
        }
    };
    add_up();
    if (row.top_p < 1) {
        double mass = static_cast<double>(row.top_p) * sum;
        size_t n = 0;
        while (n < ranked.size() && mass > 0) {
            mass -= weight(ranked[n++]);
            if (std::fabs(mass) <= 2 * off) return false;
        }
        ranked.resize(std::max<size_t>(n, 1));
    }
    for (const int32_t id : ranked) {
        if (row.min_p > 0 && std::fabs(weight(id) - static_cast<double>(row.min_p)) <= error(id))
            return false;
    }
    std::erase_if(ranked, [&](int32_t id) { return weight(id) < static_cast<double>(row.min_p); });
    if (!has_top_k) std::ranges::sort(ranked);
    add_up();
    const uint64_t bits = (uint64_t{row.random[1]} << 32) | row.random[0];
    double mass = static_cast<double>(bits >> 11) * 0x1p-53 * sum;
    for (const int32_t id : ranked) {
        if (mass <= 2 * off && mass > 0) return false;  // just after the token before
        mass -= weight(id);
        if (std::fabs(mass) <= 2 * off) return false;
        if (mass < 0) return true;
    }
    return true;
}

}  // namespace smelt
