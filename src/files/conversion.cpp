// The plan and the stream.
#include "files/conversion.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <mutex>

#include "base/error.h"
#include "files/families.h"
#include "files/writers.h"

namespace smelt {

namespace {

constexpr size_t chunk_bytes = size_t{4}
                               << 20;  // written at once; large enough for the disk, small in memory
constexpr float largest_half = 65504;

bool is_or_scales_by_half(Format f) {
    return f == Format::F16 || f == Format::Q8_0 || f == Format::Q4_0;
}

// A row's values must be finite and, where the target's scale or value is a half, fit into one.
void check_values(const OutputTensor& t, std::span<const float> row) {
    const float limit = is_or_scales_by_half(t.format) ? largest_half : std::numeric_limits<float>::max();
    for (const float v : row) {
        if (!(std::fabs(v) <= limit)) {
            throw Error("{}: tensor {}: value {} does not fit into {}", t.source.source, t.source.name, v,
                        to_string(t.format));
        }
    }
}

// The quants stay; two blocks of 32 share the group's scale, rounded to half.
void regroup(const OutputTensor& t, const RowView& row, std::byte* out) {
    constexpr int64_t group = BlockQ8_G64::block_len;
    for (int64_t i = 0; i < row.n / group; ++i) {
        float scale = 0;
        std::memcpy(&scale, row.scales + i * static_cast<int64_t>(sizeof(float)), sizeof(float));
        check_values(t, std::span(&scale, 1));
        for (int64_t half = 0; half < 2; ++half) {
            BlockQ8_0 block;
            block.d = F16::from(scale);
            std::memcpy(block.qs, row.data + i * group + half * 32, 32);
            std::memcpy(out, &block, sizeof(block));
            out += sizeof(block);
        }
    }
}

// The numbers stay, their nibbles move.
void reorder_nibbles(const RowView& row, std::byte* out) {
    for (int64_t i = 0; i < row.n / BlockMXFP4::block_len; ++i) {
        BlockMXFP4_HF from;
        std::memcpy(&from.scale, row.scales + i, sizeof(from.scale));
        std::memcpy(from.qs, row.data + i * static_cast<int64_t>(sizeof(from.qs)), sizeof(from.qs));
        BlockMXFP4 to{from.scale, {}};
        for (int j = 0; j < BlockMXFP4::block_len; ++j) BlockMXFP4::set_code(to, j, from.code(from, j));
        std::memcpy(out + i * static_cast<int64_t>(sizeof(to)), &to, sizeof(to));
    }
}

void convert_row(const OutputTensor& t, const RowView& row, std::vector<float>& floats, std::byte* out) {
    if (row.format == t.format) {
        std::memcpy(out, row.data, data_bytes(t.format, row.n));
    } else if (row.format == Format::Q8_G64 && t.format == Format::Q8_0) {
        regroup(t, row, out);
    } else if (row.format == Format::MXFP4_HF && t.format == Format::MXFP4) {
        reorder_nibbles(row, out);
    } else {
        floats.resize(static_cast<size_t>(row.n));
        decode_row(row, floats);
        check_values(t, floats);
        encode_row(t.format, floats, out, nullptr);
    }
}

RowOrder reorder(const TensorRule& rule, const std::string& from, const std::string& to) {
    const bool rotary = rule.role != TensorRole::plain && rule.role != TensorRole::optional;
    if (!rotary || from == to) return RowOrder::as_is;
    return to == "interleaved" ? RowOrder::halves_to_pairs : RowOrder::pairs_to_halves;
}

// Vectors that GGUF widened go back to the format of the matrices where that loses nothing.
void narrow_vectors(std::vector<OutputTensor>& plan) {
    const auto matrix = std::ranges::find_if(plan, [](const auto& t) { return t.source.shape.size() == 2; });
    if (matrix == plan.end() || matrix->format == Format::F32) return;
    const Format target = matrix->format;
    for (OutputTensor& t : plan) {
        if (t.source.shape.size() >= 2 || t.format != Format::F32 || t.source.n_rows() == 0) continue;
        const auto n = static_cast<size_t>(t.source.row_len());
        std::vector<float> values(n), back(n);
        std::vector<std::byte> narrow(data_bytes(target, t.source.row_len()));
        decode_row(t.source.row(0), values);
        if (!std::ranges::all_of(values, [](float v) { return std::isfinite(v); })) continue;
        encode_row(target, values, narrow.data(), nullptr);
        decode_row({target, narrow.data(), nullptr, t.source.row_len()}, back);
        if (values == back) t.format = target;
    }
}

}  // namespace

int64_t source_row(RowOrder order, int64_t head_dim, int64_t r) {
    const int64_t head = r / head_dim * head_dim, i = r % head_dim, half = head_dim / 2;
    switch (order) {
        case RowOrder::as_is:
            return r;
        case RowOrder::halves_to_pairs:
            return head + i % 2 * half + i / 2;
        case RowOrder::pairs_to_halves:
            return head + i % half * 2 + i / half;
    }
    return r;
}

Format choose_format(const TensorView& tensor, const FormatChoice& choice) {
    const bool to_gguf = choice.target == Container::gguf;
    if (tensor.shape.size() < 2) return to_gguf ? Format::F32 : tensor.format;
    if (choice.requested) {
        if (tensor.row_len() % format_info(*choice.requested).block_len == 0) return *choice.requested;
        return tensor.format == Format::F32 ? Format::F16 : tensor.format;
    }
    const bool quantized = format_info(tensor.format).block_len > 1;
    if (!to_gguf) return quantized ? Format::F16 : tensor.format;
    if (tensor.format == Format::MXFP4_HF) return Format::MXFP4;
    return format_info(tensor.format).gguf_id < 0 ? Format::Q8_0 : tensor.format;
}

std::vector<OutputTensor> plan_tensors(const ModelFile& model, const FormatChoice& choice) {
    if (choice.requested && !format_info(*choice.requested).can_encode) {
        throw Error("format {}: is for reading only; formats to write are {}", to_string(*choice.requested),
                    encodable_names());
    }
    if (choice.requested && choice.target == Container::gguf && format_info(*choice.requested).gguf_id < 0) {
        throw Error("format {}: GGUF has no type for it; formats to write are {}",
                    to_string(*choice.requested), encodable_names());
    }
    if (!model.unsupported.empty()) (void)model.require(model.unsupported.front().name);
    const std::string* architecture = model.metadata.get_string("general.architecture");
    const Family* family = family_of(model.metadata);
    const bool to_gguf = choice.target == Container::gguf;
    if (family == nullptr && choice.target != model.container) {
        throw Error("{}: architecture {}: this build has no table of its names in the other container",
                    model.path.string(), architecture == nullptr ? "(none)" : *architecture);
    }
    if (const auto missing = missing_tensors(model); !missing.empty()) (void)model.require(missing.front());

    const std::string* from = model.metadata.get_string("smelt.rope.pairing");
    const std::string pairing_from = from == nullptr ? "half" : *from;
    const std::string pairing_to =
        to_gguf && family != nullptr && family->gguf_interleaved ? "interleaved" : "half";
    const int64_t head_dim =
        family == nullptr ? 0 : model.metadata.get_int(*architecture + ".attention.key_length").value_or(0);

    std::vector<OutputTensor> plan;
    for (const TensorView& t : model.tensors) {
        OutputTensor out{t, t.name, choose_format(t, choice)};
        const auto match = family == nullptr ? std::nullopt : match_gguf(*family, t.name);
        if (match && !to_gguf && match->rule->hf.empty()) continue;  // config.json says it
        if (match && !to_gguf) out.name = hf_name(*match);
        if (family != nullptr && !match && choice.target != model.container) {
            throw Error("{}: tensor {}: {} has no name for it in the other container", t.source, t.name,
                        *architecture);
        }
        if (match) out.order = reorder(*match->rule, pairing_from, pairing_to);
        if (out.order != RowOrder::as_is) {
            // A bias is reordered as a column.
            if (t.shape.size() == 1) out.source.shape = {t.shape[0], 1};
            out.head_dim = head_dim;
            if (head_dim < 2 || head_dim % 2 != 0 || out.source.n_rows() % head_dim != 0 ||
                (t.shape.size() == 1 && format_info(t.format).block_len != 1)) {
                throw Error("{}: tensor {}: expected rows in heads of {}, found {}", t.source, t.name,
                            head_dim, out.source.n_rows());
            }
        }
        plan.push_back(std::move(out));
    }
    if (!to_gguf && model.container != Container::hugging_face) narrow_vectors(plan);
    return plan;
}

void stream_tensor(const OutputTensor& t, ThreadPool& pool, const ByteSink& sink) {
    if (t.format == t.source.format && t.order == RowOrder::as_is) {
        for (auto rest = t.source.data; !rest.empty();) {
            const auto part = rest.first(std::min(rest.size(), chunk_bytes));
            sink(part);
            rest = rest.subspan(part.size());
        }
        return;
    }
    const int64_t n_rows = t.source.n_rows();
    const size_t row_bytes = data_bytes(t.format, t.source.row_len());
    const int64_t chunk_rows = std::clamp<int64_t>(
        static_cast<int64_t>(chunk_bytes / std::max<size_t>(1, row_bytes)), 1, std::max<int64_t>(1, n_rows));
    std::vector<std::byte> buffer(static_cast<size_t>(chunk_rows) * row_bytes);
    std::vector<std::vector<float>> floats(static_cast<size_t>(pool.size()));
    std::mutex mutex;
    std::string failure;  // of any member: a pool's job must not throw
    for (int64_t first = 0; first < n_rows; first += chunk_rows) {
        const int64_t n = std::min(chunk_rows, n_rows - first);
        pool.run([&](int member) {
            try {
                for (int64_t i = n * member / pool.size(); i < n * (member + 1) / pool.size(); ++i) {
                    const int64_t r =
                        t.order == RowOrder::as_is ? first + i : source_row(t.order, t.head_dim, first + i);
                    convert_row(t, t.source.row(r), floats[static_cast<size_t>(member)],
                                buffer.data() + static_cast<size_t>(i) * row_bytes);
                }
            } catch (const Error& e) {
                const std::lock_guard lock(mutex);
                failure = e.what();
            }
        });
        if (!failure.empty()) throw Error(failure);
        sink(std::span(buffer).first(static_cast<size_t>(n) * row_bytes));
    }
}

void ProgressMeter::add(uint64_t n) {
    done_ += n;
    if (!report_ || (done_ < total_ && done_ - reported_ < total_ / 1000)) return;
    reported_ = done_;
    report_(done_, total_);
}

}  // namespace smelt
