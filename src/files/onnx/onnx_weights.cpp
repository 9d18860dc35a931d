// MatMulNBits has a row's integers in blocks, two of 4 bits a byte with the lower one first; a scale and,
// where there are any, a zero point for each block.
#include "files/onnx/onnx_weights.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <map>

#include "base/error.h"
#include "files/families.h"
#include "files/readers.h"
#include "files/sizes.h"
#include "files/transpose.h"
#include "quant/format.h"

namespace smelt {

namespace {

Format float_format(const OnnxTensor& t) {
    if (t.type == OnnxType::f32) return Format::F32;
    if (t.type == OnnxType::f16) return Format::F16;
    if (t.type == OnnxType::bf16) return Format::BF16;
    throw Error("{}: tensor {}: expected floats, found {}", t.source, t.name, to_string(t.type));
}

std::vector<float> floats_of_tensor(const OnnxTensor& t) {
    const Format format = float_format(t);
    std::vector<float> values(static_cast<size_t>(t.n_elements()));
    const std::vector<std::byte> copy(t.data.begin(), t.data.end());  // aligned
    if (!values.empty()) decode_row({format, copy.data(), nullptr, t.n_elements()}, values);
    return values;
}

// One matrix of integers.
class IntegerMatrix {
 public:
    explicit IntegerMatrix(const OnnxWeight& w)
        : w_(w), n_blocks_((w.n_in + w.block - 1) / w.block), block_bytes_(w.block * w.bits / 8) {
        const int64_t row_bytes = w.n_in % w.block == 0 ? w.n_in * w.bits / 8 : n_blocks_ * block_bytes_;
        if (w.values->type != OnnxType::u8 || w.values->n_elements() != w.n_out * row_bytes)
            wrong(*w.values, fmt::format("{} rows of {} bytes", w.n_out, row_bytes));
        if (w.scales->n_elements() != w.n_out * n_blocks_)
            wrong(*w.scales, fmt::format("{} scales", w.n_out * n_blocks_));
        scales_ = floats_of_tensor(*w.scales);
        read_zeros();
        choose_format();
    }

    Format format() const { return format_; }
    // Scales that a half rounds.
    bool rounds() const { return rounds_; }

    std::vector<std::byte> rows() const {
        const auto row_bytes = static_cast<int64_t>(data_bytes(format_, w_.n_in));
        std::vector<std::byte> out(static_cast<size_t>(w_.n_out * row_bytes));
        for (int64_t r = 0; r < w_.n_out; ++r) write_row(r, out.data() + r * row_bytes);
        return out;
    }

 private:
    [[noreturn]] static void wrong(const OnnxTensor& t, const std::string& expected) {
        throw Error("{}: tensor {}: expected {}, found {} {}", t.source, t.name, expected,
                    shape_text(t.shape), to_string(t.type));
    }

    void read_zeros() {
        const auto n = static_cast<size_t>(w_.n_out * n_blocks_);
        zeros_.assign(n, static_cast<float>(1 << (w_.bits - 1)));
        if (w_.zeros == nullptr) return;
        if (w_.zeros->type != OnnxType::u8) {
            if (w_.zeros->n_elements() != static_cast<int64_t>(n))
                wrong(*w_.zeros, fmt::format("{} zero points", n));
            zeros_ = floats_of_tensor(*w_.zeros);
            return;
        }
        const int64_t row_bytes = (n_blocks_ * w_.bits + 7) / 8;
        if (w_.zeros->n_elements() != w_.n_out * row_bytes)
            wrong(*w_.zeros, fmt::format("{} rows of {} bytes", w_.n_out, row_bytes));
        for (int64_t r = 0; r < w_.n_out; ++r) {
            for (int64_t b = 0; b < n_blocks_; ++b) {
                const auto byte = std::to_integer<unsigned>(
                    w_.zeros->data[static_cast<size_t>(r * row_bytes + (w_.bits == 4 ? b / 2 : b))]);
                zeros_[static_cast<size_t>(r * n_blocks_ + b)] = static_cast<float>(w_.bits == 8 ? byte
                                                                                    : b % 2 == 0 ? byte & 15u
                                                                                                 : byte >> 4);
            }
        }
    }

    // Blocks of 32 hold what has a scale for 32 or more, and integers as zero points. Everything else becomes
    // floats, which hold it exactly.
    void choose_format() {
        const bool whole = w_.block % 32 == 0 && w_.n_in % 32 == 0;
        const bool integers =
            std::ranges::all_of(zeros_, [&](float z) { return z >= 0 && z <= 256 && z == std::floor(z); });
        const bool middle = std::ranges::all_of(zeros_, [](float z) { return z == 8; });
        format_ = !whole || !integers ? Format::F32
                  : w_.bits == 8      ? Format::Q8_Z
                  : middle            ? Format::Q4_0
                                      : Format::Q4_Z;
        if (format_ == Format::F32) return;
        constexpr float smallest = 6.2e-5f, largest = 65504;  // of halves with all their digits
        for (const float s : scales_) {
            if (static_cast<float>(F16::from(s)) == s) continue;
            rounds_ = true;
            // Below, a half loses more than its last digit: then floats.
            if (!(std::fabs(s) >= smallest && std::fabs(s) <= largest)) format_ = Format::F32;
        }
        rounds_ = rounds_ && format_ != Format::F32;
    }

    uint8_t quant(int64_t r, int64_t i) const {
        const int64_t whole = w_.n_in % w_.block == 0 ? w_.n_in * w_.bits / 8 : n_blocks_ * block_bytes_;
        const auto byte =
            std::to_integer<uint8_t>(w_.values->data[static_cast<size_t>(r * whole + i * w_.bits / 8)]);
        return w_.bits == 8 ? byte : static_cast<uint8_t>(i % 2 == 0 ? byte & 15 : byte >> 4);
    }

    template <class Block>
    void write_blocks(int64_t r, std::byte* out) const {
        for (int64_t i = 0; i < w_.n_in; i += 32) {
            const auto at = static_cast<size_t>(r * n_blocks_ + i / w_.block);
            Block b{};
            b.d = F16::from(scales_[at]);
            if constexpr (requires { b.z; }) b.z = F16::from(zeros_[at]);
            for (int k = 0; k < 32; ++k) {
                if constexpr (sizeof(b.qs) == 32) {
                    b.qs[k] = quant(r, i + k);
                } else {
                    b.qs[k % 16] = static_cast<uint8_t>(b.qs[k % 16] | quant(r, i + k) << (k / 16 * 4));
                }
            }
            std::memcpy(out + i / 32 * static_cast<int64_t>(sizeof(b)), &b, sizeof(b));
        }
    }

    void write_row(int64_t r, std::byte* out) const {
        if (format_ == Format::Q4_0) return write_blocks<BlockQ4_0>(r, out);
        if (format_ == Format::Q4_Z) return write_blocks<BlockQ4_Z>(r, out);
        if (format_ == Format::Q8_Z) return write_blocks<BlockQ8_Z>(r, out);
        for (int64_t i = 0; i < w_.n_in; ++i) {
            const auto at = static_cast<size_t>(r * n_blocks_ + i / w_.block);
            const float value = scales_[at] * (static_cast<float>(quant(r, i)) - zeros_[at]);
            std::memcpy(out + i * static_cast<int64_t>(sizeof(value)), &value, sizeof(value));
        }
    }

    const OnnxWeight& w_;
    int64_t n_blocks_, block_bytes_;
    std::vector<float> scales_, zeros_;
    Format format_ = Format::F32;
    bool rounds_ = false;
};

class WeightMaker {
 public:
    WeightMaker(Weights weights, ModelFile& model) : weights_(weights), model_(model) {}

    void add(const OnnxPart& part) {
        const Rows& rows = rows_of(part.weight);
        TensorView view{part.name, rows.format, {}, {}, {}, part.weight.values->source};
        const int64_t row_len = std::max<int64_t>(part.weight.n_in, 1);
        view.shape =
            part.weight.n_in == 0 ? std::vector<int64_t>{part.n} : std::vector<int64_t>{part.n, row_len};
        const auto row = rows.bytes.size() / static_cast<size_t>(std::max<int64_t>(part.weight.n_out, 1));
        view.data =
            rows.bytes.subspan(static_cast<size_t>(part.first) * row, static_cast<size_t>(part.n) * row);
        model_.tensors.push_back(std::move(view));
    }

    // What the model is told to note.
    size_t n_rounded() const { return n_rounded_; }

 private:
    struct Rows {
        Format format = Format::F32;
        std::span<const std::byte> bytes;
    };

    // Embedding and head may share a matrix, q, k and v too.
    const Rows& rows_of(const OnnxWeight& w) {
        const auto [it, is_new] = made_.try_emplace({w.by_columns ? w.values : nullptr, w.values, w.scales});
        if (is_new) it->second = make(w);
        return it->second;
    }

    std::span<const std::byte> own(std::vector<std::byte> bytes) {
        model_.owned.push_back(std::make_shared<const std::vector<std::byte>>(std::move(bytes)));
        return *model_.owned.back();
    }

    Rows make(const OnnxWeight& w) {
        if (w.bits != 0) {
            const IntegerMatrix matrix(w);
            n_rounded_ += matrix.rounds();
            // Listed: the file's bytes, which are not those of the format.
            return {matrix.format(), weights_ == Weights::listed ? w.values->data : own(matrix.rows())};
        }
        const Format format = float_format(*w.values);
        const auto element = static_cast<size_t>(format_info(format).block_bytes);
        if (!w.by_columns || weights_ == Weights::listed)
            return {format, aligned(w.values->data, element, model_)};
        return {format, own(transposed(w.values->data, w.n_in, w.n_out, element))};
    }

    Weights weights_;
    ModelFile& model_;
    std::map<std::array<const void*, 3>, Rows> made_;
    size_t n_rounded_ = 0;
};

void add_zero_biases(ModelFile& model) {
    const Family* family = family_of(model.metadata);
    if (family == nullptr) return;
    const Sizes sizes(*family, model.metadata);
    for (const std::string& name : missing_tensors(model)) {
        if (!name.ends_with(".bias")) continue;
        const auto match = match_gguf(*family, name);
        if (!match) continue;
        std::vector<int64_t> shape = sizes.shape(match->rule->shape);
        int64_t n = 1;
        for (const int64_t d : shape) n *= d;
        if (n < 0 || n > int64_t{1} << 24) continue;
        model.owned.push_back(
            std::make_shared<const std::vector<std::byte>>(static_cast<size_t>(n) * sizeof(float)));
        model.tensors.push_back(
            {name, Format::F32, std::move(shape), *model.owned.back(), {}, model.path.string()});
    }
}

}  // namespace

void add_onnx_weights(const OnnxDecoder& decoder, Weights weights, ModelFile& model) {
    WeightMaker maker(weights, model);
    for (const OnnxPart& part : decoder.parts) maker.add(part);
    if (maker.n_rounded() > 0) {
        model.notes.push_back(
            fmt::format("scales of {} matrices are floats and are rounded to halves: a weight changes by one "
                        "part in 2048 at most",
                        maker.n_rounded()));
    }
    add_zero_biases(model);
}

}  // namespace smelt
