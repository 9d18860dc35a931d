// Any bytes as blocks of any format: numbers come out, or not-a-numbers, but nothing undefined happens.
#include <cstdint>
#include <vector>

#include "quant/format.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace smelt;
    if (size == 0) return 0;
    const auto formats = all_formats();
    const FormatInfo& info = formats[data[0] % formats.size()];
    const auto block = static_cast<size_t>(info.block_bytes + info.scale_bytes);
    const size_t n_blocks = (size - 1) / block;
    // Copies of exactly the size, so that a byte too far is seen.
    const auto* bytes = reinterpret_cast<const std::byte*>(data + 1);
    const size_t n_data = n_blocks * static_cast<size_t>(info.block_bytes);
    const std::vector<std::byte> quants(bytes, bytes + n_data),
        scales(bytes + n_data, bytes + n_blocks * block);
    std::vector<float> out(n_blocks * static_cast<size_t>(info.block_len));
    decode_row({info.format, quants.data(), scales.data(), static_cast<int64_t>(out.size())}, out);
    return 0;
}
