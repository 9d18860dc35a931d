// Shape checks, then Backend::load.
#include "model/weight_loader.h"

#include <fmt/ranges.h>

#include <numeric>

#include "base/error.h"
#include "files/latent_attention.h"

namespace smelt {

namespace {

// "(4096, 1024)" against what the table says.
void check_shape(const TensorView& t, const std::vector<int64_t>& shape) {
    const int64_t cols = shape.back();
    const int64_t rows = std::accumulate(shape.begin(), shape.end() - 1, int64_t{1}, std::multiplies<>());
    if (t.row_len() != cols || t.n_rows() != rows) {
        throw Error("{}: {}: expected shape ({}), file has ({})", t.source, t.name, fmt::join(shape, ", "),
                    fmt::join(t.shape, ", "));
    }
}

bool is_bias(const TensorRule& rule) {
    return rule.gguf.ends_with(".bias");
}

}  // namespace

WeightRole role_of(const Sizes& sizes, const RuleMatch& match, bool in_list) {
    std::vector<Extent> extents = sizes.extents(match.rule->shape);
    const bool list_is_cut = in_list && extents.front().may_be_cut;
    if (in_list && !is_bias(*match.rule)) extents.erase(extents.begin());
    const bool vector = extents.size() == 1 || is_bias(*match.rule);
    WeightRole role{.use = match.rule->role == TensorRole::embedding ? WeightUse::embedding
                           : vector                                  ? WeightUse::vector
                                                                     : WeightUse::matrix,
                    .layer = match.layer};
    const Extent &first = extents.front(), &last = extents.back();
    if (list_is_cut) {
        role.cut = {.by = CutBy::rows, .unit = first.n};
    } else if (first.may_be_cut || (vector && last.may_be_cut)) {
        const Extent& e = vector ? last : first;
        role.cut = {.by = CutBy::rows, .unit = e.unit, .parts = e.parts};
    } else if (last.may_be_cut) {
        role.cut = {.by = CutBy::columns, .unit = last.unit, .parts = last.parts};
    }
    return role;
}

WeightLoader::WeightLoader(const ModelFile& file, const Family& family, const ModelConfig& config,
                           Backend& backend)
    : file_(file),
      family_(family),
      sizes_(family, file.metadata),
      n_experts_used_(config.n_experts_used),
      backend_(backend) {
    for (const TensorView& t : file.tensors) tensors_.emplace(t.name, &t);
}

const TensorRule& WeightLoader::rule(std::string_view pattern) const {
    const TensorRule* rule = find_rule(family_, pattern);
    CHECK(rule != nullptr, "{}: {} is not in its table", family_.model_type, pattern);
    return *rule;
}

const TensorView& WeightLoader::require(const std::string& name) const {
    const auto it = tensors_.find(name);
    return it == tensors_.end() ? file_.require(name) : *it->second;  // which throws
}

double WeightLoader::metadata_number(std::string_view name, double fallback, double low, double high) const {
    const std::string key = fmt::format("{}.{}", family_.architecture, name);
    const double value = file_.metadata.get_double(key).value_or(fallback);
    if (!(value >= low && value <= high)) {
        throw Error("{}: {}: expected {} to {}, found {}", file_.path.string(), key, low, high, value);
    }
    return value;
}

std::vector<int64_t> WeightLoader::metadata_list(std::string_view name, int64_t n) const {
    const std::string key = fmt::format("{}.{}", family_.architecture, name);
    if (file_.metadata.find(key) == nullptr) return {};
    const auto* list = file_.metadata.get_ints(key);
    if (list == nullptr || std::ssize(*list) != n)
        throw Error("{}: {}: expected a list of {} integers", file_.path.string(), key, n);
    return *list;
}

Weight WeightLoader::take(const RuleMatch& match, const std::vector<int64_t>& shape, const WeightRole& role) {
    const TensorView& t = require(gguf_name(match));
    check_shape(t, shape);
    weight_bytes_ += t.n_bytes();
    const int64_t cols = shape.back();
    return backend_.load({t.format, t.n_elements() / cols, cols, t.data, t.scales}, role);
}

Weight WeightLoader::one(const TensorRule& rule, int64_t layer) {
    const RuleMatch match{&rule, layer, -1};
    WeightRole role = role_of(sizes_, match, false);
    // A table that is looked up alone is whole on every device.
    const bool also_head = rule.gguf == "token_embd.weight" && !tensors_.contains("output.weight");
    if (role.use == WeightUse::embedding && !also_head) role.cut = {};
    Weight w = take(match, sizes_.shape(rule.shape), role);
    if (role.use == WeightUse::matrix || also_head) step_bytes_ += w.n_bytes();
    if (role.use == WeightUse::matrix)
        places_[gguf_name(match)].push_back({w.storage.get(), 0, w.rows, w.cols});
    return w;
}

Weight WeightLoader::if_present(std::string_view name) {
    const TensorRule* rule = find_rule(family_, name);
    return rule == nullptr || !has({rule, -1, -1}) ? Weight{} : one(*rule, -1);
}

std::vector<Weight> WeightLoader::stack(const TensorRule& rule, int64_t layer, const TensorRule& from,
                                        EveryNth nth) {
    const TensorView& t = require(gguf_name({&from, layer, -1}));
    check_shape(t, sizes_.shape(from.shape));
    WeightRole role = role_of(sizes_, {&rule, layer, -1}, true);
    role.expert = rule.gguf.ends_with("_exps.weight");
    const std::vector<int64_t> shape = sizes_.shape(rule.shape);
    const int64_t n = shape[0], rows = shape[1], cols = shape[2], n_rows = rows * nth.step;
    weight_bytes_ += t.n_bytes() / static_cast<size_t>(nth.step);
    std::vector<Weight> result;
    for (int64_t i = 0; i < n; ++i) {
        const TensorView part = rows_of(t, i * n_rows + nth.first, n_rows - nth.first);
        result.push_back(backend_.load({.format = t.format,
                                        .rows = rows,
                                        .cols = cols,
                                        .data = part.data,
                                        .scales = part.scales,
                                        .row_step = nth.step},
                                       role));
    }
    return result;
}

std::vector<Weight> WeightLoader::experts(const TensorRule& rule, int64_t layer, const TensorRule& from,
                                          EveryNth nth) {
    std::vector<Weight> result;
    if (has({&from, layer, -1}) || !has_experts_apart(rule)) {
        result = stack(rule, layer, from, nth);
    } else {
        WeightRole role = role_of(sizes_, {&rule, layer, -1}, true);
        role.expert = true;
        std::vector<int64_t> shape = sizes_.shape(rule.shape);
        const int64_t n = shape.front();
        shape.erase(shape.begin());
        for (int64_t e = 0; e < n; ++e) {
            result.push_back(take({&rule, layer, e}, shape, role));
            if (result.back().format != result.front().format) {
                throw Error("{}: {}: the experts of a layer have different number formats",
                            file_.path.string(), gguf_name({&rule, layer, e}));
            }
        }
    }
    step_bytes_ += result.front().n_bytes() * static_cast<size_t>(n_experts_used_);
    return result;
}

Weight WeightLoader::expert_biases(const TensorRule& rule, int64_t layer, const TensorRule& from,
                                   EveryNth nth) {
    const TensorView& t = require(gguf_name({&from, layer, -1}));
    check_shape(t, sizes_.shape(from.shape));
    std::vector<float> all(static_cast<size_t>(t.row_len())), chosen;
    for (int64_t e = 0; e < t.n_rows(); ++e) {
        decode_row(t.row(e), all);
        for (size_t r = static_cast<size_t>(nth.first); r < all.size(); r += static_cast<size_t>(nth.step)) {
            chosen.push_back(all[r]);
        }
    }
    WeightRole role = role_of(sizes_, {&rule, layer, -1}, true);
    role.expert = true;
    return backend_.load(
        {Format::F32, t.n_rows(), t.row_len() / nth.step, std::as_bytes(std::span(chosen)), {}}, role);
}

Weight WeightLoader::vector(std::span<const float> values) {
    return backend_.load({Format::F32, 1, static_cast<int64_t>(values.size()), std::as_bytes(values), {}},
                         {.use = WeightUse::vector});
}

const TensorRule& LayerLoader::rule(std::string_view name) const {
    return load_.rule(pattern(name));
}

bool LayerLoader::has(std::string_view name) const {
    const TensorRule* rule = find_rule(load_.family_, pattern(name));
    return rule != nullptr && load_.has({rule, layer_, -1});
}

Weight LayerLoader::operator()(std::string_view name) const {
    const TensorRule& r = rule(name);
    return name.ends_with("_exps.bias") ? load_.expert_biases(r, layer_, r, {}) : load_.one(r, layer_);
}

Weight LayerLoader::if_present(std::string_view name) const {
    return has(name) ? (*this)(name) : Weight{};
}

Weight LayerLoader::part(std::string_view name, const RowPart& part) const {
    const TensorRule& r = rule(name);
    const TensorView& t = load_.require(gguf_name({&r, layer_, -1}));
    const std::vector<int64_t> shape = load_.sizes_.shape(r.shape);
    check_shape(t, shape);
    WeightRole role = role_of(load_.sizes_, {&r, layer_, -1}, false);
    const bool vector = role.use == WeightUse::vector || r.role == TensorRole::channels;
    if (vector) {
        role = {.use = WeightUse::vector, .layer = layer_};
    } else {
        role.cut = {.by = CutBy::rows, .unit = part.unit};
    }
    const int64_t n_rows = shape.size() > 1 ? shape.front() : t.n_elements();
    CHECK(n_rows % part.of == 0, "{}: {} rows in {} pieces", name, n_rows, part.of);
    const TensorView rows = rows_of(t, n_rows / part.of * part.first, n_rows / part.of * part.n);
    load_.weight_bytes_ += rows.n_bytes();
    Weight w = load_.backend_.load({t.format, rows.n_rows(), rows.row_len(), rows.data, rows.scales}, role);
    if (vector) return w;
    load_.step_bytes_ += w.n_bytes();
    load_.places_[gguf_name({&r, layer_, -1})].push_back(
        {w.storage.get(), n_rows / part.of * part.first, w.rows, w.cols});
    return w;
}

std::vector<Weight> LayerLoader::experts(std::string_view name) const {
    return load_.experts(rule(name), layer_, rule(name), {});
}

std::vector<Weight> LayerLoader::every_nth(std::string_view name, std::string_view from, EveryNth nth) const {
    return load_.experts(rule(name), layer_, rule(from), nth);
}

Weight LayerLoader::every_nth_bias(std::string_view name, std::string_view from, EveryNth nth) const {
    return load_.expert_biases(rule(name), layer_, rule(from), nth);
}

LayerLoader::LatentHeads LayerLoader::latent_heads(const LatentAttention& a) const {
    LatentHeads heads;
    const TensorRule &k = rule("attn_k_b.weight"), &v = rule("attn_v_b.weight"),
                     &kv = rule("attn_kv_b.weight");
    if (!load_.has({&kv, layer_, -1})) {
        heads.k = load_.stack(k, layer_, k, {});
        heads.v = load_.stack(v, layer_, v, {});
    } else {
        const TensorView& t = load_.require(gguf_name({&kv, layer_, -1}));
        check_shape(t, load_.sizes_.shape(kv.shape));
        load_.weight_bytes_ += t.n_bytes();
        const WeightRole key_role = role_of(load_.sizes_, {&k, layer_, -1}, true),
                         value_role = role_of(load_.sizes_, {&v, layer_, -1}, true);
        const Format made = format_info(t.format).block_len == 1 ? t.format : Format::F32;
        const int64_t head_rows = a.nope_dim + a.v_dim;
        for (int64_t first = 0; first < t.n_rows(); first += head_rows) {
            const std::vector<float> keys = decode_transposed(t, first, a.nope_dim);
            std::vector<std::byte>& bytes =
                load_.made_.emplace_back(data_bytes(made, static_cast<int64_t>(keys.size())));
            encode_row(made, keys, bytes.data(), nullptr);
            heads.k.push_back(load_.backend_.load({made, a.kv_rank, a.nope_dim, bytes, {}}, key_role));
            const TensorView values = rows_of(t, first + a.nope_dim, a.v_dim);
            heads.v.push_back(
                load_.backend_.load({t.format, a.v_dim, a.kv_rank, values.data, values.scales}, value_role));
        }
    }
    for (const auto* list : {&heads.k, &heads.v}) {
        for (const Weight& w : *list) load_.step_bytes_ += w.n_bytes();
    }
    return heads;
}

}  // namespace smelt
