// Collecting the halves and checking that they fit.
#include "files/packed/mxfp4_pairs.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <utility>

#include "base/error.h"

namespace smelt {

namespace {

constexpr int64_t bytes_of_block = sizeof(BlockMXFP4_HF::qs);
static_assert(blocks_ending.size() == scales_ending.size());

bool is_blocks(const Mxfp4Pairs::Part& part) {
    return part.entry.name.ends_with(blocks_ending);
}

}  // namespace

bool Mxfp4Pairs::take(const SafetensorsEntry& entry, const std::string& source) {
    const bool blocks = entry.name.ends_with(blocks_ending), scales = entry.name.ends_with(scales_ending);
    if ((!blocks && !scales) || entry.dtype != "U8" || entry.data.empty()) return false;
    if (blocks && (entry.shape.size() < 3 || entry.shape.back() != bytes_of_block)) return false;
    parts_[entry.name.substr(0, entry.name.size() - blocks_ending.size())].push_back({entry, source});
    return true;
}

std::vector<Mxfp4Pairs::Pair> Mxfp4Pairs::join() {
    std::vector<Pair> pairs;
    for (auto& [name, parts] : parts_) {
        if (parts.size() != 2) {
            rest_.insert(rest_.end(), parts.begin(), parts.end());
            continue;
        }
        if (!is_blocks(parts[0])) std::swap(parts[0], parts[1]);
        Pair pair{std::move(parts[0]), std::move(parts[1])};
        std::vector<int64_t> expected = pair.blocks.entry.shape;
        expected.pop_back();
        if (pair.scales.entry.shape != expected) {
            throw Error("{}: {}: expected shape ({}) as {} has blocks, file has ({})", pair.scales.source,
                        pair.scales.entry.name, fmt::join(expected, ", "), pair.blocks.entry.name,
                        fmt::join(pair.scales.entry.shape, ", "));
        }
        pairs.push_back(std::move(pair));
    }
    parts_.clear();
    return pairs;
}

TensorView joined_view(const Mxfp4Pairs::Pair& pair) {
    // No overflow: the bytes are there, and a weight takes half of one.
    std::vector<int64_t> shape = pair.scales.entry.shape;
    shape.back() *= BlockMXFP4_HF::block_len;
    return {{},
            Format::MXFP4_HF,
            std::move(shape),
            pair.blocks.entry.data,
            pair.scales.entry.data,
            pair.blocks.source};
}

}  // namespace smelt
