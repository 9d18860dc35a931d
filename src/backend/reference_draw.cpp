// The stages of drawing, as plainly as they can be said.
#include "backend/reference_draw.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace smelt::reference {

DrawProblem problem_of(const std::vector<double>& x) {
    if (std::ranges::any_of(x, [](double v) { return std::isnan(v); })) return DrawProblem::nan;
    const double largest = *std::ranges::max_element(x);
    if (largest == -minus_infinity) return DrawProblem::infinite;
    return largest == minus_infinity ? DrawProblem::all_minus_infinity : DrawProblem::none;
}

// In float, as draw_row.h says: edited logits have the same bits on every device.
void edit(std::vector<double>& logits, const LogitEdit& e, const DrawRow& row) {
    double& logit = logits[static_cast<size_t>(e.id)];
    float x = static_cast<float>(logit) + e.bias;
    if (e.seen != 0) {
        x = x > 0 ? x / row.repetition_penalty : x * row.repetition_penalty;
        x -= static_cast<float>(e.n_generated) * row.frequency_penalty;
        if (e.n_generated > 0) x -= row.presence_penalty;
    }
    logit = e.banned != 0 ? minus_infinity : static_cast<double>(x);
}

// Temperature, top-k, top-p, min-p, draw: in the order of rank with top-k, else in that of ids.
int32_t draw(const std::vector<double>& x, const DrawRow& row) {
    std::vector<int32_t> ranked(x.size());
    std::iota(ranked.begin(), ranked.end(), 0);
    const auto logit = [&](int32_t id) { return x[static_cast<size_t>(id)]; };
    std::ranges::stable_sort(ranked, [&](int32_t a, int32_t b) { return logit(a) > logit(b); });
    if (row.temperature < 1e-5f || row.top_k == 1) return ranked[0];
    const double largest = logit(ranked[0]);
    const auto weight = [&](int32_t id) {
        return std::exp((logit(id) - largest) / static_cast<double>(row.temperature));
    };
    const auto sum = [&] {
        double s = 0;
        for (const int32_t id : ranked) s += weight(id);
        return s;
    };
    const bool has_top_k = row.top_k > 0 && row.top_k < static_cast<int32_t>(x.size());
    if (has_top_k) ranked.resize(static_cast<size_t>(row.top_k));
    if (row.top_p < 1) {
        double mass = static_cast<double>(row.top_p) * sum();
        size_t n = 0;
        while (n < ranked.size() && mass > 0) mass -= weight(ranked[n++]);
        ranked.resize(std::max<size_t>(n, 1));
    }
    std::erase_if(ranked, [&](int32_t id) { return weight(id) < static_cast<double>(row.min_p); });
    if (!has_top_k) std::ranges::sort(ranked);
    const uint64_t bits = (uint64_t{row.random[1]} << 32) | row.random[0];
    double mass = static_cast<double>(bits >> 11) * 0x1p-53 * sum();
    for (const int32_t id : ranked) {
        mass -= weight(id);
        if (mass < 0) return id;
    }
    return ranked.back();
}

}  // namespace smelt::reference
