// The rules, one for each op. In a map every tensor is whole, and only products whose weights are on several
// devices are more than one op. Partners keep cuts as long as an op works on each share by itself.
#include "backend/placement.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "backend/placed_buffers.h"
#include "backend/placed_kv.h"

namespace smelt {

using namespace op;

namespace {

const PlacedWeight& placed(const Weight& w) {
    CHECK(w.storage != nullptr);
    return *static_cast<const PlacedWeight*>(w.storage.get());
}
const PlacedKv& placed(const KvStorage& kv) {
    return static_cast<const PlacedKv&>(kv);
}

// The device's part of a weight: its share, or all of it.
const Weight* part_of(const Weight* w, int device) {
    if (w == nullptr) return nullptr;
    const Weight& part = placed(*w).on[static_cast<size_t>(device)];
    CHECK(part, "device {} lacks a weight", device);
    return &part;
}

int first_device(const Weight& w) {
    const auto& on = placed(w).on;
    for (size_t d = 0; d < on.size(); ++d) {
        if (on[d]) return static_cast<int>(d);
    }
    return 0;
}

// The device that an op's weights or KV layer are on; -1: it has none.
struct Owner {
    int device = -1;
    void operator()(Access, const char*, const Tensor&) {}
    void operator()(const char*, const Weight* w) {
        if (w != nullptr && device < 0) device = first_device(*w);
    }
    void operator()(const char*, const WeightList& list) { (*this)("", list[0]); }
    void operator()(const char*, const KvStorage* kv) {
        for (int d = 0; device < 0; ++d) {
            if (placed(*kv).on(d) != nullptr) device = d;
        }
    }
    template <class T>
    void operator()(const char*, const T&) {}
};

class Placer {
 public:
    Placer(const Record& record, const Devices& devices) : devices_(devices), at_(record, devices) {}

    // One product of several weights may be on several devices.
    void place(const Matmul& op) {
        if (devices_.partners) return matmul(op, op.x.flat(), 1);
        products_on_each(op, [](const Matmul::Product& p) { return p.w; });
    }
    void place(const MatmulExperts& op) {
        if (devices_.partners) return matmul(op, op.x, op.ids.row_len());
        products_on_each(op, [](const MatmulExperts::Product& p) { return p.experts[0]; });
    }

    void place(const RmsNorm& op) { row_wise(op, {&RmsNorm::x}, {&RmsNorm::out}, Keeps::last_dimension); }
    void place(const LayerNorm& op) {
        row_wise(op, {&LayerNorm::x}, {&LayerNorm::out}, Keeps::last_dimension);
    }
    void place(const Rope& op) { row_wise(op, {&Rope::x}, {&Rope::x}, Keeps::last_dimension); }
    void place(const Add& op) {
        if (at_.is_terms(op.x) && at_.is_terms(op.y) && at_.whole_buffer(op.x)) return add_terms(op);
        row_wise(op, {&Add::x, &Add::y}, {&Add::x});
    }
    void place(const Copy& op) { row_wise(op, {&Copy::x}, {&Copy::out}); }
    void place(const SiluMul& op) { row_wise(op, {&SiluMul::gate, &SiluMul::up}, {&SiluMul::out}); }
    void place(const ClampedSiluMul& op) {
        row_wise(op, {&ClampedSiluMul::gate, &ClampedSiluMul::up}, {&ClampedSiluMul::out});
    }
    void place(const Gelu& op) { row_wise(op, {&Gelu::x}, {&Gelu::out}); }
    void place(const GeluMul& op) { row_wise(op, {&GeluMul::gate, &GeluMul::up}, {&GeluMul::out}); }
    void place(const SigmoidMul& op) {
        if (op.gate.row_len() != op.x.row_len()) return whole(op, where(op));
        row_wise(op, {&SigmoidMul::gate, &SigmoidMul::x}, {&SigmoidMul::out});
    }
    void place(const Scale& op) { row_wise(op, {&Scale::x}, {&Scale::x}); }
    void place(const SoftCap& op) { row_wise(op, {&SoftCap::x}, {&SoftCap::x}); }
    void place(const GatherRows& op) { row_wise(op, {&GatherRows::x}, {&GatherRows::out}); }

    // The fused forms are for devices: what they are made of is placed.
    void place(const AddRmsNorm& op) {
        place(Add{op.residual, op.x});
        place(RmsNorm{op.out, op.residual, op.w, op.eps});
    }
    void place(const GatedMatmul& op) {
        place(Matmul{.x = op.x, .products = {{op.gate_out, op.gate}, {op.up_out, op.up}}, .n = 2});
        place(SiluMul{op.out, op.gate_out, op.up_out});
    }
    void place(const PrepareHeads& op) {
        if (op.q_norm != nullptr) place(RmsNorm{op.q, op.q, op.q_norm, op.eps});
        if (op.k_norm != nullptr) place(RmsNorm{op.k, op.k, op.k_norm, op.eps});
        if (op.table && op.q) place(Rope{op.q, op.table, op.pairing, op.first});
        if (op.table) place(Rope{op.k, op.table, op.pairing, op.first});
        place(StoreKv{op.kv, op.k, op.v, op.slots});
    }

    void place(const StoreKv& op) {
        const PlacedKv& kv = placed(*op.kv);
        if (!kv.is_cut()) return whole(op, where(op));
        const KvShape& s = kv.shape();
        const auto keys = heads_of(op.k, s.k_dim, kv), values = heads_of(op.v, s.v_dim, kv);
        for (int d = 0; d < devices_.n; ++d) {
            StoreKv own = op;
            own.kv = kv.on(d);
            own.k = keys(d);
            own.v = s.v_in_k ? Tensor{} : values(d);
            at_.add(d, own);
        }
    }

    void place(const Attention& op) {
        if (!devices_.partners) return whole(op, where(op));
        const PlacedKv& kv = placed(*op.kv);
        const int64_t n_heads = op.q.shape[1], k_dim = kv.shape().k_dim, v_dim = kv.shape().v_dim;
        at_.need_sum(op.q);
        const auto cut = at_.cut_of(op.q);
        Split heads;
        if (cut && !cut->by_rows && cut->split.parts == 1)
            heads = {1, cut->split.unit / k_dim, cut->split.n_units};
        bool fits = heads.n_units > 0 && fit(heads, kv);
        if (!fits && kv.is_cut()) {
            // The queries of the KV heads that each partner has.
            heads = {1, n_heads / kv.shape().n_heads, kv.shape().n_heads};
            if (kv.shape().n_heads < devices_.n) heads = {1, 1, n_heads};
            fits = fit(heads, kv);
            CHECK(fits, "{} heads, {} KV heads, {} partners", n_heads, kv.shape().n_heads, devices_.n);
        }
        const ViewCut out{false, {1, heads.unit * v_dim, heads.n_units}};
        if (!fits || !at_.can_cut(op.out, out)) {
            CHECK(!kv.is_cut(), "attention into a part of a tensor");
            return whole(op, at_.all());
        }
        const auto queries = columns_of(op.q, {1, heads.unit * k_dim, heads.n_units});
        at_.write_cut(op.out, out);
        for (int d = 0; d < devices_.n; ++d) {
            Attention own = op;
            own.kv = kv.on(d);
            own.q = queries(d);
            own.out = at_.on(op.out, d);
            if (op.sinks != nullptr) own.sinks = devices_.vector_share(*op.sinks, heads, d);
            at_.add(d, own);
        }
    }

    void place(const MatmulHeads& op) {
        const auto n_heads = static_cast<int64_t>(op.heads.size());
        at_.need_sum(op.x);
        const auto cut = at_.cut_of(op.x);
        if (!cut || !cut->by_rows || op.x.rows_each != n_heads || !at_.can_cut(op.out, *cut))
            return whole(op, where(op));
        at_.write_cut(op.out, *cut);
        for (int d = 0; d < devices_.n; ++d) {
            const Split::Share own = cut->split.share(d, devices_.n);
            const auto first = static_cast<size_t>(own.first), n = static_cast<size_t>(own.n);
            at_.add(d, MatmulHeads{.out = at_.on(op.out, d),
                                   .x = at_.on(op.x, d),
                                   .heads = list_on(op.heads.subspan(first, n), d)});
        }
    }

    void place(const Embed& op) {
        if (placed(*op.table).by == CutBy::none) return whole(op, where(op));
        at_.need_whole(op.ids, at_.all());
        at_.write_whole(op.out, at_.all());
        for (int d = 0; d < devices_.n; ++d) {
            Embed own = op;
            own.table = &placed(*op.table).whole[static_cast<size_t>(d)];
            CHECK(*own.table, "device {} lacks an embedding", d);
            at_.add(d, own);
        }
    }

    // One device is enough for what becomes of the logits.
    void place(const TopK& op) { whole(op, devices_.partners ? 1 : where(op)); }
    void place(const Sample& op) { whole(op, devices_.partners ? 1 : where(op)); }

    // Every partner has the states of all heads.
    void place(const CausalConv& op) { whole(op, where(op)); }
    void place(const DeltaRule& op) { whole(op, where(op)); }

    void place(const RopeTable& op) { whole(op, where(op)); }
    void place(const Route& op) { whole(op, where(op)); }
    // The partners' terms of each expert are added up by each partner for itself: x is what has to be summed,
    // once, where it is read.
    void place(const AddExperts& op) {
        if (!devices_.partners || !at_.is_terms(op.y) || !at_.whole_buffer(op.x)) return whole(op, where(op));
        at_.need_whole(op.weights, at_.all());
        add_terms(op);
    }

    Placement finish(const Record::Results& r) && {
        for (const Tensor* t :
             {&r.tokens, &r.logprobs, &r.log_sums, &r.top_ids, &r.top_logits, &r.logits, &r.hidden}) {
            if (*t && at_.holders(*t) == 0) at_.need_whole(*t, 1);
        }
        return std::move(at_).finish();
    }

 private:
    // Where an op runs whose tensors are whole.
    template <class Op>
    DeviceMask where(const Op& op) const {
        if (devices_.partners) return at_.all();
        Owner owner;
        op.fields(op, owner);
        return DeviceMask{1} << (owner.device >= 0 ? owner.device : home(op));
    }
    // Where most of the bytes are that it reads; the first tensor's device among equals.
    template <class Op>
    int home(const Op& op) const {
        size_t bytes[max_devices] = {};
        int first = -1;
        const auto count = [&](Access access, const char*, const Tensor& t) {
            if (access == Access::write || !t || t.space == Space::input) return;
            const DeviceMask on = at_.holders(t);
            if (on == at_.all()) return;
            if (first < 0) first = std::countr_zero(on);
            for (int d = 0; d < devices_.n; ++d) bytes[d] += (on >> d & 1) != 0 ? t.n_bytes() : 0;
        };
        visit_tensors(op, count);
        if (first < 0) return devices_.rest;
        const auto most = static_cast<int>(std::max_element(bytes, bytes + devices_.n) - bytes);
        return bytes[most] > bytes[first] ? most : first;
    }
    template <class Op, class F>
    static void visit_tensors(Op& op, F f) {
        op.fields(op, [&]<class... Args>(Args&&... args) {
            if constexpr (sizeof...(Args) == 3) f(args...);
        });
    }

    // The op with the device's tensors, weights and KV storage.
    template <class Op>
    Op on_device(Op op, int d) {
        op.fields(op, Substitute{*this, d});
        return op;
    }
    struct Substitute {
        Placer& placer;
        int d;
        void operator()(Access, const char*, Tensor& t) { t = placer.at_.on(t, d); }
        void operator()(const char*, const Weight*& w) { w = part_of(w, d); }
        void operator()(const char*, WeightList& list) { list = placer.list_on(list, d); }
        void operator()(const char*, KvStorage*& kv) { kv = placed(*kv).on(d); }
        template <class T>
        void operator()(const char*, T&) {}
    };
    WeightList list_on(WeightList list, int d) {
        std::vector<const Weight*> own;
        for (const Weight* w : list) own.push_back(part_of(w, d));
        return at_.keep(std::move(own));
    }

    // Runs on all of `on`, with whole tensors.
    template <class Op>
    void whole(const Op& op, DeviceMask on) {
        visit_tensors(op, [&](Access access, const char*, const Tensor& t) {
            if (access != Access::write) at_.need_whole(t, on);
        });
        visit_tensors(op, [&](Access access, const char*, const Tensor& t) {
            if (access != Access::read) at_.write_whole(t, on);
        });
        for (int d = 0; d < devices_.n; ++d) {
            if ((on >> d & 1) != 0) at_.add(d, on_device(op, d));
        }
    }

    // x += something of y, where y is a term on each partner: so is x then, and what it was is the first's.
    template <class Op>
    void add_terms(const Op& op) {
        const bool was_whole = !at_.is_terms(op.x);
        if (was_whole) at_.need_whole(op.x, at_.all());
        at_.write_terms(op.x);
        for (int d = 0; d < devices_.n; ++d) {
            if (was_whole && d > 0) at_.add(d, Scale{.x = op.x, .factor = 0});
            at_.add(d, on_device(op, d));
        }
    }

    enum class Keeps : uint8_t { nothing, last_dimension };
    // Reads and writes that have a number each of the other's: as they are cut, where all are cut alike. What
    // else the op reads is whole.
    template <class Op>
    void row_wise(const Op& op, std::initializer_list<Tensor Op::*> reads,
                  std::initializer_list<Tensor Op::*> writes, Keeps keeps = Keeps::nothing) {
        if (!devices_.partners) return whole(op, where(op));
        std::optional<ViewCut> cut;
        for (const auto t : reads) {
            at_.need_sum(op.*t);
            if (!cut) cut = at_.cut_of(op.*t);
        }
        bool fits = cut.has_value();
        for (const auto t : reads) {
            const auto own = at_.cut_of(op.*t);
            fits = fits && own && own->same(*cut, devices_.n);
        }
        for (const auto t : writes) fits = fits && at_.can_cut(op.*t, *cut);
        for (int d = 0; fits && keeps == Keeps::last_dimension && d < devices_.n; ++d) {
            const Tensor& x = op.**reads.begin();
            const auto last = static_cast<size_t>(x.rank - 1);
            fits = at_.on(x, d).shape[last] == x.shape[last];
        }
        if (!fits) return whole(op, at_.all());
        visit_tensors(op, [&](Access access, const char*, const Tensor& t) {
            const auto is_t = [&](Tensor Op::*m) { return &(op.*m) == &t; };
            if (access == Access::read && std::ranges::none_of(reads, is_t)) at_.need_whole(t, at_.all());
        });
        for (const auto t : writes) at_.write_cut(op.*t, *cut);
        for (int d = 0; d < devices_.n; ++d) at_.add(d, on_device(op, d));
    }

    template <class Op, class WeightOf>
    void products_on_each(const Op& op, WeightOf weight_of) {
        for (int d = 0; d < devices_.n; ++d) {
            Op own = op;
            own.n = 0;
            for (const auto& p : op.all()) {
                if (first_device(*weight_of(p)) == d) own.products[own.n++] = p;
            }
            if (own.n > 0) whole(own, DeviceMask{1} << d);
        }
    }

    // Each partner's columns of a tensor, as `split` says: its share where the tensor is cut so, else a part
    // of the whole.
    std::function<Tensor(int)> columns_of(const Tensor& t, const Split& split) {
        at_.need_sum(t);
        const auto cut = at_.cut_of(t);
        const bool own = cut && cut->same({false, split}, devices_.n);
        if (!own) at_.need_whole(t, at_.all());
        return
            [=, this](int d) { return own ? at_.on(t, d) : at_.own_columns(t, split, d).value_or(Tensor{}); };
    }
    // Partners' heads of keys or values.
    std::function<Tensor(int)> heads_of(const Tensor& t, int64_t dim, const PlacedKv& kv) {
        if (!t) return [](int) { return Tensor{}; };
        return columns_of(t, {1, dim, kv.heads().n_units});
    }
    // Whether each partner's heads of queries look at the partner's own KV heads.
    bool fit(const Split& heads, const PlacedKv& kv) const {
        const int64_t n_kv = kv.shape().n_heads, group = heads.length() / n_kv;
        for (int d = 0; d < devices_.n; ++d) {
            const Split::Share q = heads.share(d, devices_.n);
            const Split::Share k = kv.is_cut() ? kv.heads().share(d, devices_.n) : Split::Share{0, n_kv};
            if (q.n % k.n != 0) return false;
            for (int64_t h = 0; h < q.n; ++h) {
                if ((q.first + h) / group != k.first + h / (q.n / k.n)) return false;
            }
        }
        return true;
    }

    static const Weight& weight_of(const Matmul::Product& p) { return *p.w; }
    static const Weight& weight_of(const MatmulExperts::Product& p) { return *p.experts[0]; }
    void take_part(Matmul::Product& p, int d) { p.w = part_of(p.w, d); }
    void take_part(MatmulExperts::Product& p, int d) { p.experts = list_on(p.experts, d); }

    // Products of partners. `parts`: experts of a token. Weights that are whole or cut by rows need all of x,
    // those cut by columns the partner's columns of it.
    template <class Op>
    void matmul(const Op& op, const Tensor& x, int64_t parts) {
        Op rows = op, columns = op;
        rows.n = columns.n = 0;
        for (const auto& p : op.all()) {
            Op& to = placed(weight_of(p)).by == CutBy::columns ? columns : rows;
            to.products[to.n++] = p;
        }
        rows.x = columns.x = x;
        if constexpr (requires { op.ids; }) at_.need_whole(op.ids, at_.all());
        if (rows.n > 0) by_rows(rows, parts);
        // A product each: their columns may be different ones.
        for (auto& p : columns.all()) by_columns(columns, p);
    }

    template <class Op>
    void by_rows(const Op& op, int64_t parts) {
        at_.need_whole(op.x, at_.all());
        const auto split_of = [&](const auto& p) {
            Split split = placed(weight_of(p)).split;
            CHECK(split.parts == 1 || parts == 1, "experts of several matrices");
            split.parts *= parts;
            return split;
        };
        for (const auto& p : op.all()) {
            if (placed(weight_of(p)).by == CutBy::none) {
                at_.write_whole(p.out, at_.all());
            } else {
                at_.write_cut(p.out, {false, split_of(p)});
            }
        }
        for (int d = 0; d < devices_.n; ++d) {
            Op own = op;
            for (auto& p : own.all()) {
                const bool cut = placed(weight_of(p)).by == CutBy::rows;
                if (p.bias != nullptr) {
                    p.bias = cut ? devices_.vector_share(*p.bias, placed(weight_of(p)).split, d)
                                 : part_of(p.bias, d);
                }
                p.out = at_.on(p.out, d);
                take_part(p, d);
            }
            at_.add(d, own);
        }
    }

    template <class Op, class Product>
    void by_columns(const Op& op, const Product& product) {
        Split split = placed(weight_of(product)).split;
        const bool each_has_its_own = op.x.rank == 3;  // experts, after the first product
        if (each_has_its_own) split.parts = op.x.shape[1];
        const auto columns = columns_of(op.x, split);
        std::optional<Tensor> room;
        if (!columns(0)) room = at_.scratch(op.x);
        at_.write_terms(product.out);
        for (int d = 0; d < devices_.n; ++d) {
            Op own = op;
            own.n = 1;
            own.products[0] = product;
            if (d > 0)
                own.products[0].bias = nullptr;  // is in the sum once
            else if (product.bias != nullptr)
                own.products[0].bias = part_of(product.bias, d);
            take_part(own.products[0], d);
            own.x = room ? packed(op.x, split, *room, d) : columns(d);
            at_.add(d, own);
        }
    }
    // The device's columns of each expert's row, copied together.
    Tensor packed(const Tensor& x, const Split& split, Tensor room, int d) {
        const Split::Share share = split.share(d, devices_.n);
        room.shape = {x.shape[0], split.parts, share.n, 0};
        room.rank = 3;
        room.row_stride = room.row_len();
        const int64_t n_rows = x.shape[0] * split.parts;
        at_.add(d, Copy{room.in_rows(n_rows), x.in_rows(n_rows).columns(share.first, share.n)});
        return room;
    }

    const Devices& devices_;
    PlacedBuffers at_;
};

}  // namespace

Placement place(const Record& record, const Devices& devices) {
    Placer placer(record, devices);
    for (const AnyOp& any : record.ops()) std::visit([&](const auto& op) { placer.place(op); }, any);
    return std::move(placer).finish(record.results);
}

}  // namespace smelt
