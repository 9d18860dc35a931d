// Shape checks, then Backend::load.
#include "model/weight_loader.h"

#include <fmt/ranges.h>

#include "base/error.h"

namespace smelt {

Weight WeightLoader::take(const std::string& name, int64_t rows, int64_t cols, WeightUse use) {
    const TensorView& t = file_.require(name);
    if (t.row_len() != cols || t.n_rows() != rows) {
        throw Error("{}: {}: expected shape ({}, {}), file has ({})", t.source, name, rows, cols,
                    fmt::join(t.shape, ", "));
    }
    weight_bytes_ += t.n_bytes();
    return backend_.load({t.format, rows, cols, t.data, t.scales}, use);
}

Weight WeightLoader::matrix(const std::string& name, int64_t rows, int64_t cols) {
    Weight w = take(name, rows, cols, WeightUse::matrix);
    step_bytes_ += w.n_bytes();
    return w;
}

Weight WeightLoader::embedding(const std::string& name, int64_t rows, int64_t cols, bool also_output_head) {
    Weight w = take(name, rows, cols, WeightUse::embedding);
    if (also_output_head) step_bytes_ += w.n_bytes();
    return w;
}

Weight WeightLoader::vector(const std::string& name, int64_t n) {
    return take(name, 1, n, WeightUse::vector);
}

Weight WeightLoader::vector(std::span<const float> values) {
    return backend_.load({Format::F32, 1, static_cast<int64_t>(values.size()), std::as_bytes(values), {}},
                         WeightUse::vector);
}

}  // namespace smelt
