// Ops that know which token of a sequence comes after which: attention over the KV cache, and the recurrent
// ops with their states. backend/reference_sequences.cpp is the same as code.
#pragma once

#include "backend/op_fields.h"
#include "backend/tensor.h"

namespace smelt {

class KvStorage;

enum class RopePairing : uint8_t {
    half,         // (x[i], x[i + n/2]): Hugging Face layout, GGUF "NEOX"
    interleaved,  // (x[2i], x[2i+1]): GGUF "NORM", as its converter permutes Llama's rows
};

namespace op {

// k, v (n_tokens, n_kv_heads, dim) to their slots; v is not looked at where the cache has v in k.
struct StoreKv {
    KvStorage* kv = nullptr;
    Tensor k, v, slots;
    SMELT_FIELDS {
        f("kv", s.kv);
        f(Access::read, "k", s.k);
        f(Access::read, "v", s.v);
        f(Access::read, "slots", s.slots);
    }
};

// What q, k and v go through before attention: the fused form of RmsNorm and Rope of q and k, and StoreKv. A
// null norm or an empty table is left out; q may be empty. What is in k afterwards is open.
struct PrepareHeads {
    KvStorage* kv = nullptr;
    Tensor q, k, v, slots;
    const Weight *q_norm = nullptr, *k_norm = nullptr;
    float eps = 0;
    Tensor table;
    RopePairing pairing = RopePairing::half;
    int64_t first = 0;
    SMELT_FIELDS {
        f("kv", s.kv);
        f(Access::update, "q", s.q);
        f(Access::update, "k", s.k);
        f(Access::read, "v", s.v);
        f(Access::read, "slots", s.slots);
        f("q_norm", s.q_norm);
        f("k_norm", s.k_norm);
        f("eps", s.eps);
        f(Access::read, "table", s.table);
        f("pairing", s.pairing);
        f("first", s.first);
    }
};

// q (n_tokens, n_heads, k_dim), out (n_tokens, n_heads, v_dim). n_heads is a multiple of the cache's. Token t
// of sequence i sees KV positions 0 .. positions[t], of these the last `window` where that is not 0.
struct Attention {
    Tensor out, q;
    KvStorage* kv = nullptr;
    Tensor positions, seq_start, block_table;
    float scale = 1;  // of q·k
    int32_t window = 0;
    const Weight* sinks =
        nullptr;         // (n_heads) a logit each that the softmax has besides the scores; may be null
    float soft_cap = 0;  // scores, after scale, become soft_cap * tanh(score / soft_cap); 0: they stay
    SMELT_FIELDS {
        f(Access::write, "out", s.out);
        f(Access::read, "q", s.q);
        f("kv", s.kv);
        f(Access::read, "positions", s.positions);
        f(Access::read, "seq_start", s.seq_start);
        f(Access::read, "block_table", s.block_table);
        f("scale", s.scale);
        f("window", s.window);
        f("sinks", s.sinks);
        f("soft_cap", s.soft_cap);
    }
};

// The states that recurrent layers carry from token to token. They lie in a KvStorage of blocks with one row
// of floats: a row holds what came after the last token so far of a block of `block_len` positions. A
// sequence's first token of the step, at position p > 0, goes on from the row of position p - 1, at p = 0
// from zeros. Written are the rows of the sequence's last token and of those at a block's end; row
// block_table[sequence][position / block_len], values from `first` on. Several may be the same row: the last
// one counts.
struct StateRows {
    KvStorage* rows = nullptr;
    Tensor positions, seq_start, block_table;
    int64_t block_len = 0;
    int64_t first = 0;
    template <class Self, class F>
    static void fields(Self& s, F&& f) {
        f("states", s.rows);
        f(Access::read, "positions", s.positions);
        f(Access::read, "seq_start", s.seq_start);
        f(Access::read, "block_table", s.block_table);
        f("block_len", s.block_len);
        f("first", s.first);
    }
};

// out[t][c] = silu(sum over j of w[c][j] * x[t - (w.cols - 1) + j][c]), over the tokens of a sequence; before
// its first one x is 0. The state is (w.cols - 1, n_channels): the inputs of the last positions, the oldest
// first. out is not x. At most 8 columns.
struct CausalConv {
    Tensor out, x;  // (n_tokens, n_channels)
    const Weight* w = nullptr;
    StateRows state;
    SMELT_FIELDS {
        f(Access::write, "out", s.out);
        f(Access::read, "x", s.x);
        f("w", s.w);
        StateRows::fields(s.state, f);
    }
};

// The gated delta rule (arXiv:2412.06464). Each value head has a state S (k_dim, v_dim) and for each token
//   S *= exp(decay * softplus(a + bias));  S += k ⊗ (v - Sᵀ k) * sigmoid(b);  out = Sᵀ q
// q and k are (n_tokens, n_k_heads, k_dim), v and out (n_tokens, n_v_heads, v_dim), a and b (n_tokens,
// n_v_heads); decay (n_v_heads), which are negative, and bias (n_v_heads). Value head h has key head h /
// (n_v_heads / n_k_heads), or h % n_k_heads where they are tiled. softplus(x) = log(1 + exp(x)). A state is
// rounded to float after every token, so that chunks do not show. The state row is (n_v_heads, k_dim, v_dim).
struct DeltaRule {
    Tensor out, q, k, v, a, b;
    const Weight *decay = nullptr, *bias = nullptr;
    bool tiled = false;
    StateRows state;
    SMELT_FIELDS {
        f(Access::write, "out", s.out);
        f(Access::read, "q", s.q);
        f(Access::read, "k", s.k);
        f(Access::read, "v", s.v);
        f(Access::read, "a", s.a);
        f(Access::read, "b", s.b);
        f("decay", s.decay);
        f("bias", s.bias);
        f("tiled", s.tiled);
        StateRows::fields(s.state, f);
    }
};

}  // namespace op

}  // namespace smelt
