// The reference backend's ops on rows: scalar loops, double accumulation. They are the specification of every
// op and are never optimised; reference_sequences.cpp has those that look at other tokens.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <numeric>

#include "backend/reference_draw.h"
#include "backend/reference_steps.h"

namespace smelt::reference {

using namespace op;

namespace {

double gelu(double x) {
    // (1 + tanh(u)) / 2 = 1 / (1 + exp(-2u)), without the cancellation of the former
    const double u = std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x);
    return x / (1 + std::exp(-2 * u));
}

}  // namespace

void Steps::product(const Tensor& out, const Tensor& x, const Weight& w, const Weight* bias) {
    CHECK(w.cols == x.row_len() && w.rows == out.row_len());
    std::vector<float> row(static_cast<size_t>(w.cols));
    for (int64_t r = 0; r < w.rows; ++r) {
        decode_row(weight_row(w, r), row);
        for (int64_t t = 0; t < rows(x); ++t) {
            double sum = 0;
            for (size_t i = 0; i < row.size(); ++i) {
                sum += static_cast<double>(at<float>(x, t)[i]) * static_cast<double>(row[i]);
            }
            if (bias != nullptr) sum += static_cast<double>(floats(*bias)[r]);
            at<float>(out, t)[r] = static_cast<float>(sum);
        }
    }
}

void Steps::run(const Embed& op) {
    for (int64_t i = 0; i < rows(op.out); ++i) {
        int32_t id = at<int32_t>(op.ids, 0)[i];
        const std::span<float> to(at<float>(op.out, i), static_cast<size_t>(op.table->cols));
        if (id < 0) {
            CHECK(-1 - id < static_cast<int32_t>(drawn_before_.size()), "row {} of the launch before",
                  -1 - id);
            id = drawn_before_[static_cast<size_t>(-1 - id)];
            if (id < 0) {
                std::ranges::fill(to, 0.0f);
                continue;
            }
        }
        CHECK(id < op.table->rows, "id {}", id);
        decode_row(weight_row(*op.table, id), to);
    }
}

void Steps::run(const Matmul& op) {
    for (const Matmul::Product& p : op.all()) product(p.out, op.x, *p.w, p.bias);
}

void Steps::run(const GatedMatmul& op) {
    product(op.gate_out, op.x, *op.gate, nullptr);
    product(op.up_out, op.x, *op.up, nullptr);
    run(SiluMul{op.out, op.gate_out, op.up_out});
}

void Steps::run(const RmsNorm& op) {
    const auto& [out, x, weight, eps] = op;
    const Weight& w = *weight;
    const int64_t n = x.shape[static_cast<size_t>(x.rank - 1)];
    CHECK(n == w.cols);
    for (int64_t t = 0; t < rows(x); ++t) {
        for (int64_t first = 0; first < x.row_len(); first += n) {
            const float* in = at<float>(x, t) + first;
            double sum = 0;
            for (int64_t i = 0; i < n; ++i) sum += static_cast<double>(in[i]) * static_cast<double>(in[i]);
            const double scale = 1 / std::sqrt(sum / static_cast<double>(n) + static_cast<double>(eps));
            float* to = at<float>(out, t) + first;
            for (int64_t i = 0; i < n; ++i) {
                to[i] = static_cast<float>(static_cast<double>(in[i]) * scale *
                                           static_cast<double>(floats(w)[i]));
            }
        }
    }
}

void Steps::run(const AddRmsNorm& op) {
    run(Add{op.residual, op.x});
    run(RmsNorm{op.out, op.residual, op.w, op.eps});
}

void Steps::run(const LayerNorm& op) {
    const auto& [out, x, weight, biases, eps] = op;
    const Weight &w = *weight, &bias = *biases;
    const int64_t n = x.shape[static_cast<size_t>(x.rank - 1)];
    CHECK(n == w.cols && n == bias.cols);
    for (int64_t t = 0; t < rows(x); ++t) {
        for (int64_t first = 0; first < x.row_len(); first += n) {
            const float* in = at<float>(x, t) + first;
            float* to = at<float>(out, t) + first;
            double sum = 0, squares = 0;
            for (int64_t i = 0; i < n; ++i) sum += static_cast<double>(in[i]);
            const double mean = sum / static_cast<double>(n);
            for (int64_t i = 0; i < n; ++i) {
                squares += (static_cast<double>(in[i]) - mean) * (static_cast<double>(in[i]) - mean);
            }
            const double scale = 1 / std::sqrt(squares / static_cast<double>(n) + static_cast<double>(eps));
            for (int64_t i = 0; i < n; ++i) {
                to[i] = static_cast<float>((static_cast<double>(in[i]) - mean) * scale *
                                               static_cast<double>(floats(w)[i]) +
                                           static_cast<double>(floats(bias)[i]));
            }
        }
    }
}

void Steps::run(const Add& op) {
    const auto& [x, y] = op;
    for (int64_t t = 0; t < rows(x); ++t) {
        for (int64_t i = 0; i < x.row_len(); ++i) at<float>(x, t)[i] += at<float>(y, t)[i];
    }
}

void Steps::run(const Copy& op) {
    const auto& [out, x] = op;
    for (int64_t t = 0; t < rows(x); ++t) {
        std::copy_n(at<float>(x, t), x.row_len(), at<float>(out, t));
    }
}

void Steps::run(const SiluMul& op) {
    const auto& [out, gate, up] = op;
    for (int64_t t = 0; t < rows(out); ++t) {
        for (int64_t i = 0; i < out.row_len(); ++i) {
            const double g = static_cast<double>(at<float>(gate, t)[i]);
            at<float>(out, t)[i] =
                static_cast<float>(g / (1 + std::exp(-g)) * static_cast<double>(at<float>(up, t)[i]));
        }
    }
}

void Steps::run(const ClampedSiluMul& op) {
    const auto& [out, gate, up, alpha, limit] = op;
    for (int64_t t = 0; t < rows(out); ++t) {
        for (int64_t i = 0; i < out.row_len(); ++i) {
            const double g = static_cast<double>(std::min(at<float>(gate, t)[i], limit));
            const double u = static_cast<double>(std::clamp(at<float>(up, t)[i], -limit, limit));
            at<float>(out, t)[i] =
                static_cast<float>(g / (1 + std::exp(-static_cast<double>(alpha) * g)) * (u + 1));
        }
    }
}

void Steps::run(const Gelu& op) {
    const auto& [out, x, exact] = op;
    for (int64_t t = 0; t < rows(out); ++t) {
        for (int64_t i = 0; i < out.row_len(); ++i) {
            const auto v = static_cast<double>(at<float>(x, t)[i]);
            at<float>(out, t)[i] =
                static_cast<float>(exact ? v / 2 * std::erfc(-v / std::numbers::sqrt2) : gelu(v));
        }
    }
}

void Steps::run(const GeluMul& op) {
    const auto& [out, gate, up] = op;
    for (int64_t t = 0; t < rows(out); ++t) {
        for (int64_t i = 0; i < out.row_len(); ++i) {
            at<float>(out, t)[i] = static_cast<float>(gelu(static_cast<double>(at<float>(gate, t)[i])) *
                                                      static_cast<double>(at<float>(up, t)[i]));
        }
    }
}

void Steps::run(const SigmoidMul& op) {
    const auto& [out, gate, x] = op;
    const int64_t step = gate.row_len() == 1 ? 0 : 1;
    for (int64_t t = 0; t < rows(out); ++t) {
        for (int64_t i = 0; i < out.row_len(); ++i) {
            const double g = static_cast<double>(at<float>(gate, t)[i * step]);
            at<float>(out, t)[i] =
                static_cast<float>(static_cast<double>(at<float>(x, t)[i]) / (1 + std::exp(-g)));
        }
    }
}

void Steps::run(const Scale& op) {
    for (int64_t t = 0; t < rows(op.x); ++t) {
        for (int64_t i = 0; i < op.x.row_len(); ++i) at<float>(op.x, t)[i] *= op.factor;
    }
}

void Steps::run(const SoftCap& op) {
    for (int64_t t = 0; t < rows(op.x); ++t) {
        for (int64_t i = 0; i < op.x.row_len(); ++i) {
            float& x = at<float>(op.x, t)[i];
            x = static_cast<float>(soft_capped(static_cast<double>(x), op.cap));
        }
    }
}

void Steps::run(const GatherRows& op) {
    for (int64_t i = 0; i < rows(op.out); ++i) {
        std::memcpy(at<float>(op.out, i), at<float>(op.x, at<int32_t>(op.rows, 0)[i]),
                    static_cast<size_t>(op.x.row_len()) * sizeof(float));
    }
}

void Steps::run(const TopK& op) {
    const auto& [values, ids, x] = op;
    std::vector<int32_t> order(static_cast<size_t>(x.row_len()));
    for (int64_t r = 0; r < rows(x); ++r) {
        const float* row = at<float>(x, r);
        std::iota(order.begin(), order.end(), 0);
        std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
            return std::isnan(row[b]) ? false : std::isnan(row[a]) || row[a] > row[b];
        });
        for (int64_t i = 0; i < ids.row_len(); ++i) {
            at<int32_t>(ids, r)[i] = order[static_cast<size_t>(i)];
            at<float>(values, r)[i] = row[order[static_cast<size_t>(i)]];
        }
    }
}

namespace {

// Experts that are in none of the best groups.
template <class Rank>
std::vector<bool> outside_of_groups(const Route& p, int64_t n_experts, Rank rank) {
    std::vector<bool> outside(static_cast<size_t>(n_experts), p.n_groups_used < p.n_groups);
    const int64_t n_each = n_experts / p.n_groups;
    std::vector<bool> taken(static_cast<size_t>(p.n_groups));
    for (int32_t i = 0; i < p.n_groups_used && p.n_groups_used < p.n_groups; ++i) {
        int64_t best = -1;
        double best_score = 0;
        for (int64_t g = 0; g < p.n_groups; ++g) {
            double first = -std::numeric_limits<double>::infinity(), second = first;
            for (int64_t e = g * n_each; e < (g + 1) * n_each; ++e) {
                second = std::max(second, std::min(first, rank(e)));
                first = std::max(first, rank(e));
            }
            const double score = n_each > 1 ? first + second : first;
            if (!taken[static_cast<size_t>(g)] && (best < 0 || score > best_score)) {
                best = g;
                best_score = score;
            }
        }
        taken[static_cast<size_t>(best)] = true;
        for (int64_t e = best * n_each; e < (best + 1) * n_each; ++e) outside[static_cast<size_t>(e)] = false;
    }
    return outside;
}

}  // namespace

void Steps::run(const Route& p) {
    const Tensor &expert_ids = p.ids, &expert_weights = p.weights, &logits = p.logits;
    const int64_t n_experts = logits.row_len(), n_used = expert_ids.row_len();
    std::vector<double> scores(static_cast<size_t>(n_experts));
    for (int64_t t = 0; t < rows(logits); ++t) {
        const float* row = at<float>(logits, t);
        double total = 0;
        const double largest = static_cast<double>(*std::max_element(row, row + n_experts));
        for (int64_t e = 0; e < n_experts; ++e) {
            const double logit = static_cast<double>(row[e]);
            double& score = scores[static_cast<size_t>(e)];
            score = p.score == RouteParams::Score::softmax ? std::exp(logit - largest)
                                                           : 1 / (1 + std::exp(-logit));
            total += score;
        }
        if (p.score == RouteParams::Score::softmax) {
            for (double& score : scores) score /= total;
        }
        const auto rank = [&](int64_t e) {
            const double bias =
                p.selection_bias == nullptr ? 0 : static_cast<double>(floats(*p.selection_bias)[e]);
            return scores[static_cast<size_t>(e)] + bias;
        };
        std::vector<bool> taken = outside_of_groups(p, n_experts, rank);
        double chosen_total = 0;
        for (int64_t i = 0; i < n_used; ++i) {
            int64_t best = -1;
            double best_score = 0;
            for (int64_t e = 0; e < n_experts; ++e) {
                const double score = rank(e);
                if (!taken[static_cast<size_t>(e)] && (best < 0 || score > best_score)) {
                    best = e;
                    best_score = score;
                }
            }
            taken[static_cast<size_t>(best)] = true;
            chosen_total += scores[static_cast<size_t>(best)];
            at<int32_t>(expert_ids, t)[i] = static_cast<int32_t>(best);
            at<float>(expert_weights, t)[i] = static_cast<float>(scores[static_cast<size_t>(best)]);
        }
        for (int64_t i = 0; i < n_used; ++i) {
            float& weight = at<float>(expert_weights, t)[i];
            // 1e-20 as the reference implementations have it: sigmoid scores may all vanish.
            const double divisor = p.normalize ? chosen_total + 1e-20 : 1;
            weight = static_cast<float>(static_cast<double>(weight) / divisor * static_cast<double>(p.scale));
        }
    }
}

void Steps::run(const MatmulExperts& op) {
    const Tensor &x = op.x, &expert_ids = op.ids;
    const int64_t n_used = expert_ids.row_len();
    for (const MatmulExperts::Product& m : op.all()) {
        std::vector<float> w(static_cast<size_t>(m.experts[0]->cols));
        for (int64_t t = 0; t < rows(x); ++t) {
            for (int64_t i = 0; i < n_used; ++i) {
                const int64_t e = at<int32_t>(expert_ids, t)[i];
                const Weight& expert = *m.experts[static_cast<size_t>(e)];
                const float* in = at<float>(x, t) + (x.rank == 3 ? i * expert.cols : 0);
                for (int64_t r = 0; r < expert.rows; ++r) {
                    decode_row(weight_row(expert, r), w);
                    double sum = 0;
                    for (size_t c = 0; c < w.size(); ++c)
                        sum += static_cast<double>(in[c]) * static_cast<double>(w[c]);
                    if (m.bias != nullptr) sum += static_cast<double>(floats(*m.bias)[e * expert.rows + r]);
                    at<float>(m.out, t)[i * expert.rows + r] = static_cast<float>(sum);
                }
            }
        }
    }
}

void Steps::run(const AddExperts& op) {
    const auto& [x, y, expert_weights] = op;
    const int64_t n_used = y.shape[1], dim = y.shape[2];
    for (int64_t t = 0; t < rows(x); ++t) {
        for (int64_t c = 0; c < dim; ++c) {
            double sum = static_cast<double>(at<float>(x, t)[c]);
            for (int64_t i = 0; i < n_used; ++i) {
                sum += static_cast<double>(at<float>(expert_weights, t)[i]) *
                       static_cast<double>(at<float>(y, t)[i * dim + c]);
            }
            at<float>(x, t)[c] = static_cast<float>(sum);
        }
    }
}

void Steps::run(const MatmulHeads& op) {
    const auto n_heads = static_cast<int64_t>(op.heads.size());
    for (int64_t i = 0; i < rows(op.x); ++i) {
        product(op.out.rows(i, 1), op.x.rows(i, 1), *op.heads[static_cast<size_t>(i % n_heads)], nullptr);
    }
}

void Steps::run(const Sample& op) {
    const auto vocab_size = static_cast<size_t>(op.logits.row_len());
    for (int64_t r = 0; r < rows(op.logits); ++r) {
        const DrawRow& row = *at<DrawRow>(op.rows, r);
        if (row.draws == 0) continue;
        const std::span<const float> logits(at<float>(op.logits, r), vocab_size);
        std::vector<double> x(logits.begin(), logits.end());
        int32_t& token = at<int32_t>(op.tokens, 0)[r];
        token = static_cast<int32_t>(problem_of(x));
        if (token < 0) continue;
        double sum = 0;
        const double largest = *std::ranges::max_element(x);
        for (const double logit : x) sum += std::exp(logit - largest);
        const double log_sum = largest + std::log(sum);
        for (size_t i = 0; row.masked != 0 && i < vocab_size; ++i) {
            if ((at<uint64_t>(op.masks, r)[i / 64] >> (i % 64) & 1) == 0) x[i] = minus_infinity;
        }
        for (int32_t e = row.first_edit; e < row.first_edit + row.n_edits; ++e)
            edit(x, *at<LogitEdit>(op.edits, e), row);
        const double top = *std::ranges::max_element(x);
        if (top == minus_infinity || top == -minus_infinity) {
            token =
                static_cast<int32_t>(top < 0 ? DrawProblem::all_banned : DrawProblem::infinite_after_edits);
            continue;
        }
        token = draw(x, row);
        if (row.logprob == 0) continue;
        at<float>(op.log_sums, r)[0] = static_cast<float>(log_sum);
        at<float>(op.log_sums, r)[1] =
            static_cast<float>(log_sum - static_cast<double>(static_cast<float>(log_sum)));
        at<float>(op.logprobs, 0)[r] =
            static_cast<float>(static_cast<double>(logits[static_cast<size_t>(token)]) - log_sum);
    }
}

}  // namespace smelt::reference
