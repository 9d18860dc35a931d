// One layer's KV cache on the card, as PlainKv lays it out.
#pragma once

#include "backend/cuda/memory.h"
#include "backend/kv_storage.h"

namespace smelt::cuda {

class CudaKv : public KvStorage {
 public:
    CudaKv(std::shared_ptr<const Gpu> gpu, const KvShape& shape)
        : KvStorage(shape), rows_(shape), gpu_(gpu), memory_(std::move(gpu), rows_.n_bytes) {}

    const PlainKv& rows() const { return rows_; }
    KvArgs keys() const { return args_of(rows_.k); }
    KvArgs values() const { return args_of(rows_.v); }

    void copy_blocks(std::span<const BlockPair> copies) override;
    void read_block(int32_t block, std::span<std::byte> to) override;
    void write_block(int32_t block, std::span<const std::byte> from) override;

 private:
    KvArgs args_of(const KvRows& rows) const;
    // Calls f with the address and the size of the block's keys and, where they have memory of their own, of
    // its values.
    template <class F>
    void each_part(int32_t block, F f) const;

    PlainKv rows_;
    std::shared_ptr<const Gpu> gpu_;
    DeviceBuffer memory_;
};

}  // namespace smelt::cuda
