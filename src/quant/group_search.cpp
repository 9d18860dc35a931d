// For each group the best of some scales around the one that fits its largest weight; then whole scales under
// the block's d and dmin, which are fitted in turn.
#include "quant/group_search.h"

#include <algorithm>
#include <cmath>

#include "base/half.h"

namespace smelt {

namespace {

// To the nearest integer, ties to even, for magnitudes below 2^22; vector code without SSE4.
float whole(float v) {
    constexpr float magic = 12582912.0f;
    return (v + magic) - magic;
}

// Of levels that are whole numbers, one apart.
struct Even {
    float low, high;
    float operator()(float v) const { return whole(std::clamp(v, low, high)); }
};

// Of IQ4's: the nearest of each whole number is looked up.
struct Uneven {
    std::array<float, 256> nearest;
    explicit Uneven(std::span<const float> levels) {
        for (int v = -128; v < 128; ++v) {
            nearest[static_cast<size_t>(v + 128)] = *std::ranges::min_element(
                levels, {}, [&](float l) { return std::fabs(l - static_cast<float>(v)); });
        }
    }
    float operator()(float v) const {
        return nearest[static_cast<size_t>(static_cast<int>(whole(std::clamp(v, -128.0f, 127.0f))) + 128)];
    }
};

// value = scale * level - min
struct Fit {
    float scale = 0, min = 0;
};

// scale for levels alone: the best of some under which the extreme weight falls near an end of the levels.
template <class Nearest>
float fit_scale(const GroupLayout& layout, const Nearest& nearest, std::span<const float> x,
                std::span<const float> w) {
    constexpr int n_steps = 9;
    float extreme = 0;
    for (const float v : x) {
        if (std::fabs(v) > std::fabs(extreme)) extreme = v;
    }
    if (std::fabs(extreme) < 1e-30f) return 0;
    const float step = 0.2f / static_cast<float>(layout.levels.size());
    float best = 0, best_gain = -1;
    for (const float end : {layout.levels.front(), layout.levels.back()}) {
        for (int i = -n_steps; i <= n_steps; ++i) {
            const float inverse = end / extreme * (1 + step * static_cast<float>(i));
            float products = 0, squares = 0;
            for (size_t k = 0; k < x.size(); ++k) {
                const float level = nearest(x[k] * inverse);
                products += w[k] * level * x[k];
                squares += w[k] * level * level;
            }
            if (squares > 0 && products * products > best_gain * squares) {
                best_gain = products * products / squares;
                best = products / squares;
            }
        }
    }
    return best;
}

// scale and min for levels from 0 up.
Fit fit_scale_and_min(const GroupLayout& layout, std::span<const float> x, std::span<const float> w) {
    constexpr int n_steps = 10;
    const auto [low, high] = std::ranges::minmax(x);
    const float from = layout.signed_offset ? low : std::min(low, 0.0f);
    if (!(high - from > 1e-30f)) return {0, -from};
    const float top = layout.levels.back();
    float sum_w = 0, sum_x = 0, sum_xx = 0;
    for (size_t k = 0; k < x.size(); ++k) {
        sum_w += w[k];
        sum_x += w[k] * x[k];
        sum_xx += w[k] * x[k] * x[k];
    }
    Fit best{(high - from) / top, -from};
    float best_error = INFINITY;
    for (int i = -n_steps; i <= n_steps; ++i) {
        const float inverse = (top + 0.09f * static_cast<float>(i)) / (high - from);
        float sum_l = 0, sum_ll = 0, sum_xl = 0;
        for (size_t k = 0; k < x.size(); ++k) {
            const float level = whole(std::clamp((x[k] - from) * inverse, 0.0f, top));
            sum_l += w[k] * level;
            sum_ll += w[k] * level * level;
            sum_xl += w[k] * level * x[k];
        }
        const float determinant = sum_w * sum_ll - sum_l * sum_l;
        if (!(determinant > 0)) continue;
        float scale = (sum_w * sum_xl - sum_x * sum_l) / determinant,
              offset = (sum_ll * sum_x - sum_l * sum_xl) / determinant;
        if (offset > 0 && !layout.signed_offset) {
            offset = 0;
            scale = sum_ll > 0 ? sum_xl / sum_ll : 0;
        }
        const float error = sum_xx - 2 * scale * sum_xl - 2 * offset * sum_x + scale * scale * sum_ll +
                            2 * scale * offset * sum_l + offset * offset * sum_w;
        if (scale > 0 && error < best_error) {
            best_error = error;
            best = {scale, -offset};
        }
    }
    return best;
}

template <class Nearest>
class Search {
 public:
    Search(const GroupLayout& layout, const Nearest& nearest) : l_(layout), nearest_(nearest) {}

    GroupCodes block(std::span<const float> x, std::span<const float> w) const {
        GroupCodes c;
        std::array<Fit, GroupCodes::most_groups> fits;
        for (int g = 0; g < l_.n_groups(); ++g) {
            const auto gx = group(x, g), gw = group(w, g);
            fits[index(g)] =
                l_.has_min() ? fit_scale_and_min(l_, gx, gw) : Fit{fit_scale(l_, nearest_, gx, gw), 0};
        }
        set_block_scales(std::span(fits).first(index(l_.n_groups())), c);
        for (int g = 0; g < l_.n_groups(); ++g) choose_group(g, group(x, g), group(w, g), c);
        for (int round = 0; round < 2; ++round) {
            GroupCodes better = c;
            refit_block_scales(x, w, better);
            for (int g = 0; g < l_.n_groups(); ++g) choose_group(g, group(x, g), group(w, g), better);
            if (!(error(x, w, better) < error(x, w, c))) break;
            c = better;
        }
        return c;
    }

    // The best of the whole scales and mins around those that are there, with their codes.
    void choose_group(int g, std::span<const float> x, std::span<const float> w, GroupCodes& c) const {
        const int scale = c.scale[index(g)], min = c.min[index(g)];
        float best_error = INFINITY;
        int best_scale = scale, best_min = min;
        const int scale_reach = l_.has_scales() ? 1 : 0, min_reach = l_.min_high > 1 ? 1 : 0;
        for (int s = std::max(l_.scale_low, scale - scale_reach);
             s <= std::min(l_.scale_high, scale + scale_reach); ++s) {
            for (int m = std::max(0, min - min_reach); m <= std::min(l_.min_high, min + min_reach); ++m) {
                const float e = error_of(c.d * static_cast<float>(s), c.dmin * static_cast<float>(m), x, w);
                // The middle wins where nothing is better.
                if (e < best_error || (e == best_error && s == scale && m == min)) {
                    best_error = e;
                    best_scale = s;
                    best_min = m;
                }
            }
        }
        c.scale[index(g)] = static_cast<int16_t>(best_scale);
        c.min[index(g)] = static_cast<int16_t>(best_min);
        const float step = c.d * static_cast<float>(best_scale),
                    offset = c.dmin * static_cast<float>(best_min);
        const float inverse = inverse_of(step);
        for (size_t k = 0; k < x.size(); ++k) {
            c.code[static_cast<size_t>(g * l_.group_len) + k] = code_of((x[k] + offset) * inverse);
        }
    }

    uint8_t code_of(float v) const {
        const float level = nearest_(v);
        if constexpr (std::is_same_v<Nearest, Even>) return static_cast<uint8_t>(level - l_.levels.front());
        return static_cast<uint8_t>(std::ranges::lower_bound(l_.levels, level) - l_.levels.begin());
    }

 private:
    static size_t index(int i) { return static_cast<size_t>(i); }
    std::span<const float> group(std::span<const float> all, int g) const {
        return all.subspan(index(g * l_.group_len), index(l_.group_len));
    }
    static float inverse_of(float v) { return std::fabs(v) < 0x1p-120f ? 0 : 1 / v; }

    float error_of(float scale, float min, std::span<const float> x, std::span<const float> w) const {
        const float inverse = inverse_of(scale);
        float sum = 0;
        for (size_t k = 0; k < x.size(); ++k) {
            const float difference = x[k] + min - scale * nearest_((x[k] + min) * inverse);
            sum += w[k] * difference * difference;
        }
        return sum;
    }

    double error(std::span<const float> x, std::span<const float> w, const GroupCodes& c) const {
        double sum = 0;
        for (size_t i = 0; i < x.size(); ++i) {
            const auto g = i / index(l_.group_len);
            const float difference = x[i] - c.d * c.scale[g] * l_.levels[c.code[i]] + c.dmin * c.min[g];
            sum += static_cast<double>(w[i] * difference * difference);
        }
        return sum;
    }

    // The largest group gets the largest whole scale, the others the nearest.
    void set_block_scales(std::span<const Fit> fits, GroupCodes& c) const {
        if (!l_.has_scales()) {
            c.d = F16::from(fits[0].scale);
            c.scale[0] = 1;
            c.dmin = F16::from(fits[0].min);
            c.min[0] = l_.has_min() ? 1 : 0;
            return;
        }
        float largest = 0, largest_min = 0;
        for (const Fit& f : fits) {
            if (std::fabs(f.scale) > std::fabs(largest)) largest = f.scale;
            largest_min = std::max(largest_min, f.min);
        }
        const int end = l_.scale_low < 0 ? l_.scale_low : l_.scale_high;
        c.d = F16::from(largest / static_cast<float>(end));
        c.dmin =
            l_.has_min() ? static_cast<float>(F16::from(largest_min / static_cast<float>(l_.min_high))) : 0;
        const float inverse = inverse_of(c.d), inverse_min = inverse_of(c.dmin);
        for (size_t g = 0; g < fits.size(); ++g) {
            c.scale[g] = static_cast<int16_t>(std::clamp(whole(fits[g].scale * inverse),
                                                         static_cast<float>(l_.scale_low),
                                                         static_cast<float>(l_.scale_high)));
            c.min[g] = static_cast<int16_t>(
                std::clamp(whole(fits[g].min * inverse_min), 0.0f, static_cast<float>(l_.min_high)));
        }
    }

    // d and dmin that fit best where all whole numbers stay.
    void refit_block_scales(std::span<const float> x, std::span<const float> w, GroupCodes& c) const {
        double aa = 0, ab = 0, bb = 0, ax = 0, bx = 0;  // a: weight over d, b: over -dmin
        for (size_t i = 0; i < x.size(); ++i) {
            const auto g = i / index(l_.group_len);
            const double a = static_cast<double>(static_cast<float>(c.scale[g]) * l_.levels[c.code[i]]),
                         b = -c.min[g], weight = static_cast<double>(w[i]), v = static_cast<double>(x[i]);
            aa += weight * a * a;
            ab += weight * a * b;
            bb += weight * b * b;
            ax += weight * a * v;
            bx += weight * b * v;
        }
        if (!(aa > 0)) return;
        const double determinant = aa * bb - ab * ab;
        if (bb > 0 && determinant > 1e-9 * aa * bb) {
            const double dmin = (aa * bx - ab * ax) / determinant;
            if (dmin >= 0 || l_.signed_offset) {
                c.d = F16::from(static_cast<float>((bb * ax - ab * bx) / determinant));
                c.dmin = F16::from(static_cast<float>(dmin));
                return;
            }
        }
        c.d = F16::from(static_cast<float>((ax - static_cast<double>(c.dmin) * ab) / aa));
    }

    const GroupLayout& l_;
    const Nearest& nearest_;
};

const Uneven& iq4_levels(const GroupLayout& layout) {
    static const Uneven table(layout.levels);  // the only uneven levels there are
    return table;
}

template <class F>
auto with_search(const GroupLayout& layout, F&& f) {
    if (layout.evenly()) {
        const Even even{layout.levels.front(), layout.levels.back()};
        return f(Search<Even>(layout, even));
    }
    return f(Search<Uneven>(layout, iq4_levels(layout)));
}

}  // namespace

GroupCodes search_block(const GroupLayout& layout, std::span<const float> x,
                        std::span<const float> importance) {
    return with_search(layout, [&](const auto& search) { return search.block(x, importance); });
}

void search_group(const GroupLayout& layout, int g, std::span<const float> x,
                  std::span<const float> importance, GroupCodes& codes) {
    with_search(layout, [&](const auto& search) { search.choose_group(g, x, importance, codes); });
}

uint8_t nearest_code(const GroupLayout& layout, float v) {
    return with_search(layout, [&](const auto& search) { return search.code_of(v); });
}

}  // namespace smelt
