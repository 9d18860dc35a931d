// Runs of rows by offset, pieces of rows by copying.
#include "backend/cut_weight.h"

#include <cstring>
#include <numeric>

namespace smelt {

namespace {

std::span<const std::byte> tail(std::span<const std::byte> bytes, size_t first) {
    return bytes.empty() ? bytes : bytes.subspan(first);
}

void append(std::vector<std::byte>& to, std::span<const std::byte> from, size_t first, size_t n) {
    if (n > 0) to.insert(to.end(), from.data() + first, from.data() + first + n);
}

}  // namespace

std::optional<Split> split_of(const WeightView& view, const Cut& cut, int n_partners) {
    if (cut.by == CutBy::none) return {};
    const bool by_rows = cut.by == CutBy::rows;
    const int64_t length = by_rows ? view.rows : view.cols;
    if (cut.unit < 1 || cut.parts < 1 || length % (cut.unit * cut.parts) != 0) {
        throw Error(
            "tensor parallelism: a weight of ({}, {}) cannot be cut: expected {} {} in {} parts, each of "
            "units of {}",
            view.rows, view.cols, length, by_rows ? "rows" : "columns", cut.parts, cut.unit);
    }
    Split split{cut.parts, cut.unit, 0};
    if (!by_rows) split.unit = std::lcm(cut.unit, int64_t{format_info(view.format).block_len});
    const int64_t part = length / cut.parts;
    // Rows whose unit is free are cut where the columns of the product that follows can be: between blocks.
    // Else the partners would have to gather what they have of its input.
    const int64_t block = format_info(view.format).block_len;
    if (by_rows && cut.unit == 1 && part % block == 0 && part / block >= n_partners) split.unit = block;
    if (part % split.unit != 0) return {};
    split.n_units = part / split.unit;
    if (split.n_units == 1) return {};  // each head of a list is a matrix
    if (split.n_units < n_partners && (!by_rows || n_partners % split.n_units != 0)) return {};
    return split;
}

CutWeight cut_weight(const WeightView& view, CutBy by, const Split& split, int partner, int n_partners) {
    const Split::Share share = split.share(partner, n_partners);
    const size_t row = data_bytes(view.format, view.cols), row_scales = scale_bytes(view.format, view.cols);
    CutWeight cut{.view = view, .data = {}, .scales = {}};
    if (by == CutBy::rows) {
        cut.view.rows = split.parts * share.n;
        if (split.parts == 1) {
            const auto first = static_cast<size_t>(share.first * view.row_step);
            cut.view.data = tail(view.data, first * row);
            cut.view.scales = tail(view.scales, first * row_scales);
            return cut;
        }
    } else {
        cut.view.cols = split.parts * share.n;
    }
    cut.view.row_step = 1;
    const auto take = [&](int64_t r, int64_t first_column, int64_t n_columns) {
        const auto at = static_cast<size_t>(r * view.row_step);
        append(cut.data, view.data, at * row + data_bytes(view.format, first_column),
               data_bytes(view.format, n_columns));
        append(cut.scales, view.scales, at * row_scales + scale_bytes(view.format, first_column),
               scale_bytes(view.format, n_columns));
    };
    cut.data.reserve(data_bytes(view.format, cut.view.rows * cut.view.cols));
    for (int64_t p = 0; by == CutBy::rows && p < split.parts; ++p) {
        for (int64_t r = 0; r < share.n; ++r) take(p * split.part_len() + share.first + r, 0, view.cols);
    }
    for (int64_t r = 0; by == CutBy::columns && r < view.rows; ++r) {
        for (int64_t p = 0; p < split.parts; ++p) take(r, p * split.part_len() + share.first, share.n);
    }
    cut.view.data = cut.data;
    cut.view.scales = cut.scales;
    return cut;
}

}  // namespace smelt
