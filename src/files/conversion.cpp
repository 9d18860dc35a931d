// Rows of the sources become rows of the target, a few megabytes at a time.
#include "files/conversion.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <mutex>

#include "base/error.h"
#include "files/transpose.h"
#include "files/writers.h"
#include "quant/group_codes.h"
#include "quant/group_search.h"

namespace smelt {

namespace {

constexpr size_t chunk_bytes = size_t{4}
                               << 20;  // written at once; large enough for the disk, small in memory
constexpr float largest_half = 65504;

bool is_or_scales_by_half(Format f) {
    return f == Format::F16 || group_layout(f).has_value();
}

// A row's values must be finite and, where the target's scale or value is a half, fit into one.
void check_values(const TensorView& source, Format target, std::span<const float> row) {
    const float limit = is_or_scales_by_half(target) ? largest_half : std::numeric_limits<float>::max();
    for (const float v : row) {
        if (!(std::fabs(v) <= limit)) {
            throw Error("{}: tensor {}: value {} does not fit into {}", source.source, source.name, v,
                        to_string(target));
        }
    }
}

// The quants stay; two blocks of 32 share the group's scale, rounded to half.
void regroup(const TensorView& source, const RowView& row, std::byte* out) {
    constexpr int64_t group = BlockQ8_G64::block_len;
    for (int64_t i = 0; i < row.n / group; ++i) {
        float scale = 0;
        std::memcpy(&scale, row.scales + i * static_cast<int64_t>(sizeof(float)), sizeof(float));
        check_values(source, Format::Q8_0, std::span(&scale, 1));
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
        for (int j = 0; j < BlockMXFP4::block_len; ++j) BlockMXFP4::set_code(&to, j, from.code(&from, j));
        std::memcpy(out + i * static_cast<int64_t>(sizeof(to)), &to, sizeof(to));
    }
}

// And back, one of the two planes.
void reorder_nibbles(const RowView& row, Plane plane, std::byte* out) {
    for (int64_t i = 0; i < row.n / BlockMXFP4::block_len; ++i) {
        BlockMXFP4 from;
        std::memcpy(&from, row.data + i * static_cast<int64_t>(sizeof(from)), sizeof(from));
        BlockMXFP4_HF to{from.scale, {}};
        for (int j = 0; j < BlockMXFP4::block_len; ++j) BlockMXFP4_HF::set_code(&to, j, from.code(&from, j));
        if (plane == Plane::scales) {
            std::memcpy(out + i, &to.scale, sizeof(to.scale));
        } else {
            std::memcpy(out + i * static_cast<int64_t>(sizeof(to.qs)), to.qs, sizeof(to.qs));
        }
    }
}

// Of row r of the target.
std::span<const float> importance_of(const OutputTensor& t, int64_t r) {
    if (t.importance.empty()) return {};
    const int64_t n_matrices = static_cast<int64_t>(t.importance.size()) / t.row_len();
    const int64_t matrix = r / (t.n_rows() / n_matrices);
    return t.importance.subspan(static_cast<size_t>(matrix * t.row_len()), static_cast<size_t>(t.row_len()));
}

void convert_row(const OutputTensor& t, const TensorView& source, const RowView& row,
                 std::span<const float> importance, std::vector<float>& floats, std::byte* out) {
    if (row.format == t.format) {
        std::memcpy(out, t.plane == Plane::scales ? row.scales : row.data, t.row_bytes());
    } else if (row.format == Format::Q8_G64 && t.format == Format::Q8_0) {
        regroup(source, row, out);
    } else if (row.format == Format::MXFP4_HF && t.format == Format::MXFP4) {
        reorder_nibbles(row, out);
    } else if (row.format == Format::MXFP4 && t.format == Format::MXFP4_HF) {
        reorder_nibbles(row, t.plane, out);
    } else {
        floats.resize(static_cast<size_t>(row.n));
        decode_row(row, floats);
        check_values(source, t.format, floats);
        if (!importance.empty() && is_of_groups(t.format) && t.format != Format::Q8_0) {
            encode_important(t.format, floats, importance, out);
        } else {
            encode_row(t.format, floats, out, nullptr);
        }
    }
}

SourceRow source_of(const OutputTensor& t, int64_t r) {
    switch (t.order) {
        case RowOrder::even_rows:
            return {0, 2 * r};
        case RowOrder::odd_rows:
            return {0, 2 * r + 1};
        case RowOrder::by_turns:
            return {static_cast<size_t>(r % 2), r / 2};
        case RowOrder::listed:
            return t.rows[static_cast<size_t>(r)];
        default:
            const int64_t n = t.sources.front().n_rows();
            return {static_cast<size_t>(r / n), source_row(t.order, t.head_dim, r % n)};
    }
}

}  // namespace

int64_t source_row(RowOrder order, int64_t head_dim, int64_t r) {
    if (order == RowOrder::as_is) return r;
    const int64_t head = r / head_dim * head_dim, i = r % head_dim, half = head_dim / 2;
    switch (order) {
        case RowOrder::halves_to_pairs:
            return head + i % 2 * half + i / 2;
        case RowOrder::pairs_to_halves:
            return head + i % half * 2 + i / half;
        default:
            return r;
    }
}

int64_t OutputTensor::n_elements() const {
    int64_t n = 1;
    for (const int64_t d : shape) n *= d;
    return n;
}

uint64_t OutputTensor::row_bytes() const {
    return plane == Plane::scales ? scale_bytes(format, row_len()) : data_bytes(format, row_len());
}

namespace {

void stream_rows(const OutputTensor& t, ThreadPool& pool, const ByteSink& sink) {
    if (t.n_bytes() == 0) return;
    if (t.make) {
        const std::vector<float> values = t.make();
        CHECK(static_cast<int64_t>(values.size()) == t.n_elements(), "{}", t.name);
        OutputTensor made = t;
        made.make = nullptr;
        made.sources.front().data = std::as_bytes(std::span(values));
        return stream_tensor(made, pool, sink);
    }
    const bool same = std::ranges::all_of(t.sources, [&](const auto& s) { return s.format == t.format; });
    if (same && t.order == RowOrder::as_is) {
        for (const TensorView& source : t.sources) {
            for (auto rest = t.plane == Plane::scales ? source.scales : source.data; !rest.empty();) {
                const auto part = rest.first(std::min(rest.size(), chunk_bytes));
                sink(part);
                rest = rest.subspan(part.size());
            }
        }
        return;
    }
    const int64_t n_rows = t.n_rows();
    const size_t row_bytes = t.row_bytes();
    const int64_t chunk_rows = std::clamp<int64_t>(static_cast<int64_t>(chunk_bytes / row_bytes), 1, n_rows);
    std::vector<std::byte> buffer(static_cast<size_t>(chunk_rows) * row_bytes);
    std::vector<std::vector<float>> floats(static_cast<size_t>(pool.size()));
    std::mutex mutex;
    std::string failure;  // of any member: a pool's job must not throw
    for (int64_t first = 0; first < n_rows; first += chunk_rows) {
        const int64_t n = std::min(chunk_rows, n_rows - first);
        pool.run([&](int member) {
            try {
                for (int64_t i = n * member / pool.size(); i < n * (member + 1) / pool.size(); ++i) {
                    const SourceRow from = source_of(t, first + i);
                    const TensorView& source = t.sources[from.source];
                    convert_row(t, source, source.row(from.row), importance_of(t, first + i),
                                floats[static_cast<size_t>(member)],
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

}  // namespace

void stream_tensor(const OutputTensor& t, ThreadPool& pool, const ByteSink& sink) {
    if (t.make_bytes) {
        const std::vector<std::byte> bytes = t.make_bytes();
        CHECK(bytes.size() == t.n_bytes(), "{}: {} bytes, {}", t.name, bytes.size(), t.n_bytes());
        return sink(bytes);
    }
    if (!t.by_columns) return stream_rows(t, pool, sink);
    std::vector<std::byte> rows;  // one matrix of a model of GPT-2's size
    rows.reserve(t.n_bytes());
    stream_rows(t, pool,
                [&](std::span<const std::byte> part) { rows.insert(rows.end(), part.begin(), part.end()); });
    sink(transposed(rows, t.n_rows(), t.row_len(), data_bytes(t.format, 1)));
}

void ProgressMeter::add(uint64_t n) {
    done_ += n;
    if (!report_ || (done_ < total_ && done_ - reported_ < total_ / 1000)) return;
    reported_ = done_;
    report_(done_, total_);
}

}  // namespace smelt
