// Blocks are put together from the heads that each device has.
#include "backend/placed_kv.h"

#include <cstring>

namespace smelt {

PlacedKv::PlacedKv(const KvShape& shape, std::vector<std::unique_ptr<KvStorage>> on, bool cut,
                   std::function<void()> wait)
    : KvStorage(shape), on_(std::move(on)), cut_(cut), wait_(std::move(wait)) {}

void PlacedKv::copy_blocks(std::span<const BlockPair> copies) {
    if (wait_) wait_();
    for (const auto& kv : on_) {
        if (kv != nullptr) kv->copy_blocks(copies);
    }
}

// f(bytes of the device's block, bytes from the beginning of the whole block, how many): runs of heads.
template <class F>
void PlacedKv::each_share(std::span<std::byte> part, int device, F f) const {
    const KvShape& s = shape();
    const Split::Share share = heads().share(device, static_cast<int>(on_.size()));
    std::byte* at = part.data();
    size_t base = 0;
    const auto rows = [&](Format format, int64_t dim) {
        const size_t head = data_bytes(format, dim);
        const size_t n = static_cast<size_t>(share.n) * head;
        for (int64_t i = 0; i < s.block_len; ++i) {
            f(at, base + static_cast<size_t>(i * s.n_heads + share.first) * head, n);
            at += n;
        }
        base += static_cast<size_t>(s.block_len * s.n_heads) * head;
    };
    rows(s.k_format, s.k_dim);
    if (!s.v_in_k) rows(s.v_format, s.v_dim);
}

void PlacedKv::read_block(int32_t block, std::span<std::byte> to) {
    if (wait_) wait_();
    for (size_t d = 0; d < on_.size(); ++d) {
        if (on_[d] == nullptr) continue;
        if (!cut_) return on_[d]->read_block(block, to);
        part_.resize(on_[d]->shape().block_bytes());
        on_[d]->read_block(block, part_);
        each_share(part_, static_cast<int>(d), [&](const std::byte* from, size_t first, size_t n) {
            std::memcpy(to.data() + first, from, n);
        });
    }
}

void PlacedKv::write_block(int32_t block, std::span<const std::byte> from) {
    if (wait_) wait_();
    for (size_t d = 0; d < on_.size(); ++d) {
        if (on_[d] == nullptr) continue;
        if (!cut_) {
            on_[d]->write_block(block, from);
            continue;
        }
        part_.resize(on_[d]->shape().block_bytes());
        each_share(part_, static_cast<int>(d),
                   [&](std::byte* to, size_t first, size_t n) { std::memcpy(to, from.data() + first, n); });
        on_[d]->write_block(block, part_);
    }
}

}  // namespace smelt
