// The error analysis of each op.
#include "backend/check/bounds.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "backend/check/draw_margin.h"

namespace smelt {

using namespace op;

namespace {

constexpr double eps = float_eps;
constexpr double anything = std::numeric_limits<double>::infinity();

double wide(float x) {
    return static_cast<double>(x);
}

class Analysis {
 public:
    Analysis(const RandomRecord& made, const MemoryState& before, const MemoryState& after)
        : made_(made), before_(before), after_(after) {}
    OpBounds result;

    void of(const Embed& op) { exact(op.out); }
    void of(const Add& op) { exact(op.x); }
    void of(const Copy& op) { exact(op.out); }
    void of(const GatherRows& op) { exact(op.out); }
    void of(const TopK& op) {
        exact(op.values);
        exact(op.ids);
    }
    void of(const StoreKv&) {}

    void of(const Matmul& op) {
        for (const Matmul::Product& p : op.all()) {
            each(p.out, [&](int64_t t, std::vector<double>& bound) {
                const std::vector<Sum> sums = product(*p.w, row(op.x, t), p.bias, 0);
                for (const Sum& s : sums) bound.push_back(s.bound);
            });
        }
    }
    void of(const MatmulHeads& op) {
        each(op.out, [&](int64_t t, std::vector<double>& bound) {
            const Weight& w = *op.heads[static_cast<size_t>(t) % op.heads.size()];
            for (const Sum& s : product(w, row(op.x, t), nullptr, 0)) bound.push_back(s.bound);
        });
    }
    void of(const MatmulExperts& op) {
        const int64_t n_used = op.ids.row_len();
        for (const MatmulExperts::Product& p : op.all()) {
            each(p.out, [&](int64_t t, std::vector<double>& bound) {
                for (int64_t i = 0; i < n_used; ++i) {
                    const auto e = static_cast<size_t>(at<int32_t>(before_, op.ids, t)[i]);
                    const Weight& w = *p.experts[e];
                    const float* x = row(op.x, t) + (op.x.rank == 3 ? i * w.cols : 0);
                    for (const Sum& s : product(w, x, p.bias, static_cast<int64_t>(e) * w.rows))
                        bound.push_back(s.bound);
                }
            });
        }
    }
    // Errors of gate and up go through silu, whose slope is below 1.1, and the product.
    void of(const GatedMatmul& op) {
        open(op.gate_out);
        open(op.up_out);
        each(op.out, [&](int64_t t, std::vector<double>& bound) {
            const std::vector<Sum> gates = product(*op.gate, row(op.x, t), nullptr, 0),
                                   ups = product(*op.up, row(op.x, t), nullptr, 0);
            for (size_t i = 0; i < gates.size(); ++i) {
                const Sum &g = gates[i], &u = ups[i];
                const double silu = std::fabs(g.value / (1 + std::exp(-g.value))), dg = 1.1 * g.bound;
                bound.push_back(dg * (std::fabs(u.value) + u.bound) + silu * u.bound +
                                12 * eps * silu * std::fabs(u.value) + 1e-29);
            }
        });
    }

    void of(const RmsNorm& op) { relative(op.out, norm_error(op.w->cols), 0); }
    void of(const AddRmsNorm& op) {
        exact(op.residual);
        relative(op.out, norm_error(op.w->cols), 0);
    }
    // The mean is off by len / 2 roundings of the mean of |x|; the deviation carries that on.
    void of(const LayerNorm& op) {
        const int64_t n = op.w->cols;
        each(op.out, [&](int64_t t, std::vector<double>& bound) {
            const float* x = row(op.x, t);
            double mean = 0, size = 0, squares = 0;
            for (int64_t i = 0; i < n; ++i) mean += wide(x[i]) / static_cast<double>(n);
            for (int64_t i = 0; i < n; ++i) {
                size += std::fabs(wide(x[i])) / static_cast<double>(n);
                squares += (wide(x[i]) - mean) * (wide(x[i]) - mean) / static_cast<double>(n);
            }
            const double s = std::sqrt(squares + wide(op.eps));
            const double off = (static_cast<double>(n) / 2 + 4) * eps * size / s;
            for (int64_t i = 0; i < n; ++i) {
                const double d = std::fabs(wide(x[i]) - mean) / s, w = std::fabs(weight(*op.w, i));
                bound.push_back(
                    w * (off * (2 + 2 * d + 2 * d * off) + (static_cast<double>(n) + 8) * eps * d) +
                    4 * eps * (w * d + std::fabs(weight(*op.bias, i))));
            }
        });
    }
    void of(const RopeTable& op) { relative(op.table, 2 * eps, wide(op.scale)); }
    void of(const Rope& op) { rotated(op.x, op.table, op.pairing, op.first, 4 * eps); }
    void of(const PrepareHeads& op) {
        const double norm = op.q_norm != nullptr ? norm_error(op.q_norm->cols) : 0;
        // Norm and rotation keep the size of a head; weights are about 1.
        each(op.q, [&](int64_t t, std::vector<double>& bound) {
            const int64_t dim = op.q.shape[2];
            for (int64_t h = 0; h < op.q.shape[1]; ++h) {
                double top = 0, spin = 1;
                for (int64_t i = 0; i < dim; ++i) {
                    const double w = op.q_norm != nullptr ? std::fabs(weight(*op.q_norm, i)) : 1;
                    top = std::max(top, w * std::fabs(wide(row(op.q, t)[h * dim + i])));
                }
                if (op.q_norm != nullptr) {
                    double squares = 0;
                    for (int64_t i = 0; i < dim; ++i)
                        squares += std::pow(wide(row(op.q, t)[h * dim + i]), 2) / static_cast<double>(dim);
                    top /= std::sqrt(squares + wide(op.eps));
                }
                for (int64_t i = 0; op.table && i < op.table.row_len(); ++i)
                    spin = std::max(spin, 2 * std::fabs(wide(row(op.table, t)[i])));
                for (int64_t i = 0; i < dim; ++i) bound.push_back((norm + 4 * eps) * top * spin);
            }
        });
        open(op.k);
        const Format f = op.kv->shape().k_format;
        const double step = f == Format::F16 ? 0x1p-10 : f == Format::BF16 ? 0x1p-7 : 0;
        result.kv = 100 * (norm + 4 * eps) + 20 * step;
    }

    void of(const Attention& op) {
        const KvShape& s = op.kv->shape();
        const InputTensors& in = made_.record.inputs();
        const int64_t n_heads = op.q.shape[1];
        std::vector<float> k(static_cast<size_t>(s.k_dim)), v(static_cast<size_t>(s.v_dim));
        std::vector<int64_t> sequence(static_cast<size_t>(counts().n_tokens));
        for (int64_t i = 0; i < counts().n_seqs; ++i) {
            for (int32_t t = input(in.seq_start)[i]; t < input(in.seq_start)[i + 1]; ++t)
                sequence[static_cast<size_t>(t)] = i;
        }
        each(op.out, [&](int64_t t, std::vector<double>& bound) {
            const int64_t last = input(in.positions)[t];
            const int64_t first = op.window > 0 ? std::max<int64_t>(0, last - op.window + 1) : 0;
            const int32_t* blocks =
                input(in.block_table) + sequence[static_cast<size_t>(t)] * in.block_table.row_stride;
            for (int64_t h = 0; h < n_heads; ++h) {
                const float* q = row(op.q, t) + h * s.k_dim;
                double score = 0, top = 0;
                for (int64_t pos = first; pos <= last; ++pos) {
                    kv_row(s, blocks[pos / s.block_len], pos % s.block_len, h / (n_heads / s.n_heads), k, v);
                    double terms = 0;
                    for (size_t i = 0; i < k.size(); ++i) terms += std::fabs(wide(q[i]) * wide(k[i]));
                    score = std::max(score, terms * wide(op.scale));
                    for (const float x : v) top = std::max(top, std::fabs(wide(x)));
                }
                // tanh makes errors smaller and adds its own.
                if (op.soft_cap > 0) score += 2 * std::min(score, wide(op.soft_cap));
                // A score's error enters twice: in a weight and in their sum.
                const double off = (static_cast<double>(s.k_dim) + 4 + 8) * eps * score;
                const double whole =
                    top * (std::expm1(2 * off) + (static_cast<double>(last - first) + 40) * eps);
                bound.insert(bound.end(), v.size(), whole);
            }
        });
    }

    void of(const CausalConv& op) {
        const int64_t n = op.x.row_len(), kernel = op.w->cols;
        result.states.assign(before_.states.size() / sizeof(float), 0);  // inputs are copied
        std::vector<float> held(static_cast<size_t>((kernel - 1) * n));
        OutputBound out{op.out, {}};
        each_token(
            op.state, held, [](int64_t) {},
            [&](int64_t t) {
                for (int64_t c = 0; c < n; ++c) {
                    double sum = 0, terms = 0;
                    for (int64_t j = 0; j < kernel; ++j) {
                        const float x =
                            j + 1 < kernel ? held[static_cast<size_t>(j * n + c)] : row(op.x, t)[c];
                        sum += weight(*op.w, c * kernel + j) * wide(x);
                        terms += std::fabs(weight(*op.w, c * kernel + j) * wide(x));
                    }
                    // silu's slope is below 1.1
                    out.bound.push_back(1.1 * static_cast<double>(kernel + 1) * eps * terms +
                                        12 * eps * std::fabs(sum) + 1e-29);
                }
                std::copy(held.begin() + n, held.end(), held.begin());
                std::copy_n(row(op.x, t), n, held.end() - n);
            });
        result.outputs.push_back(std::move(out));
    }
    // Errors of a state are carried on, and new ones come with every token.
    void of(const DeltaRule& op) {
        const int64_t n_k = op.k.shape[1], k_dim = op.k.shape[2], n_v = op.v.shape[1], v_dim = op.v.shape[2];
        const auto n_state = static_cast<size_t>(n_v * k_dim * v_dim);
        result.states.assign(before_.states.size() / sizeof(float), 0);
        std::vector<float> held(n_state);
        std::vector<double> error(n_state);
        OutputBound out{op.out, {}};
        const double n = static_cast<double>(k_dim) + 8;
        each_token(
            op.state, held, [&](int64_t) { std::ranges::fill(error, 0.0); },
            [&](int64_t t) {
                for (int64_t h = 0; h < n_v; ++h) {
                    const int64_t k_head = op.tiled ? h % n_k : h / (n_v / n_k);
                    const float *q = row(op.q, t) + k_head * k_dim, *k = row(op.k, t) + k_head * k_dim;
                    const double x = wide(row(op.a, t)[h]) + weight(*op.bias, h);
                    const double rate =
                        weight(*op.decay, h) * (std::max(x, 0.0) + std::log1p(std::exp(-std::fabs(x))));
                    const double keep = std::exp(rate), keep_error = (8 + 12 * std::fabs(rate)) * eps;
                    const double beta = 1 / (1 + std::exp(-wide(row(op.b, t)[h])));
                    for (int64_t c = 0; c < v_dim; ++c) {
                        const auto at_state = [&](int64_t i) {
                            return static_cast<size_t>((h * k_dim + i) * v_dim + c);
                        };
                        double known = 0, terms = 0, off = 0;
                        for (int64_t i = 0; i < k_dim; ++i) {
                            const double s = wide(held[at_state(i)]) * keep;
                            known += s * wide(k[i]);
                            terms += std::fabs(s * wide(k[i]));
                            off += (error[at_state(i)] * keep + keep_error * std::fabs(s)) *
                                   std::fabs(wide(k[i]));
                        }
                        const double v = wide(row(op.v, t)[h * v_dim + c]), change = (v - known) * beta;
                        const double change_error =
                            (off + n * eps * terms) * beta + 16 * eps * beta * (std::fabs(v) + terms);
                        double sum_terms = 0, sum_error = 0;
                        for (int64_t i = 0; i < k_dim; ++i) {
                            const double s = wide(held[at_state(i)]) * keep, now = s + wide(k[i]) * change;
                            double& e = error[at_state(i)];
                            e = e * keep + keep_error * std::fabs(s) + std::fabs(wide(k[i])) * change_error +
                                4 * eps * (std::fabs(s) + std::fabs(wide(k[i]) * change));
                            held[at_state(i)] = static_cast<float>(now);
                            sum_terms += std::fabs(now * wide(q[i]));
                            sum_error += e * std::fabs(wide(q[i]));
                        }
                        out.bound.push_back(sum_error + n * eps * sum_terms + 1e-30);
                    }
                }
                keep_state_bounds(op.state, t, error);
            });
        result.outputs.push_back(std::move(out));
    }

    // e^x carries the rounding of its argument on.
    void of(const SiluMul& op) { relative(op.out, 40 * eps, 1e-29); }
    void of(const ClampedSiluMul& op) { relative(op.out, 200 * eps, 1e-29); }
    void of(const Gelu& op) { relative(op.out, 400 * eps, 1e-19); }
    void of(const GeluMul& op) { relative(op.out, 404 * eps, 1e-19); }
    void of(const SigmoidMul& op) { relative(op.out, 40 * eps, 1e-29); }
    void of(const Scale& op) { exact(op.x); }
    void of(const SoftCap& op) { relative(op.x, 16 * eps, 1e-37); }

    void of(const Route& op) {
        const auto n_experts = op.logits.row_len(), n_used = op.ids.row_len();
        OutputBound ids{op.ids, {}}, weights{op.weights, {}};
        for (int64_t t = 0; t < counts().rows(op.ids); ++t) {
            const bool clear = ranks_are_clear(op, row(op.logits, t), n_experts, n_used);
            for (int64_t i = 0; i < n_used; ++i) {
                const double w = std::fabs(wide(at<float>(after_, op.weights, t)[i]));
                const double rel = static_cast<double>(2 * n_experts + n_used + 16) * eps;
                ids.bound.push_back(clear ? 0 : anything);
                weights.bound.push_back(clear ? rel * w + 1e-12 : anything);
            }
        }
        result.outputs.push_back(std::move(ids));
        result.outputs.push_back(std::move(weights));
    }
    void of(const AddExperts& op) {
        const int64_t n_used = op.y.shape[1], dim = op.y.shape[2];
        each(op.x, [&](int64_t t, std::vector<double>& bound) {
            for (int64_t c = 0; c < dim; ++c) {
                double sum = std::fabs(wide(row(op.x, t)[c]));
                for (int64_t i = 0; i < n_used; ++i)
                    sum += std::fabs(wide(row(op.weights, t)[i]) * wide(row(op.y, t)[i * dim + c]));
                bound.push_back(2 * static_cast<double>(n_used + 1) * eps * sum);
            }
        });
    }

    void of(const Sample& op) {
        OutputBound tokens{op.tokens, {}}, logprobs{op.logprobs, {}}, sums{op.log_sums, {}};
        for (int64_t r = 0; r < counts().n_logits; ++r) {
            const DrawRow& draw = *reinterpret_cast<const DrawRow*>(input(op.rows) + r * op.rows.row_stride);
            const auto* edits = reinterpret_cast<const LogitEdit*>(op.edits ? input(op.edits) : nullptr);
            const auto* mask =
                op.masks ? reinterpret_cast<const uint64_t*>(input(op.masks) + r * op.masks.row_stride)
                         : nullptr;
            const std::span<const float> logits(row(op.logits, r), static_cast<size_t>(op.logits.row_len()));
            const bool clear = draw_is_clear(logits, draw, edits, mask);
            tokens.bound.push_back(clear ? 0 : anything);
            const double sum = std::fabs(wide(*at<float>(after_, op.log_sums, r)));
            const double off = (static_cast<double>(logits.size()) + 40) * eps + 4 * eps * sum;
            // The second float is the rest that the first has no digits for.
            sums.bound.insert(sums.bound.end(), {off, off + 4 * eps * (sum + 1)});
            logprobs.bound.push_back(clear ? off + 4 * eps * (sum + 40) : anything);
        }
        result.outputs = {tokens, logprobs, sums};
    }

 private:
    struct Sum {
        double value, bound;
    };

    const StepCounts& counts() const { return made_.input.counts(); }
    // Tensors of random records begin where their buffer does.
    template <class T>
    static const T* at(const MemoryState& state, const Tensor& t, int64_t r) {
        const auto& bytes = state.buffers[static_cast<size_t>(t.buffer)];
        return reinterpret_cast<const T*>(bytes.data()) + r * t.row_stride;
    }
    const float* row(const Tensor& t, int64_t r) const { return at<float>(before_, t, r); }
    const int32_t* input(const Tensor& t) const {
        return reinterpret_cast<const int32_t*>(made_.input.bytes().data() + t.offset);
    }
    // The state of each sequence as it goes through its tokens, as the reference has it.
    template <class Begin, class Token>
    void each_token(const StateRows& state, std::vector<float>& held, Begin begin, Token token) {
        for (int64_t s = 0; s < counts().n_seqs; ++s) {
            const int64_t first = input(state.seq_start)[s], end = input(state.seq_start)[s + 1];
            const int64_t position = input(state.positions)[first];
            begin(s);
            if (position == 0) {
                std::ranges::fill(held, 0.0f);
            } else {
                const auto* from = reinterpret_cast<const float*>(before_.states.data()) +
                                   state_place(state, s, position - 1);
                std::copy_n(from, held.size(), held.begin());
            }
            for (int64_t t = first; t < end; ++t) token(t);
        }
    }
    int64_t state_place(const StateRows& state, int64_t seq, int64_t position) const {
        const int32_t* blocks = input(state.block_table) + seq * state.block_table.row_stride;
        return blocks[position / state.block_len] * state.rows->shape().k_dim + state.first;
    }
    // What the rows may be off by that are written after token t.
    void keep_state_bounds(const StateRows& state, int64_t t, const std::vector<double>& error) {
        int64_t s = 0;
        while (input(state.seq_start)[s + 1] <= t) ++s;
        const int64_t position = input(state.positions)[t];
        if (t + 1 < input(state.seq_start)[s + 1] && (position + 1) % state.block_len != 0) return;
        std::ranges::copy(error, result.states.begin() + state_place(state, s, position));
    }
    double weight(const Weight& w, int64_t i) const {
        return wide(reinterpret_cast<const float*>(made_.views.at(&w).data.data())[i]);
    }
    static double norm_error(int64_t n) { return (static_cast<double>(n) / 2 + 6) * eps; }

    template <class F>
    void each(const Tensor& t, F f) {
        OutputBound o{t, {}};
        for (int64_t r = 0; r < counts().rows(t); ++r) f(r, o.bound);
        result.outputs.push_back(std::move(o));
    }
    void exact(const Tensor& t) { relative(t, 0, 0); }
    void open(const Tensor& t) { relative(t, 0, anything); }
    // rel * (|expected| + floor)
    void relative(const Tensor& t, double rel, double floor) {
        each(t, [&](int64_t r, std::vector<double>& bound) {
            for (int64_t i = 0; i < t.row_len(); ++i) {
                if (floor == anything || rel == 0) {
                    bound.push_back(floor == anything ? anything : 0);
                    continue;
                }
                bound.push_back(rel * (std::fabs(wide(at<float>(after_, t, r)[i])) + floor));
            }
        });
    }

    // Float products in any order, and activations rounded to int8 in groups of 32 where weights are
    // quantized.
    std::vector<Sum> product(const Weight& w, const float* x, const Weight* bias, int64_t first_bias) const {
        const WeightView& view = made_.views.at(&w);
        const bool rounded = format_info(w.format).block_len > 1;
        std::vector<double> slack(static_cast<size_t>(w.cols), 0);
        for (int64_t i = 0; rounded && i < w.cols; i += 32) {
            const int64_t end = std::min(i + 32, w.cols);
            float top = 0;
            for (int64_t j = i; j < end; ++j) top = std::max(top, std::fabs(x[j]));
            std::fill(slack.begin() + i, slack.begin() + end, wide(top) / 127 * 0.5 * (1 + 1e-4));
        }
        std::vector<float> decoded(static_cast<size_t>(w.cols));
        std::vector<Sum> sums;
        for (int64_t r = 0; r < w.rows; ++r) {
            decode_row({w.format, view.data.data() + data_bytes(w.format, r * w.cols),
                        view.scales.data() + scale_bytes(w.format, r * w.cols), w.cols},
                       decoded);
            double sum = 0, terms = 0, rounding = 0;
            for (size_t i = 0; i < decoded.size(); ++i) {
                sum += wide(decoded[i]) * wide(x[i]);
                terms += std::fabs(wide(decoded[i]) * wide(x[i]));
                rounding += std::fabs(wide(decoded[i])) * slack[i];
            }
            const double b = bias != nullptr ? weight(*bias, first_bias + r) : 0;
            const double n = static_cast<double>(w.cols) + 8;
            sums.push_back({sum + b, n * eps * (terms + rounding) + rounding +
                                         4 * eps * (std::fabs(b) + terms) + 1e-37});
        }
        return sums;
    }

    void rotated(const Tensor& x, const Tensor& table, RopePairing pairing, int64_t first, double rel) {
        const int64_t half = table.shape[1], dim = x.shape[2];
        each(x, [&](int64_t t, std::vector<double>& bound) {
            for (int64_t h = 0; h < x.shape[1]; ++h) {
                const float* head = row(x, t) + h * dim;
                std::vector<double> of_head(static_cast<size_t>(dim), 0);
                for (int64_t i = 0; i < half; ++i) {
                    const int64_t a = first + (pairing == RopePairing::half ? i : 2 * i);
                    const int64_t b = first + (pairing == RopePairing::half ? i + half : 2 * i + 1);
                    const double c = std::fabs(wide(row(table, t)[2 * i])),
                                 s = std::fabs(wide(row(table, t)[2 * i + 1]));
                    const double x0 = std::fabs(wide(head[a])), x1 = std::fabs(wide(head[b]));
                    of_head[static_cast<size_t>(a)] = rel * (x0 * c + x1 * s);
                    of_head[static_cast<size_t>(b)] = rel * (x0 * s + x1 * c);
                }
                bound.insert(bound.end(), of_head.begin(), of_head.end());
            }
        });
    }

    void kv_row(const KvShape& s, int64_t block, int64_t offset, int64_t head, std::vector<float>& k,
                std::vector<float>& v) const {
        const std::byte* first = before_.kv.data() + static_cast<size_t>(block) * s.block_bytes();
        const size_t k_row = data_bytes(s.k_format, s.k_dim), v_row = data_bytes(s.v_format, s.v_dim);
        const auto i = static_cast<size_t>(offset * s.n_heads + head);
        const std::byte* key = first + i * k_row;
        const std::byte* value =
            s.v_in_k ? key : first + static_cast<size_t>(s.block_len * s.n_heads) * k_row + i * v_row;
        decode_row({s.k_format, key, nullptr, s.k_dim}, k);
        decode_row({s.v_format, value, nullptr, s.v_dim}, v);
    }

    // No two scores that decide who is chosen, and in which order, are within rounding.
    bool ranks_are_clear(const Route& op, const float* logits, int64_t n, int64_t n_used) const {
        const double largest = wide(*std::max_element(logits, logits + n));
        std::vector<double> scores;
        double total = 0;
        for (int64_t e = 0; e < n; ++e) {
            const double x = wide(logits[e]);
            scores.push_back(op.score == RouteParams::Score::softmax ? std::exp(x - largest)
                                                                     : 1 / (1 + std::exp(-x)));
            total += scores.back();
        }
        for (int64_t e = 0; e < n; ++e) {
            double& s = scores[static_cast<size_t>(e)];
            if (op.score == RouteParams::Score::softmax) s /= total;
            if (op.selection_bias != nullptr) s += weight(*op.selection_bias, e);
        }
        const double close = static_cast<double>(n + 40) * 4 * eps;
        const auto is_clear = [&](std::vector<double>& list, int64_t n_first) {
            std::ranges::sort(list, std::greater<>());
            for (int64_t i = 0; i < n_first && i + 1 < std::ssize(list); ++i) {
                if (list[static_cast<size_t>(i)] - list[static_cast<size_t>(i) + 1] < close) return false;
            }
            return true;
        };
        if (op.n_groups_used < op.n_groups) {
            const int64_t n_each = n / op.n_groups;
            std::vector<double> groups;
            for (int64_t g = 0; g < op.n_groups; ++g) {
                std::vector<double> own(scores.begin() + g * n_each, scores.begin() + (g + 1) * n_each);
                std::ranges::sort(own, std::greater<>());
                groups.push_back(n_each > 1 ? own[0] + own[1] : own[0]);
            }
            if (!is_clear(groups, op.n_groups)) return false;
        }
        return is_clear(scores, op.n_groups_used < op.n_groups ? n : n_used);
    }

    const RandomRecord& made_;
    const MemoryState &before_, &after_;
};

}  // namespace

OpBounds bounds_of(const AnyOp& any, const RandomRecord& made, const MemoryState& before,
                   const MemoryState& after) {
    Analysis analysis(made, before, after);
    std::visit([&](const auto& op) { analysis.of(op); }, any);
    return std::move(analysis.result);
}

}  // namespace smelt
