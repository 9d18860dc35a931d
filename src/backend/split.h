// How partners of tensor parallelism share numbers that lie in a line: the columns of a row, the rows of a
// weight, the heads of a token. Knows how many there are of each, nothing of what they are.
#pragma once

#include <algorithm>
#include <cstdint>

namespace smelt {

// `parts` equal parts, one after the other; each is cut at whole units in the same way. Partner r of n has
// units [r * n_units / n, (r + 1) * n_units / n) of every part. Where there are fewer units than partners, it
// has unit r * n_units / n, and others have it too.
struct Split {
    int64_t parts = 1, unit = 1, n_units = 0;

    struct Share {
        int64_t first = 0, n = 0;  // numbers of a part
        bool operator==(const Share&) const = default;
    };
    Share share(int partner, int n_partners) const {
        const int64_t first = partner * n_units / n_partners;
        const int64_t end = std::max(first + 1, (partner + 1) * n_units / n_partners);
        return {first * unit, (end - first) * unit};
    }
    int64_t part_len() const { return unit * n_units; }
    int64_t length() const { return parts * part_len(); }
    // The same shares, whatever the units.
    bool same(const Split& other, int n_partners) const {
        if (parts != other.parts || part_len() != other.part_len()) return false;
        for (int r = 0; r < n_partners; ++r) {
            if (!(share(r, n_partners) == other.share(r, n_partners))) return false;
        }
        return true;
    }
};

}  // namespace smelt
