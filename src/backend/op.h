// The ops of a record, those over sequences in op_sequences.h. Each is a trivially copyable struct of
// tensors, weights and parameters; its comment is what it computes, backend/reference.cpp the same as code.
//
// Law: each element of an op's output depends on its own inputs alone, bit for bit: batching never changes a
// result. Sums over columns are added in an order that the number of columns fixes.
#pragma once

#include <string_view>
#include <variant>

#include "backend/op_sequences.h"
#include "backend/step_input.h"
#include "backend/tensor.h"

namespace smelt {

// How a router's logits choose experts.
struct RouteParams {
    enum class Score : uint8_t { softmax, sigmoid } score = Score::softmax;  // over all experts
    bool normalize = true;                   // the weights of the chosen sum to one ...
    float scale = 1;                         // ... and are then multiplied by this
    const Weight* selection_bias = nullptr;  // (n_experts) added to scores for choosing alone; may be null
    // Experts in n_groups equal parts, one after the other, of which the best n_groups_used are chosen from:
    // a part is as good as the sum of its two best scores (of its only one), each with its bias.
    int32_t n_groups = 1, n_groups_used = 1;
};

namespace op {

// out[i] = table[ids[i]]. A negative id -1 - row is the token that the launch before this one drew for that
// row of logits; where none was drawn, out is zero.
struct Embed {
    Tensor out, ids;
    const Weight* table = nullptr;
    SMELT_FIELDS {
        f(Access::write, "out", s.out);
        f(Access::read, "ids", s.ids);
        f("table", s.table);
    }
};

// Up to three products of one input: out = x · wᵀ + bias; out (n_rows, w.rows), bias may be null.
struct Matmul {
    static constexpr int most = 3;
    struct Product {
        Tensor out;
        const Weight* w = nullptr;
        const Weight* bias = nullptr;
    };
    Tensor x;
    Product products[most];
    int n = 0;
    SMELT_FIELDS {
        for (int i = 0; i < s.n; ++i) {
            f(Access::write, "out", s.products[i].out);
            f("w", s.products[i].w);
            f("bias", s.products[i].bias);
        }
        f(Access::read, "x", s.x);
    }
    auto all() const { return std::span(products, static_cast<size_t>(n)); }
    auto all() { return std::span(products, static_cast<size_t>(n)); }
};

// out = silu(x · gateᵀ) * (x · upᵀ). The fused form of Matmul and SiluMul; gate_out and up_out are scratch of
// out's shape, and out may be gate_out.
struct GatedMatmul {
    Tensor out, gate_out, up_out, x;
    const Weight *gate = nullptr, *up = nullptr;
    SMELT_FIELDS {
        f(Access::write, "gate_out", s.gate_out);
        f(Access::write, "up_out", s.up_out);
        f(Access::write, "out", s.out);
        f(Access::read, "x", s.x);
        f("gate", s.gate);
        f("up", s.up);
    }
};

// Over the last dimension: out = x / sqrt(mean(x²) + eps) * w. out may be x.
struct RmsNorm {
    Tensor out, x;
    const Weight* w = nullptr;
    float eps = 0;
    SMELT_FIELDS {
        f(Access::write, "out", s.out);
        f(Access::read, "x", s.x);
        f("w", s.w);
        f("eps", s.eps);
    }
};

// residual += x; out = rms_norm(residual). The fused form of Add and RmsNorm.
struct AddRmsNorm {
    Tensor out, residual, x;
    const Weight* w = nullptr;
    float eps = 0;
    SMELT_FIELDS {
        f(Access::write, "out", s.out);
        f(Access::update, "residual", s.residual);
        f(Access::read, "x", s.x);
        f("w", s.w);
        f("eps", s.eps);
    }
};

// Over the last dimension: out = (x - mean(x)) / sqrt(mean((x - mean(x))²) + eps) * w + bias. out may be x.
struct LayerNorm {
    Tensor out, x;
    const Weight *w = nullptr, *bias = nullptr;
    float eps = 0;
    SMELT_FIELDS {
        f(Access::write, "out", s.out);
        f(Access::read, "x", s.x);
        f("w", s.w);
        f("bias", s.bias);
        f("eps", s.eps);
    }
};

// table[t][i] = (cos, sin)(positions[t] * inv_freq[i]) * scale; table (n_tokens, n_dims / 2, 2), inv_freq
// (n_dims / 2). The angle is a float product, as in the reference implementations.
struct RopeTable {
    Tensor table, positions;
    const Weight* inv_freq = nullptr;
    float scale = 1;
    SMELT_FIELDS {
        f(Access::write, "table", s.table);
        f(Access::read, "positions", s.positions);
        f("inv_freq", s.inv_freq);
        f("scale", s.scale);
    }
};

// Rotates values [first, first + n_dims) of each head in place; x (n_tokens, n_heads, head_dim).
struct Rope {
    Tensor x, table;
    RopePairing pairing = RopePairing::half;
    int64_t first = 0;
    SMELT_FIELDS {
        f(Access::update, "x", s.x);
        f(Access::read, "table", s.table);
        f("pairing", s.pairing);
        f("first", s.first);
    }
};

// x += y
struct Add {
    Tensor x, y;
    SMELT_FIELDS {
        f(Access::update, "x", s.x);
        f(Access::read, "y", s.y);
    }
};

// out = x
struct Copy {
    Tensor out, x;
    SMELT_FIELDS {
        f(Access::write, "out", s.out);
        f(Access::read, "x", s.x);
    }
};

// out = silu(gate) * up. out may be gate.
struct SiluMul {
    Tensor out, gate, up;
    SMELT_FIELDS {
        f(Access::write, "out", s.out);
        f(Access::read, "gate", s.gate);
        f(Access::read, "up", s.up);
    }
};

// gpt-oss: out = g * sigmoid(alpha * g) * (clamp(up, -limit, limit) + 1), g = min(gate, limit). out may be
// gate.
struct ClampedSiluMul {
    Tensor out, gate, up;
    float alpha = 1, limit = 0;
    SMELT_FIELDS {
        f(Access::write, "out", s.out);
        f(Access::read, "gate", s.gate);
        f(Access::read, "up", s.up);
        f("alpha", s.alpha);
        f("limit", s.limit);
    }
};

// out = x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x³))), the approximation of GELU that checkpoints call
// gelu_new; where `exact`, x / 2 * (1 + erf(x / sqrt(2))). out may be x.
struct Gelu {
    Tensor out, x;
    bool exact = false;
    SMELT_FIELDS {
        f(Access::write, "out", s.out);
        f(Access::read, "x", s.x);
        f("exact", s.exact);
    }
};

// out = gelu(gate) * up, with the approximate GELU. out may be gate.
struct GeluMul {
    Tensor out, gate, up;
    SMELT_FIELDS {
        f(Access::write, "out", s.out);
        f(Access::read, "gate", s.gate);
        f(Access::read, "up", s.up);
    }
};

// out = sigmoid(gate) * x. A gate of one column is for the whole row. out may be x.
struct SigmoidMul {
    Tensor out, gate, x;
    SMELT_FIELDS {
        f(Access::write, "out", s.out);
        f(Access::read, "gate", s.gate);
        f(Access::read, "x", s.x);
    }
};

// x *= factor
struct Scale {
    Tensor x;
    float factor = 1;
    SMELT_FIELDS {
        f(Access::update, "x", s.x);
        f("factor", s.factor);
    }
};

// x = cap * tanh(x / cap)
struct SoftCap {
    Tensor x;
    float cap = 1;
    SMELT_FIELDS {
        f(Access::update, "x", s.x);
        f("cap", s.cap);
    }
};

// out[i] = x[rows[i]]
struct GatherRows {
    Tensor out, x, rows;
    SMELT_FIELDS {
        f(Access::write, "out", s.out);
        f(Access::read, "x", s.x);
        f(Access::read, "rows", s.rows);
    }
};

// For each row of logits (n_tokens, n_experts) the experts of the largest scores, best first, the lower id
// first among equals: ids (n_tokens, n_used) I32, and their weights (n_tokens, n_used).
struct Route {
    Tensor ids, weights, logits;
    RouteParams::Score score = RouteParams::Score::softmax;
    bool normalize = true;
    float scale = 1;
    const Weight* selection_bias = nullptr;
    int32_t n_groups = 1, n_groups_used = 1;
    SMELT_FIELDS {
        f(Access::write, "ids", s.ids);
        f(Access::write, "weights", s.weights);
        f(Access::read, "logits", s.logits);
        f("score", s.score);
        f("normalize", s.normalize);
        f("scale", s.scale);
        f("selection_bias", s.selection_bias);
        f("n_groups", s.n_groups);
        f("n_groups_used", s.n_groups_used);
    }
};

// Up to two products of a mixture of experts: out[t][i] = x · experts[e]ᵀ + bias[e], e = ids[t][i]; out
// (n_tokens, n_used, rows), experts all of one format, bias (n_experts, rows) or null. x (n_tokens, cols),
// the same for all experts of a token, or (n_tokens, n_used, cols). A batch reads the weights of an expert
// once.
struct MatmulExperts {
    static constexpr int most = 2;
    struct Product {
        Tensor out;
        WeightList experts;
        const Weight* bias = nullptr;
    };
    Tensor x, ids;
    Product products[most];
    int n = 0;
    SMELT_FIELDS {
        for (int i = 0; i < s.n; ++i) {
            f(Access::write, "out", s.products[i].out);
            f("experts", s.products[i].experts);
            f("bias", s.products[i].bias);
        }
        f(Access::read, "x", s.x);
        f(Access::read, "ids", s.ids);
    }
    auto all() const { return std::span(products, static_cast<size_t>(n)); }
    auto all() { return std::span(products, static_cast<size_t>(n)); }
};

// x[t] += sum over i of weights[t][i] * y[t][i]; y (n_tokens, n_used, dim)
struct AddExperts {
    Tensor x, y, weights;
    SMELT_FIELDS {
        f(Access::update, "x", s.x);
        f(Access::read, "y", s.y);
        f(Access::read, "weights", s.weights);
    }
};

// A matrix for each head: row t * n_heads + h of out is heads[h] times that row of x.
struct MatmulHeads {
    Tensor out, x;
    WeightList heads;
    SMELT_FIELDS {
        f(Access::write, "out", s.out);
        f(Access::read, "x", s.x);
        f("heads", s.heads);
    }
};

// The largest of each row of x (n_rows, n) in order, of equal ones the smaller id first, and NaN before all
// numbers: values (n_rows, k) and ids (n_rows, k) I32; k at most n.
struct TopK {
    Tensor values, ids, x;
    SMELT_FIELDS {
        f(Access::write, "values", s.values);
        f(Access::write, "ids", s.ids);
        f(Access::read, "x", s.x);
    }
};

// A token for each row of logits (n_logits, vocab_size), as the row's DrawRow says; edits and masks may be
// empty. tokens (n_logits) I32, a DrawProblem where there is none. Where the row wants its log-probability:
// logprobs (n_logits), log-softmax of the raw logits, and log_sums (n_logits, 2), the log of the sum of
// exp(logit) as the sum of two floats. Logits are left as they are.
struct Sample {
    Tensor tokens, logprobs, log_sums, logits, rows, edits, masks;
    SMELT_FIELDS {
        f(Access::write, "tokens", s.tokens);
        f(Access::write, "logprobs", s.logprobs);
        f(Access::write, "log_sums", s.log_sums);
        f(Access::read, "logits", s.logits);
        f(Access::read, "rows", s.rows);
        f(Access::read, "edits", s.edits);
        f(Access::read, "masks", s.masks);
    }
};

}  // namespace op

// The one list of ops.
#define SMELT_OPS(X)  \
    X(Embed)          \
    X(Matmul)         \
    X(GatedMatmul)    \
    X(RmsNorm)        \
    X(AddRmsNorm)     \
    X(LayerNorm)      \
    X(RopeTable)      \
    X(Rope)           \
    X(StoreKv)        \
    X(PrepareHeads)   \
    X(Attention)      \
    X(CausalConv)     \
    X(DeltaRule)      \
    X(Add)            \
    X(Copy)           \
    X(SiluMul)        \
    X(ClampedSiluMul) \
    X(Gelu)           \
    X(GeluMul)        \
    X(SigmoidMul)     \
    X(Scale)          \
    X(SoftCap)        \
    X(GatherRows)     \
    X(Route)          \
    X(MatmulExperts)  \
    X(AddExperts)     \
    X(MatmulHeads)    \
    X(TopK)           \
    X(Sample)

// Every op by value; variants know no list with a comma at its end.
namespace detail {
template <class Head, class... Ops>
struct AnyOf {
    using type = std::variant<Ops...>;
};
}  // namespace detail
#define X(name) , op::name
using AnyOp = detail::AnyOf<void SMELT_OPS(X)>::type;
#undef X
static_assert(std::is_trivially_copyable_v<AnyOp>);

// "RmsNorm"
std::string_view op_name(const AnyOp& op);

}  // namespace smelt
