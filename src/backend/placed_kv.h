// The KV storage of one layer on several devices: on one of them, on all, or some of its heads on each.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "backend/kv_storage.h"
#include "backend/split.h"

namespace smelt {

class PlacedKv : public KvStorage {
 public:
    // By device; null where it has none of the layer. With `cut`, device r has the r-th share of the heads.
    // wait() returns when the steps that were launched are done.
    PlacedKv(const KvShape& shape, std::vector<std::unique_ptr<KvStorage>> on, bool cut,
             std::function<void()> wait = {});

    KvStorage* on(int device) const { return on_[static_cast<size_t>(device)].get(); }
    bool is_cut() const { return cut_; }
    Split heads() const { return {.parts = 1, .unit = 1, .n_units = shape().n_heads}; }

    void copy_blocks(std::span<const BlockPair> copies) override;
    // Heads that several devices have are in a block once.
    void read_block(int32_t block, std::span<std::byte> to) override;
    void write_block(int32_t block, std::span<const std::byte> from) override;

 private:
    template <class F>
    void each_share(std::span<std::byte> part, int device, F f) const;

    std::vector<std::unique_ptr<KvStorage>> on_;
    bool cut_;
    std::function<void()> wait_;
    std::vector<std::byte> part_;  // of a block, one device's heads
};

}  // namespace smelt
