// The table of fused forms: each entry looks at the ops from one place on, and says how many of them it
// takes.
#include "backend/fusion.h"

namespace smelt {

using namespace op;

namespace {

using Ops = std::span<const AnyOp>;

struct Fused {
    AnyOp op;
    size_t n_taken = 0;  // 0: does not fit here
};

template <class Op>
const Op* at(Ops ops, size_t i) {
    return i < ops.size() ? std::get_if<Op>(&ops[i]) : nullptr;
}

bool overlap(const Tensor& a, const Tensor& b) {
    const auto end = [](const Tensor& t) {
        return t.offset + static_cast<size_t>(t.n_rows() * t.row_stride) * dtype_bytes(t.dtype);
    };
    return a.space == b.space && a.offset < end(b) && b.offset < end(a);
}

Fused add_rms_norm(Ops ops) {
    const auto* add = at<Add>(ops, 0);
    const auto* norm = at<RmsNorm>(ops, 1);
    if (add == nullptr || norm == nullptr || !(norm->x == add->x) || norm->x.rank != 2) return {};
    if (overlap(norm->out, add->y) || overlap(norm->out, add->x)) return {};
    return {AddRmsNorm{.out = norm->out, .residual = add->x, .x = add->y, .w = norm->w, .eps = norm->eps}, 2};
}

// Norms and rotations of q and k in any order, then the store that takes k.
Fused prepare_heads(Ops ops) {
    PrepareHeads p;
    const StoreKv* store = nullptr;
    size_t n = 0;
    while (n < ops.size() && n < 5 && store == nullptr) {
        if (at<RmsNorm>(ops, n) == nullptr && at<Rope>(ops, n) == nullptr && at<StoreKv>(ops, n) == nullptr)
            return {};
        store = at<StoreKv>(ops, n++);
    }
    if (store == nullptr || n < 2) return {};
    p.kv = store->kv;
    p.k = store->k;
    p.v = store->v;
    p.slots = store->slots;
    for (size_t i = 0; i + 1 < n; ++i) {
        const auto* norm = at<RmsNorm>(ops, i);
        const auto* rope = at<Rope>(ops, i);
        const Tensor& x = norm != nullptr ? norm->x : rope->x;
        const bool is_k = x == store->k;
        if (!is_k && p.q && !(x == p.q)) return {};
        if (!is_k) p.q = x;
        if (norm != nullptr) {
            const Weight*& w = is_k ? p.k_norm : p.q_norm;
            const bool other = is_k ? p.q_norm != nullptr : p.k_norm != nullptr;
            if (w != nullptr || !(norm->out == norm->x) || p.table || (other && p.eps != norm->eps))
                return {};
            w = norm->w;
            p.eps = norm->eps;
        } else {
            if (p.table && !(p.table == rope->table && p.pairing == rope->pairing && p.first == rope->first))
                return {};
            p.table = rope->table;
            p.pairing = rope->pairing;
            p.first = rope->first;
        }
    }
    // A rotation is of both or of none.
    size_t n_ropes = 0;
    for (size_t i = 0; i + 1 < n; ++i) n_ropes += at<Rope>(ops, i) != nullptr;
    if (n_ropes == 1 && p.q) return {};
    if (n_ropes > 2 || !p.q) return {};
    return {p, n};
}

Fused gated_matmul(Ops ops) {
    const auto* product = at<Matmul>(ops, 0);
    const auto* silu = at<SiluMul>(ops, 1);
    if (product == nullptr || silu == nullptr || product->n != 2) return {};
    const Matmul::Product &gate = product->products[0], &up = product->products[1];
    if (!(silu->gate == gate.out) || !(silu->up == up.out) || gate.bias != nullptr || up.bias != nullptr)
        return {};
    if (gate.w->rows != up.w->rows) return {};
    return {GatedMatmul{.out = silu->out,
                        .gate_out = gate.out,
                        .up_out = up.out,
                        .x = product->x,
                        .gate = gate.w,
                        .up = up.w},
            2};
}

struct Entry {
    bool Fusions::*has;
    Fused (*match)(Ops ops);
};
constexpr Entry table[] = {
    {&Fusions::add_rms_norm, add_rms_norm},
    {&Fusions::prepare_heads, prepare_heads},
    {&Fusions::gated_matmul, gated_matmul},
};

}  // namespace

Record fuse(Record record, const Fusions& has) {
    const Ops ops = record.ops();
    std::vector<AnyOp> result;
    for (size_t i = 0; i < ops.size();) {
        Fused fused;
        for (const Entry& e : table) {
            if (has.*e.has && fused.n_taken == 0) fused = e.match(ops.subspan(i));
        }
        result.push_back(fused.n_taken > 0 ? fused.op : ops[i]);
        i += std::max<size_t>(fused.n_taken, 1);
    }
    record.set_ops(std::move(result));
    return record;
}

}  // namespace smelt
