// The reference backend: scalar loops, double accumulation, ops run as they are called. It is the
// specification of every op and is never optimised.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numbers>
#include <numeric>

#include "backend/backend.h"
#include "base/cpu_info.h"

namespace smelt {

void Backend::add_rms_norm(Tensor out, Tensor residual, Tensor x, const Weight& w, float eps) {
    add(residual, x);
    rms_norm(out, residual, w, eps);
}

void Backend::prepare_attention(const KvLayer& kv, Tensor q, Tensor k, Tensor v, const BatchView& batch,
                                const PrepareParams& p) {
    if (p.q_norm != nullptr) rms_norm(q, q, *p.q_norm, p.eps);
    if (p.k_norm != nullptr) rms_norm(k, k, *p.k_norm, p.eps);
    if (p.angles.rank > 0) {
        rope(q, p.angles, p.pairing, p.first);
        rope(k, p.angles, p.pairing, p.first);
    }
    store_kv(kv, k, v, batch);
}

std::unique_ptr<Storage> Backend::map_file(std::span<const std::byte>) {
    return nullptr;
}

namespace {

struct HostStorage : Storage {
    explicit HostStorage(size_t n) : bytes(n) {}
    std::vector<std::byte> bytes;
};

struct HostWeight : Storage {
    std::span<const std::byte> data, scales;
    int64_t row_step = 1;
    std::vector<std::byte> owned;
};

class ReferenceBackend : public Backend {
 public:
    std::string_view name() const override { return "reference"; }
    std::string description() const override { return "scalar reference, one thread"; }

    uint64_t available_memory() const override { return read_memory_info().available; }

    Weight load(const WeightView& view, WeightUse use) override {
        auto storage = std::make_unique<HostWeight>();
        if (use != WeightUse::vector) {
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

    std::unique_ptr<Storage> allocate(size_t bytes) override { return std::make_unique<HostStorage>(bytes); }

    void write(const Tensor& t, const void* bytes) override {
        CHECK(t.dense());
        std::memcpy(at<std::byte>(t, 0), bytes, t.n_bytes());
    }
    void read(const Tensor& t, void* bytes) override {
        CHECK(t.dense());
        std::memcpy(bytes, at<std::byte>(t, 0), t.n_bytes());
    }

    void begin() override {}
    void submit_and_wait() override {}

    void embed(Tensor out, const Weight& table, Tensor ids) override {
        for (int64_t i = 0; i < out.n_rows(); ++i) {
            const int32_t id = at<int32_t>(ids, 0)[i];
            CHECK(id >= 0 && id < table.rows, "id {}", id);
            decode_row(weight_row(table, id), {at<float>(out, i), static_cast<size_t>(table.cols)});
        }
    }

    void matmul(std::span<const MatmulOut> outs, Tensor x) override {
        for (const MatmulOut& m : outs) {
            CHECK(m.w->cols == x.row_len() && m.w->rows == m.out.row_len());
            std::vector<float> w(static_cast<size_t>(m.w->cols));
            for (int64_t r = 0; r < m.w->rows; ++r) {
                decode_row(weight_row(*m.w, r), w);
                for (int64_t t = 0; t < x.n_rows(); ++t) {
                    double sum = 0;
                    for (int64_t i = 0; i < m.w->cols; ++i) {
                        sum += static_cast<double>(at<float>(x, t)[i]) *
                               static_cast<double>(w[static_cast<size_t>(i)]);
                    }
                    if (m.bias != nullptr) sum += static_cast<double>(floats(*m.bias)[r]);
                    at<float>(m.out, t)[r] = static_cast<float>(sum);
                }
            }
        }
    }

    void rms_norm(Tensor out, Tensor x, const Weight& w, float eps) override {
        const int64_t n = x.shape[static_cast<size_t>(x.rank - 1)];
        CHECK(n == w.cols);
        for (int64_t t = 0; t < x.n_rows(); ++t) {
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

    void layer_norm(Tensor out, Tensor x, const Weight& w, const Weight& bias, float eps) override {
        const int64_t n = x.shape[static_cast<size_t>(x.rank - 1)];
        CHECK(n == w.cols && n == bias.cols);
        for (int64_t t = 0; t < x.n_rows(); ++t) {
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

    void rope_table(Tensor table, Tensor positions, const Weight& inv_freq, float scale) override {
        for (int64_t t = 0; t < table.n_rows(); ++t) {
            for (int64_t i = 0; i < table.shape[1]; ++i) {
                const float angle = static_cast<float>(at<int32_t>(positions, 0)[t]) * floats(inv_freq)[i];
                at<float>(table, t)[2 * i] = static_cast<float>(std::cos(static_cast<double>(angle))) * scale;
                at<float>(table, t)[2 * i + 1] =
                    static_cast<float>(std::sin(static_cast<double>(angle))) * scale;
            }
        }
    }

    void rope(Tensor x, Tensor table, RopePairing pairing, int64_t first) override {
        const int64_t half = table.shape[1], head_dim = x.shape[2];
        for (int64_t t = 0; t < x.n_rows(); ++t) {
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

    void store_kv(const KvLayer& kv, Tensor k, Tensor v, const BatchView& batch) override {
        store_rows(kv.k, k, batch);
        if (!kv.v_in_k()) store_rows(kv.v, v, batch);
    }

    void attention(Tensor out, Tensor q, const KvLayer& kv, const BatchView& batch,
                   const AttentionParams& p) override {
        const int64_t n_heads = q.shape[1], n_kv_heads = kv.k.n_heads;
        const int64_t k_dim = kv.k.dim, v_dim = kv.v.dim, block_len = kv.block_len();
        std::vector<double> weights, sum(static_cast<size_t>(v_dim));
        std::vector<float> k(static_cast<size_t>(k_dim)), v(sum.size());
        for (int64_t s = 0; s < batch.n_seqs; ++s) {
            const int32_t* blocks = at<int32_t>(batch.block_table, 0) + s * batch.max_blocks;
            for (int64_t t = at<int32_t>(batch.seq_start, 0)[s]; t < at<int32_t>(batch.seq_start, 0)[s + 1];
                 ++t) {
                const int64_t last = at<int32_t>(batch.positions, 0)[t];
                const int64_t first = p.window > 0 ? std::max<int64_t>(0, last - p.window + 1) : 0;
                for (int64_t h = 0; h < n_heads; ++h) {
                    const int64_t kv_head = h / (n_heads / n_kv_heads);
                    const auto read_row = [&](const KvRows& rows, int64_t pos, std::span<float> to) {
                        const int64_t slot = blocks[pos / block_len] * block_len + pos % block_len;
                        decode_row({rows.format, kv_row(rows, slot, kv_head), nullptr, rows.dim}, to);
                    };
                    // softmax(q·kᵀ * scale) over the visible positions
                    weights.clear();
                    double largest = -std::numeric_limits<double>::infinity();
                    for (int64_t pos = first; pos <= last; ++pos) {
                        double dot = 0;
                        read_row(kv.k, pos, k);
                        for (int64_t i = 0; i < k_dim; ++i) {
                            dot += static_cast<double>(at<float>(q, t)[h * k_dim + i]) *
                                   static_cast<double>(k[static_cast<size_t>(i)]);
                        }
                        weights.push_back(dot * static_cast<double>(p.scale));
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
                        read_row(kv.v, pos, v);
                        for (size_t i = 0; i < v.size(); ++i) sum[i] += w * static_cast<double>(v[i]);
                    }
                    for (int64_t i = 0; i < v_dim; ++i) {
                        at<float>(out, t)[h * v_dim + i] = static_cast<float>(sum[static_cast<size_t>(i)]);
                    }
                }
            }
        }
    }

    void add(Tensor x, Tensor y) override {
        for (int64_t t = 0; t < x.n_rows(); ++t) {
            for (int64_t i = 0; i < x.row_len(); ++i) at<float>(x, t)[i] += at<float>(y, t)[i];
        }
    }

    void copy(Tensor out, Tensor x) override {
        for (int64_t t = 0; t < x.n_rows(); ++t) {
            std::copy_n(at<float>(x, t), x.row_len(), at<float>(out, t));
        }
    }

    void silu_mul(Tensor out, Tensor gate, Tensor up) override {
        for (int64_t t = 0; t < out.n_rows(); ++t) {
            for (int64_t i = 0; i < out.row_len(); ++i) {
                const double g = static_cast<double>(at<float>(gate, t)[i]);
                at<float>(out, t)[i] =
                    static_cast<float>(g / (1 + std::exp(-g)) * static_cast<double>(at<float>(up, t)[i]));
            }
        }
    }

    void clamped_silu_mul(Tensor out, Tensor gate, Tensor up, float alpha, float limit) override {
        for (int64_t t = 0; t < out.n_rows(); ++t) {
            for (int64_t i = 0; i < out.row_len(); ++i) {
                const double g = static_cast<double>(std::min(at<float>(gate, t)[i], limit));
                const double u = static_cast<double>(std::clamp(at<float>(up, t)[i], -limit, limit));
                at<float>(out, t)[i] =
                    static_cast<float>(g / (1 + std::exp(-static_cast<double>(alpha) * g)) * (u + 1));
            }
        }
    }

    void gelu(Tensor out, Tensor x) override {
        const double sqrt_2_over_pi = std::sqrt(2 / std::numbers::pi);
        for (int64_t t = 0; t < out.n_rows(); ++t) {
            for (int64_t i = 0; i < out.row_len(); ++i) {
                const double v = static_cast<double>(at<float>(x, t)[i]);
                // (1 + tanh(u)) / 2 = 1 / (1 + exp(-2u)), without the cancellation of the former
                const double u = sqrt_2_over_pi * (v + 0.044715 * v * v * v);
                at<float>(out, t)[i] = static_cast<float>(v / (1 + std::exp(-2 * u)));
            }
        }
    }

    void gather_rows(Tensor out, Tensor x, Tensor rows) override {
        for (int64_t i = 0; i < out.n_rows(); ++i) {
            std::memcpy(at<float>(out, i), at<float>(x, at<int32_t>(rows, 0)[i]),
                        static_cast<size_t>(x.row_len()) * sizeof(float));
        }
    }

    void top_k(Tensor values, Tensor ids, Tensor x) override {
        std::vector<int32_t> order(static_cast<size_t>(x.row_len()));
        for (int64_t r = 0; r < x.n_rows(); ++r) {
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

    void route(Tensor expert_ids, Tensor expert_weights, Tensor logits, const RouteParams& p) override {
        const int64_t n_experts = logits.row_len(), n_used = expert_ids.row_len();
        std::vector<double> scores(static_cast<size_t>(n_experts));
        for (int64_t t = 0; t < logits.n_rows(); ++t) {
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
            std::vector<bool> taken(scores.size());
            double chosen_total = 0;
            for (int64_t i = 0; i < n_used; ++i) {
                int64_t best = -1;
                double best_score = 0;
                for (int64_t e = 0; e < n_experts; ++e) {
                    const double bias =
                        p.selection_bias == nullptr ? 0 : static_cast<double>(floats(*p.selection_bias)[e]);
                    const double score = scores[static_cast<size_t>(e)] + bias;
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

    void matmul_experts(std::span<const ExpertsOut> outs, Tensor x, Tensor expert_ids) override {
        const int64_t n_used = expert_ids.row_len();
        for (const ExpertsOut& m : outs) {
            std::vector<float> w(static_cast<size_t>(m.experts[0].cols));
            for (int64_t t = 0; t < x.n_rows(); ++t) {
                for (int64_t i = 0; i < n_used; ++i) {
                    const int64_t e = at<int32_t>(expert_ids, t)[i];
                    const Weight& expert = m.experts[static_cast<size_t>(e)];
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

    void add_experts(Tensor x, Tensor y, Tensor expert_weights) override {
        const int64_t n_used = y.shape[1], dim = y.shape[2];
        for (int64_t t = 0; t < x.n_rows(); ++t) {
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

    void copy_kv_blocks(const KvLayer& kv, std::span<const int32_t> from,
                        std::span<const int32_t> to) override {
        for (const KvRows* rows : {&kv.k, &kv.v}) {
            if (rows == &kv.v && kv.v_in_k()) break;
            for (size_t i = 0; i < from.size(); ++i) {
                std::memcpy(kv_row(*rows, to[i] * rows->block_len, 0),
                            kv_row(*rows, from[i] * rows->block_len, 0), rows->block_bytes());
            }
        }
    }

 private:
    template <class T>
    static T* at(const Tensor& t, int64_t row) {
        std::byte* base = static_cast<HostStorage*>(t.storage)->bytes.data() + t.offset;
        return reinterpret_cast<T*>(base + static_cast<size_t>(row * t.row_stride) * dtype_bytes(t.dtype));
    }
    static std::byte* kv_row(const KvRows& rows, int64_t slot, int64_t head) {
        return static_cast<HostStorage*>(rows.storage)->bytes.data() +
               static_cast<size_t>(slot * rows.n_heads + head) * rows.row_bytes;
    }
    static void store_rows(const KvRows& to, const Tensor& from, const BatchView& batch) {
        for (int64_t t = 0; t < batch.n_tokens; ++t) {
            for (int64_t h = 0; h < to.n_heads; ++h) {
                encode_row(to.format, {at<float>(from, t) + h * to.dim, static_cast<size_t>(to.dim)},
                           kv_row(to, at<int32_t>(batch.slots, 0)[t], h), nullptr);
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
};

}  // namespace

std::unique_ptr<Backend> make_reference_backend() {
    return std::make_unique<ReferenceBackend>();
}

}  // namespace smelt
