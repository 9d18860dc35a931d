// The reference backend: scalar loops, double accumulation, ops one after the other. It is the specification
// of every op and is never optimised.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <limits>
#include <numbers>
#include <numeric>
#include <utility>

#include "backend/backend.h"
#include "backend/reference_draw.h"
#include "backend/reference_memory.h"
#include "backend/trace.h"
#include "base/cpu_info.h"

namespace smelt {

using namespace op;
using reference::HostKv;
using reference::HostWeight;
using reference::minus_infinity;

namespace {

struct ReferenceProgram : Program {
    explicit ReferenceProgram(const Record& r) : record(r) {}
    Record record;
};

double soft_capped(double x, float cap) {
    return static_cast<double>(cap) * std::tanh(x / static_cast<double>(cap));
}

double gelu(double x) {
    // (1 + tanh(u)) / 2 = 1 / (1 + exp(-2u)), without the cancellation of the former
    const double u = std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x);
    return x / (1 + std::exp(-2 * u));
}

// The ops of one step.
class Steps {
 public:
    Steps(std::byte* workspace, const StepInput& input, std::span<const int32_t> drawn_before)
        : workspace_(workspace), input_(input), drawn_before_(drawn_before) {}

    void run(const Embed& op) {
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

    void run(const Matmul& op) {
        for (const Matmul::Product& p : op.all()) product(p.out, op.x, *p.w, p.bias);
    }
    void run(const GatedMatmul& op) {
        product(op.gate_out, op.x, *op.gate, nullptr);
        product(op.up_out, op.x, *op.up, nullptr);
        run(SiluMul{op.out, op.gate_out, op.up_out});
    }

    void run(const RmsNorm& op) {
        const auto& [out, x, weight, eps] = op;
        const Weight& w = *weight;
        const int64_t n = x.shape[static_cast<size_t>(x.rank - 1)];
        CHECK(n == w.cols);
        for (int64_t t = 0; t < rows(x); ++t) {
            for (int64_t first = 0; first < x.row_len(); first += n) {
                const float* in = at<float>(x, t) + first;
                double sum = 0;
                for (int64_t i = 0; i < n; ++i)
                    sum += static_cast<double>(in[i]) * static_cast<double>(in[i]);
                const double scale = 1 / std::sqrt(sum / static_cast<double>(n) + static_cast<double>(eps));
                float* to = at<float>(out, t) + first;
                for (int64_t i = 0; i < n; ++i) {
                    to[i] = static_cast<float>(static_cast<double>(in[i]) * scale *
                                               static_cast<double>(floats(w)[i]));
                }
            }
        }
    }

    void run(const AddRmsNorm& op) {
        run(Add{op.residual, op.x});
        run(RmsNorm{op.out, op.residual, op.w, op.eps});
    }

    void run(const LayerNorm& op) {
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
                const double scale =
                    1 / std::sqrt(squares / static_cast<double>(n) + static_cast<double>(eps));
                for (int64_t i = 0; i < n; ++i) {
                    to[i] = static_cast<float>((static_cast<double>(in[i]) - mean) * scale *
                                                   static_cast<double>(floats(w)[i]) +
                                               static_cast<double>(floats(bias)[i]));
                }
            }
        }
    }

    void run(const RopeTable& op) {
        const auto& [table, positions, frequencies, scale] = op;
        const Weight& inv_freq = *frequencies;
        for (int64_t t = 0; t < rows(table); ++t) {
            for (int64_t i = 0; i < table.shape[1]; ++i) {
                const float angle = static_cast<float>(at<int32_t>(positions, 0)[t]) * floats(inv_freq)[i];
                at<float>(table, t)[2 * i] = static_cast<float>(std::cos(static_cast<double>(angle))) * scale;
                at<float>(table, t)[2 * i + 1] =
                    static_cast<float>(std::sin(static_cast<double>(angle))) * scale;
            }
        }
    }

    void run(const Rope& op) {
        const auto& [x, table, pairing, first] = op;
        const int64_t half = table.shape[1], head_dim = x.shape[2];
        for (int64_t t = 0; t < rows(x); ++t) {
            for (int64_t h = 0; h < x.shape[1]; ++h) {
                float* head = at<float>(x, t) + h * head_dim + first;
                for (int64_t i = 0; i < half; ++i) {
                    const double c = static_cast<double>(at<float>(table, t)[2 * i]);
                    const double s = static_cast<double>(at<float>(table, t)[2 * i + 1]);
                    float& a = pairing == RopePairing::half ? head[i] : head[2 * i];
                    float& b = pairing == RopePairing::half ? head[i + half] : head[2 * i + 1];
                    const double x0 = static_cast<double>(a), x1 = static_cast<double>(b);
                    a = static_cast<float>(x0 * c - x1 * s);
                    b = static_cast<float>(x0 * s + x1 * c);
                }
            }
        }
    }

    void run(const StoreKv& op) {
        HostKv& kv = *static_cast<HostKv*>(op.kv);
        store_rows(kv, kv.rows.k, op.k, op.slots);
        if (!kv.rows.v_in_k) store_rows(kv, kv.rows.v, op.v, op.slots);
    }

    void run(const PrepareHeads& op) {
        if (op.q_norm != nullptr) run(RmsNorm{op.q, op.q, op.q_norm, op.eps});
        if (op.k_norm != nullptr) run(RmsNorm{op.k, op.k, op.k_norm, op.eps});
        if (op.table) {
            if (op.q) run(Rope{op.q, op.table, op.pairing, op.first});
            run(Rope{op.k, op.table, op.pairing, op.first});
        }
        run(StoreKv{op.kv, op.k, op.v, op.slots});
    }

    void run(const Attention& p) {
        HostKv& kv = *static_cast<HostKv*>(p.kv);
        const Tensor &q = p.q, &out = p.out;
        const int64_t n_heads = q.shape[1], n_kv_heads = kv.rows.k.n_heads;
        const int64_t k_dim = kv.rows.k.dim, v_dim = kv.rows.v.dim, block_len = kv.rows.k.block_len;
        std::vector<double> weights, sum(static_cast<size_t>(v_dim));
        std::vector<float> k(static_cast<size_t>(k_dim)), v(sum.size());
        for (int64_t s = 0; s < counts().n_seqs; ++s) {
            const int32_t* blocks = at<int32_t>(p.block_table, s);
            for (int64_t t = at<int32_t>(p.seq_start, 0)[s]; t < at<int32_t>(p.seq_start, 0)[s + 1]; ++t) {
                const int64_t last = at<int32_t>(p.positions, 0)[t];
                const int64_t first = p.window > 0 ? std::max<int64_t>(0, last - p.window + 1) : 0;
                for (int64_t h = 0; h < n_heads; ++h) {
                    const int64_t kv_head = h / (n_heads / n_kv_heads);
                    const auto read_row = [&](const KvRows& r, int64_t pos, std::span<float> to) {
                        const int64_t slot = blocks[pos / block_len] * block_len + pos % block_len;
                        decode_row({r.format, kv.row(r, slot, kv_head), nullptr, r.dim}, to);
                    };
                    // softmax(q·kᵀ * scale) over the visible positions
                    weights.clear();
                    double largest = -std::numeric_limits<double>::infinity();
                    for (int64_t pos = first; pos <= last; ++pos) {
                        double dot = 0;
                        read_row(kv.rows.k, pos, k);
                        for (int64_t i = 0; i < k_dim; ++i) {
                            dot += static_cast<double>(at<float>(q, t)[h * k_dim + i]) *
                                   static_cast<double>(k[static_cast<size_t>(i)]);
                        }
                        dot *= static_cast<double>(p.scale);
                        weights.push_back(p.soft_cap > 0 ? soft_capped(dot, p.soft_cap) : dot);
                        largest = std::max(largest, weights.back());
                    }
                    double total = 0;
                    if (p.sinks != nullptr) {
                        const double sink = static_cast<double>(floats(*p.sinks)[h]);
                        largest = std::max(largest, sink);
                        total = std::exp(sink - largest);
                    }
                    for (double& w : weights) total += w = std::exp(w - largest);
                    // out = weights · v
                    sum.assign(sum.size(), 0);
                    for (int64_t pos = first; pos <= last; ++pos) {
                        const double w = weights[static_cast<size_t>(pos - first)] / total;
                        read_row(kv.rows.v, pos, v);
                        for (size_t i = 0; i < v.size(); ++i) sum[i] += w * static_cast<double>(v[i]);
                    }
                    for (int64_t i = 0; i < v_dim; ++i) {
                        at<float>(out, t)[h * v_dim + i] = static_cast<float>(sum[static_cast<size_t>(i)]);
                    }
                }
            }
        }
    }

    // The state row of a position of sequence s.
    float* state_row(const StateRows& state, int64_t s, int64_t position) {
        HostKv& kv = *static_cast<HostKv*>(state.rows);
        const int32_t row = at<int32_t>(state.block_table, s)[position / state.block_len];
        return reinterpret_cast<float*>(kv.row(kv.rows.k, row, 0)) + state.first;
    }
    // token(t) for the tokens of every sequence in order, which changes `held`, the sequence's state.
    template <class Token>
    void each_token_of(const StateRows& state, std::vector<float>& held, Token token) {
        for (int64_t s = 0; s < counts().n_seqs; ++s) {
            const int64_t first = at<int32_t>(state.seq_start, 0)[s],
                          end = at<int32_t>(state.seq_start, 0)[s + 1];
            const int64_t begin = at<int32_t>(state.positions, 0)[first];
            if (begin == 0) {
                std::ranges::fill(held, 0.0f);
            } else {
                std::copy_n(state_row(state, s, begin - 1), held.size(), held.begin());
            }
            for (int64_t t = first; t < end; ++t) {
                const int64_t position = begin + t - first;
                token(t);
                if (t + 1 == end || (position + 1) % state.block_len == 0)
                    std::ranges::copy(held, state_row(state, s, position));
            }
        }
    }

    void run(const CausalConv& op) {
        const int64_t n = op.x.row_len(), kernel = op.w->cols;
        std::vector<float> held(static_cast<size_t>((kernel - 1) * n));
        each_token_of(op.state, held, [&](int64_t t) {
            const float* x = at<float>(op.x, t);
            for (int64_t c = 0; c < n; ++c) {
                const float* w = floats(*op.w) + c * kernel;
                double sum = static_cast<double>(w[kernel - 1]) * static_cast<double>(x[c]);
                for (int64_t j = 0; j + 1 < kernel; ++j) {
                    sum +=
                        static_cast<double>(w[j]) * static_cast<double>(held[static_cast<size_t>(j * n + c)]);
                }
                at<float>(op.out, t)[c] = static_cast<float>(sum / (1 + std::exp(-sum)));
            }
            std::copy(held.begin() + n, held.end(), held.begin());
            std::copy_n(x, n, held.end() - n);
        });
    }

    void run(const DeltaRule& op) {
        const int64_t n_k = op.k.shape[1], k_dim = op.k.shape[2], n_v = op.v.shape[1], v_dim = op.v.shape[2];
        std::vector<float> held(static_cast<size_t>(n_v * k_dim * v_dim));
        std::vector<double> state(static_cast<size_t>(k_dim));  // a column of it
        each_token_of(op.state, held, [&](int64_t t) {
            for (int64_t h = 0; h < n_v; ++h) {
                const int64_t k_head = op.tiled ? h % n_k : h / (n_v / n_k);
                const float *q = at<float>(op.q, t) + k_head * k_dim,
                            *k = at<float>(op.k, t) + k_head * k_dim;
                const double x =
                    static_cast<double>(at<float>(op.a, t)[h]) + static_cast<double>(floats(*op.bias)[h]);
                const double softplus = std::max(x, 0.0) + std::log1p(std::exp(-std::fabs(x)));
                const double keep = std::exp(static_cast<double>(floats(*op.decay)[h]) * softplus);
                const double beta = 1 / (1 + std::exp(-static_cast<double>(at<float>(op.b, t)[h])));
                for (int64_t c = 0; c < v_dim; ++c) {
                    float* column = held.data() + h * k_dim * v_dim + c;
                    double known = 0, out = 0;
                    for (int64_t i = 0; i < k_dim; ++i) {
                        state[static_cast<size_t>(i)] = static_cast<double>(column[i * v_dim]) * keep;
                        known += state[static_cast<size_t>(i)] * static_cast<double>(k[i]);
                    }
                    const double v = static_cast<double>(at<float>(op.v, t)[h * v_dim + c]);
                    for (int64_t i = 0; i < k_dim; ++i) {
                        state[static_cast<size_t>(i)] += static_cast<double>(k[i]) * (v - known) * beta;
                        column[i * v_dim] = static_cast<float>(state[static_cast<size_t>(i)]);
                        out += state[static_cast<size_t>(i)] * static_cast<double>(q[i]);
                    }
                    at<float>(op.out, t)[h * v_dim + c] = static_cast<float>(out);
                }
            }
        });
    }

    void run(const Add& op) {
        const auto& [x, y] = op;
        for (int64_t t = 0; t < rows(x); ++t) {
            for (int64_t i = 0; i < x.row_len(); ++i) at<float>(x, t)[i] += at<float>(y, t)[i];
        }
    }

    void run(const Copy& op) {
        const auto& [out, x] = op;
        for (int64_t t = 0; t < rows(x); ++t) {
            std::copy_n(at<float>(x, t), x.row_len(), at<float>(out, t));
        }
    }

    void run(const SiluMul& op) {
        const auto& [out, gate, up] = op;
        for (int64_t t = 0; t < rows(out); ++t) {
            for (int64_t i = 0; i < out.row_len(); ++i) {
                const double g = static_cast<double>(at<float>(gate, t)[i]);
                at<float>(out, t)[i] =
                    static_cast<float>(g / (1 + std::exp(-g)) * static_cast<double>(at<float>(up, t)[i]));
            }
        }
    }

    void run(const ClampedSiluMul& op) {
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

    void run(const Gelu& op) {
        const auto& [out, x] = op;
        for (int64_t t = 0; t < rows(out); ++t) {
            for (int64_t i = 0; i < out.row_len(); ++i) {
                at<float>(out, t)[i] = static_cast<float>(gelu(static_cast<double>(at<float>(x, t)[i])));
            }
        }
    }

    void run(const GeluMul& op) {
        const auto& [out, gate, up] = op;
        for (int64_t t = 0; t < rows(out); ++t) {
            for (int64_t i = 0; i < out.row_len(); ++i) {
                at<float>(out, t)[i] = static_cast<float>(gelu(static_cast<double>(at<float>(gate, t)[i])) *
                                                          static_cast<double>(at<float>(up, t)[i]));
            }
        }
    }

    void run(const SigmoidMul& op) {
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

    void run(const Scale& op) {
        for (int64_t t = 0; t < rows(op.x); ++t) {
            for (int64_t i = 0; i < op.x.row_len(); ++i) at<float>(op.x, t)[i] *= op.factor;
        }
    }

    void run(const SoftCap& op) {
        for (int64_t t = 0; t < rows(op.x); ++t) {
            for (int64_t i = 0; i < op.x.row_len(); ++i) {
                float& x = at<float>(op.x, t)[i];
                x = static_cast<float>(soft_capped(static_cast<double>(x), op.cap));
            }
        }
    }

    void run(const GatherRows& op) {
        for (int64_t i = 0; i < rows(op.out); ++i) {
            std::memcpy(at<float>(op.out, i), at<float>(op.x, at<int32_t>(op.rows, 0)[i]),
                        static_cast<size_t>(op.x.row_len()) * sizeof(float));
        }
    }

    void run(const TopK& op) {
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

    // Experts that are in none of the best groups.
    template <class Rank>
    static std::vector<bool> outside_of_groups(const Route& p, int64_t n_experts, Rank rank) {
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
            for (int64_t e = best * n_each; e < (best + 1) * n_each; ++e)
                outside[static_cast<size_t>(e)] = false;
        }
        return outside;
    }

    void run(const Route& p) {
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
                weight =
                    static_cast<float>(static_cast<double>(weight) / divisor * static_cast<double>(p.scale));
            }
        }
    }

    void run(const MatmulExperts& op) {
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
                        if (m.bias != nullptr)
                            sum += static_cast<double>(floats(*m.bias)[e * expert.rows + r]);
                        at<float>(m.out, t)[i * expert.rows + r] = static_cast<float>(sum);
                    }
                }
            }
        }
    }

    void run(const AddExperts& op) {
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

    void run(const MatmulHeads& op) {
        const auto n_heads = static_cast<int64_t>(op.heads.size());
        for (int64_t i = 0; i < rows(op.x); ++i) {
            product(op.out.rows(i, 1), op.x.rows(i, 1), *op.heads[static_cast<size_t>(i % n_heads)], nullptr);
        }
    }

    void run(const Sample& op) {
        const auto vocab_size = static_cast<size_t>(op.logits.row_len());
        for (int64_t r = 0; r < rows(op.logits); ++r) {
            const DrawRow& row = *at<DrawRow>(op.rows, r);
            if (row.draws == 0) continue;
            const std::span<const float> logits(at<float>(op.logits, r), vocab_size);
            std::vector<double> x(logits.begin(), logits.end());
            int32_t& token = at<int32_t>(op.tokens, 0)[r];
            token = static_cast<int32_t>(reference::problem_of(x));
            if (token < 0) continue;
            double sum = 0;
            const double largest = *std::ranges::max_element(x);
            for (const double logit : x) sum += std::exp(logit - largest);
            const double log_sum = largest + std::log(sum);
            for (size_t i = 0; row.masked != 0 && i < vocab_size; ++i) {
                if ((at<uint64_t>(op.masks, r)[i / 64] >> (i % 64) & 1) == 0) x[i] = minus_infinity;
            }
            for (int32_t e = row.first_edit; e < row.first_edit + row.n_edits; ++e)
                reference::edit(x, *at<LogitEdit>(op.edits, e), row);
            const double top = *std::ranges::max_element(x);
            if (top == minus_infinity || top == -minus_infinity) {
                token = static_cast<int32_t>(top < 0 ? DrawProblem::all_banned
                                                     : DrawProblem::infinite_after_edits);
                continue;
            }
            token = reference::draw(x, row);
            if (row.logprob == 0) continue;
            at<float>(op.log_sums, r)[0] = static_cast<float>(log_sum);
            at<float>(op.log_sums, r)[1] =
                static_cast<float>(log_sum - static_cast<double>(static_cast<float>(log_sum)));
            at<float>(op.logprobs, 0)[r] =
                static_cast<float>(static_cast<double>(logits[static_cast<size_t>(token)]) - log_sum);
        }
    }

 private:
    const StepCounts& counts() const { return input_.counts(); }
    int64_t rows(const Tensor& t) const { return counts().rows(t); }
    template <class T>
    T* at(const Tensor& t, int64_t row) const {
        std::byte* base =
            t.space == Space::workspace ? workspace_ : const_cast<std::byte*>(input_.bytes().data());
        return reinterpret_cast<T*>(base + t.offset +
                                    static_cast<size_t>(row * t.row_stride) * dtype_bytes(t.dtype));
    }

    // out = x · wᵀ + bias
    void product(const Tensor& out, const Tensor& x, const Weight& w, const Weight* bias) {
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

    void store_rows(HostKv& kv, const KvRows& to, const Tensor& from, const Tensor& slots) {
        for (int64_t t = 0; t < rows(from); ++t) {
            for (int64_t h = 0; h < to.n_heads; ++h) {
                encode_row(to.format, {at<float>(from, t) + h * to.dim, static_cast<size_t>(to.dim)},
                           kv.row(to, at<int32_t>(slots, 0)[t], h), nullptr);
            }
        }
    }

    static const float* floats(const Weight& w) {
        return reinterpret_cast<const float*>(static_cast<const HostWeight*>(w.storage.get())->data.data());
    }
    static RowView weight_row(const Weight& w, int64_t r) {
        const auto* storage = static_cast<const HostWeight*>(w.storage.get());
        const int64_t first = r * storage->row_step * w.cols;
        return {w.format, storage->data.data() + data_bytes(w.format, first),
                storage->scales.data() + scale_bytes(w.format, first), w.cols};
    }

    std::byte* workspace_;
    const StepInput& input_;
    std::span<const int32_t> drawn_before_;
};

class ReferenceBackend : public Backend {
 public:
    std::string_view name() const override { return "reference"; }
    std::string description() const override { return "scalar reference, one thread"; }
    uint64_t available_memory() const override { return read_memory_info().available; }

    Weight load(const WeightView& view, const WeightRole& role) override {
        auto storage = std::make_unique<HostWeight>();
        if (role.use != WeightUse::vector) {
            storage->data = view.data;
            storage->scales = view.scales;
            storage->row_step = view.row_step;
            return {view.format, view.rows, view.cols, std::move(storage)};
        }
        storage->owned.resize(static_cast<size_t>(view.rows * view.cols) * sizeof(float));
        decode_row(
            {view.format, view.data.data(), view.scales.data(), view.rows * view.cols},
            {reinterpret_cast<float*>(storage->owned.data()), static_cast<size_t>(view.rows * view.cols)});
        storage->data = storage->owned;
        return {Format::F32, view.rows, view.cols, std::move(storage)};
    }

    std::unique_ptr<KvStorage> allocate_kv(const KvShape& shape) override {
        return std::make_unique<HostKv>(shape);
    }

    std::unique_ptr<Program> compile(const Record& record) override {
        if (workspace_.size() < record.workspace_bytes()) workspace_.resize(record.workspace_bytes());
        return std::make_unique<ReferenceProgram>(record);
    }

    void launch(Program& program, const StepInput& input) override {
        record_ = &static_cast<ReferenceProgram&>(program).record;
        input_ = &input;
    }

    StepResult collect() override {
        CHECK(record_ != nullptr, "no step is under way");
        const Record& record = *std::exchange(record_, nullptr);
        Steps steps(workspace_.data(), *input_, drawn_);
        std::vector<Trace::Timing> timings;
        for (size_t i = 0; i < record.ops().size(); ++i) {
            const double begin = now();
            std::visit([&](const auto& op) { steps.run(op); }, record.ops()[i]);
            timings.push_back({static_cast<int>(i), begin, now()});
        }
        if (trace_ != nullptr) trace_->add_step(stream_, record, input_->counts(), timings);
        const StepResult result = result_of(record.results, workspace_.data(), input_->counts());
        drawn_.assign(result.tokens.begin(), result.tokens.end());
        return result;
    }

    void write(const Tensor& t, const void* bytes) override { std::memcpy(place(t), bytes, t.n_bytes()); }
    void read(const Tensor& t, void* bytes) override { std::memcpy(bytes, place(t), t.n_bytes()); }
    void set_trace(Trace* trace) override {
        trace_ = trace;
        if (trace != nullptr) stream_ = trace->add_stream("reference");
    }

 private:
    static double now() {
        return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
    }
    std::byte* place(const Tensor& t) {
        CHECK(t.dense() && t.space == Space::workspace);
        if (workspace_.size() < t.offset + t.n_bytes()) workspace_.resize(t.offset + t.n_bytes());
        return workspace_.data() + t.offset;
    }

    std::vector<std::byte> workspace_;
    std::vector<int32_t> drawn_;  // by the last step
    const Record* record_ = nullptr;
    const StepInput* input_ = nullptr;
    Trace* trace_ = nullptr;
    int stream_ = 0;  // of the trace
};

}  // namespace

std::unique_ptr<Backend> make_reference_backend() {
    return std::make_unique<ReferenceBackend>();
}

}  // namespace smelt
