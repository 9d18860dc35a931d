// One layer's KV cache in a buffer, as PlainKv lays it out.
#pragma once

#include "backend/kv_storage.h"
#include "backend/metal/memory.h"
#include "backend/metal/running_steps.h"

namespace smelt::metal {

class MetalKv : public KvStorage {
 public:
    MetalKv(const Gpu& gpu, RunningSteps& running, const KvShape& shape)
        : KvStorage(shape), rows_(shape), memory_(gpu, make_buffer(gpu, rows_.n_bytes)), running_(running) {}

    const PlainKv& rows() const { return rows_; }
    Binding keys() const { return {memory_.buffer().get(), rows_.k.offset}; }
    Binding values() const { return {memory_.buffer().get(), rows_.v.offset}; }

    // By the host: a block is copied in less time than a command buffer takes to start.
    void copy_blocks(std::span<const BlockPair> copies) override;
    void read_block(int32_t block, std::span<std::byte> to) override;
    void write_block(int32_t block, std::span<const std::byte> from) override;

 private:
    // The block's keys and, where they have memory of their own, its values.
    struct Parts {
        std::span<std::byte> k, v;
    };
    Parts parts_of(int32_t block);

    PlainKv rows_;
    Resident memory_;
    RunningSteps& running_;
};

}  // namespace smelt::metal
