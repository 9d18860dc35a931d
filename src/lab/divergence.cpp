// Softmax in double, row by row.
#include "lab/divergence.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/error.h"

namespace smelt {

namespace {

struct RowSum {
    double largest, log_sum;  // log of the sum of exp(logit - largest)
    double log_p(float logit) const { return static_cast<double>(logit) - largest - log_sum; }
};

RowSum sum_of(std::span<const float> row) {
    float largest = row[0];
    for (const float v : row) largest = std::max(largest, v);
    double sum = 0;
    for (const float v : row) sum += std::exp(static_cast<double>(v - largest));
    return {static_cast<double>(largest), std::log(sum)};
}

// Ids of the five largest, best first; of equal ones the smaller id.
std::array<int32_t, 5> best_five(std::span<const float> row) {
    std::array<int32_t, 5> best;
    best.fill(-1);
    for (size_t i = 0; i < row.size(); ++i) {
        if (best[4] >= 0 && !(row[i] > row[static_cast<size_t>(best[4])])) continue;
        size_t at = 4;
        for (; at > 0 && (best[at - 1] < 0 || row[i] > row[static_cast<size_t>(best[at - 1])]); --at) {
            best[at] = best[at - 1];
        }
        best[at] = static_cast<int32_t>(i);
    }
    return best;
}

TokenScore score(std::span<const float> row, std::span<const float> reference, int32_t target) {
    const RowSum q = sum_of(row);
    TokenScore s;
    s.nll = static_cast<float>(-q.log_p(row[static_cast<size_t>(target)]));
    if (reference.empty()) return s;
    const RowSum p = sum_of(reference);
    s.reference_nll = static_cast<float>(-p.log_p(reference[static_cast<size_t>(target)]));
    double kl = 0;
    for (size_t i = 0; i < row.size(); ++i) {
        const double log_p = p.log_p(reference[i]);
        kl += std::exp(log_p) * (log_p - q.log_p(row[i]));
    }
    s.kl = static_cast<float>(std::max(kl, 0.0));
    const auto of_model = best_five(row), of_reference = best_five(reference);
    s.same_top1 = of_model[0] == of_reference[0];
    for (const int32_t id : of_reference) {
        s.same_top5 = static_cast<uint8_t>(s.same_top5 + (id >= 0 && std::ranges::count(of_model, id) > 0));
    }
    return s;
}

// Of ascending values, the one that a share of `part` are not above.
double quantile(const std::vector<float>& sorted, double part) {
    const double at = part * static_cast<double>(sorted.size() - 1);
    const auto low = static_cast<size_t>(at);
    const size_t high = std::min(low + 1, sorted.size() - 1);
    const double share = at - static_cast<double>(low);
    return static_cast<double>(sorted[low]) * (1 - share) + static_cast<double>(sorted[high]) * share;
}

}  // namespace

std::vector<TokenScore> score_rows(std::span<const float> logits, std::span<const float> reference,
                                   std::span<const int32_t> targets, ThreadPool& pool) {
    std::vector<TokenScore> scores(targets.size());
    if (targets.empty()) return scores;
    const size_t n = targets.size(), width = logits.size() / n;
    CHECK(logits.size() == n * width && (reference.empty() || reference.size() == logits.size()));
    pool.run([&](int member) {
        const auto m = static_cast<size_t>(member), members = static_cast<size_t>(pool.size());
        for (size_t i = n * m / members; i < n * (m + 1) / members; ++i) {
            scores[i] =
                score(logits.subspan(i * width, width),
                      reference.empty() ? reference : reference.subspan(i * width, width), targets[i]);
        }
    });
    return scores;
}

ScoreSummary summarize(std::span<const TokenScore> scores) {
    ScoreSummary s{.n = static_cast<int64_t>(scores.size())};
    if (scores.empty()) return s;
    const auto n = static_cast<double>(scores.size());
    double nll = 0, reference_nll = 0, squares = 0;
    std::vector<float> kl;
    for (const TokenScore& t : scores) {
        nll += static_cast<double>(t.nll);
        reference_nll += static_cast<double>(t.reference_nll);
        s.kl_mean += static_cast<double>(t.kl) / n;
        s.top1 += t.same_top1 ? 1 / n : 0;
        s.top5 += t.same_top5 / (5 * n);
        kl.push_back(t.kl);
    }
    for (const float v : kl)
        squares += (static_cast<double>(v) - s.kl_mean) * (static_cast<double>(v) - s.kl_mean);
    std::ranges::sort(kl);
    s.perplexity = std::exp(nll / n);
    s.reference_perplexity = std::exp(reference_nll / n);
    s.kl_error = scores.size() > 1 ? std::sqrt(squares / (n - 1) / n) : 0;
    s.kl_median = quantile(kl, 0.5);
    s.kl_p99 = quantile(kl, 0.99);
    s.kl_max = static_cast<double>(kl.back());
    return s;
}

}  // namespace smelt
