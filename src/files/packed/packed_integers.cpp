// GPTQ: words of consecutive inputs, (n_in * bits / 32, n_out); zero points of consecutive outputs,
// (n_groups, n_out * bits / 32). AWQ: words of 8 outputs in an order of their own, (n_in, n_out / 8), zero
// points the same.
#include "files/packed/packed_integers.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>

#include "base/error.h"

namespace smelt {

namespace {

constexpr int64_t block_len = BlockQ4_Z::block_len;
static_assert(block_len == BlockQ8_Z::block_len);

uint32_t word_at(std::span<const std::byte> words, int64_t i) {
    uint32_t word = 0;
    std::memcpy(&word, words.data() + i * static_cast<int64_t>(sizeof(word)), sizeof(word));
    return word;
}

// Number k of a stream of numbers, lowest bit first, whose words are `stride` words apart.
uint32_t number_at(std::span<const std::byte> words, int64_t first, int64_t stride, int64_t k, int bits) {
    const int64_t at = k * bits / 32, shift = k * bits % 32;
    uint64_t window = word_at(words, first + at * stride);
    if (shift + bits > 32) window |= uint64_t{word_at(words, first + (at + 1) * stride)} << 32;
    return static_cast<uint32_t>(window >> shift) & ((1u << bits) - 1);
}

std::string describe(const SafetensorsEntry& e) {
    return fmt::format("{} ({})", e.dtype, fmt::join(e.shape, ", "));
}

// A float as a half, which must hold it: scales are halves in nearly all checkpoints.
F16 as_half(float value, const std::string& name, const std::string& source) {
    const F16 half = F16::from(value);
    if (static_cast<float>(half) != value) {
        throw Error("{}: {}: scale {}: expected a number that a half holds exactly", source, name, value);
    }
    return half;
}

}  // namespace

void PackedIntegers::fail(const std::string& expected, const std::string& found) const {
    throw Error("{}: {}: expected {}, found {}", source_, name_, expected, found);
}

PackedIntegers::PackedIntegers(const QuantScheme& scheme, const PackedParts& parts, const std::string& name,
                               const std::string& source)
    : scheme_(scheme), name_(name), source_(source) {
    for (const auto& [part, text] : {std::pair(parts.qweight, "qweight"), std::pair(parts.qzeros, "qzeros"),
                                     std::pair(parts.scales, "scales")}) {
        if (part == nullptr) fail("qweight, qzeros and scales", std::string("no ") + text);
        if (part->shape.size() != 2) fail("matrices", describe(*part));
    }
    const bool awq = scheme.method == QuantScheme::Method::awq;
    const int bits = scheme.bits;
    const auto &q = parts.qweight->shape, &z = parts.qzeros->shape;
    n_groups_ = parts.scales->shape[0];
    n_out_ = parts.scales->shape[1];
    n_in_ = awq ? q[0] : q[0] * 32 / bits;
    const bool fits = parts.qweight->dtype == "I32" && parts.qzeros->dtype == "I32" && n_groups_ > 0 &&
                      n_in_ % block_len == 0 && n_out_ * bits % 32 == 0 &&
                      (awq ? q[1] * 8 == n_out_ : q[1] == n_out_ && q[0] * 32 == n_in_ * bits) &&
                      z[0] == n_groups_ && z[1] * 32 == n_out_ * bits;
    if (!fits) {
        fail(fmt::format("{}-bit {} weights", bits, awq ? "AWQ" : "GPTQ"),
             fmt::format("qweight {}, qzeros {}, scales {}", describe(*parts.qweight),
                         describe(*parts.qzeros), describe(*parts.scales)));
    }
    words_ = parts.qweight->data;

    const auto format = parts.scales->dtype == "F16"    ? Format::F16
                        : parts.scales->dtype == "BF16" ? Format::BF16
                                                        : Format::F32;
    if (parts.scales->data.size() != data_bytes(format, n_groups_ * n_out_)) {
        fail("scales in F16, BF16 or F32", describe(*parts.scales));
    }
    scales_.resize(static_cast<size_t>(n_groups_ * n_out_));
    decode_row({format, parts.scales->data.data(), nullptr, n_groups_ * n_out_}, scales_);
    for (int64_t g = 0; g < n_groups_; ++g) {
        for (int64_t o = 0; o < n_out_; ++o) {
            const uint32_t stored =
                awq ? word_at(parts.qzeros->data, g * z[1] + o / 8) >> (4 * awq_nibble[o % 8]) & 15u
                    : number_at(parts.qzeros->data, g * z[1], 1, o, bits);
            // Without wrapping round, as the tools that read the first format: 2^bits is a zero point.
            zeros_.push_back(stored + (scheme.zeros_less_one ? 1 : 0));
        }
    }

    groups_.resize(static_cast<size_t>(n_in_));
    if (parts.g_idx != nullptr && !awq) {
        if (parts.g_idx->dtype != "I32" || parts.g_idx->shape != std::vector<int64_t>{n_in_}) {
            fail(fmt::format("g_idx of {} I32", n_in_), describe(*parts.g_idx));
        }
        std::memcpy(groups_.data(), parts.g_idx->data.data(), parts.g_idx->data.size());
    } else {
        const int64_t size = scheme.group_size > 0 ? scheme.group_size : n_in_;
        for (int64_t i = 0; i < n_in_; ++i) groups_[static_cast<size_t>(i)] = static_cast<int32_t>(i / size);
    }
    check_groups();
}

void PackedIntegers::check_groups() {
    const auto outside = std::ranges::find_if(groups_, [&](int32_t g) { return g < 0 || g >= n_groups_; });
    if (outside != groups_.end()) {
        fail(fmt::format("groups 0 to {} as there are scales", n_groups_ - 1),
             fmt::format("group {} for input {}", *outside, outside - groups_.begin()));
    }
    bool whole = true;
    for (int64_t i = 0; i < n_in_; ++i) {
        whole = whole &&
                groups_[static_cast<size_t>(i)] == groups_[static_cast<size_t>(i / block_len * block_len)];
    }
    format_ = !whole ? Format::F16 : scheme_.bits == 8 ? Format::Q8_Z : Format::Q4_Z;
}

template <int bits>
uint32_t PackedIntegers::quant(int64_t in, int64_t out) const {
    if (scheme_.method == QuantScheme::Method::awq) {
        return word_at(words_, in * (n_out_ / 8) + out / 8) >> (4 * awq_nibble[out % 8]) & 15u;
    }
    return number_at(words_, out, n_out_, in, bits);
}

uint32_t PackedIntegers::zero(int64_t group, int64_t out) const {
    return zeros_[static_cast<size_t>(group * n_out_ + out)];
}

float PackedIntegers::scale(int64_t group, int64_t out) const {
    return scales_[static_cast<size_t>(group * n_out_ + out)];
}

template <int bits>
void PackedIntegers::write_rows_of(int64_t first, int64_t last, std::span<std::byte> out) const {
    const auto row_bytes = static_cast<int64_t>(data_bytes(format_, n_in_));
    // Block by block over all rows: neighbours in the words are rows here.
    for (int64_t in = 0; in < n_in_; in += block_len) {
        const int64_t group = groups_[static_cast<size_t>(in)];
        for (int64_t o = first; o < last; ++o) {
            std::byte* const row = out.data() + o * row_bytes;
            if (format_ == Format::Q4_Z) {
                BlockQ4_Z b{as_half(scale(group, o), name_, source_),
                            F16::from(static_cast<float>(zero(group, o))),
                            {}};
                for (int i = 0; i < 16; ++i) {
                    b.qs[i] = static_cast<uint8_t>(quant<bits>(in + i, o) | quant<bits>(in + i + 16, o) << 4);
                }
                std::memcpy(row + in / block_len * static_cast<int64_t>(sizeof(b)), &b, sizeof(b));
            } else if (format_ == Format::Q8_Z) {
                BlockQ8_Z b{as_half(scale(group, o), name_, source_),
                            F16::from(static_cast<float>(zero(group, o))),
                            {}};
                for (int i = 0; i < 32; ++i) b.qs[i] = static_cast<uint8_t>(quant<bits>(in + i, o));
                std::memcpy(row + in / block_len * static_cast<int64_t>(sizeof(b)), &b, sizeof(b));
            } else {
                for (int64_t i = in; i < in + block_len; ++i) {
                    const int64_t g = groups_[static_cast<size_t>(i)];
                    const auto q = static_cast<float>(quant<bits>(i, o)), z = static_cast<float>(zero(g, o));
                    const F16 w = F16::from(scale(g, o) * (q - z));
                    std::memcpy(row + i * static_cast<int64_t>(sizeof(w)), &w, sizeof(w));
                }
            }
        }
    }
}

void PackedIntegers::write_rows(int64_t first, int64_t last, std::span<std::byte> out) const {
    switch (scheme_.bits) {
        case 2:
            return write_rows_of<2>(first, last, out);
        case 3:
            return write_rows_of<3>(first, last, out);
        case 4:
            return write_rows_of<4>(first, last, out);
        default:
            return write_rows_of<8>(first, last, out);
    }
}

}  // namespace smelt
