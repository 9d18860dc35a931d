// One layer's paged KV cache on a device, which chooses its layout.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "backend/tensor.h"

namespace smelt {

// The number formats that a KV cache can have.
inline constexpr Format kv_formats[] = {Format::F32,  Format::F16,  Format::BF16,
                                        Format::Q8_0, Format::Q4_0, Format::MXFP8_E4M3};

// n_blocks blocks of block_len positions; a position has n_heads heads of k_dim keys and v_dim values, each
// whole blocks of its format. With v_in_k (latent attention) the values are the first v_dim of the keys and
// have no memory of their own.
struct KvShape {
    Format k_format = Format::F16, v_format = Format::F16;
    int64_t n_blocks = 0, block_len = 0, n_heads = 0;
    int64_t k_dim = 0, v_dim = 0;
    bool v_in_k = false;
    int64_t layer = 0;
    bool cut_by_head = false;  // partners of tensor parallelism may have a share of the heads each

    size_t token_bytes() const {
        const size_t k = data_bytes(k_format, k_dim), v = v_in_k ? 0 : data_bytes(v_format, v_dim);
        return static_cast<size_t>(n_heads) * (k + v);
    }
    size_t block_bytes() const { return static_cast<size_t>(block_len) * token_bytes(); }
    size_t n_bytes() const { return static_cast<size_t>(n_blocks) * block_bytes(); }
};

struct BlockPair {
    int32_t from = 0, to = 0;
};

class KvStorage {
 public:
    explicit KvStorage(const KvShape& shape) : shape_(shape) {}
    virtual ~KvStorage() = default;
    const KvShape& shape() const { return shape_; }

    // All of these come after the steps that were launched and before those that follow.
    // In order: a block may be the target of one copy and the source of the next.
    virtual void copy_blocks(std::span<const BlockPair> copies) = 0;
    // What a block holds: shape().block_bytes() bytes, keys of (block_len, n_heads, k_dim) before values.
    virtual void read_block(int32_t block, std::span<std::byte> to) = 0;
    virtual void write_block(int32_t block, std::span<const std::byte> from) = 0;

 private:
    KvShape shape_;
};

// The plain layout: keys and then values, each rows of one head in the order (n_blocks, block_len, n_heads).
struct KvRows {
    Format format = Format::F16;
    int64_t n_blocks = 0, block_len = 0, n_heads = 0, dim = 0;
    size_t row_bytes = 0;  // from one row to the next
    size_t offset = 0;     // of the first row in the layer's memory, bytes

    size_t block_bytes() const { return static_cast<size_t>(block_len * n_heads) * row_bytes; }
    size_t n_bytes() const { return static_cast<size_t>(n_blocks) * block_bytes(); }
};
struct PlainKv {
    KvRows k, v;  // with v_in_k, v has k's rows and reads the beginning of each
    size_t n_bytes = 0;
    bool v_in_k = false;

    explicit PlainKv(const KvShape& s) : v_in_k(s.v_in_k) {
        k = {s.k_format, s.n_blocks, s.block_len, s.n_heads, s.k_dim, data_bytes(s.k_format, s.k_dim), 0};
        if (s.v_in_k) {
            v = k;
            v.dim = s.v_dim;
            n_bytes = k.n_bytes();
            return;
        }
        constexpr size_t alignment = 256;
        const size_t v_offset = (k.n_bytes() + alignment - 1) / alignment * alignment;
        v = {s.v_format, s.n_blocks, s.block_len, s.n_heads, s.v_dim, data_bytes(s.v_format, s.v_dim),
             v_offset};
        n_bytes = v_offset + v.n_bytes();
    }
};

}  // namespace smelt
