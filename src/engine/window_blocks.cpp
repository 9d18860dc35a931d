// Reference counts, and the list of parts that are kept for whoever may want them.
#include "engine/window_blocks.h"

#include <numeric>

#include "base/error.h"

namespace smelt {

WindowBlocks::WindowBlocks(int n_blocks, int n_parts)
    : entries_(static_cast<size_t>(n_blocks)),
      blank_(static_cast<size_t>(n_parts)),
      n_parts_(static_cast<size_t>(n_parts)) {
    std::iota(blank_.begin(), blank_.end(), 0);
}

void WindowBlocks::take(int32_t block) {
    CHECK(at(block).part == none && n_available() > 0, "block {}, {} parts", block, n_parts_);
    if (blank_.empty()) forget(oldest_);
    at(block).part = blank_.back();
    at(block).n_refs = 1;
    blank_.pop_back();
}

void WindowBlocks::add_ref(int32_t block) {
    CHECK(at(block).part != none, "block {}", block);
    if (at(block).n_refs++ == 0) unlink(block);
}

void WindowBlocks::drop_ref(int32_t block, bool keep) {
    CHECK(at(block).n_refs > 0, "block {}", block);
    if (--at(block).n_refs > 0) return;
    link(block);
    if (!keep) forget(block);
}

void WindowBlocks::forget(int32_t block) {
    CHECK(at(block).n_refs == 0, "block {}", block);
    if (at(block).part == none) return;
    unlink(block);
    blank_.push_back(at(block).part);
    at(block).part = none;
}

void WindowBlocks::merge(int32_t from, int32_t to) {
    if (at(to).part != none) {
        add_ref(to);
        drop_ref(from, false);
        return;
    }
    CHECK(at(from).n_refs == 1, "block {}: {} holders", from, at(from).n_refs);
    at(to).part = at(from).part;
    at(to).n_refs = 1;
    at(from) = {};
}

void WindowBlocks::link(int32_t block) {
    at(block).prev = newest_;
    at(block).next = none;
    (newest_ == none ? oldest_ : at(newest_).next) = block;
    newest_ = block;
    ++n_kept_;
}

void WindowBlocks::unlink(int32_t block) {
    const int32_t prev = at(block).prev, next = at(block).next;
    (prev == none ? oldest_ : at(prev).next) = next;
    (next == none ? newest_ : at(next).prev) = prev;
    at(block).prev = at(block).next = none;
    --n_kept_;
}

void WindowBlocks::check(const std::vector<int>& n_refs) const {
    std::vector<bool> seen(n_parts_);
    const auto see = [&](int32_t part) {
        CHECK(part >= 0 && static_cast<size_t>(part) < n_parts_ && !seen[static_cast<size_t>(part)],
              "part {}", part);
        seen[static_cast<size_t>(part)] = true;
    };
    for (size_t b = 0; b < entries_.size(); ++b) {
        CHECK(entries_[b].n_refs == n_refs[b], "block {}: {} holders of its part, count {}", b, n_refs[b],
              entries_[b].n_refs);
        CHECK(entries_[b].part != none || entries_[b].n_refs == 0);
        if (entries_[b].part != none) see(entries_[b].part);
    }
    for (const int32_t part : blank_) see(part);
    for (size_t p = 0; p < n_parts_; ++p) CHECK(seen[p], "part {} is lost", p);
    int n_listed = 0;
    for (int32_t b = oldest_; b != none; b = at(b).next) {
        CHECK(at(b).n_refs == 0 && at(b).part != none && (at(b).next == none) == (newest_ == b));
        ++n_listed;
    }
    CHECK(n_listed == n_kept_, "{} kept, {} listed", n_kept_, n_listed);
}

}  // namespace smelt
