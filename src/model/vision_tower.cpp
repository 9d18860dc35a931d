// Loading and ops of the vision tower of Qwen3-VL and Qwen3.5. Its table is in model/qwen3_vl.cpp.
#include "model/vision_tower.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "files/known_keys.h"
#include "files/limits.h"
#include "files/model_file.h"
#include "model/config.h"
#include "model/weight_loader.h"

namespace smelt {

namespace {

constexpr double rope_theta = 10000;
constexpr int64_t most = 1 << 20;

int64_t required(const ModelFile& file, const std::string& key, int64_t low, int64_t high) {
    const std::string name = fmt::format("clip.vision.{}", key);
    const auto value = file.metadata.get_int(name);
    if (!value || *value < low || *value > high) {
        throw Error("{}: {}: expected {} to {}, found {}", file.path.string(), name, low, high,
                    value ? fmt::format("{}", *value) : "nothing");
    }
    return *value;
}

std::array<float, 3> colours(const ModelFile& file, const std::string& key, double low) {
    const std::string name = fmt::format("clip.vision.{}", key);
    std::array<float, 3> result = {0.5, 0.5, 0.5};
    if (file.metadata.find(name) == nullptr) return result;
    const auto* list = file.metadata.get_doubles(name);
    const bool fits = list != nullptr && list->size() == 3 &&
                      std::ranges::all_of(*list, [&](double v) { return v >= low && v <= 255; });
    if (!fits) throw Error("{}: {}: expected 3 numbers of {} to 255", file.path.string(), name, low);
    for (size_t i = 0; i < 3; ++i) result[i] = static_cast<float>((*list)[i]);
    return result;
}

VisionConfig read_vision_config(const ModelFile& file, int64_t dim) {
    VisionConfig c;
    c.n_layers = required(file, "block_count", 1, limits::layers);
    c.dim = required(file, "embedding_length", 4, most);
    c.ffn_dim = required(file, "feed_forward_length", 1, most);
    c.n_heads = required(file, "attention.head_count", 1, 4096);
    c.out_dim = required(file, "projection_dim", dim, dim);
    c.n_positions = required(file, "n_positions", 1, most);
    if (c.dim % (4 * c.n_heads) != 0) {
        throw Error("{}: clip.vision.embedding_length: expected a multiple of 4 * {} heads, found {}",
                    file.path.string(), c.n_heads, c.dim);
    }
    const auto side = static_cast<int64_t>(std::lround(std::sqrt(static_cast<double>(c.n_positions))));
    if (side * side != c.n_positions) {
        throw Error("{}: clip.vision.n_positions: expected a square, found {}", file.path.string(),
                    c.n_positions);
    }
    c.eps = static_cast<float>(
        file.metadata.get_double("clip.vision.attention.layer_norm_epsilon").value_or(1e-6));
    if (!(c.eps > 0 && c.eps < 1)) {
        throw Error("{}: clip.vision.attention.layer_norm_epsilon: expected 0 to 1, found {}",
                    file.path.string(), c.eps);
    }
    if (const auto* deep = file.metadata.get_ints("clip.vision.deepstack_layers")) {
        c.deep_layers = *deep;
        const auto fits = [&](int64_t layer) { return layer >= 0 && layer < c.n_layers; };
        if (!std::ranges::all_of(*deep, fits) ||
            std::ranges::adjacent_find(*deep, std::greater_equal<>()) != deep->end()) {
            throw Error("{}: clip.vision.deepstack_layers: expected ascending numbers of {} layers",
                        file.path.string(), c.n_layers);
        }
    }
    c.image_token = static_cast<int32_t>(
        std::clamp<int64_t>(file.metadata.get_int("smelt.image_token_id").value_or(-1), -1, 1 << 24));
    PatchRules& p = c.patches;
    p.patch_size = static_cast<int>(required(file, "patch_size", 1, 64));
    p.merge = static_cast<int>(required(file, "spatial_merge_size", 1, 8));
    constexpr int64_t most_pixels = 1 << 26;
    const int64_t least = int64_t{p.patch_size} * p.merge * p.patch_size * p.merge;
    p.min_pixels = file.metadata.get_int("clip.vision.image_min_pixels").value_or(p.min_pixels);
    p.max_pixels = file.metadata.get_int("clip.vision.image_max_pixels").value_or(p.max_pixels);
    if (p.min_pixels < 1 || p.max_pixels < std::max(p.min_pixels, least) || p.max_pixels > most_pixels) {
        throw Error("{}: pixels of pictures: expected 1 to {} and at least {}, found {} to {}",
                    file.path.string(), most_pixels, least, p.min_pixels, p.max_pixels);
    }
    p.mean = colours(file, "image_mean", 0);
    p.std = colours(file, "image_std", 1e-3);
    return c;
}

}  // namespace

VisionTower::VisionTower(const ModelFile& file, const Family& family, int64_t dim, Backend& backend)
    : config_(read_vision_config(file, dim)) {
    require_known(file);
    const ModelConfig none;
    WeightLoader load(file, family, none, backend);
    const auto linear = [&](auto& from, const std::string& name) {
        return Linear{from(name + ".weight"), from(name + ".bias")};
    };
    const auto norm = [&](auto& from, const std::string& name) {
        return Norm{from(name + ".weight"), from(name + ".bias")};
    };
    patch_embd_ = linear(load, "v.patch_embd");
    const TensorView& positions = file.require("v.position_embd.weight");
    if (positions.shape != std::vector<int64_t>{config_.n_positions, config_.dim}) {
        throw Error("{}: v.position_embd.weight: expected shape ({}, {})", file.path.string(),
                    config_.n_positions, config_.dim);
    }
    position_embd_ = positions.decoded();
    for (int64_t il = 0; il < config_.n_layers; ++il) {
        const LayerLoader layer(load, il, "v.blk");
        layers_.push_back({.norm1 = norm(layer, "ln1"),
                           .norm2 = norm(layer, "ln2"),
                           .qkv = linear(layer, "attn_qkv"),
                           .out = linear(layer, "attn_out"),
                           .up = linear(layer, "ffn_up"),
                           .down = linear(layer, "ffn_down")});
    }
    merger_ = {.norm = norm(load, "v.post_ln"), .up = linear(load, "mm.0"), .down = linear(load, "mm.2")};
    for (const int64_t il : config_.deep_layers) {
        const LayerLoader layer(load, il, "v.deepstack");
        deep_mergers_.push_back({.norm = norm(layer, "norm"),
                                 .up = linear(layer, "fc1"),
                                 .down = linear(layer, "fc2"),
                                 .joins_first = true});
    }
    // Of each head a half for rows and one for columns.
    std::vector<float> inv_freq;
    const int64_t n = config_.head_dim() / 4;
    for (int64_t i = 0; i < n; ++i) {
        inv_freq.push_back(
            static_cast<float>(std::pow(rope_theta, -static_cast<double>(i) / static_cast<double>(n))));
    }
    inv_freq_ = load.vector(inv_freq);
}

// Positions lie on a square that is stretched over the picture; those between are mixed of four.
std::vector<float> VisionTower::input(const Patches& patches) const {
    const auto dim = static_cast<size_t>(config_.dim), len = static_cast<size_t>(config_.patches.patch_len());
    const auto side = static_cast<int>(std::lround(std::sqrt(static_cast<double>(config_.n_positions))));
    struct Mix {
        size_t low, high;
        float part;  // of high
    };
    const auto mixes = [&](int n) {
        std::vector<Mix> list;
        for (int i = 0; i < n; ++i) {
            // As torch.linspace has it: from the nearer end.
            const float step = n > 1 ? static_cast<float>(side - 1) / static_cast<float>(n - 1) : 0;
            const float at = i < n / 2 || n == 1
                                 ? step * static_cast<float>(i)
                                 : static_cast<float>(side - 1) - step * static_cast<float>(n - 1 - i);
            const auto low = static_cast<size_t>(at);
            list.push_back(
                {low, std::min(low + 1, static_cast<size_t>(side - 1)), at - static_cast<float>(low)});
        }
        return list;
    };
    const std::vector<Mix> by_row = mixes(patches.rows), by_col = mixes(patches.cols);
    const std::vector<float> pixels = pixel_values(patches, config_.patches);
    std::vector<float> result(static_cast<size_t>(patches.n()) * static_cast<size_t>(input_len()));
    for (int i = 0; i < patches.n(); ++i) {
        float* to = result.data() + static_cast<size_t>(i) * (len + dim);
        std::copy_n(pixels.data() + static_cast<size_t>(i) * len, len, to);
        const auto [row, col] = patches.at(i);
        const Mix &r = by_row[static_cast<size_t>(row)], &c = by_col[static_cast<size_t>(col)];
        const auto table = [&](size_t y, size_t x) {
            return position_embd_.data() + (y * static_cast<size_t>(side) + x) * dim;
        };
        const float *p00 = table(r.low, c.low), *p01 = table(r.low, c.high), *p10 = table(r.high, c.low),
                    *p11 = table(r.high, c.high);
        const float w00 = (1 - r.part) * (1 - c.part), w01 = (1 - r.part) * c.part,
                    w10 = r.part * (1 - c.part), w11 = r.part * c.part;
        for (size_t d = 0; d < dim; ++d)
            to[len + d] = p00[d] * w00 + p01[d] * w01 + p10[d] * w10 + p11[d] * w11;
    }
    return result;
}

Tensor VisionTower::angles(Step& s) const {
    const int64_t n = 2 * inv_freq_.cols;
    const Tensor table = s.take(s.n_tokens(), 2 * n);
    for (const int axis : {1, 2})
        s.copy(table.columns((axis - 1) * n, n), s.rope_table(inv_freq_, 1, axis).flat());
    return table.heads(n);
}

Tensor VisionTower::Merger::operator()(Step& s, Tensor x, int64_t n_joined, float eps) const {
    const auto normed = [&](Tensor t) { return s.layer_norm(t, norm.weight, norm.bias, eps); };
    const auto joined = [&](Tensor t) {
        const int64_t n = t.n_rows();
        return t.rows(0, n).in_rows(n / n_joined);
    };
    const Tensor h = joins_first ? normed(joined(x)) : joined(normed(x));
    return down(s, s.gelu(up(s, h), true));
}

void VisionTower::forward(Step& s) const {
    const VisionConfig& c = config_;
    const int64_t n_tokens = s.n_tokens(), patch_len = c.patches.patch_len(),
                  n_joined = int64_t{c.patches.merge} * c.patches.merge;
    const Tensor features = s.take_rows(n_tokens / n_joined, c.feature_len());
    const Tensor x = patch_embd_(s, s.features(0, patch_len));  // (n_tokens, dim), the residual stream
    s.add(x, s.features(patch_len, c.dim));
    const Tensor turned = angles(s);
    const float scale = 1 / std::sqrt(static_cast<float>(c.head_dim()));
    size_t n_deep = 0;
    for (int64_t il = 0; il < c.n_layers; ++il) {
        const Step::Scope scope(s);
        const Layer& l = layers_[static_cast<size_t>(il)];
        const Tensor qkv = l.qkv(s, s.layer_norm(x, l.norm1.weight, l.norm1.bias, c.eps));
        const auto part = [&](int64_t i) { return qkv.columns(i * c.dim, c.dim).heads(c.n_heads); };
        // Every patch sees the last position, and so all: one cache serves all layers.
        s.add(x, l.out(s, s.attention(0, part(0), part(1), part(2), {.scale = scale}, {.angles = turned})));
        s.add(x, l.down(s, s.gelu(l.up(s, s.layer_norm(x, l.norm2.weight, l.norm2.bias, c.eps)))));
        if (n_deep < c.deep_layers.size() && c.deep_layers[n_deep] == il) {
            const Tensor deep = deep_mergers_[n_deep](s, x, n_joined, c.eps);
            s.copy(features.columns(static_cast<int64_t>(++n_deep) * c.out_dim, c.out_dim), deep);
        }
    }
    s.copy(features.columns(0, c.out_dim), merger_(s, x, n_joined, c.eps));
    s.set_hidden(features);
}

}  // namespace smelt
