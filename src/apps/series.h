// Repeated measurements of one thing.
#pragma once

#include <algorithm>
#include <vector>

#include "base/json.h"

namespace smelt {

struct Series {
    std::vector<double> values;

    double median() const {
        std::vector<double> v = values;
        std::ranges::sort(v);
        return v.size() % 2 == 1 ? v[v.size() / 2] : (v[v.size() / 2 - 1] + v[v.size() / 2]) / 2;
    }
    double min() const { return std::ranges::min(values); }
    double max() const { return std::ranges::max(values); }
    Json json() const { return {{"median", median()}, {"min", min()}, {"max", max()}}; }
};

// Of many values, with the worst of a hundred and of ten; null where there are none.
inline Json percentiles(std::vector<double> values) {
    if (values.empty()) return nullptr;
    std::ranges::sort(values);
    const auto at = [&](double q) {
        return values[static_cast<size_t>(q * static_cast<double>(values.size() - 1) + 0.5)];
    };
    return {{"median", at(0.5)},
            {"min", values.front()},
            {"max", values.back()},
            {"p90", at(0.9)},
            {"p99", at(0.99)}};
}

}  // namespace smelt
