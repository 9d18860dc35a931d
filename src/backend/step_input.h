// What changes from step to step: the shape class that a record is made for, and the packed input that one
// upload brings to the device. Everything in it is int32 or has its size.
#pragma once

#include <bit>
#include <cstdint>
#include <span>
#include <vector>

#include "backend/tensor.h"
#include "sampling/draw_row.h"

namespace smelt {

// The class of a step: upper bounds (bounds() rounds them up, so that few records serve all steps) and what
// is asked for. A record stays valid for every step within it, however long the sequences grow.
struct StepShape {
    int n_tokens = 0, n_seqs = 0;
    int n_logits = 0;          // rows whose logits are needed
    bool every_logit = false;  // these are all tokens, in order
    int n_hidden = 0;          // rows whose final hidden state is wanted
    int max_blocks = 0;        // KV blocks of a sequence
    bool windows = false;      // windowed layers have blocks of their own
    bool draws = false;        // tokens are drawn on the device
    bool all_logits = false;   // whole rows of logits are wanted
    int n_top = 0;             // so many of the largest logits of each row are wanted
    int n_edits = 0;           // logit edits of all rows together
    int mask_words = 0;        // 64-bit words of allowed tokens a row; 0: every token is allowed
    int n_features = 0;        // rows of features that take the place of embeddings
    int feature_len = 0;       // floats of each
    int n_adapters = 0;        // LoRA adapters of a token at most; 0: no token has one
    int rope_axes = 0;  // positions for the rotation: 0: those in the sequence, 1: others, 3: one an axis

    bool operator==(const StepShape&) const = default;
    // The smallest class that has room for this: powers of two.
    StepShape bounds() const;
    size_t hash() const;
};

// The head of the packed input: how many there are in this step.
struct StepCounts {
    int32_t n_tokens = 0, n_seqs = 0, n_logits = 0, n_hidden = 0;
    int32_t max_kv_len = 0;  // longest sequence, with this step's tokens
    // Tokens [0, n_generated) continue answers, the others are of prompts. A device may use other kernels for
    // either, with other bits; which is used depends on this alone. Rows of logits and of hidden states are
    // of the class of their token.
    int32_t n_generated = 0;
    int32_t unused[2] = {};

    int64_t of(RowsOf rows) const {
        switch (rows) {
            case RowsOf::tokens:
                return n_tokens;
            case RowsOf::sequences:
                return n_seqs;
            case RowsOf::logits:
                return n_logits;
            case RowsOf::hidden:
                return n_hidden;
            case RowsOf::fixed:
                break;
        }
        return 0;
    }
    // The rows that t has in this step.
    int64_t rows(const Tensor& t) const {
        return t.rows_of == RowsOf::fixed ? t.n_rows() : of(t.rows_of) * t.rows_each;
    }
};
static_assert(sizeof(StepCounts) == 32);

// The tensors of a shape class' input, in order.
struct InputTensors {
    Tensor counts;       // StepCounts
    Tensor ids;          // (n_tokens); -1 - row: the token that the launch before drew for `row`
    Tensor positions;    // (n_tokens) in its sequence
    Tensor slots;        // (n_tokens) where k and v go: block * block_len + offset in block
    Tensor seq_start;    // (n_seqs + 1) first token of each sequence; the last entry is n_tokens
    Tensor block_table;  // (n_seqs, max_blocks) KV blocks of each sequence in order of position
    Tensor window_slots, window_table;  // the same of windowed layers; slots and block_table where they share
    Tensor logits_rows;                 // (n_logits) tokens whose logits are wanted, ascending
    Tensor hidden_rows;                 // (n_hidden)
    Tensor draw_rows;                   // (n_logits) DrawRow
    Tensor edits;                       // (n_edits) LogitEdit
    Tensor masks;                       // (n_logits, mask_words) bits of allowed tokens
    // What pictures give: rows of floats (1 + n_features, feature_len), of which the first is zeros. Of each
    // token its row of them, 0 where it has none; and its row where the features are followed by the
    // embeddings of all tokens: one of the two.
    Tensor features;                   // F32
    Tensor feature_rows, merged_rows;  // (n_tokens)
    Tensor rope_positions[3];          // (n_tokens) that the rotation goes by, for each axis
    // LoRA adapters of each token, and of the token of each row of logits: (rows, n_adapters) their numbers,
    // 0 where there is none, and F32 their scales.
    Tensor adapters, adapter_scales, logits_adapters, logits_scales;
    size_t n_bytes = 0;

    explicit InputTensors(const StepShape& shape);
    InputTensors() = default;
};

// One step's input, packed as InputTensors says. Reused from step to step: nothing is allocated once it has
// grown to the largest step.
class StepInput {
 public:
    // Room for a step of this class; contents are undefined but for zeroed counts.
    void reset(const StepShape& shape);
    const StepShape& shape() const { return shape_; }
    const InputTensors& tensors() const { return tensors_; }
    StepCounts& counts() { return *reinterpret_cast<StepCounts*>(words_.data()); }
    const StepCounts& counts() const { return *reinterpret_cast<const StepCounts*>(words_.data()); }
    std::span<const std::byte> bytes() const {
        return std::as_bytes(std::span(words_)).first(tensors_.n_bytes);
    }
    template <class T = int32_t>
    std::span<T> of(const Tensor& t) {
        return {reinterpret_cast<T*>(reinterpret_cast<std::byte*>(words_.data()) + t.offset),
                t.n_bytes() / sizeof(T)};
    }

 private:
    StepShape shape_;
    InputTensors tensors_;
    std::vector<uint64_t> words_;
};

// What a step brings back: what its shape asked for, nothing else. Rows are those of logits_rows and
// hidden_rows, in order. See Backend::collect() for how long it is valid.
struct StepResult {
    std::span<const int32_t> tokens = {};  // (n_logits) drawn; negative: a DrawProblem
    std::span<const float> logprobs =
        {};  // (n_logits) of the tokens, where wanted: log-softmax of the raw logits
    std::span<const float> log_sums =
        {};  // (n_logits, 2) log of the sum of exp(logit) as the sum of two floats, where wanted
    std::span<const int32_t> top_ids = {};  // (n_logits, n_top), the largest first
    std::span<const float> top_logits = {};
    std::span<const float> logits = {};  // (n_logits, vocab_size)
    std::span<const float> hidden = {};  // (n_hidden, dim)
};

}  // namespace smelt
