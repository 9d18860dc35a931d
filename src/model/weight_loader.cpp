// Shape checks, then Backend::load.
#include "model/weight_loader.h"

#include <fmt/ranges.h>

#include <charconv>

#include "base/error.h"
#include "files/latent_attention.h"

namespace smelt {

namespace {

// Of a name as "blk.12.attn_q.weight"; -1 where there is none.
int64_t layer_of(std::string_view name) {
    constexpr std::string_view start = "blk.";
    int64_t layer = -1;
    if (name.starts_with(start))
        std::from_chars(name.data() + start.size(), name.data() + name.size(), layer);
    return layer;
}

}  // namespace

WeightLoader::WeightLoader(const ModelFile& file, Backend& backend) : file_(file), backend_(backend) {
    for (const TensorView& t : file.tensors) tensors_.emplace(t.name, &t);
}

const TensorView& WeightLoader::require(const std::string& name) const {
    const auto it = tensors_.find(name);
    return it == tensors_.end() ? file_.require(name) : *it->second;  // which throws
}

Weight WeightLoader::load(const std::string& name, WeightView view, WeightUse use, Of of) {
    return backend_.load(view, {.use = use, .layer = layer_of(name), .expert = of == Of::expert});
}

Weight WeightLoader::take(const std::string& name, int64_t rows, int64_t cols, WeightUse use, Of of) {
    const TensorView& t = require(name);
    if (t.row_len() != cols || t.n_rows() != rows) {
        throw Error("{}: {}: expected shape ({}, {}), file has ({})", t.source, name, rows, cols,
                    fmt::join(t.shape, ", "));
    }
    weight_bytes_ += t.n_bytes();
    return load(name, {t.format, rows, cols, t.data, t.scales}, use, of);
}

Weight WeightLoader::matrix(const std::string& name, int64_t rows, int64_t cols) {
    Weight w = take(name, rows, cols, WeightUse::matrix);
    step_bytes_ += w.n_bytes();
    return w;
}

std::vector<Weight> WeightLoader::stack(const std::string& name, int64_t n, int64_t rows, int64_t cols,
                                        EveryNth nth, Of of) {
    const TensorView& t = require(name);
    const int64_t n_rows = rows * nth.step;
    if (t.shape != std::vector<int64_t>{n, n_rows, cols}) {
        throw Error("{}: {}: expected shape ({}, {}, {}), file has ({})", t.source, name, n, n_rows, cols,
                    fmt::join(t.shape, ", "));
    }
    weight_bytes_ += t.n_bytes() / static_cast<size_t>(nth.step);
    std::vector<Weight> result;
    for (int64_t i = 0; i < n; ++i) {
        const TensorView part = rows_of(t, i * n_rows + nth.first, n_rows - nth.first);
        result.push_back(load(name,
                              {.format = t.format,
                               .rows = rows,
                               .cols = cols,
                               .data = part.data,
                               .scales = part.scales,
                               .row_step = nth.step},
                              WeightUse::matrix, of));
    }
    return result;
}

std::vector<Weight> WeightLoader::experts(const std::string& prefix, const std::string& name,
                                          int64_t n_experts, int64_t n_used, int64_t rows, int64_t cols,
                                          EveryNth nth) {
    std::vector<Weight> result;
    const std::string stacked = prefix + name + "_exps.weight";
    if (has(stacked)) {
        result = stack(stacked, n_experts, rows, cols, nth, Of::expert);
    } else {
        for (int64_t e = 0; e < n_experts; ++e) {
            result.push_back(take(fmt::format("{}{}.{}.weight", prefix, name, e), rows, cols,
                                  WeightUse::matrix, Of::expert));
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
    return load(t.name, {Format::F32, n_experts, rows, std::as_bytes(std::span(chosen)), {}},
                WeightUse::vector, Of::expert);
}

WeightLoader::LatentHeads WeightLoader::latent_heads(const std::string& prefix, int64_t n_heads,
                                                     const LatentAttention& a) {
    LatentHeads heads;
    const std::string joined = prefix + "attn_kv_b.weight";
    if (!has(joined)) {
        heads.k = stack(prefix + "attn_k_b.weight", n_heads, a.kv_rank, a.nope_dim);
        heads.v = stack(prefix + "attn_v_b.weight", n_heads, a.v_dim, a.kv_rank);
    } else {
        const TensorView& t = require(joined);
        const int64_t head_rows = a.nope_dim + a.v_dim;
        if (t.shape != std::vector<int64_t>{n_heads * head_rows, a.kv_rank}) {
            throw Error("{}: {}: expected shape ({}, {}), file has ({})", t.source, joined,
                        n_heads * head_rows, a.kv_rank, fmt::join(t.shape, ", "));
        }
        weight_bytes_ += t.n_bytes();
        const Format made = format_info(t.format).block_len == 1 ? t.format : Format::F32;
        for (int64_t first = 0; first < n_heads * head_rows; first += head_rows) {
            const std::vector<float> keys = decode_transposed(t, first, a.nope_dim);
            std::vector<std::byte>& bytes =
                made_.emplace_back(data_bytes(made, static_cast<int64_t>(keys.size())));
            encode_row(made, keys, bytes.data(), nullptr);
            heads.k.push_back(load(joined, {made, a.kv_rank, a.nope_dim, bytes, {}}, WeightUse::matrix));
            const TensorView values = rows_of(t, first + a.nope_dim, a.v_dim);
            heads.v.push_back(
                load(joined, {t.format, a.v_dim, a.kv_rank, values.data, values.scales}, WeightUse::matrix));
        }
    }
    for (const auto* list : {&heads.k, &heads.v}) {
        for (const Weight& w : *list) step_bytes_ += w.n_bytes();
    }
    return heads;
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
                         {.use = WeightUse::vector});
}

}  // namespace smelt
