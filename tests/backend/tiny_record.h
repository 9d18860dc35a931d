// A small transformer recorded by hand, with the ops that models are made of, on any backend: what the tests
// of placement compare with itself on one device. Knows no files and no families.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <deque>
#include <numeric>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "quant/random_weights.h"

namespace smelt {

struct TinyOptions {
    int64_t n_layers = 2, dim = 32, n_heads = 4, n_kv_heads = 2, head_dim = 8, ffn_dim = 48, vocab_size = 50;
    int64_t n_experts = 0, n_used = 2;  // with experts: instead of the feed-forward block
    bool joined = false;                // q, k and v, each with as many heads, in one weight
    bool latent = false;                // q of heads over one latent vector, as in MLA
    bool sinks = false;
    Format format = Format::F32, down_format = Format::F32;
    int64_t ffn_unit = 1;
    bool tied = false;
};

class TinyRecord {
 public:
    static constexpr int block_len = 4, n_blocks = 16;

    TinyRecord(Backend& backend, const TinyOptions& options) : be_(backend), o_(options) {
        const int64_t heads = o_.n_heads * o_.head_dim, kv = o_.n_kv_heads * o_.head_dim;
        table_ = matrix(-1, o_.vocab_size, o_.dim, {CutBy::rows, 1}, WeightUse::embedding);
        if (!o_.tied) head_ = matrix(-1, o_.vocab_size, o_.dim, {CutBy::rows, 1});
        norm_ = vector(-1, o_.dim);
        frequencies_ = vector(-1, rotated() / 2);
        for (int64_t il = 0; il < o_.n_layers; ++il) {
            Layer& l = layers_.emplace_back();
            l.norm = vector(il, o_.dim);
            l.ffn_norm = vector(il, o_.dim);
            if (o_.joined) {
                l.q = matrix(il, 3 * heads, o_.dim, {CutBy::rows, o_.head_dim, 3});
                l.q_bias = vector(il, 3 * heads);
            } else if (o_.latent) {
                l.q = matrix(il, o_.n_heads * 2 * o_.head_dim, o_.dim, {CutBy::rows, 2 * o_.head_dim});
                l.k = matrix(il, latent_dim(), o_.dim, {});
                l.k_norm = vector(il, latent_rank);
                for (int64_t h = 0; h < o_.n_heads; ++h) {
                    l.k_heads.push_back(matrix(il, latent_rank, o_.head_dim, {}));
                    l.v_heads.push_back(matrix(il, o_.head_dim, latent_rank, {}));
                }
            } else {
                l.q = matrix(il, heads, o_.dim, {CutBy::rows, o_.head_dim});
                l.k = matrix(il, kv, o_.dim, {CutBy::rows, o_.head_dim});
                l.v = matrix(il, kv, o_.dim, {CutBy::rows, o_.head_dim});
                l.q_bias = vector(il, heads);
                l.k_bias = vector(il, kv);
                l.q_norm = vector(il, o_.head_dim);
                l.k_norm = vector(il, o_.head_dim);
            }
            if (o_.sinks) l.sinks = vector(il, o_.n_heads);
            l.o = matrix(il, o_.dim, heads, {CutBy::columns, o_.head_dim});
            l.o_bias = vector(il, o_.dim);
            const Cut up{CutBy::rows, o_.ffn_unit}, down{CutBy::columns, o_.ffn_unit};
            if (o_.n_experts == 0) {
                l.gate = matrix(il, o_.ffn_dim, o_.dim, up);
                l.up = matrix(il, o_.ffn_dim, o_.dim, up);
                l.down = matrix(il, o_.dim, o_.ffn_dim, down, WeightUse::matrix, false, o_.down_format);
                continue;
            }
            l.router = matrix(il, o_.n_experts, o_.dim, {});
            for (int64_t e = 0; e < o_.n_experts; ++e) {
                l.gates.push_back(matrix(il, o_.ffn_dim, o_.dim, up, WeightUse::matrix, true));
                l.ups.push_back(matrix(il, o_.ffn_dim, o_.dim, up, WeightUse::matrix, true));
                l.downs.push_back(
                    matrix(il, o_.dim, o_.ffn_dim, down, WeightUse::matrix, true, o_.down_format));
            }
            l.gates_bias = vector(il, o_.ffn_dim, o_.n_experts, true);
            l.downs_bias = vector(il, o_.dim, o_.n_experts, true);
        }
        // The weights are in.
        for (int64_t il = 0; il < o_.n_layers; ++il) {
            kv_.push_back(be_.allocate_kv({.k_format = Format::F32,
                                           .v_format = Format::F32,
                                           .n_blocks = n_blocks,
                                           .block_len = block_len,
                                           .n_heads = o_.latent ? 1 : o_.n_kv_heads,
                                           .k_dim = o_.latent ? latent_dim() : o_.head_dim,
                                           .v_dim = o_.latent ? latent_rank : o_.head_dim,
                                           .v_in_k = o_.latent,
                                           .layer = il,
                                           .cut_by_head = !o_.latent}));
        }
    }

    // Tokens of one sequence from `position` on; the logits of all.
    std::vector<float> feed(const std::vector<int32_t>& ids, int position, bool draws = false) {
        return run(input_for(ids, position, draws));
    }
    StepInput input_for(const std::vector<int32_t>& ids, int position, bool draws) {
        const int n = static_cast<int>(ids.size());
        StepInput input = input_of({.n_tokens = n,
                                    .n_seqs = 1,
                                    .n_logits = n,
                                    .n_hidden = 1,
                                    .max_blocks = n_blocks / 2,
                                    .draws = draws,
                                    .all_logits = true,
                                    .n_top = 3});
        input.counts() = {
            .n_tokens = n, .n_seqs = 1, .n_logits = n, .n_hidden = 1, .max_kv_len = position + n};
        const InputTensors& t = input.tensors();
        std::ranges::copy(ids, input.of(t.ids).begin());
        for (int i = 0; i < n; ++i) place(input, i, position + i, 0);
        input.of(t.seq_start)[1] = n;
        std::iota(input.of(t.logits_rows).begin(), input.of(t.logits_rows).end(), 0);
        input.of(t.hidden_rows)[0] = n - 1;
        if (draws) {
            for (DrawRow& row : input.of<DrawRow>(t.draw_rows).first(static_cast<size_t>(n))) {
                row = {.temperature = 0, .draws = 1, .logprob = 1};
            }
        }
        return input;
    }
    // Two steps at once, the second one of the token that the first draws: the logits of the second.
    std::vector<float> feed_ahead(const std::vector<int32_t>& ids, int position) {
        const int n = static_cast<int>(ids.size());
        const StepInput first = input_for(ids, position, true), second = input_for({-n}, position + n, false);
        const auto one = be_.compile(record(first.shape())), two = be_.compile(record(second.shape()));
        be_.launch(*one, first);
        be_.launch(*two, second);
        const StepResult drawn = be_.collect();
        tokens.assign(drawn.tokens.begin(), drawn.tokens.end());
        const StepResult result = be_.collect();
        return {result.logits.begin(), result.logits.end()};
    }

    // One token each of two sequences, after the positions given.
    std::vector<float> feed_two(std::array<int32_t, 2> ids, std::array<int, 2> positions) {
        StepInput input = input_of(
            {.n_tokens = 2, .n_seqs = 2, .n_logits = 2, .max_blocks = n_blocks / 2, .all_logits = true});
        input.counts() = {.n_tokens = 2,
                          .n_seqs = 2,
                          .n_logits = 2,
                          .max_kv_len = std::max(positions[0], positions[1]) + 1};
        const InputTensors& t = input.tensors();
        for (int i = 0; i < 2; ++i) {
            input.of(t.ids)[static_cast<size_t>(i)] = ids[static_cast<size_t>(i)];
            place(input, i, positions[static_cast<size_t>(i)], i);
            input.of(t.seq_start)[static_cast<size_t>(i) + 1] = i + 1;
            input.of(t.logits_rows)[static_cast<size_t>(i)] = i;
        }
        return run(input);
    }

    Record record(const StepShape& shape) {
        Record r(shape);
        const InputTensors& in = r.inputs();
        const Tensor x = r.take(DType::F32, RowsOf::tokens, {shape.n_tokens, o_.dim});
        r.add(op::Embed{x, in.ids, &table_});
        const Tensor angles = r.take(DType::F32, RowsOf::tokens, {shape.n_tokens, rotated() / 2, 2});
        r.add(op::RopeTable{angles, in.positions, &frequencies_, 1});
        for (size_t il = 0; il < layers_.size(); ++il) {
            const size_t mark = r.mark();
            Layer& l = layers_[il];
            const Tensor h = rows(r, o_.dim);
            r.add(op::RmsNorm{h, x, &l.norm, eps});
            const Tensor a =
                o_.latent ? latent(r, l, h, angles, *kv_[il]) : attention(r, l, h, angles, *kv_[il]);
            const Tensor o = rows(r, o_.dim);
            r.add(op::Matmul{.x = a, .products = {{o, &l.o, &l.o_bias}}, .n = 1});
            r.add(op::Add{x, o});
            const Tensor f = rows(r, o_.dim);
            r.add(op::RmsNorm{f, x, &l.ffn_norm, eps});
            o_.n_experts > 0 ? experts(r, l, x, f) : feed_forward(r, l, x, f);
            r.reset(mark);
        }
        if (shape.n_hidden > 0) {
            const Tensor last = r.take(DType::F32, RowsOf::hidden, {shape.n_hidden, o_.dim});
            r.results.hidden = r.take(DType::F32, RowsOf::hidden, {shape.n_hidden, o_.dim});
            r.add(op::GatherRows{last, x, in.hidden_rows});
            r.add(op::RmsNorm{r.results.hidden, last, &norm_, eps});
        }
        const Tensor last = r.take(DType::F32, RowsOf::logits, {shape.n_logits, o_.dim});
        r.add(op::GatherRows{last, x, in.logits_rows});
        r.add(op::RmsNorm{last, last, &norm_, eps});
        r.results.logits = r.take(DType::F32, RowsOf::logits, {shape.n_logits, o_.vocab_size});
        r.add(op::Matmul{.x = last, .products = {{r.results.logits, o_.tied ? &table_ : &head_}}, .n = 1});
        if (shape.n_top > 0) {
            r.results.top_logits = r.take(DType::F32, RowsOf::logits, {shape.n_logits, shape.n_top});
            r.results.top_ids = r.take(DType::I32, RowsOf::logits, {shape.n_logits, shape.n_top});
            r.add(op::TopK{r.results.top_logits, r.results.top_ids, r.results.logits});
        }
        if (shape.draws) {
            r.results.tokens = r.take(DType::I32, RowsOf::logits, {shape.n_logits});
            r.results.logprobs = r.take(DType::F32, RowsOf::logits, {shape.n_logits});
            r.results.log_sums = r.take(DType::F32, RowsOf::logits, {shape.n_logits, 2});
            r.add(op::Sample{r.results.tokens, r.results.logprobs, r.results.log_sums, r.results.logits,
                             in.draw_rows, in.edits, in.masks});
        }
        return r;
    }

    std::vector<int32_t> tokens, top_ids;  // of the last step
    std::vector<float> hidden;
    std::vector<std::unique_ptr<KvStorage>>& kv() { return kv_; }

 private:
    static constexpr float eps = 1e-6f;
    static constexpr int64_t latent_rank = 16;

    struct Layer {
        Weight norm, ffn_norm, q, k, v, o, q_bias, k_bias, o_bias, q_norm, k_norm, sinks;
        Weight gate, up, down, router, gates_bias, downs_bias;
        std::vector<Weight> gates, ups, downs, k_heads, v_heads;
    };

    int64_t rotated() const { return o_.head_dim; }
    int64_t latent_dim() const { return latent_rank + rotated(); }

    struct Bytes {
        std::vector<std::byte> data, scales;
    };
    const Bytes& bytes(Format f, int64_t n, float deviation) {
        Bytes& b = bytes_.emplace_back();
        b.data.resize(data_bytes(f, n));
        b.scales.resize(scale_bytes(f, n));
        random_row(f, n, seed_++, deviation, b.data.data(), b.scales.data());
        return b;
    }
    Weight matrix(int64_t layer, int64_t rows, int64_t cols, Cut cut, WeightUse use = WeightUse::matrix,
                  bool expert = false, Format format = Format::F32) {
        if (format == Format::F32) format = o_.format;
        const Bytes& w = bytes(format, rows * cols, 1 / std::sqrt(static_cast<float>(cols)));
        return be_.load({.format = format, .rows = rows, .cols = cols, .data = w.data, .scales = w.scales},
                        {.use = use, .layer = layer, .expert = expert, .cut = cut});
    }
    Weight vector(int64_t layer, int64_t n, int64_t rows = 1, bool expert = false) {
        const Bytes& w = bytes(Format::F32, rows * n, 0.5f);
        return be_.load({.format = Format::F32, .rows = rows, .cols = n, .data = w.data, .scales = {}},
                        {.use = WeightUse::vector, .layer = layer, .expert = expert});
    }

    static Tensor rows(Record& r, int64_t n, int64_t each = 1) {
        return r.take(DType::F32, RowsOf::tokens, {r.shape().n_tokens * each, n}, each);
    }
    WeightList list(Record& r, const std::vector<Weight>& weights) {
        std::vector<const Weight*> pointers;
        for (const Weight& w : weights) pointers.push_back(&w);
        return r.keep(std::move(pointers));
    }

    Tensor attend(Record& r, Layer& l, const Tensor& q, KvStorage& kv) {
        const InputTensors& in = r.inputs();
        const Tensor out =
            r.take(DType::F32, RowsOf::tokens, {r.shape().n_tokens, o_.n_heads, kv.shape().v_dim});
        r.add(op::Attention{.out = out,
                            .q = q,
                            .kv = &kv,
                            .positions = in.positions,
                            .seq_start = in.seq_start,
                            .block_table = in.block_table,
                            .scale = 0.3f,
                            .sinks = o_.sinks ? &l.sinks : nullptr});
        return out.flat();
    }

    Tensor attention(Record& r, Layer& l, const Tensor& h, const Tensor& angles, KvStorage& kv) {
        const InputTensors& in = r.inputs();
        if (o_.joined) {
            const int64_t n = o_.n_heads * o_.head_dim;
            const Tensor qkv = rows(r, 3 * n);
            r.add(op::Matmul{.x = h, .products = {{qkv, &l.q, &l.q_bias}}, .n = 1});
            const auto part = [&](int64_t i) { return qkv.columns(i * n, n).heads(o_.n_heads); };
            r.add(op::StoreKv{&kv, part(1), part(2), in.slots});
            return attend(r, l, part(0), kv);
        }
        const Tensor q = rows(r, l.q.rows), k = rows(r, l.k.rows), v = rows(r, l.v.rows);
        r.add(
            op::Matmul{.x = h, .products = {{q, &l.q, &l.q_bias}, {k, &l.k, &l.k_bias}, {v, &l.v}}, .n = 3});
        const Tensor qh = q.heads(o_.n_heads), kh = k.heads(o_.n_kv_heads);
        r.add(op::RmsNorm{qh, qh, &l.q_norm, eps});
        r.add(op::RmsNorm{kh, kh, &l.k_norm, eps});
        r.add(op::Rope{qh, angles, RopePairing::half, 0});
        r.add(op::Rope{kh, angles, RopePairing::half, 0});
        r.add(op::StoreKv{&kv, kh, v.heads(o_.n_kv_heads), in.slots});
        return attend(r, l, qh, kv);
    }

    // As deepseek2.cpp has it.
    Tensor latent(Record& r, Layer& l, const Tensor& h, const Tensor& angles, KvStorage& kv) {
        const InputTensors& in = r.inputs();
        const int64_t n = r.shape().n_tokens, n_heads = o_.n_heads, n_rows = n * n_heads;
        const Tensor parts = rows(r, l.q.rows), k = rows(r, latent_dim());
        r.add(op::Matmul{.x = h, .products = {{k, &l.k}}, .n = 1});
        r.add(op::RmsNorm{k.columns(0, latent_rank), k.columns(0, latent_rank), &l.k_norm, eps});
        r.add(op::Rope{k.heads(1), angles, RopePairing::interleaved, latent_rank});
        r.add(op::Matmul{.x = h, .products = {{parts, &l.q}}, .n = 1});
        const Tensor part_rows = parts.in_rows(n_rows), q = rows(r, latent_dim(), n_heads);
        r.add(op::MatmulHeads{q.columns(0, latent_rank), part_rows.columns(0, o_.head_dim),
                              list(r, l.k_heads)});
        r.add(op::Copy{q.columns(latent_rank, rotated()), part_rows.columns(o_.head_dim, rotated())});
        const Tensor qh = q.in_rows(n).heads(n_heads);
        r.add(op::Rope{qh, angles, RopePairing::interleaved, latent_rank});
        r.add(op::StoreKv{&kv, k.heads(1), {}, in.slots});
        const Tensor mixed = attend(r, l, qh, kv);
        const Tensor v = rows(r, o_.head_dim, n_heads);
        r.add(op::MatmulHeads{v, mixed.in_rows(n_rows), list(r, l.v_heads)});
        return v.in_rows(n);
    }

    void feed_forward(Record& r, Layer& l, const Tensor& x, const Tensor& f) {
        const Tensor gate = rows(r, o_.ffn_dim), up = rows(r, o_.ffn_dim), down = rows(r, o_.dim);
        r.add(op::Matmul{.x = f, .products = {{gate, &l.gate}, {up, &l.up}}, .n = 2});
        r.add(op::SiluMul{gate, gate, up});
        r.add(op::Matmul{.x = gate, .products = {{down, &l.down}}, .n = 1});
        r.add(op::Add{x, down});
    }

    void experts(Record& r, Layer& l, const Tensor& x, const Tensor& f) {
        const int64_t n = r.shape().n_tokens, k = o_.n_used;
        const auto take = [&](int64_t m) { return r.take(DType::F32, RowsOf::tokens, {n, k, m}); };
        const Tensor logits = rows(r, o_.n_experts), weights = rows(r, k),
                     ids = r.take(DType::I32, RowsOf::tokens, {n, k});
        r.add(op::Matmul{.x = f, .products = {{logits, &l.router}}, .n = 1});
        r.add(op::Route{.ids = ids, .weights = weights, .logits = logits});
        const Tensor gate = take(o_.ffn_dim), up = take(o_.ffn_dim), down = take(o_.dim);
        r.add(op::MatmulExperts{.x = f,
                                .ids = ids,
                                .products = {{gate, list(r, l.gates), &l.gates_bias}, {up, list(r, l.ups)}},
                                .n = 2});
        r.add(op::ClampedSiluMul{gate, gate, up, 1.7f, 7});
        r.add(op::MatmulExperts{
            .x = gate, .ids = ids, .products = {{down, list(r, l.downs), &l.downs_bias}}, .n = 1});
        r.add(op::AddExperts{x, down, weights});
    }

    static StepInput input_of(const StepShape& shape) {
        StepInput input;
        input.reset(shape.bounds());
        return input;
    }
    // Sequences have the even and the odd blocks.
    static void place(StepInput& input, int token, int position, int sequence) {
        const InputTensors& t = input.tensors();
        const auto i = static_cast<size_t>(token);
        input.of(t.positions)[i] = position;
        input.of(t.slots)[i] = (position / block_len * 2 + sequence) * block_len + position % block_len;
        for (int b = 0; b < n_blocks / 2; ++b) {
            input.of(t.block_table)[static_cast<size_t>(sequence * n_blocks / 2 + b)] = 2 * b + sequence;
        }
    }
    std::vector<float> run(const StepInput& input) {
        const Record r = record(input.shape());
        const auto program = be_.compile(r);
        be_.launch(*program, input);
        const StepResult result = be_.collect();
        tokens.assign(result.tokens.begin(), result.tokens.end());
        top_ids.assign(result.top_ids.begin(), result.top_ids.end());
        hidden.assign(result.hidden.begin(), result.hidden.end());
        return {result.logits.begin(), result.logits.end()};
    }

    Backend& be_;
    TinyOptions o_;
    uint64_t seed_ = 1;
    std::deque<Bytes> bytes_;
    std::deque<Layer> layers_;
    Weight table_, head_, norm_, frequencies_;
    std::vector<std::unique_ptr<KvStorage>> kv_;
};

}  // namespace smelt
