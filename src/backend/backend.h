// THE SEAM between models and devices. A model records ops over tensors; a backend runs the record once per
// step. A backend never sees an architecture, a model never sees a device.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "backend/tensor.h"

namespace smelt {

// The tokens of a step: several sequences, each with a run of one (decode) or many (prefill chunk) new
// tokens. All int32, on the device. Token t of sequence s sees KV positions 0 .. positions[t].
struct BatchView {
    Tensor ids;          // (n_tokens)
    Tensor positions;    // (n_tokens) position in its sequence
    Tensor slots;        // (n_tokens) where its k and v go: block * block_len + offset in block
    Tensor seq_start;    // (n_seqs + 1) first token of each sequence; the last entry is n_tokens
    Tensor block_table;  // (n_seqs, max_blocks) KV blocks of each sequence in order of position
    int n_tokens = 0, n_seqs = 0, max_blocks = 0;
    int max_kv_len = 0;  // longest sequence, with this step's tokens
};

// The number formats that a KV cache can have.
inline constexpr Format kv_formats[] = {Format::F32,  Format::F16,  Format::BF16,
                                        Format::Q8_0, Format::Q4_0, Format::MXFP8_E4M3};

// One layer's paged K or V: (n_blocks, block_len, n_heads) rows of dim values, each whole blocks of one of
// kv_formats.
struct KvRows {
    Storage* storage = nullptr;
    Format format = Format::F16;
    int64_t n_blocks = 0, block_len = 0, n_heads = 0, dim = 0;
    size_t row_bytes = 0;  // from one row to the next

    KvRows() = default;
    KvRows(Format f, int64_t blocks, int64_t len, int64_t heads, int64_t n)
        : format(f), n_blocks(blocks), block_len(len), n_heads(heads), dim(n), row_bytes(data_bytes(f, n)) {}

    size_t block_bytes() const { return static_cast<size_t>(block_len * n_heads) * row_bytes; }
    size_t n_bytes() const { return static_cast<size_t>(n_blocks) * block_bytes(); }
    // Of each row the first n values.
    KvRows first(int64_t n) const {
        KvRows rows = *this;
        rows.dim = n;
        return rows;
    }
};

// One layer's paged KV cache.
struct KvLayer {
    KvRows k, v;
    int64_t block_len() const { return k.block_len; }
    // Latent attention: v is k.first(n) and has no memory of its own.
    bool v_in_k() const { return v.storage == k.storage; }
};

enum class RopePairing {
    half,         // (x[i], x[i + n/2]): Hugging Face layout, GGUF "NEOX"
    interleaved,  // (x[2i], x[2i+1]): GGUF "NORM", as its converter permutes Llama's rows
};

struct AttentionParams {
    float scale = 1;  // of q·k
    int window = 0;   // a token sees this many positions with its own; 0: all
    const Weight* sinks =
        nullptr;  // (n_heads) a logit each that the softmax has beside the scores; may be null
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

// One product of a matmul: out = x · wᵀ + bias.
struct MatmulOut {
    Tensor out;                    // (n_rows, w.rows) F32
    const Weight* w;               // (out_features, in_features)
    const Weight* bias = nullptr;  // (out_features), may be null
};

// One product of a mixture of experts: out[t][i] = x · experts[e]ᵀ + bias[e], e = expert_ids[t][i]
struct ExpertsOut {
    Tensor out;                       // (n_tokens, n_used, rows)
    std::span<const Weight> experts;  // each (rows, cols), all of one format
    const Weight* bias = nullptr;     // (n_experts, rows), may be null
};

// How a router's logits choose experts.
struct RouteParams {
    enum class Score { softmax, sigmoid } score = Score::softmax;  // over all experts
    bool normalize = true;                                         // the weights of the chosen sum to one ...
    float scale = 1;                                               // ... and are then multiplied by this
    const Weight* selection_bias = nullptr;  // (n_experts) added to scores for choosing alone; may be null
};

class Backend {
 public:
    virtual ~Backend() = default;
    virtual std::string_view name() const = 0;
    // For people: "16 threads, AVX-512".
    virtual std::string description() const = 0;

    // Bytes of the device that are free now.
    virtual uint64_t available_memory() const = 0;

    // A mapped file that weights will be loaded from. Whoever keeps it mapped keeps the result: a device may
    // let those weights alias it. May be null.
    virtual std::unique_ptr<Storage> map_file(std::span<const std::byte> bytes);
    // Takes a weight into the device: may alias the bytes (which must then outlive the Weight), upload or
    // repack them.
    virtual Weight load(const WeightView& view, WeightUse use) = 0;
    // Zeroed memory. Throws Error naming the size when there is not enough.
    virtual std::unique_ptr<Storage> allocate(size_t bytes) = 0;

    // Host -> device, in order with the recorded ops. Dense tensors only.
    virtual void write(const Tensor& t, const void* bytes) = 0;
    // Device -> host; what ops have written is there after submit_and_wait().
    virtual void read(const Tensor& t, void* bytes) = 0;

    // A step is recorded between begin() and submit_and_wait(); ops return as soon as they are recorded and
    // run in order. Tensors may be reused by later ops of the same record. What was recorded and not
    // submitted, because an op or an allocation threw, is dropped by the next begin().
    virtual void begin() = 0;
    virtual void submit_and_wait() = 0;

    // --- Primitives. Activations are F32. ---

    // out[i] = table[ids[i]]
    virtual void embed(Tensor out, const Weight& table, Tensor ids) = 0;
    // Several weights share one input, so that a backend prepares it once. Each element of out depends on its
    // row of x and its row of w alone, bit for bit, whatever other rows are in the call: batching never
    // changes a result.
    virtual void matmul(std::span<const MatmulOut> outs, Tensor x) = 0;
    // Over the last dimension: out = x / sqrt(mean(x²) + eps) * w. out may be x.
    virtual void rms_norm(Tensor out, Tensor x, const Weight& w, float eps) = 0;
    // Over the last dimension: out = (x - mean(x)) / sqrt(mean((x - mean(x))²) + eps) * w + bias. out may be
    // x.
    virtual void layer_norm(Tensor out, Tensor x, const Weight& w, const Weight& bias, float eps) = 0;
    // table[t][i] = (cos, sin)(positions[t] * inv_freq[i]) * scale; table (n_tokens, n_dims / 2, 2), inv_freq
    // (n_dims / 2). The angle is a float product, as in the reference implementations.
    virtual void rope_table(Tensor table, Tensor positions, const Weight& inv_freq, float scale) = 0;
    // Rotates values [first, first + n_dims) of each head in place; x (n_tokens, n_heads, head_dim).
    virtual void rope(Tensor x, Tensor table, RopePairing pairing, int64_t first) = 0;
    // k, v (n_tokens, n_kv_heads, dim) to their slots; v is not looked at where kv.v_in_k().
    virtual void store_kv(const KvLayer& kv, Tensor k, Tensor v, const BatchView& batch) = 0;
    // q (n_tokens, n_heads, kv.k.dim), out (n_tokens, n_heads, kv.v.dim). n_heads is a multiple of
    // n_kv_heads.
    virtual void attention(Tensor out, Tensor q, const KvLayer& kv, const BatchView& batch,
                           const AttentionParams& p) = 0;
    // x += y
    virtual void add(Tensor x, Tensor y) = 0;
    // out = x
    virtual void copy(Tensor out, Tensor x) = 0;
    // out = silu(gate) * up. out may be gate.
    virtual void silu_mul(Tensor out, Tensor gate, Tensor up) = 0;
    // gpt-oss: out = g * sigmoid(alpha * g) * (clamp(up, -limit, limit) + 1), g = min(gate, limit). out may
    // be gate.
    virtual void clamped_silu_mul(Tensor out, Tensor gate, Tensor up, float alpha, float limit) = 0;
    // out = x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x³))), the approximation of GELU that checkpoints
    // call gelu_new. out may be x.
    virtual void gelu(Tensor out, Tensor x) = 0;
    // out[i] = x[rows[i]]
    virtual void gather_rows(Tensor out, Tensor x, Tensor rows) = 0;
    // The largest of each row of x (n_rows, n) in order, of equal ones the smaller id first, and NaN before
    // all numbers: values (n_rows, k) and ids (n_rows, k) I32; k at most n.
    virtual void top_k(Tensor values, Tensor ids, Tensor x) = 0;
    // Whether that is the way to have the few that are needed of a long row, rather than to read all of it.
    virtual bool prefers_top_k() const { return false; }
    // Copies whole KV blocks: block from[i] to to[i] (copy-on-write). Host-side lists; in order with the
    // recorded ops.
    virtual void copy_kv_blocks(const KvLayer& kv, std::span<const int32_t> from,
                                std::span<const int32_t> to) = 0;

    // --- Mixture of experts ---

    // For each row of logits (n_tokens, n_experts) the experts of the largest scores, best first, the lower
    // id first among equals: expert_ids (n_tokens, n_used) I32, and their weights (n_tokens, n_used).
    virtual void route(Tensor expert_ids, Tensor expert_weights, Tensor logits, const RouteParams& p) = 0;
    // x (n_tokens, cols), the same for all experts of a token, or (n_tokens, n_used, cols). A batch reads the
    // weights of each expert once. Bit for bit the same in any batch, as matmul.
    virtual void matmul_experts(std::span<const ExpertsOut> outs, Tensor x, Tensor expert_ids) = 0;
    // x[t] += sum over i of expert_weights[t][i] * y[t][i]; y (n_tokens, n_used, dim)
    virtual void add_experts(Tensor x, Tensor y, Tensor expert_weights) = 0;

    // --- Fused forms; the default composes the primitives. ---

    // residual += x; out = rms_norm(residual)
    virtual void add_rms_norm(Tensor out, Tensor residual, Tensor x, const Weight& w, float eps);
    // q (n_tokens, n_heads, kv.k.dim) in place, k and v to their slots. What is in k afterwards is open.
    virtual void prepare_attention(const KvLayer& kv, Tensor q, Tensor k, Tensor v, const BatchView& batch,
                                   const PrepareParams& p);
};

struct BackendOptions {
    int n_threads = 0;     // 0: one per physical core
    std::string isa = {};  // cpu only, cpu/isa.cpp: "avx2", "portable", ...; "" is the best there is
};

// A device that smelt knows, and whether it is here.
struct BackendInfo {
    std::string name;         // "cpu"
    std::string description;  // of the device found, or what it would be
    std::string missing;      // why it cannot be used; empty when it can
};

// The one list of backends, best first.
std::vector<BackendInfo> list_backends();
// `name` from the list, "auto" for the first usable one, or a map of layers to several of them, see split.h.
// Throws Error naming those that are usable.
std::unique_ptr<Backend> make_backend(std::string_view name, const BackendOptions& options = {});

// Scalar, double accumulation, never optimised: what every other backend is compared with.
std::unique_ptr<Backend> make_reference_backend();

}  // namespace smelt
