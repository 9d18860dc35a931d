// Layers with a sliding window need the K and V of the last tokens only. Their part of a block lives in a
// pool of its own, far smaller than the cache, and is given back when the window has passed. This class knows
// which block has such a part, and keeps parts that nobody needs any more as long as there is room, because a
// sequence that begins alike may find them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace smelt {

class WindowBlocks {
 public:
    // Parts for n_blocks blocks of the cache, out of n_parts.
    WindowBlocks(int n_blocks, int n_parts);

    static constexpr int32_t none = -1;
    int32_t part_of(int32_t block) const { return at(block).part; }  // none: it has none

    // The block gets a part, held once. There must be one that nobody holds.
    void take(int32_t block);
    void add_ref(int32_t block);
    // `keep`: others may find the block, so its part stays while there is room.
    void drop_ref(int32_t block, bool keep);
    // The block's content is gone, and nobody holds its part.
    void forget(int32_t block);
    // `to` has the same content and gets the part, and the one holder, of `from`; where it has its own, it is
    // held once more and `from`'s is free.
    void merge(int32_t from, int32_t to);

    int n_parts() const { return static_cast<int>(n_parts_); }
    int n_available() const { return n_blank() + n_kept_; }
    // CHECKs every invariant. n_refs: holders of each block's part.
    void check(const std::vector<int>& n_refs) const;

 private:
    struct Entry {
        int32_t part = none;
        int n_refs = 0;
        int32_t prev = none, next = none;  // in the list of kept ones, the oldest first
    };
    Entry& at(int32_t block) { return entries_[static_cast<size_t>(block)]; }
    const Entry& at(int32_t block) const { return entries_[static_cast<size_t>(block)]; }
    int n_blank() const { return static_cast<int>(blank_.size()); }
    void link(int32_t block);
    void unlink(int32_t block);

    std::vector<Entry> entries_;  // by block of the cache
    std::vector<int32_t> blank_;  // parts
    size_t n_parts_;
    int32_t oldest_ = none, newest_ = none;
    int n_kept_ = 0;
};

}  // namespace smelt
