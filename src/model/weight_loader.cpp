// Shape checks, then Backend::load.
#include "model/weight_loader.h"

#include <fmt/ranges.h>

#include "base/error.h"

namespace smelt {

WeightLoader::WeightLoader(const ModelFile& file, Backend& backend) : file_(file), backend_(backend) {
    for (const TensorView& t : file.tensors) tensors_.emplace(t.name, &t);
}

const TensorView& WeightLoader::require(const std::string& name) const {
    const auto it = tensors_.find(name);
    return it == tensors_.end() ? file_.require(name) : *it->second;  // which throws
}

Weight WeightLoader::take(const std::string& name, int64_t rows, int64_t cols, WeightUse use) {
    const TensorView& t = require(name);
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

std::vector<Weight> WeightLoader::experts(const std::string& prefix, const std::string& name,
                                          int64_t n_experts, int64_t n_used, int64_t rows, int64_t cols,
                                          EveryNth nth) {
    std::vector<Weight> result;
    const std::string stacked = prefix + name + "_exps.weight";
    if (has(stacked)) {
        const TensorView& t = require(stacked);
        const int64_t n_rows = rows * nth.step;
        if (t.shape != std::vector<int64_t>{n_experts, n_rows, cols}) {
            throw Error("{}: {}: expected shape ({}, {}, {}), file has ({})", t.source, stacked, n_experts,
                        n_rows, cols, fmt::join(t.shape, ", "));
        }
        weight_bytes_ += t.n_bytes() / static_cast<size_t>(nth.step);
        for (int64_t e = 0; e < n_experts; ++e) {
            const int64_t first = (e * n_rows + nth.first) * cols, n = (n_rows - nth.first) * cols;
            result.push_back(backend_.load(
                {.format = t.format,
                 .rows = rows,
                 .cols = cols,
                 .data = t.data.subspan(data_bytes(t.format, first), data_bytes(t.format, n)),
                 .scales = t.scales.empty()
                               ? t.scales
                               : t.scales.subspan(scale_bytes(t.format, first), scale_bytes(t.format, n)),
                 .row_step = nth.step},
                WeightUse::matrix));
        }
    } else {
        for (int64_t e = 0; e < n_experts; ++e) {
            result.push_back(
                take(fmt::format("{}{}.{}.weight", prefix, name, e), rows, cols, WeightUse::matrix));
            if (result.back().format != result.front().format) {
                throw Error("{}: {}{}: the experts of a layer have different number formats",
                            file_.path.string(), prefix, name);
            }
        }
    }
    step_bytes_ += result.front().n_bytes() * static_cast<size_t>(n_used);
    return result;
}

Weight WeightLoader::expert_biases(const std::string& prefix, const std::string& name, int64_t n_experts,
                                   int64_t rows, EveryNth nth) {
    const TensorView& t = require(prefix + name + "_exps.bias");
    const int64_t n_rows = rows * nth.step;
    if (t.shape != std::vector<int64_t>{n_experts, n_rows}) {
        throw Error("{}: {}: expected shape ({}, {}), file has ({})", t.source, t.name, n_experts, n_rows,
                    fmt::join(t.shape, ", "));
    }
    std::vector<float> all(static_cast<size_t>(n_rows)), chosen;
    for (int64_t e = 0; e < n_experts; ++e) {
        decode_row(t.row(e), all);
        for (int64_t r = nth.first; r < n_rows; r += nth.step) chosen.push_back(all[static_cast<size_t>(r)]);
    }
    return backend_.load({Format::F32, n_experts, rows, std::as_bytes(std::span(chosen)), {}},
                         WeightUse::vector);
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
