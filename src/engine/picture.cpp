// Numbers of places and positions.
#include "engine/picture.h"

#include <algorithm>

#include "base/error.h"

namespace smelt {

int32_t place_id(const Patches& patches, int place) {
    const uint32_t word = patches.digest[static_cast<size_t>(place) % patches.digest.size()];
    return first_place_id | static_cast<int32_t>(word & (first_place_id - 1));
}

void name_places(std::span<int32_t> tokens, std::span<const Picture> pictures) {
    for (const Picture& p : pictures) {
        for (int i = 0; i < p.patches->n_tokens(); ++i)
            tokens[static_cast<size_t>(p.first + i)] = place_id(*p.patches, i);
    }
}

std::vector<Picture> find_places(std::span<const int32_t> tokens, int32_t image_token,
                                 std::span<const std::shared_ptr<const Patches>> pictures) {
    std::vector<Picture> result;
    const int n_tokens = static_cast<int>(tokens.size());
    int at = 0;
    const auto is_place = [&](int i) { return tokens[static_cast<size_t>(i)] == image_token; };
    for (const auto& p : pictures) {
        while (at < n_tokens && !is_place(at)) ++at;
        const int first = at;
        while (at < n_tokens && is_place(at) && at - first < p->n_tokens()) ++at;
        if (at - first < p->n_tokens()) {
            throw Error("picture {}: expected {} tokens {} in a row, found {}", result.size() + 1,
                        p->n_tokens(), image_token, at - first);
        }
        result.push_back({p, first});
    }
    for (; at < n_tokens; ++at) {
        if (is_place(at)) throw Error("ids[{}]: token {} has no picture", at, image_token);
    }
    return result;
}

RopePositions::RopePositions(std::span<const Picture> pictures) {
    int end = 0;
    int32_t next = 0;
    for (const Picture& p : pictures) {
        const int rows = p.patches->rows / p.patches->merge, cols = p.patches->cols / p.patches->merge;
        const int32_t start = next + (p.first - end), length = std::max(rows, cols);
        parts_.push_back({p.first, p.end(), start, cols, length});
        end = p.end();
        next = start + length;
    }
}

std::array<int32_t, 3> RopePositions::at(int token) const {
    const auto after = std::ranges::upper_bound(parts_, token, {}, &Part::first);
    if (after == parts_.begin()) return {token, token, token};
    const Part& part = *std::prev(after);
    if (token >= part.end) {
        const int32_t p = part.start + part.length + (token - part.end);
        return {p, p, p};
    }
    const int32_t place = token - part.first;
    return {part.start, part.start + place / part.columns, part.start + place % part.columns};
}

}  // namespace smelt
