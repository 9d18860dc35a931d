// Sums are made in the order of ranks, in float, whatever the size of the tensor.
#include "backend/moves.h"

#include <cstring>

namespace smelt {

Tensor rows_now(Tensor t, const StepCounts& counts) {
    t.shape[0] = counts.rows(t);
    t.rows_of = RowsOf::fixed;
    return t;
}

std::byte* Moves::room(std::vector<std::byte>& bytes, size_t n) {
    if (bytes.size() < n) bytes.resize(n);
    return bytes.data();
}
void Moves::send(const Tensor& t, DeviceMask to, const std::byte* bytes) {
    for (int d = 0; d < n(); ++d) {
        if ((to >> d & 1) != 0) backends_[static_cast<size_t>(d)]->write(t, bytes);
    }
}

void Moves::make(const Transfer& move, const StepCounts& counts) {
    const Tensor t = rows_now(move.tensor, counts);
    if (t.n_rows() == 0) return;
    std::byte* bytes = room(whole_, t.n_bytes());
    backends_[static_cast<size_t>(move.from)]->read(t, bytes);
    send(t, move.to, bytes);
}

void Moves::make(const AllReduce& move, const StepCounts& counts) {
    const Tensor t = rows_now(move.tensor, counts);
    if (t.n_rows() == 0) return;
    auto* sum = reinterpret_cast<float*>(room(whole_, t.n_bytes()));
    const auto* term = reinterpret_cast<const float*>(room(part_, t.n_bytes()));
    backends_[0]->read(t, sum);
    for (int d = 1; d < n(); ++d) {
        backends_[static_cast<size_t>(d)]->read(t, part_.data());
        for (int64_t i = 0; i < t.n_elements(); ++i) sum[i] += term[i];
    }
    send(t, ~DeviceMask{0}, whole_.data());
}

void Moves::make(const AllGather& move, const StepCounts& counts) {
    const Tensor t = rows_now(move.tensor, counts);
    if (t.n_rows() == 0) return;
    std::byte* all = room(whole_, t.n_bytes());
    const size_t number = dtype_bytes(t.dtype);
    const auto part_bytes = static_cast<size_t>(move.split.part_len()) * number;
    const int64_t n_parts = t.n_rows() / t.rows_each * move.split.parts;
    int64_t done = 0;
    for (int d = 0; d < n(); ++d) {
        const Split::Share share = move.split.share(d, n());
        if (share.first < done) continue;  // a partner before has it too
        done = share.first + share.n;
        const Tensor own = share_of(t, move.split, d, n());
        const std::byte* from = room(part_, own.n_bytes());
        backends_[static_cast<size_t>(d)]->read(own, part_.data());
        const auto n = static_cast<size_t>(share.n) * number;
        std::byte* to = all + static_cast<size_t>(share.first) * number;
        for (int64_t p = 0; p < n_parts; ++p, from += n, to += part_bytes) std::memcpy(to, from, n);
    }
    send(t, move.to, all);
}

}  // namespace smelt
