// Blocks of the cache as the host sees them, between steps.
#include "backend/metal/kv.h"

#include <cstring>

namespace smelt::metal {

MetalKv::Parts MetalKv::parts_of(int32_t block) {
    const auto part = [&](const KvRows& rows) {
        const size_t bytes = rows.block_bytes();
        const size_t offset = rows.offset + static_cast<size_t>(block) * bytes;
        return std::span(host_bytes(memory_.buffer().get(), offset), bytes);
    };
    return {part(rows_.k), rows_.v_in_k ? std::span<std::byte>() : part(rows_.v)};
}

void MetalKv::copy_blocks(std::span<const BlockPair> copies) {
    running_.wait();
    for (const BlockPair& c : copies) {
        const Parts from = parts_of(c.from), to = parts_of(c.to);
        std::memmove(to.k.data(), from.k.data(), from.k.size());
        if (!from.v.empty()) std::memmove(to.v.data(), from.v.data(), from.v.size());
    }
}

void MetalKv::read_block(int32_t block, std::span<std::byte> to) {
    running_.wait();
    const Parts from = parts_of(block);
    CHECK(to.size() == from.k.size() + from.v.size(), "{} bytes", to.size());
    std::memcpy(to.data(), from.k.data(), from.k.size());
    if (!from.v.empty()) std::memcpy(to.data() + from.k.size(), from.v.data(), from.v.size());
}

void MetalKv::write_block(int32_t block, std::span<const std::byte> from) {
    running_.wait();
    const Parts to = parts_of(block);
    CHECK(from.size() == to.k.size() + to.v.size(), "{} bytes", from.size());
    std::memcpy(to.k.data(), from.data(), to.k.size());
    if (!to.v.empty()) std::memcpy(to.v.data(), from.data() + to.k.size(), to.v.size());
}

}  // namespace smelt::metal
