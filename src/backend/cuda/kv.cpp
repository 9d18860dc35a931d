// Blocks of the cache as the host sees them, between steps: copies in the order of the stream.
#include "backend/cuda/kv.h"

#include <algorithm>

namespace smelt::cuda {

KvArgs CudaKv::args_of(const KvRows& rows) const {
    CHECK(std::ranges::find(kv_formats, rows.format) != std::end(kv_formats) &&
              rows.dim % format_info(rows.format).block_len == 0,
          "{} heads of {} values", rows.n_heads, rows.dim);
    return {.rows = reinterpret_cast<uint8_t*>(memory_.address() + rows.offset),
            .n_heads = u32(rows.n_heads),
            .dim = u32(rows.dim),
            .row_bytes = u32(static_cast<int64_t>(rows.row_bytes)),
            .format = static_cast<int32_t>(rows.format)};
}

template <class F>
void CudaKv::each_part(int32_t block, F f) const {
    for (const KvRows* rows : {&rows_.k, &rows_.v}) {
        if (rows == &rows_.v && rows_.v_in_k) break;
        const size_t bytes = rows->block_bytes();
        f(memory_.address() + rows->offset + static_cast<size_t>(block) * bytes, bytes);
    }
}

void CudaKv::copy_blocks(std::span<const BlockPair> copies) {
    gpu_->make_current();
    for (const BlockPair& c : copies) {
        if (c.from == c.to) continue;
        std::array<DeviceAddress, 2> from{};
        size_t i = 0;
        each_part(c.from, [&](DeviceAddress a, size_t) { from[i++] = a; });
        i = 0;
        each_part(c.to, [&](DeviceAddress to, size_t bytes) {
            gpu_->check(gpu_->driver().copy_within(to, from[i++], bytes, gpu_->stream()),
                        "cuMemcpyDtoDAsync");
        });
    }
}

void CudaKv::read_block(int32_t block, std::span<std::byte> to) {
    CHECK(to.size() == shape().block_bytes(), "{} bytes", to.size());
    gpu_->make_current();
    std::byte* out = to.data();
    each_part(block, [&](DeviceAddress from, size_t bytes) {
        gpu_->check(gpu_->driver().copy_out(out, from, bytes, gpu_->stream()), "cuMemcpyDtoHAsync");
        out += bytes;
    });
    gpu_->wait();
}

void CudaKv::write_block(int32_t block, std::span<const std::byte> from) {
    CHECK(from.size() == shape().block_bytes(), "{} bytes", from.size());
    gpu_->make_current();
    const std::byte* in = from.data();
    each_part(block, [&](DeviceAddress to, size_t bytes) {
        gpu_->check(gpu_->driver().copy_in(to, in, bytes, gpu_->stream()), "cuMemcpyHtoDAsync");
        in += bytes;
    });
    gpu_->wait();
}

}  // namespace smelt::cuda
