// A row at a time; rows do not meet.
#include "lab/compensated.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/error.h"
#include "base/half.h"
#include "lab/vector_sums.h"
#include "quant/group_search.h"

namespace smelt {

namespace {

// GPTQ's symmetric groups are Q4_0's with more weights.
GroupLayout layout_of(Format f, const CompensationOptions& options) {
    if (f != Format::Q4_Z) return *group_layout(f);
    GroupLayout layout = *group_layout(Format::Q4_0);
    layout.block_len = layout.group_len = static_cast<int>(options.q4_z_group);
    return layout;
}

}  // namespace

bool Compensator::can_round(Format f) {
    return f == Format::Q4_Z || group_layout(f).has_value();
}

class Compensator::Row {
 public:
    Row(const Compensator& c, Format f, std::span<const float> weights)
        : c_(c),
          f_(f),
          layout_(layout_of(f, c.options_)),
          n_(weights.size()),
          block_len_(static_cast<size_t>(layout_.block_len)),
          group_len_(static_cast<size_t>(layout_.group_len)),
          weights_(weights),
          errors_(n_),
          blocks_(n_ / block_len_) {}

    // Weight j is rounded to where the errors before it want it: column j of e T is e_j T(j, j) and the sum
    // over i < j of e_i T(i, j), which e_j is to cancel.
    void round_forward() {
        std::vector<float> wanted(block_len_);
        for (size_t b = 0; b < blocks_.size(); ++b) {
            const size_t first = b * block_len_;
            for (size_t i = 0; i < block_len_; ++i) wanted[i] = wanted_at(first + i);
            const auto importance = std::span(c_.importance_).subspan(first, block_len_);
            GroupCodes& codes = blocks_[b];
            codes = search_block(layout_, wanted, importance);
            for (size_t g = 0; g < block_len_ / group_len_; ++g) {
                const size_t from = g * group_len_;
                if (g > 0) {
                    for (size_t i = 0; i < group_len_; ++i) wanted[from + i] = wanted_at(first + from + i);
                    search_group(layout_, static_cast<int>(g), std::span(wanted).subspan(from, group_len_),
                                 importance.subspan(from, group_len_), codes);
                }
                const float step = step_of(codes, g), min = min_of(codes, g);
                const float inverse = inverse_of(step);
                for (size_t i = from; i < from + group_len_; ++i) {
                    codes.code[i] = nearest_code(layout_, (wanted_at(first + i) + min) * inverse);
                    errors_[first + i] = weights_[first + i] - value(codes, i);
                }
            }
        }
    }

    // One code, scale or min after the other to its best place, the others staying.
    void sweep(int n_sweeps) {
        pull_.assign(n_, 0);
        for (size_t i = 0; i < n_; ++i) {
            if (errors_[i] != 0)
                vector_sums().add_scaled(errors_[i], c_.m_.h.data() + i * n_, pull_.data(), n_);
        }
        for (size_t i = 0; i < n_; ++i) pull_[i] += c_.added_ * errors_[i];
        double before = cost();
        for (int s = 0; s < n_sweeps; ++s) {
            for (size_t b = 0; b < blocks_.size(); ++b) {
                for (size_t g = 0; g < block_len_ / group_len_; ++g) {
                    move_codes(b, g);
                    if (layout_.has_scales()) move_scale(b, g);
                    if (layout_.min_high > 1) move_min(b, g);
                }
                move_block_scales(b);
            }
            const double now = cost();
            if (now > 0.995 * before) break;
            before = now;
        }
    }

    double cost() const {
        if (pull_.empty()) return c_.cost(errors_);
        double sum = 0;
        for (size_t i = 0; i < n_; ++i)
            sum += static_cast<double>(errors_[i]) * static_cast<double>(pull_[i]);
        return sum;
    }

    void pack(std::byte* out) const {
        for (const GroupCodes& codes : blocks_) {
            if (f_ == Format::Q4_Z) {
                pack_zero_points(codes, out);
                out += data_bytes(f_, layout_.block_len);
                continue;
            }
            pack_block(f_, codes, out);
            out += format_info(f_).block_bytes;
        }
    }

 private:
    // Blocks of 32 of one group.
    void pack_zero_points(const GroupCodes& codes, std::byte* out) const {
        for (size_t first = 0; first < block_len_; first += 32) {
            BlockQ4_Z b{F16::from(codes.d), F16::from(8), {}};
            for (size_t i = 0; i < 16; ++i) {
                b.qs[i] = static_cast<uint8_t>(codes.code[first + i] | codes.code[first + i + 16] << 4);
            }
            std::memcpy(out + first / 32 * sizeof(b), &b, sizeof(b));
        }
    }
    static float inverse_of(float v) { return std::fabs(v) < 0x1p-120f ? 0 : 1 / v; }
    float step_of(const GroupCodes& c, size_t g) const { return c.d * static_cast<float>(c.scale[g]); }
    float min_of(const GroupCodes& c, size_t g) const { return c.dmin * static_cast<float>(c.min[g]); }
    float value(const GroupCodes& c, size_t i) const {
        const size_t g = i / group_len_;
        return step_of(c, g) * layout_.levels[c.code[i]] - min_of(c, g);
    }
    float h(size_t i, size_t j) const { return c_.m_.h[i * n_ + j] + (i == j ? c_.added_ : 0); }

    float wanted_at(size_t j) const {
        const auto column = c_.factor_.column(j);
        return weights_[j] + vector_sums().dot(errors_.data(), column.data(), j) / column[j];
    }

    // Weights first, first + 1, ... grow by `by`.
    void move(size_t first, std::span<const float> by) {
        for (size_t i = 0; i < by.size(); ++i) {
            if (by[i] == 0) continue;
            errors_[first + i] -= by[i];
            vector_sums().add_scaled(-by[i], c_.m_.h.data() + (first + i) * n_, pull_.data(), n_);
            pull_[first + i] -= c_.added_ * by[i];
        }
    }
    // The change of the cost when weights grow by t * direction is -2 t a + t² b.
    struct Parabola {
        float a, b;
        float best() const { return b > 0 ? a / b : 0; }
        float change(float t) const { return t * (t * b - 2 * a); }
    };
    Parabola along(size_t first, std::span<const float> direction) const {
        Parabola p{vector_sums().dot(direction.data(), pull_.data() + first, direction.size()), 0};
        for (size_t i = 0; i < direction.size(); ++i) {
            if (direction[i] == 0) continue;
            p.b += direction[i] * (vector_sums().dot(c_.m_.h.data() + (first + i) * n_ + first,
                                                     direction.data(), direction.size()) +
                                   c_.added_ * direction[i]);
        }
        return p;
    }

    void move_codes(size_t b, size_t g) {
        GroupCodes& codes = blocks_[b];
        const float step = step_of(codes, g), min = min_of(codes, g), inverse = inverse_of(step);
        if (step == 0) return;
        for (size_t i = g * group_len_; i < (g + 1) * group_len_; ++i) {
            const size_t j = b * block_len_ + i;
            const float old = value(codes, i), curvature = h(j, j);
            if (!(curvature > 0)) continue;
            const uint8_t code = nearest_code(layout_, (old + pull_[j] / curvature + min) * inverse);
            if (code == codes.code[i]) continue;
            const float by = step * (layout_.levels[code] - layout_.levels[codes.code[i]]);
            if (!(by * (by * curvature - 2 * pull_[j]) < 0)) continue;
            codes.code[i] = code;
            move(j, {&by, 1});
        }
    }

    void move_scale(size_t b, size_t g) {
        GroupCodes& codes = blocks_[b];
        for (size_t i = 0; i < group_len_; ++i) {
            scratch_[i] = codes.d * layout_.levels[codes.code[g * group_len_ + i]];
        }
        move_whole(b, g, layout_.scale_low, layout_.scale_high, codes.scale[g]);
    }
    void move_min(size_t b, size_t g) {
        std::fill_n(scratch_.begin(), group_len_, -blocks_[b].dmin);
        move_whole(b, g, 0, layout_.min_high, blocks_[b].min[g]);
    }
    // `number` to its best value, scratch_ being what one more adds.
    void move_whole(size_t b, size_t g, int low, int high, int16_t& number) {
        const size_t first = b * block_len_ + g * group_len_;
        const std::span<float> direction(scratch_.data(), group_len_);
        const Parabola p = along(first, direction);
        const float by = std::clamp(std::nearbyint(p.best()), static_cast<float>(low - number),
                                    static_cast<float>(high - number));
        if (by == 0 || !(p.change(by) < 0)) return;
        number = static_cast<int16_t>(static_cast<float>(number) + by);
        for (float& v : direction) v *= by;
        move(first, direction);
    }

    void move_block_scales(size_t b) {
        GroupCodes& codes = blocks_[b];
        for (size_t i = 0; i < block_len_; ++i) {
            scratch_[i] = static_cast<float>(codes.scale[i / group_len_]) * layout_.levels[codes.code[i]];
        }
        move_half(b, codes.d, -65504);
        if (!layout_.has_min()) return;
        for (size_t i = 0; i < block_len_; ++i) scratch_[i] = -static_cast<float>(codes.min[i / group_len_]);
        move_half(b, codes.dmin, layout_.signed_offset ? -65504 : 0);
    }
    void move_half(size_t b, float& number, float low) {
        const std::span<float> direction(scratch_.data(), block_len_);
        const Parabola p = along(b * block_len_, direction);
        const float to = F16::from(std::clamp(number + p.best(), low, 65504.0f));
        const float by = to - number;
        if (by == 0 || !(p.change(by) < 0)) return;
        number = to;
        for (float& v : direction) v *= by;
        move(b * block_len_, direction);
    }

    const Compensator& c_;
    Format f_;
    GroupLayout layout_;
    size_t n_, block_len_, group_len_;
    std::span<const float> weights_;
    std::vector<float> errors_;  // weight - value
    std::vector<float> pull_;    // errors * H
    std::vector<GroupCodes> blocks_;
    std::array<float, GroupCodes::most_weights> scratch_{};
};

Compensator::Compensator(const Moments& moments, const CompensationOptions& options, ThreadPool& pool)
    : m_(moments), options_(options), factor_(moments, options.damping, pool), importance_(moments.n) {
    double mean = 0;
    for (size_t i = 0; i < m_.n; ++i) mean += static_cast<double>(m_.diagonal(i)) / static_cast<double>(m_.n);
    added_ = static_cast<float>(options.damping * (mean > 0 ? mean : 1));
    for (size_t j = 0; j < m_.n; ++j) importance_[j] = factor_.diagonal(j) * factor_.diagonal(j);
}

void Compensator::follow(const Drift& drift, double share, std::span<float> weights) const {
    std::vector<float> by(weights.size());
    for (size_t i = 0; i < weights.size(); ++i)
        vector_sums().add_scaled(weights[i], drift.d.data() + i * m_.n, by.data(), m_.n);
    factor_.solve(by);
    vector_sums().add_scaled(static_cast<float>(share), by.data(), weights.data(), m_.n);
}

double Compensator::cost(std::span<const float> errors) const {
    double sum = 0;
    for (size_t j = 0; j < m_.n; ++j) {
        const auto column = factor_.column(j);
        const auto v = static_cast<double>(vector_sums().dot(errors.data(), column.data(), column.size()));
        sum += v * v;
    }
    return sum;
}

double Compensator::round_row(Format f, std::span<const float> weights, std::byte* out) const {
    CHECK(weights.size() == m_.n, "{} weights, {} columns", weights.size(), m_.n);
    Row row(*this, f, weights);
    row.round_forward();
    if (options_.n_sweeps > 0) row.sweep(options_.n_sweeps);
    row.pack(out);
    return row.cost();
}

}  // namespace smelt
