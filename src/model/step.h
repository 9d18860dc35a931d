// One recorded step: the batch on the device, the KV layers, and an arena for activations. Ops here allocate
// their result and call the backend's. Nothing is allocated from the system once the arena has grown to the
// largest step.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "backend/backend.h"

namespace smelt {

// A ragged batch on the host; the fields of BatchView.
struct Batch {
    std::vector<int32_t> ids, positions, slots;  // (n_tokens)
    std::vector<int32_t> seq_start = {0};        // (n_seqs + 1)
    std::vector<int32_t> block_table;            // (n_seqs, max_blocks)
    int max_blocks = 0;
    int max_kv_len = 0;
    std::vector<int32_t> logits_rows;  // tokens whose logits are wanted, ascending

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

    Tensor embed(const Weight& table);                                         // (n_tokens, dim)
    Tensor matmul(const Weight& w, Tensor x, const Weight& bias = no_weight);  // (n_rows, w.rows)
    struct Two {
        Tensor a, b;
    };
    struct Three {
        Tensor a, b, c;
    };
    Two matmul2(const Weight& wa, const Weight& wb, Tensor x);
    struct Linear {
        const Weight& w;
        const Weight& bias = no_weight;
    };
    Three matmul3(Linear a, Linear b, Linear c, Tensor x);
    Tensor rms_norm(Tensor x, const Weight& w, float eps);
    Tensor add_rms_norm(Tensor residual, Tensor x, const Weight& w, float eps);  // residual += x
    void rms_norm_inplace(Tensor x, const Weight& w, float eps);
    Tensor rope_table(const Weight& inv_freq, float scale);
    void rope(Tensor x, Tensor table, RopePairing pairing);
    Tensor attention(int64_t layer, Tensor q, Tensor k, Tensor v,
                     const AttentionParams& p);  // stores k, v first
    void add(Tensor x, Tensor y);                // x += y
    Tensor silu_mul(Tensor gate, Tensor up);
    Tensor wanted_rows(Tensor x);  // rows whose logits are wanted
    void set_logits(Tensor logits) { logits_ = logits; }

    // Runs the record and brings the logits of the wanted rows, (n_wanted, vocab_size), to the host.
    void run(std::vector<float>& logits);

    int n_tokens() const { return batch_.n_tokens; }

    static const Weight no_weight;

 private:
    Tensor upload(const std::vector<int32_t>& values);

    Backend& backend_;
    Arena& arena_;
    std::span<const KvLayer> kv_;
    BatchView batch_;
    Tensor logits_rows_;
    Tensor logits_;
};

}  // namespace smelt
