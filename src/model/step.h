// One recorded step: the batch on the device, the KV layers, and an arena for activations. Ops here allocate
// their result and call the backend's. Nothing is allocated from the system once the arena has grown to the
// largest step.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "backend/backend.h"

namespace smelt {

// A ragged batch on the host; the fields of BatchView.
struct Batch {
    std::vector<int32_t> ids, positions, slots;  // (n_tokens)
    std::vector<int32_t> seq_start = {0};        // (n_seqs + 1)
    std::vector<int32_t> block_table;            // (n_seqs, max_blocks)
    // The same for windowed layers, where these have blocks of their own; else empty.
    std::vector<int32_t> window_slots = {}, window_table = {};
    int max_blocks = 0;
    int max_kv_len = 0;
    std::vector<int32_t> logits_rows;       // tokens whose logits are wanted, ascending
    std::vector<int32_t> hidden_rows = {};  // tokens whose final hidden state is wanted, ascending
    // So many of the largest logits of each row are needed, 0: all. The others may come as -infinity.
    int n_best = 0;

    int n_tokens() const { return static_cast<int>(ids.size()); }
    int n_seqs() const { return static_cast<int>(seq_start.size()) - 1; }
};

// Device memory for the activations of a step, handed out in order and taken back in reverse.
class Arena {
 public:
    explicit Arena(Backend& backend) : backend_(backend) {}
    Tensor take(DType dtype, std::initializer_list<int64_t> shape);

    struct Mark {
        size_t chunk, used;
    };
    Mark mark() const { return mark_; }
    void reset(Mark m) { mark_ = m; }
    size_t n_bytes() const;

 private:
    struct Chunk {
        std::unique_ptr<Storage> storage;
        size_t size;
    };
    Backend& backend_;
    std::vector<Chunk> chunks_;
    Mark mark_{0, 0};
};

class Step {
 public:
    // Uploads the batch and begins the record. `kv` has one entry a layer. The arena is reset.
    Step(Backend& backend, Arena& arena, const Batch& batch, std::span<const KvLayer> kv);

    // Activations made during its life are freed at its end: one a layer.
    class Scope {
     public:
        explicit Scope(Step& s) : arena_(s.arena_), mark_(s.arena_.mark()) {}
        ~Scope() { arena_.reset(mark_); }
        Scope(const Scope&) = delete;
        Scope& operator=(const Scope&) = delete;

     private:
        Arena& arena_;
        Arena::Mark mark_;
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
    Tensor rope_table(const Weight& inv_freq, float scale);
    // In place, from value `first` of each head on; x (n_tokens, n_heads, head_dim).
    Tensor rope(Tensor x, Tensor table, RopePairing pairing, int64_t first = 0);
    // Norms and rotates q and k in place as `prepare` says, stores k and v, then attends. q (n_tokens,
    // n_heads, k's dim) -> (n_tokens, n_heads * v's dim)
    Tensor attention(int64_t layer, Tensor q, Tensor k, Tensor v, const AttentionParams& p,
                     const PrepareParams& prepare = {});
    void add(Tensor x, Tensor y);             // x += y
    void copy(Tensor out, Tensor x);          // out = x
    Tensor silu_mul(Tensor gate, Tensor up);  // in gate's place, as the next
    Tensor clamped_silu_mul(Tensor gate, Tensor up, float alpha, float limit);
    Tensor gelu(Tensor x);  // in place
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
    // A matrix of its own for each head: row t * n_heads + h of out is heads[h] times that row of x. The ids
    // come from head_ids(), asked for once a step.
    void matmul_heads(Tensor out, std::span<const Weight> heads, Tensor x, Tensor head_ids);
    Tensor head_ids(int64_t n_heads);
    Tensor take(int64_t n_rows, int64_t n_columns) { return arena_.take(DType::F32, {n_rows, n_columns}); }
    Tensor wanted_rows(Tensor x);  // rows whose logits are wanted
    bool wants_logits() const { return logits_rows_.rank > 0; }
    void set_logits(Tensor logits) { logits_ = logits; }
    // The same for final hidden states: behind the last norm, before the output head.
    Tensor hidden_rows(Tensor x);
    bool wants_hidden() const { return hidden_rows_.rank > 0; }
    void set_hidden(Tensor hidden) { hidden_ = hidden; }

    // Runs the record and brings to the host: logits, (n_wanted, vocab_size), and behind them hidden states,
    // (n_wanted, dim). Of a device that has top_k at hand, of the logits the best alone where these are
    // enough.
    void run(std::vector<float>& out);

    int n_tokens() const { return batch_.n_tokens; }

    static const Weight no_weight;

 private:
    Tensor upload(const std::vector<int32_t>& values);
    Tensor some_rows(Tensor x, Tensor rows);
    void read_best(Tensor values, Tensor ids, std::vector<float>& out);
    ExpertsOut expert_product(const ExpertLinear& w, Tensor x, const Routed& routed);

    Backend& backend_;
    Arena& arena_;
    std::span<const KvLayer> kv_;
    BatchView batch_;
    BatchView windowed_;  // the same, as layers with a window see it
    Tensor logits_rows_, hidden_rows_;
    Tensor logits_, hidden_;
    int n_best_;
};

}  // namespace smelt
