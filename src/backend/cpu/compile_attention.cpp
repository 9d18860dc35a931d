// Cuts attention into chunks of (tokens, kv head), and long contexts with few tokens further into spans of
// positions. A row's sums are always made span by span and merged in order, cut or not, so that the cut never
// shows in the result.
#include <algorithm>
#include <limits>

#include "backend/cpu/compile.h"

namespace smelt::cpu {

namespace {

constexpr int64_t tile_rows = 64;  // query rows (tokens x heads of one kv head) that share widened k and v
constexpr float minus_infinity = -std::numeric_limits<float>::infinity();

int64_t padded(int64_t n) {
    return (n + attend_padding - 1) / attend_padding * attend_padding;
}

// One step's attention of one layer.
struct Call {
    const Kernels* kernels;
    Place<float> out_place, q_place;
    Place<const int32_t> positions_place, seq_start_place, table_place;
    Rows<float> out, q;
    const std::byte *k, *v;
    int64_t k_bytes, v_bytes;  // from row to row
    Format k_format, v_format;
    int64_t block_len, n_kv_heads, n_rep, k_dim, v_dim;  // n_rep: query heads of one kv head
    const int32_t *positions, *seq_start, *block_table;
    int64_t n_tokens, n_seqs, max_blocks;
    int64_t window;
    const float* sinks;  // (n_heads) or null
    float scale, soft_cap;
    int64_t tile_tokens, n_spans;
    int n_threads;

    // Few tokens and a long context: spans apart.
    bool split() const { return n_tokens * n_kv_heads < 8 * n_threads && n_spans > 1; }
    void begin(const Frame& f) {
        out = out_place.in(f);
        q = q_place.in(f);
        positions = positions_place.in(f).first;
        seq_start = seq_start_place.in(f).first;
        block_table = table_place.in(f).first;
        n_tokens = f.counts.n_tokens;
        n_seqs = f.counts.n_seqs;
        n_spans = (f.counts.max_kv_len + kv_span - 1) / kv_span;
        // Decode alone: a chunk for every token, as no two share a sequence.
        tile_tokens = n_tokens > n_seqs && !split() ? std::max<int64_t>(1, tile_rows / n_rep) : 1;
    }

    int64_t end(int64_t token) const { return positions[token] + 1; }
    int64_t begin(int64_t token) const { return window > 0 ? std::max<int64_t>(0, end(token) - window) : 0; }
    int64_t sequence_of(int64_t token) const {
        return std::upper_bound(seq_start, seq_start + n_seqs + 1, token) - seq_start - 1;
    }
};

struct State {
    float *m, *l, *acc;  // (n_rows), (n_rows), (n_rows, v_dim padded)
};
State carve_state(Carver& c, const Call& a, int64_t n_rows) {
    return {c.take<float>(n_rows), c.take<float>(n_rows), c.take<float>(n_rows * padded(a.v_dim))};
}
void clear(const State& s, const Call& a, int64_t n_rows) {
    std::fill_n(s.m, n_rows, minus_infinity);
    std::fill_n(s.l, n_rows, 0.0f);
    std::fill_n(s.acc, n_rows * padded(a.v_dim), 0.0f);
}

// A sink is as a position that was seen before all others and has no value.
void begin_total(const State& s, const Call& a, int64_t row, int64_t head) {
    if (a.sinks == nullptr) return;
    s.m[row] = a.sinks[head];
    s.l[row] = 1;
}

struct Buffers {
    State total, span;
    float *q, *scratch;
    int32_t *first, *last;
};
Buffers carve_buffers(Carver& c, const Call& a) {
    const int64_t n_rows = a.tile_tokens * a.n_rep;
    const size_t n_scratch = a.kernels->attend_scratch(static_cast<int>(n_rows), static_cast<int>(a.k_dim),
                                                       static_cast<int>(a.v_dim));
    return {carve_state(c, a, n_rows),
            carve_state(c, a, n_rows),
            c.take<float>(n_rows * padded(a.k_dim)),
            c.take<float>(static_cast<int64_t>(n_scratch)),
            c.take<int32_t>(n_rows),
            c.take<int32_t>(n_rows)};
}

// Tokens [t0, t1) of one sequence with the query heads of one kv head.
struct Tile {
    int64_t t0, t1, kv_head;
    int64_t n_rows(const Call& a) const { return (t1 - t0) * a.n_rep; }
};

// Where up to kv_step positions from `base` on have k and v.
struct Positions {
    const void *k[kv_step], *v[kv_step];
    int64_t n = 0;
};

// Heads lie beside each other, so that one head's rows are short and far apart: no processor sees them
// coming.
void fetch(const std::byte* row, int64_t n_bytes) {
    for (int64_t i = 0; i < n_bytes; i += 64) __builtin_prefetch(row + i);
}
void locate(const Call& a, const Tile& tile, const int32_t* blocks, int64_t begin, int64_t end, int64_t base,
            Positions& to) {
    to.n = std::min<int64_t>(kv_step, end - base);
    for (int64_t p = 0; p < to.n; ++p) {
        // Positions before the window stand in the step but have no block any more.
        const int64_t pos = std::max(base + p, begin);
        const int64_t slot = blocks[pos / a.block_len] * a.block_len + pos % a.block_len;
        const std::byte* k = a.k + (slot * a.n_kv_heads + tile.kv_head) * a.k_bytes;
        const std::byte* v = a.v + (slot * a.n_kv_heads + tile.kv_head) * a.v_bytes;
        fetch(k, a.k_bytes);
        fetch(v, a.v_bytes);
        to.k[p] = k;
        to.v[p] = v;
    }
}

// The sums over the positions of one span, into b.span.
void attend_span(const Call& a, const Tile& tile, int64_t span, const Buffers& b) {
    const int64_t n_rows = tile.n_rows(a);
    const int32_t* blocks = a.block_table + a.sequence_of(tile.t0) * a.max_blocks;
    clear(b.span, a, n_rows);
    const int64_t begin = std::max(a.begin(tile.t0), span * kv_span);
    const int64_t end = std::min(a.end(tile.t1 - 1), (span + 1) * kv_span);
    Positions steps[2];
    int64_t base = begin / kv_step * kv_step;
    if (base < end) locate(a, tile, blocks, begin, end, base, steps[0]);
    for (int i = 0; base < end; base += kv_step, i ^= 1) {
        if (base + kv_step < end) locate(a, tile, blocks, begin, end, base + kv_step, steps[i ^ 1]);
        const Positions& at = steps[i];
        for (int64_t r = 0; r < n_rows; ++r) {
            const int64_t t = tile.t0 + r / a.n_rep;
            b.first[r] = static_cast<int32_t>(std::clamp<int64_t>(a.begin(t) - base, 0, at.n));
            b.last[r] = static_cast<int32_t>(std::clamp<int64_t>(a.end(t) - base, 0, at.n));
        }
        a.kernels->attend({.k = at.k,
                           .v = at.v,
                           .k_format = a.k_format,
                           .v_format = a.v_format,
                           .n_pos = static_cast<int>(at.n),
                           .k_dim = static_cast<int>(a.k_dim),
                           .v_dim = static_cast<int>(a.v_dim),
                           .n_rows = static_cast<int>(n_rows),
                           .q = b.q,
                           .first = b.first,
                           .last = b.last,
                           .scale = a.scale,
                           .soft_cap = a.soft_cap,
                           .m = b.span.m,
                           .l = b.span.l,
                           .acc = b.span.acc,
                           .scratch = b.scratch});
    }
}

void gather_queries(const Call& a, const Tile& tile, float* to) {
    for (int64_t r = 0; r < tile.n_rows(a); ++r, to += padded(a.k_dim)) {
        const float* from = a.q[tile.t0 + r / a.n_rep] + (tile.kv_head * a.n_rep + r % a.n_rep) * a.k_dim;
        std::copy_n(from, a.k_dim, to);
        std::fill(to + a.k_dim, to + padded(a.k_dim), 0.0f);
    }
}

bool sees(const Call& a, int64_t token, int64_t span) {
    return a.begin(token) < (span + 1) * kv_span && a.end(token) > span * kv_span;
}
void merge(const Call& a, const State& total, int64_t row, const State& span, int64_t span_row) {
    const int64_t stride = padded(a.v_dim);
    a.kernels->attend_merge(total.m + row, total.l + row, total.acc + row * stride, span.m[span_row],
                            span.l[span_row], span.acc + span_row * stride, static_cast<int>(a.v_dim));
}
void finish(const Call& a, int64_t token, int64_t head, const State& total, int64_t row) {
    a.kernels->attend_finish(a.out[token] + head * a.v_dim, total.acc + row * padded(a.v_dim), total.l[row],
                             static_cast<int>(a.v_dim));
}

// All spans of a tile, to the end.
void attend_tile(const Call& a, const Tile& tile, const Buffers& b) {
    gather_queries(a, tile, b.q);
    clear(b.total, a, tile.n_rows(a));
    for (int64_t r = 0; r < tile.n_rows(a); ++r)
        begin_total(b.total, a, r, tile.kv_head * a.n_rep + r % a.n_rep);
    const int64_t first = a.begin(tile.t0) / kv_span, last = (a.end(tile.t1 - 1) - 1) / kv_span;
    for (int64_t span = first; span <= last; ++span) {
        attend_span(a, tile, span, b);
        for (int64_t r = 0; r < tile.n_rows(a); ++r) {
            if (sees(a, tile.t0 + r / a.n_rep, span)) merge(a, b.total, r, b.span, r);
        }
    }
    for (int64_t r = 0; r < tile.n_rows(a); ++r) {
        finish(a, tile.t0 + r / a.n_rep, tile.kv_head * a.n_rep + r % a.n_rep, b.total, r);
    }
}

// Every chunk a tile of tokens and a kv head, with all spans.
struct Whole {
    Call* a;
    int64_t n_tiles = 0;
    int begin(const Frame& f) {
        a->begin(f);
        if (a->split()) return 0;
        n_tiles = (a->n_tokens + a->tile_tokens - 1) / a->tile_tokens;
        return static_cast<int>(n_tiles * a->n_kv_heads);
    }
    void run(const Frame& f, int chunk, int member) const {
        Carver carver(f.scratch->member(member).memory);
        const Buffers b = carve_buffers(carver, *a);
        // Later tokens see more: first, so that the last chunks are short.
        const int64_t i = n_tiles - 1 - chunk / a->n_kv_heads;
        const int64_t end = std::min(a->n_tokens, (i + 1) * a->tile_tokens);
        for (int64_t t = i * a->tile_tokens; t < end;) {
            const int64_t next = std::min<int64_t>(end, a->seq_start[a->sequence_of(t) + 1]);
            attend_tile(*a, {t, next, chunk % a->n_kv_heads}, b);
            t = next;
        }
    }
};

// Rows of the partial results: (n_tokens, n_kv_heads, n_spans, n_rep).
State partial_results(const Frame& f, const Call& a) {
    Carver shared(f.scratch->shared());
    return carve_state(shared, a, a.n_tokens * a.n_kv_heads * a.n_spans * a.n_rep);
}

// Every chunk a token, a kv head and a span.
struct Spans {
    const Call* a;
    int begin(const Frame&) const {
        return a->split() ? static_cast<int>(a->n_tokens * a->n_kv_heads * a->n_spans) : 0;
    }
    void run(const Frame& f, int chunk, int member) const {
        const int64_t span = chunk % a->n_spans, kv_head = chunk / a->n_spans % a->n_kv_heads;
        const int64_t token = chunk / a->n_spans / a->n_kv_heads;
        if (!sees(*a, token, span)) return;
        Carver carver(f.scratch->member(member).memory);
        Buffers b = carve_buffers(carver, *a);
        const State all = partial_results(f, *a);
        const int64_t row = chunk * a->n_rep;
        b.span = {all.m + row, all.l + row, all.acc + row * padded(a->v_dim)};
        const Tile tile{token, token + 1, kv_head};
        gather_queries(*a, tile, b.q);
        attend_span(*a, tile, span, b);
    }
};

struct MergeSpans {
    const Call* a;
    int begin(const Frame&) const { return a->split() ? static_cast<int>(a->n_tokens) : 0; }
    void run(const Frame& f, int chunk, int member) const {
        Carver carver(f.scratch->member(member).memory);
        const Buffers b = carve_buffers(carver, *a);
        const State all = partial_results(f, *a);
        const int64_t token = chunk;
        for (int64_t head = 0; head < a->n_kv_heads * a->n_rep; ++head) {
            clear(b.total, *a, 1);
            begin_total(b.total, *a, 0, head);
            for (int64_t span = 0; span < a->n_spans; ++span) {
                if (!sees(*a, token, span)) continue;
                const int64_t kv_row = (token * a->n_kv_heads + head / a->n_rep) * a->n_spans + span;
                merge(*a, b.total, 0, all, kv_row * a->n_rep + head % a->n_rep);
            }
            finish(*a, token, head, b.total, 0);
        }
    }
};

}  // namespace

void compile(const Compiler& c, const Attention& op) {
    const auto& kv = *static_cast<HostKv*>(op.kv);
    const KvRows &k = kv.rows.k, &v = kv.rows.v;
    const int64_t n_heads = op.q.shape[1];
    CHECK(n_heads % k.n_heads == 0 && op.q.shape[2] == k.dim && op.out.row_len() == n_heads * v.dim,
          "q ({}, {}), k ({}, {}), out {}", n_heads, op.q.shape[2], k.n_heads, k.dim, op.out.row_len());
    auto* a = c.stages.take<Call>(1);
    *a = {.kernels = &c.kernels,
          .out_place = Place<float>(op.out),
          .q_place = Place<float>(op.q),
          .positions_place = Place<const int32_t>(op.positions),
          .seq_start_place = Place<const int32_t>(op.seq_start),
          .table_place = Place<const int32_t>(op.block_table),
          .out = {},
          .q = {},
          .k = kv.memory.data + k.offset,
          .v = kv.memory.data + v.offset,
          .k_bytes = static_cast<int64_t>(k.row_bytes),
          .v_bytes = static_cast<int64_t>(v.row_bytes),
          .k_format = k.format,
          .v_format = v.format,
          .block_len = k.block_len,
          .n_kv_heads = k.n_heads,
          .n_rep = n_heads / k.n_heads,
          .k_dim = k.dim,
          .v_dim = v.dim,
          .positions = nullptr,
          .seq_start = nullptr,
          .block_table = nullptr,
          .n_tokens = op.q.n_rows(),
          .n_seqs = 0,
          .max_blocks = op.block_table.row_len(),
          .window = op.window,
          .sinks = op.sinks == nullptr ? nullptr : floats_of(*op.sinks),
          .scale = op.scale,
          .soft_cap = op.soft_cap,
          .tile_tokens = std::max<int64_t>(1, tile_rows * k.n_heads / n_heads),
          .n_spans = 0,
          .n_threads = c.n_threads};
    Carver own(nullptr), shared(nullptr);
    carve_buffers(own, *a);
    c.scratch.need_member(own.used());
    // The most rows of partial results: as many tokens as are still split, the longest context there can be.
    const int64_t most_tokens = std::min<int64_t>(op.q.n_rows(), (8 * c.n_threads - 1) / k.n_heads);
    const int64_t most_spans = (a->max_blocks * k.block_len + kv_span - 1) / kv_span;
    if (most_tokens > 0 && most_spans > 1) {
        carve_state(shared, *a, most_tokens * k.n_heads * most_spans * a->n_rep);
        c.scratch.need_shared(shared.used());
    }
    c.stages.add(Whole{a});
    c.stages.add(Spans{a});
    c.stages.add(MergeSpans{a});
}

}  // namespace smelt::cpu
