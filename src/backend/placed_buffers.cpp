// Views of buffers that are cut. A line is what a buffer has for each token (sequence, row of logits): its
// rows_each rows. It is cut at units; a view sees columns of a line, or some columns of each of its rows.
#include "backend/placed_buffers.h"

#include <bit>
#include <utility>

namespace smelt {

using namespace op;

namespace {

size_t bytes(const Tensor& t, int64_t n) {
    return static_cast<size_t>(n) * dtype_bytes(t.dtype);
}

int64_t line_of(const Tensor& t) {
    return t.rows_each * t.row_stride;
}

}  // namespace

Tensor share_of(const Tensor& whole, const Split& split, int partner, int n_partners) {
    Tensor t = whole;
    t.rank = 2;
    t.shape = {whole.n_rows() / whole.rows_each, split.parts * split.share(partner, n_partners).n, 0, 0};
    t.rows_each = 1;
    t.row_stride = t.row_len();
    return t;
}

PlacedBuffers::PlacedBuffers(const Record& record, const Devices& devices)
    : devices_(devices),
      buffers_(record.buffers().begin(), record.buffers().end()),
      base_(record.without_ops()),
      states_(buffers_.size()) {
    CHECK(devices.n >= 1 && devices.n <= max_devices, "{} devices", devices.n);
    base_.results = {};
    base_.reset(base_.workspace_bytes());
    phases_.emplace_back(devices.n);
}

PlacedBuffers::State* PlacedBuffers::state_of(const Tensor& t) {
    return const_cast<State*>(std::as_const(*this).state_of(t));
}
const PlacedBuffers::State* PlacedBuffers::state_of(const Tensor& t) const {
    if (!t || t.space == Space::input) return nullptr;  // every device has the input
    CHECK(t.buffer >= 0 && static_cast<size_t>(t.buffer) < states_.size(), "buffer {}", t.buffer);
    return &states_[static_cast<size_t>(t.buffer)];
}

int64_t PlacedBuffers::first_column(const Tensor& t) const {
    return static_cast<int64_t>((t.offset - buffer_of(t).offset) / dtype_bytes(t.dtype));
}

bool PlacedBuffers::covers(const Tensor& t) const {
    const Tensor& b = buffer_of(t);
    return t.offset == b.offset && t.n_elements() == b.n_elements();
}

DeviceMask PlacedBuffers::holders(const Tensor& t) const {
    const State* s = state_of(t);
    if (s == nullptr || s->kind == Kind::unwritten) return all();
    return s->kind == Kind::whole ? s->on : 0;
}

std::optional<ViewCut> PlacedBuffers::cut_of(const Tensor& t) const {
    const State* s = state_of(t);
    if (s == nullptr || s->kind != Kind::cut) return {};
    const Split& split = s->split;
    const int64_t first = first_column(t), part = split.part_len(), row = t.row_stride;
    if (line_of(t) != split.length() || first >= row || t.rank > 3) return {};
    if (t.rows_each == 1) {
        if (first % part != 0 || t.row_len() % part != 0) return {};
        if (t.rank == 3 && t.shape[2] != part && split.unit % t.shape[2] != 0) return {};
        return ViewCut{false, {t.row_len() / part, split.unit, split.n_units}};
    }
    if (split.parts == 1) {
        if (split.unit % row != 0) return {};
        return ViewCut{true, {1, split.unit / row, split.n_units}};
    }
    if (split.parts != t.rows_each || row != part || t.rank != 2 || t.row_len() != part) return {};
    return ViewCut{false, {1, split.unit, split.n_units}};
}

std::optional<Split> PlacedBuffers::line_split(const Tensor& t, const ViewCut& cut) const {
    const int64_t length = cut.split.length();
    if (cut.by_rows) {
        if (t.rows_each != length) return {};
        return Split{1, cut.split.unit * t.row_stride, cut.split.n_units};
    }
    if (first_column(t) != 0 || t.row_len() != t.row_stride || t.row_len() != length) return {};
    if (t.rows_each == 1) return cut.split;
    if (cut.split.parts != 1) return {};
    return Split{t.rows_each, cut.split.unit, cut.split.n_units};
}

bool PlacedBuffers::can_cut(const Tensor& t, const ViewCut& cut) const {
    const State* s = state_of(t);
    if (s == nullptr) return false;
    if (s->kind == Kind::cut) {
        const auto now = cut_of(t);
        if (now && now->same(cut, n_partners())) return true;
    }
    return line_split(t, cut) && (s->kind == Kind::unwritten || covers(t));
}

Tensor PlacedBuffers::on(const Tensor& t, int device) const {
    const State* s = state_of(t);
    if (s == nullptr || s->kind != Kind::cut) return t;
    CHECK(cut_of(t), "a view across the shares of partners");
    const Split& split = s->split;
    const int64_t part = split.part_len(), own = split.share(device, n_partners()).n;
    Tensor r = t;
    if (t.rows_each == 1) {
        r.offset = buffer_of(t).offset + bytes(t, first_column(t) / part * own);
        r.row_stride = split.parts * own;
        const int64_t n = t.row_len() / part * own;
        if (t.rank == 3 && t.shape[2] == part) {
            r.shape[2] = own;
        } else {
            r.shape[1] = t.rank == 3 ? n / t.shape[2] : n;
        }
    } else if (split.parts == 1) {
        r.rows_each = own / t.row_stride;
        r.shape[0] = t.shape[0] / t.rows_each * r.rows_each;
    } else {
        r.shape[1] = r.row_stride = own;
    }
    return r;
}

std::optional<Tensor> PlacedBuffers::own_columns(const Tensor& t, const Split& split, int device) const {
    if (split.parts != 1 || split.length() != t.row_len()) return {};
    const Split::Share own = split.share(device, n_partners());
    const Tensor r = t.flat().columns(own.first, own.n);
    if (t.rank == 2) return r;
    if (t.rank != 3 || split.unit % t.shape[2] != 0) return {};
    return r.heads(own.n / t.shape[2]);
}

bool PlacedBuffers::is_terms(const Tensor& t) const {
    const State* s = state_of(t);
    return s != nullptr && s->kind == Kind::terms;
}

void PlacedBuffers::need_sum(const Tensor& t) {
    State* s = state_of(t);
    if (s == nullptr || s->kind != Kind::terms) return;
    phases_.back().moves.emplace_back(AllReduce{buffer_of(t)});
    *s = {.kind = Kind::whole, .on = all()};
}

void PlacedBuffers::need_whole(const Tensor& t, DeviceMask on) {
    need_sum(t);
    State* s = state_of(t);
    if (s == nullptr || s->kind == Kind::unwritten) return;
    if (s->kind == Kind::cut) {
        phases_.back().moves.emplace_back(AllGather{buffer_of(t), s->split, on});
        *s = {.kind = Kind::whole, .on = on};
        return;
    }
    const DeviceMask missing = on & ~s->on;
    if (missing == 0) return;
    phases_.back().moves.emplace_back(Transfer{buffer_of(t), std::countr_zero(s->on), missing});
    s->on |= missing;
}

void PlacedBuffers::write_whole(const Tensor& t, DeviceMask on) {
    State* s = state_of(t);
    if (s == nullptr) return;
    if (!covers(t)) need_whole(t, on);
    *s = {.kind = Kind::whole, .on = on};
}

void PlacedBuffers::write_cut(const Tensor& t, const ViewCut& cut) {
    CHECK(can_cut(t, cut), "a tensor that is written in parts");
    State* s = state_of(t);
    const auto now = cut_of(t);
    if (now && now->same(cut, n_partners())) return;
    *s = {.kind = Kind::cut, .split = *line_split(t, cut)};
}

void PlacedBuffers::write_terms(const Tensor& t) {
    State* s = state_of(t);
    CHECK(s != nullptr && covers(t), "a part of a buffer would be a sum, the rest not");
    *s = {.kind = Kind::terms};
}

void PlacedBuffers::add(int device, const AnyOp& op) {
    if (!phases_.back().moves.empty()) phases_.emplace_back(devices_.n);
    phases_.back().ops[static_cast<size_t>(device)].push_back(op);
}

Tensor PlacedBuffers::scratch(const Tensor& t) {
    const size_t mark = base_.mark();
    const Tensor room = base_.take(t.dtype, t.rows_of, {t.n_rows(), t.row_len()}, t.rows_each);
    base_.reset(mark);
    return room;
}

Placement PlacedBuffers::finish() && {
    Placement p{.n_partners = n_partners()};
    for (Work& work : phases_) {
        Phase phase{.parts = {}, .moves = std::move(work.moves)};
        for (std::vector<AnyOp>& ops : work.ops) {
            phase.parts.push_back(base_.without_ops());
            phase.parts.back().set_ops(std::move(ops));
        }
        p.phases.push_back(std::move(phase));
    }
    for (const State& s : states_) {
        p.holder.push_back(s.kind == Kind::whole       ? std::countr_zero(s.on)
                           : s.kind == Kind::unwritten ? 0
                                                       : -1);
    }
    return p;
}

}  // namespace smelt
