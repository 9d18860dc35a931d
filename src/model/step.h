// A step as a model records it: ops here take room for their result in the record's workspace and append to
// it.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include "backend/backend.h"

namespace smelt {

struct AttentionParams {
    float scale = 1;  // of q·k
    int window = 0;   // a token sees this many positions with its own; 0: all
    const Weight* sinks =
        nullptr;         // (n_heads) a logit each that the softmax has besides the scores; may be null
    float soft_cap = 0;  // scores become soft_cap * tanh(score / soft_cap); 0: they stay
};

// What q, k and v go through before attention; what is not given is left out.
struct PrepareParams {
    const Weight* q_norm = nullptr;  // (dim), an RMS norm over each head
    const Weight* k_norm = nullptr;
    float eps = 0;
    Tensor angles = {};  // of rope_table()
    RopePairing pairing = RopePairing::half;
    int64_t first = 0;  // value of each head that the rotation begins at
};

// What LoRA adapters add to a product: of each adapter, by number, A (rank, in) and B (out, rank), of those
// without such a matrix, and of number 0, zeros.
struct AdaptedProduct {
    std::vector<const Weight*> a, b;
};
using AdaptedProducts = std::unordered_map<const Storage*, AdaptedProduct>;  // by the storage of the matrix

class Step {
 public:
    // `kv` has one entry a layer, blocks have block_len tokens, a sequence at most n_ctx. Borrows all.
    Step(Record& record, std::span<const std::unique_ptr<KvStorage>> kv, int64_t block_len, int64_t n_ctx,
         const AdaptedProducts* adapted = nullptr)
        : record_(record), kv_(kv), block_len_(block_len), n_ctx_(n_ctx), adapted_(adapted) {}

    // Activations made during its life are freed at its end: one a layer.
    class Scope {
     public:
        explicit Scope(Step& s) : record_(s.record_), mark_(s.record_.mark()) {}
        ~Scope() { record_.reset(mark_); }
        Scope(const Scope&) = delete;
        Scope& operator=(const Scope&) = delete;

     private:
        Record& record_;
        size_t mark_;
    };

    struct Linear {
        const Weight& w;
        const Weight& bias = no_weight;
    };

    Tensor embed(const Weight& table);            // (n_tokens, dim)
    Tensor embed_positions(const Weight& table);  // the same of learned positions
    Tensor matmul(const Weight& w, Tensor x, const Weight& bias = no_weight);  // (n_rows, w.rows)
    std::pair<Tensor, Tensor> matmul2(const Weight& a, const Weight& b,
                                      Tensor x);  // one input, several weights
    std::array<Tensor, 3> matmul3(std::array<Linear, 3> linears, Tensor x);
    Tensor rms_norm(Tensor x, const Weight& w, float eps);  // over the last dimension of x
    Tensor layer_norm(Tensor x, const Weight& w, const Weight& bias, float eps);
    void rms_norm_in_place(Tensor x, const Weight& w, float eps);
    Tensor add_rms_norm(Tensor residual, Tensor x, const Weight& w,
                        float eps);  // residual += x, its norm returned
    // By the positions of an axis, where tokens have several.
    Tensor rope_table(const Weight& inv_freq, float scale, int axis = 0);
    int rope_axes() const { return record_.shape().rope_axes; }
    // In place, from value `first` of each head on; x (n_tokens, n_heads, head_dim).
    Tensor rope(Tensor x, Tensor table, RopePairing pairing, int64_t first = 0);
    // Norms and rotates q and k in place as `prepare` says, stores k and v, then attends: q (n_tokens,
    // n_heads, k's dim) -> (n_tokens, n_heads * v's dim).
    Tensor attention(int64_t layer, Tensor q, Tensor k, Tensor v, const AttentionParams& p,
                     const PrepareParams& prepare = {});
    void add(Tensor x, Tensor y);             // x += y
    void copy(Tensor out, Tensor x);          // out = x
    Tensor silu_mul(Tensor gate, Tensor up);  // in gate's place, as the next
    Tensor clamped_silu_mul(Tensor gate, Tensor up, float alpha, float limit);
    Tensor gelu(Tensor x, bool exact = false);  // in place
    Tensor gelu_mul(Tensor gate, Tensor up);    // in gate's place
    // sigmoid(gate) * x in x's place; a gate of one column is for the whole row.
    Tensor sigmoid_mul(Tensor gate, Tensor x);
    void scale(Tensor x, float factor);  // in place, as the next
    void soft_cap(Tensor x, float cap);  // cap * tanh(x / cap)
    // Of a recurrent layer; its state has values from `first` on.
    Tensor causal_conv(int64_t layer, Tensor x, const Weight& w, int64_t first);
    struct Delta {
        Tensor q, k, v;  // (n_tokens, heads, length)
        Tensor a, b;     // (n_tokens, value heads)
        const Weight &decay, &bias;
        bool tiled = false;
    };
    // (n_tokens, value heads * length)
    Tensor delta_rule(int64_t layer, const Delta& d, int64_t first);
    struct Routed {
        Tensor ids, weights;  // (n_tokens, n_used)
    };
    Routed route(Tensor logits, int64_t n_used, const RouteParams& p);
    struct ExpertLinear {
        std::span<const Weight> experts;
        const Weight& bias = no_weight;  // (n_experts, rows)
        ExpertLinear(std::span<const Weight> w, const Weight& b = no_weight) : experts(w), bias(b) {}
        ExpertLinear(const std::vector<Weight>& w) : experts(w) {}
    };
    // One input, several products of the same experts: (n_tokens, n_used, rows) each.
    Tensor matmul_experts(const ExpertLinear& w, Tensor x, const Routed& routed);
    std::pair<Tensor, Tensor> matmul_experts2(const ExpertLinear& a, const ExpertLinear& b, Tensor x,
                                              const Routed& routed);
    void add_experts(Tensor x, Tensor y, const Routed& routed);  // x += weighted sum of y over its experts
    // A matrix for each head: row t * n_heads + h of out is heads[h] times that row of x.
    void matmul_heads(Tensor out, std::span<const Weight> heads, Tensor x);
    // x += what the layer gets of pictures besides their embeddings, if it gets anything.
    void add_features(Tensor x, int64_t layer);
    // Of a vision tower, whose tokens are patches: columns of the features of each.
    Tensor features(int64_t first, int64_t n);
    // (n_rows, n_columns), a row or a fixed number of them for each token.
    Tensor take(int64_t n_rows, int64_t n_columns);
    // The same, in every step so many rows.
    Tensor take_rows(int64_t n_rows, int64_t n_columns) {
        return record_.take(DType::F32, RowsOf::fixed, {n_rows, n_columns});
    }

    Tensor wanted_rows(Tensor x);  // rows whose logits are wanted
    bool wants_logits() const { return record_.shape().n_logits > 0; }
    void set_logits(Tensor logits);
    // The same for final hidden states: behind the last norm, before the output head.
    Tensor hidden_rows(Tensor x);
    bool wants_hidden() const { return record_.shape().n_hidden > 0; }
    void set_hidden(Tensor hidden) { record_.results.hidden = hidden; }

    int64_t n_tokens() const { return record_.shape().n_tokens; }  // the most there can be
    int64_t n_ctx() const { return n_ctx_; }

    static const Weight no_weight;

 private:
    Tensor like(Tensor x, int64_t n_columns);  // as many rows as x
    Tensor some_rows(Tensor x, Tensor rows);
    void adapt(const op::Matmul& matmul);
    op::MatmulExperts::Product expert_product(const ExpertLinear& w, Tensor x, const Routed& routed);

    op::StateRows state_rows(int64_t layer, int64_t first) const;

    Record& record_;
    std::span<const std::unique_ptr<KvStorage>> kv_;
    int64_t block_len_, n_ctx_;
    const AdaptedProducts* adapted_;  // null: none
};

}  // namespace smelt
