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

}  // namespace smelt
