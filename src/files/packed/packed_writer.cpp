// Words of eight nibbles. GPTQ: of eight inputs, (n_in / 8, n_out), zero points minus one. AWQ: of eight
// outputs in an order of its own, (n_in, n_out / 8).
#include "files/packed/packed_writer.h"

#include <fmt/ranges.h>

#include <cmath>
#include <cstring>

#include "base/error.h"
#include "files/packed/packed_integers.h"

namespace smelt {

namespace {

constexpr int64_t per_word = 8;

// The rows in the target's order, one block after the other.
class Blocks {
 public:
    explicit Blocks(const OutputTensor& t) : n_in_(t.row_len()) {
        ThreadPool pool(1);
        stream_tensor(t, pool, [&](std::span<const std::byte> part) {
            bytes_.insert(bytes_.end(), part.begin(), part.end());
        });
    }
    BlockQ4_Z block(int64_t out, int64_t in) const {
        BlockQ4_Z b;
        const auto i = static_cast<size_t>(out * (n_in_ / BlockQ4_Z::block_len) + in / BlockQ4_Z::block_len);
        std::memcpy(&b, bytes_.data() + i * sizeof(b), sizeof(b));
        return b;
    }
    uint32_t code(int64_t out, int64_t in) const {
        const BlockQ4_Z b = block(out, in);
        return static_cast<uint32_t>(b.qs[in % 16] >> (in % BlockQ4_Z::block_len / 16 * 4)) & 15;
    }

 private:
    int64_t n_in_;
    std::vector<std::byte> bytes_;
};

std::vector<std::byte> bytes_of(const std::vector<uint32_t>& words) {
    const auto bytes = std::as_bytes(std::span(words));
    return {bytes.begin(), bytes.end()};
}

std::vector<std::byte> pack_codes(const OutputTensor& t, PackedLayout layout) {
    const Blocks blocks(t);
    const int64_t n_in = t.row_len(), n_out = t.n_rows();
    std::vector<uint32_t> words(static_cast<size_t>(n_in * n_out / per_word));
    for (int64_t in = 0; in < n_in; ++in) {
        for (int64_t out = 0; out < n_out; ++out) {
            const bool gptq = layout == PackedLayout::gptq;
            const int64_t word =
                gptq ? in / per_word * n_out + out : in * (n_out / per_word) + out / per_word;
            const int64_t nibble = gptq ? in % per_word : awq_nibble[out % per_word];
            words[static_cast<size_t>(word)] |= blocks.code(out, in) << (4 * nibble);
        }
    }
    return bytes_of(words);
}

std::vector<std::byte> pack_zeros(const OutputTensor& t, const PackedOptions& o) {
    const Blocks blocks(t);
    const int64_t n_groups = t.row_len() / o.group_size, n_out = t.n_rows();
    std::vector<uint32_t> words(static_cast<size_t>(n_groups * n_out / per_word));
    const int less = o.layout == PackedLayout::gptq ? 1 : 0;
    for (int64_t g = 0; g < n_groups; ++g) {
        for (int64_t out = 0; out < n_out; ++out) {
            const float zero = blocks.block(out, g * o.group_size).z;
            const float stored = zero - static_cast<float>(less);
            if (!(stored >= 0 && stored <= 15 && stored == std::floor(stored))) {
                throw Error("{}: tensor {}: expected a zero point of {} to {}, found {}",
                            t.sources.front().source, t.name, less, 15 + less, zero);
            }
            const int64_t nibble = less == 1 ? out % per_word : awq_nibble[out % per_word];
            words[static_cast<size_t>((g * n_out + out) / per_word)] |= static_cast<uint32_t>(stored)
                                                                        << (4 * nibble);
        }
    }
    return bytes_of(words);
}

std::vector<std::byte> pack_scales(const OutputTensor& t, const PackedOptions& o) {
    const Blocks blocks(t);
    const int64_t n_groups = t.row_len() / o.group_size, n_out = t.n_rows();
    std::vector<F16> scales(static_cast<size_t>(n_groups * n_out));
    for (int64_t out = 0; out < n_out; ++out) {
        for (int64_t in = 0; in < t.row_len(); in += BlockQ4_Z::block_len) {
            const BlockQ4_Z first = blocks.block(out, in / o.group_size * o.group_size),
                            b = blocks.block(out, in);
            if (b.d.bits != first.d.bits || b.z.bits != first.z.bits) {
                throw Error("{}: tensor {}: expected one scale for {} weights, found others in row {}",
                            t.sources.front().source, t.name, o.group_size, out);
            }
            scales[static_cast<size_t>(in / o.group_size * n_out + out)] = b.d;
        }
    }
    const auto bytes = std::as_bytes(std::span(scales));
    return {bytes.begin(), bytes.end()};
}

}  // namespace

std::vector<OutputTensor> pack_tensor(const OutputTensor& tensor, const PackedOptions& o) {
    constexpr std::string_view ending = ".weight";
    const int64_t n_in = tensor.row_len(), n_out = tensor.n_rows(), n_groups = n_in / o.group_size;
    if (tensor.shape.size() != 2 || !tensor.name.ends_with(ending) || tensor.by_columns ||
        n_in % o.group_size != 0 || o.group_size % BlockQ4_Z::block_len != 0 || n_out % per_word != 0) {
        throw Error(
            "{}: tensor {}: expected a matrix (8 n, {} m) that GPTQ and AWQ have words for, found ({})",
            tensor.sources.front().source, tensor.name, o.group_size, fmt::join(tensor.shape, ", "));
    }
    const std::string stem = tensor.name.substr(0, tensor.name.size() - ending.size());
    const auto part = [&](const char* name, std::vector<int64_t> shape, Format like, const char* dtype,
                          std::function<std::vector<std::byte>()> make) {
        OutputTensor out{stem + name, {tensor.sources.front()}, shape, like};
        out.sources.front().shape = std::move(shape);
        out.dtype = dtype;
        out.make_bytes = std::move(make);
        return out;
    };
    const bool gptq = o.layout == PackedLayout::gptq;
    std::vector<OutputTensor> parts;
    parts.push_back(part(".qweight",
                         gptq ? std::vector{n_in / per_word, n_out} : std::vector{n_in, n_out / per_word},
                         Format::F32, "I32", [tensor, o] { return pack_codes(tensor, o.layout); }));
    parts.push_back(part(".qzeros", {n_groups, n_out / per_word}, Format::F32, "I32",
                         [tensor, o] { return pack_zeros(tensor, o); }));
    parts.push_back(part(".scales", {n_groups, n_out}, Format::F16, "F16",
                         [tensor, o] { return pack_scales(tensor, o); }));
    if (gptq) {
        parts.push_back(part(".g_idx", {n_in}, Format::F32, "I32", [n_in, o] {
            std::vector<uint32_t> groups(static_cast<size_t>(n_in));
            for (int64_t i = 0; i < n_in; ++i)
                groups[static_cast<size_t>(i)] = static_cast<uint32_t>(i / o.group_size);
            return bytes_of(groups);
        }));
    }
    return parts;
}

Json packed_config(const PackedOptions& o) {
    if (o.layout == PackedLayout::gptq) {
        return {{"quant_method", "gptq"},     {"bits", 4},
                {"group_size", o.group_size}, {"sym", true},
                {"desc_act", false},          {"damp_percent", 0.01},
                {"true_sequential", true},    {"lm_head", false},
                {"checkpoint_format", "gptq"}};
    }
    return {{"quant_method", "awq"}, {"bits", 4},         {"group_size", o.group_size},
            {"zero_point", true},    {"version", "gemm"}, {"modules_to_not_convert", nullptr}};
}

}  // namespace smelt
