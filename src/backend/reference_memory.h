// Weights and KV layers of the reference backend: the bytes of the file, and the plain layout of
// kv_storage.h.
#pragma once

#include <cstring>
#include <span>
#include <vector>

#include "backend/kv_storage.h"

namespace smelt::reference {

struct HostWeight : Storage {
    std::span<const std::byte> data, scales;
    int64_t row_step = 1;
    std::vector<std::byte> owned;
};

class HostKv : public KvStorage {
 public:
    explicit HostKv(const KvShape& shape) : KvStorage(shape), rows(shape), bytes(rows.n_bytes) {}
    void copy_blocks(std::span<const BlockPair> copies) override {
        for (const BlockPair& c : copies) {
            each_part(
                c.from, [&](std::byte* from, std::byte* to, size_t n) { std::memcpy(to, from, n); }, c.to);
        }
    }
    void read_block(int32_t block, std::span<std::byte> to) override {
        std::byte* out = to.data();
        each_part(block, [&](std::byte* from, std::byte*, size_t n) {
            std::memcpy(out, from, n);
            out += n;
        });
    }
    void write_block(int32_t block, std::span<const std::byte> from) override {
        const std::byte* in = from.data();
        each_part(block, [&](std::byte* to, std::byte*, size_t n) {
            std::memcpy(to, in, n);
            in += n;
        });
    }
    std::byte* row(const KvRows& r, int64_t slot, int64_t head) {
        return bytes.data() + r.offset + static_cast<size_t>(slot * r.n_heads + head) * r.row_bytes;
    }
    PlainKv rows;
    std::vector<std::byte> bytes;

 private:
    template <class F>
    void each_part(int32_t block, F f, int32_t other = 0) {
        for (const KvRows* r : {&rows.k, &rows.v}) {
            if (r == &rows.v && rows.v_in_k) break;
            std::byte* base = bytes.data() + r->offset;
            f(base + static_cast<size_t>(block) * r->block_bytes(),
              base + static_cast<size_t>(other) * r->block_bytes(), r->block_bytes());
        }
    }
};

}  // namespace smelt::reference
