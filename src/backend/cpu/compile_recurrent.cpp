// Recurrent layers: where a sequence's state is read and written, and how its tokens become chunks. Tokens of
// a sequence follow one another; columns of a state know nothing of each other, so that they are the chunks.
#include <algorithm>
#include <cmath>

#include "backend/cpu/compile.h"

namespace smelt::cpu {

namespace {

constexpr int most_kernel = 8;         // columns of a convolution's weights
constexpr int64_t slice_columns = 64;  // of a state: four AVX-512 registers
constexpr int64_t conv_tokens = 16;    // of a chunk of the convolution

// StateRows, before it is known where the input lies.
struct StatePlace {
    float* first = nullptr;
    int64_t stride = 0, block_len = 0;  // floats from row to row
    Place<const int32_t> positions, seq_start, table;

    StatePlace() = default;
    explicit StatePlace(const StateRows& s)
        : block_len(s.block_len), positions(s.positions), seq_start(s.seq_start), table(s.block_table) {
        const auto& kv = *static_cast<HostKv*>(s.rows);
        const KvRows& k = kv.rows.k;
        CHECK(k.format == Format::F32 && k.block_len == 1 && k.n_heads == 1 && s.block_len > 0);
        first = reinterpret_cast<float*>(kv.memory.data + k.offset) + s.first;
        stride = k.dim;
    }
    float* row(const Frame& f, int64_t seq, int64_t position) const {
        return first + table.in(f)[seq][position / block_len] * stride;
    }
};

// A sequence's tokens of this step.
struct SequencePart {
    int64_t first, end, begin;  // tokens [first, end); the first is at position `begin`
    SequencePart(const Frame& f, const StatePlace& s, int64_t seq)
        : first(s.seq_start.in(f).first[seq]),
          end(s.seq_start.in(f).first[seq + 1]),
          begin(s.positions.in(f).first[first]) {}
    int64_t position(int64_t token) const { return begin + token - first; }
    bool is_kept(int64_t token, int64_t block_len) const {
        return token + 1 == end || (position(token) + 1) % block_len == 0;
    }
};

struct Conv {
    const Kernels* kernels;
    Place<float> out, x;
    const float* w;  // (kernel, n): transposed
    int64_t n, kernel;
    StatePlace state;
    RowCount tokens;
};

// Every chunk some tokens, whatever their sequences.
struct ConvTokens {
    const Conv* c;
    int64_t n_tokens = 0;
    int begin(const Frame& f) {
        n_tokens = c->tokens.in(f);
        return static_cast<int>((n_tokens + conv_tokens - 1) / conv_tokens);
    }
    void run(const Frame& f, int chunk, int member) const {
        const int64_t first = chunk * conv_tokens, last = std::min(n_tokens, first + conv_tokens);
        const auto* zeros = reinterpret_cast<const float*>(f.scratch->member(member).memory);
        std::fill_n(reinterpret_cast<float*>(f.scratch->member(member).memory), c->n, 0.0f);
        const int32_t* starts = c->state.seq_start.in(f).first;
        int64_t seq = std::upper_bound(starts, starts + f.counts.n_seqs + 1, first) - starts - 1;
        for (int64_t t = first; t < last; ++t) {
            while (t >= starts[seq + 1]) ++seq;
            const SequencePart part(f, c->state, seq);
            const float* inputs[most_kernel];
            for (int64_t j = 0; j < c->kernel; ++j) {
                // kernel - 1 - j tokens ago: of this step, of the state, or before the beginning
                const int64_t from = t - (c->kernel - 1 - j);
                if (from >= part.first) {
                    inputs[j] = c->x.in(f)[from];
                } else if (part.begin > 0) {
                    inputs[j] =
                        c->state.row(f, seq, part.begin - 1) + (c->kernel - 1 - (part.first - from)) * c->n;
                } else {
                    inputs[j] = zeros;
                }
            }
            c->kernels->causal_conv(c->out.in(f)[t], inputs, static_cast<int>(c->kernel), c->w, c->n, 0,
                                    c->n);
        }
    }
};

// When all outputs are there: every chunk a sequence's state.
struct ConvState {
    const Conv* c;
    int begin(const Frame& f) const { return f.counts.n_seqs; }
    void run(const Frame& f, int chunk, int member) const {
        const SequencePart part(f, c->state, chunk);
        const int64_t n_held = c->kernel - 1;
        auto* before = reinterpret_cast<float*>(f.scratch->member(member).memory);
        if (part.begin > 0) {
            std::copy_n(c->state.row(f, chunk, part.begin - 1), n_held * c->n, before);
        } else {
            std::fill_n(before, n_held * c->n, 0.0f);
        }
        for (int64_t t = part.first; t < part.end; ++t) {
            if (!part.is_kept(t, c->state.block_len)) continue;
            float* row = c->state.row(f, chunk, part.position(t));
            for (int64_t j = 0; j < n_held; ++j) {
                const int64_t from = t - (n_held - 1 - j);
                const float* input =
                    from >= part.first ? c->x.in(f)[from] : before + (n_held - (part.first - from)) * c->n;
                std::copy_n(input, c->n, row + j * c->n);
            }
        }
    }
};

struct Delta {
    const Kernels* kernels;
    Place<float> out, q, k, v, a, b;
    const float *decay, *bias;
    int64_t n_k_heads, n_v_heads, k_dim, v_dim;
    bool tiled;
    StatePlace state;

    // Every chunk some columns of a sequence's head.
    int64_t n_slices() const { return (v_dim + slice_columns - 1) / slice_columns; }
    int begin(const Frame& f) const { return static_cast<int>(f.counts.n_seqs * n_v_heads * n_slices()); }
    void run(const Frame& f, int chunk, int) const {
        const int64_t seq = chunk / n_slices() / n_v_heads, head = chunk / n_slices() % n_v_heads;
        const int64_t column = chunk % n_slices() * slice_columns;
        const int64_t n_columns = std::min(slice_columns, v_dim - column);
        const int64_t k_head = tiled ? head % n_k_heads : head / (n_v_heads / n_k_heads);
        const int64_t at = head * k_dim * v_dim + column;
        const auto copy = [&](const float* from, float* to) {
            for (int64_t i = 0; from != to && i < k_dim; ++i)
                std::copy_n(from + i * v_dim, n_columns, to + i * v_dim);
        };
        const SequencePart part(f, state, seq);
        float* row = state.row(f, seq, part.position(part.end - 1)) + at;  // where the last state stays
        if (part.begin > 0) {
            copy(state.row(f, seq, part.begin - 1) + at, row);
        } else {
            for (int64_t i = 0; i < k_dim; ++i) std::fill_n(row + i * v_dim, n_columns, 0.0f);
        }
        for (int64_t t = part.first; t < part.end; ++t) {
            const float x = a.in(f)[t][head] + bias[head];
            const float softplus = std::max(x, 0.0f) + std::log1p(std::exp(-std::fabs(x)));
            kernels->delta_rule({.state = row,
                                 .stride = v_dim,
                                 .k_dim = k_dim,
                                 .n_columns = n_columns,
                                 .q = q.in(f)[t] + k_head * k_dim,
                                 .k = k.in(f)[t] + k_head * k_dim,
                                 .v = v.in(f)[t] + head * v_dim + column,
                                 .out = out.in(f)[t] + head * v_dim + column,
                                 .keep = std::exp(decay[head] * softplus),
                                 .beta = 1 / (1 + std::exp(-b.in(f)[t][head]))});
            if (t + 1 < part.end && part.is_kept(t, state.block_len))
                copy(row, state.row(f, seq, part.position(t)) + at);
        }
    }
};

}  // namespace

void compile(const Compiler& c, const CausalConv& op) {
    const int64_t n = op.x.row_len(), kernel = op.w->cols;
    CHECK(
        op.w->rows * op.w->cols == n * kernel && op.out.row_len() == n && kernel > 1 && kernel <= most_kernel,
        "convolution of {} channels over {} tokens", n, kernel);
    float* w = c.stages.take<float>(static_cast<size_t>(n * kernel));
    for (int64_t i = 0; i < n; ++i) {
        for (int64_t j = 0; j < kernel; ++j) w[j * n + i] = floats_of(*op.w)[i * kernel + j];
    }
    auto* conv = c.stages.take<Conv>(1);
    *conv = {.kernels = &c.kernels,
             .out = Place<float>(op.out),
             .x = Place<float>(op.x),
             .w = w,
             .n = n,
             .kernel = kernel,
             .state = StatePlace(op.state),
             .tokens = RowCount(op.x)};
    c.scratch.need_member(static_cast<size_t>(n * (kernel - 1)) * sizeof(float));
    c.stages.add(ConvTokens{conv});
    c.stages.add(ConvState{conv});
}

void compile(const Compiler& c, const DeltaRule& op) {
    const int64_t n_k = op.k.shape[1], n_v = op.v.shape[1];
    CHECK(n_v % n_k == 0 && op.q.shape == op.k.shape && op.out.row_len() == op.v.row_len() &&
              op.a.row_len() == n_v && op.b.row_len() == n_v && op.decay->cols == n_v && op.bias->cols == n_v,
          "{} heads of keys, {} of values", n_k, n_v);
    c.stages.add(Delta{.kernels = &c.kernels,
                       .out = Place<float>(op.out),
                       .q = Place<float>(op.q),
                       .k = Place<float>(op.k),
                       .v = Place<float>(op.v),
                       .a = Place<float>(op.a),
                       .b = Place<float>(op.b),
                       .decay = floats_of(*op.decay),
                       .bias = floats_of(*op.bias),
                       .n_k_heads = n_k,
                       .n_v_heads = n_v,
                       .k_dim = op.k.shape[2],
                       .v_dim = op.v.shape[2],
                       .tiled = op.tiled,
                       .state = StatePlace(op.state)});
}

}  // namespace smelt::cpu
