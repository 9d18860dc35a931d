// The reference backend's ops on heads, the KV cache and states of sequences. As reference.cpp, they are the
// specification and are never optimised.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <numeric>

#include "backend/reference_steps.h"

namespace smelt::reference {

using namespace op;

void Steps::store_rows(HostKv& kv, const KvRows& to, const Tensor& from, const Tensor& slots) {
    for (int64_t t = 0; t < rows(from); ++t) {
        for (int64_t h = 0; h < to.n_heads; ++h) {
            encode_row(to.format, {at<float>(from, t) + h * to.dim, static_cast<size_t>(to.dim)},
                       kv.row(to, at<int32_t>(slots, 0)[t], h), nullptr);
        }
    }
}

void Steps::run(const RopeTable& op) {
    const auto& [table, positions, frequencies, scale] = op;
    const Weight& inv_freq = *frequencies;
    for (int64_t t = 0; t < rows(table); ++t) {
        for (int64_t i = 0; i < table.shape[1]; ++i) {
            const float angle = static_cast<float>(at<int32_t>(positions, 0)[t]) * floats(inv_freq)[i];
            at<float>(table, t)[2 * i] = static_cast<float>(std::cos(static_cast<double>(angle))) * scale;
            at<float>(table, t)[2 * i + 1] = static_cast<float>(std::sin(static_cast<double>(angle))) * scale;
        }
    }
}

void Steps::run(const Rope& op) {
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

void Steps::run(const StoreKv& op) {
    HostKv& kv = *static_cast<HostKv*>(op.kv);
    store_rows(kv, kv.rows.k, op.k, op.slots);
    if (!kv.rows.v_in_k) store_rows(kv, kv.rows.v, op.v, op.slots);
}

void Steps::run(const PrepareHeads& op) {
    if (op.q_norm != nullptr) run(RmsNorm{op.q, op.q, op.q_norm, op.eps});
    if (op.k_norm != nullptr) run(RmsNorm{op.k, op.k, op.k_norm, op.eps});
    if (op.table) {
        if (op.q) run(Rope{op.q, op.table, op.pairing, op.first});
        run(Rope{op.k, op.table, op.pairing, op.first});
    }
    run(StoreKv{op.kv, op.k, op.v, op.slots});
}

void Steps::run(const Attention& p) {
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
float* Steps::state_row(const StateRows& state, int64_t s, int64_t position) {
    HostKv& kv = *static_cast<HostKv*>(state.rows);
    const int32_t row = at<int32_t>(state.block_table, s)[position / state.block_len];
    return reinterpret_cast<float*>(kv.row(kv.rows.k, row, 0)) + state.first;
}

// token(t) for the tokens of every sequence in order, which changes `held`, the sequence's state.
template <class Token>
void Steps::each_token_of(const StateRows& state, std::vector<float>& held, Token token) {
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

void Steps::run(const CausalConv& op) {
    const int64_t n = op.x.row_len(), kernel = op.w->cols;
    std::vector<float> held(static_cast<size_t>((kernel - 1) * n));
    each_token_of(op.state, held, [&](int64_t t) {
        const float* x = at<float>(op.x, t);
        for (int64_t c = 0; c < n; ++c) {
            const float* w = floats(*op.w) + c * kernel;
            double sum = static_cast<double>(w[kernel - 1]) * static_cast<double>(x[c]);
            for (int64_t j = 0; j + 1 < kernel; ++j) {
                sum += static_cast<double>(w[j]) * static_cast<double>(held[static_cast<size_t>(j * n + c)]);
            }
            at<float>(op.out, t)[c] = static_cast<float>(sum / (1 + std::exp(-sum)));
        }
        std::copy(held.begin() + n, held.end(), held.begin());
        std::copy_n(x, n, held.end() - n);
    });
}

void Steps::run(const DeltaRule& op) {
    const int64_t n_k = op.k.shape[1], k_dim = op.k.shape[2], n_v = op.v.shape[1], v_dim = op.v.shape[2];
    std::vector<float> held(static_cast<size_t>(n_v * k_dim * v_dim));
    std::vector<double> state(static_cast<size_t>(k_dim));  // a column of it
    each_token_of(op.state, held, [&](int64_t t) {
        for (int64_t h = 0; h < n_v; ++h) {
            const int64_t k_head = op.tiled ? h % n_k : h / (n_v / n_k);
            const float *q = at<float>(op.q, t) + k_head * k_dim, *k = at<float>(op.k, t) + k_head * k_dim;
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

}  // namespace smelt::reference
