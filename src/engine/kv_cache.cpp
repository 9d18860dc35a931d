// Blocks, their reference counts, the tree of cached prefixes and the list of what may be evicted.
#include "engine/kv_cache.h"

#include <algorithm>
#include <bit>
#include <unordered_map>

#include "base/error.h"

namespace smelt {

int window_parts_for(int window, int block_len, int max_seqs, int max_tokens) {
    const int of_window = (window + block_len - 1) / block_len + 2;
    return max_seqs * of_window + (max_tokens + block_len - 1) / block_len;
}

KvCache::KvCache(int n_blocks, int block_len, WindowPool pool) : block_len_(block_len) {
    CHECK(n_blocks > 0 && block_len > 0, "{} blocks of {}", n_blocks, block_len);
    if (pool.n_parts > 0) {
        CHECK(pool.window > 0);
        window_ = pool.window;
        windows_.emplace(n_blocks, pool.n_parts);
    }
    const auto n = static_cast<size_t>(n_blocks);
    blocks_.resize(n);
    ids_.resize(n * static_cast<size_t>(block_len));
    buckets_.assign(std::bit_ceil(2 * n), none);
    for (int32_t b = 0; b < n_blocks; ++b) link(b, none);
}

int KvCache::reuse_prefix(KvSequence& s, std::span<const int32_t> ids) {
    CHECK(s.blocks.empty() && s.n_tokens == 0);
    const auto len = static_cast<size_t>(block_len_);
    uint64_t parent = root_of(s);
    for (size_t i = 0; (i + 1) * len < ids.size(); ++i) {
        const int32_t b = find(key_of(s, i, parent, ids.subspan(i * len, len)));
        if (b == none) break;
        add_ref(b);
        s.blocks.push_back(b);
        parent = block(b).node;
    }
    for (const int n = n_findable(s); static_cast<int>(s.blocks.size()) > n; s.blocks.pop_back()) {
        drop_ref(s.blocks.back());
    }
    s.n_published = static_cast<int>(s.blocks.size());
    s.n_tokens = s.n_done = s.n_published * block_len_;
    s.first_part = first_seen(s.n_tokens);
    hold_parts(s);
    return s.n_tokens;
}

int KvCache::first_seen(int n_tokens) const {
    return windows_ ? std::max(0, n_tokens + 1 - window_) / block_len_ : 0;
}

// The most leading blocks of s after which all is there that the next token sees.
int KvCache::n_findable(const KvSequence& s) const {
    if (!windows_) return static_cast<int>(s.blocks.size());
    int best = 0, n_with_part = 0;
    for (int n = 1; n <= static_cast<int>(s.blocks.size()); ++n) {
        const bool has_part = windows_->part_of(s.blocks[static_cast<size_t>(n - 1)]) != WindowBlocks::none;
        n_with_part = has_part ? n_with_part + 1 : 0;
        if (n - n_with_part <= first_seen(n * block_len_)) best = n;
    }
    return best;
}

void KvCache::hold_parts(const KvSequence& s) {
    for (size_t i = static_cast<size_t>(s.first_part); windows_ && i < s.blocks.size(); ++i) {
        windows_->add_ref(s.blocks[i]);
    }
}

// Of the blocks before `end`.
void KvCache::drop_parts(KvSequence& s, int end) {
    if (!windows_) return;
    for (; s.first_part < end; ++s.first_part) {
        const int32_t b = s.blocks[static_cast<size_t>(s.first_part)];
        windows_->drop_ref(b, block(b).node != 0);
    }
}

bool KvCache::reserve(KvSequence& s, int n, std::vector<BlockCopy>& copies) {
    const auto first = static_cast<size_t>(s.n_tokens / block_len_);  // block that is written first
    const bool copy = first < s.blocks.size() && block(s.blocks[first]).n_refs > 1;
    const int n_new = n_blocks_for(s.n_tokens + n) - static_cast<int>(s.blocks.size());
    const int n_taken = std::max(n_new, 0) + (copy ? 1 : 0);
    if (n_taken > n_unreferenced_ || (windows_ && n_taken > windows_->n_available())) return false;
    if (copy) {
        copies.reserve(copies.size() + 1);  // or a block could be counted that nobody holds
        const int32_t shared = s.blocks[first];
        s.blocks[first] = take_blank();
        BlockCopy c{shared, s.blocks[first]};
        if (windows_) {
            c.part_from = windows_->part_of(shared);
            c.part_to = windows_->part_of(s.blocks[first]);
            windows_->drop_ref(shared, block(shared).node != 0);
        }
        copies.push_back(c);
        drop_ref(shared);
    }
    for (int i = 0; i < n_new; ++i) s.blocks.push_back(take_blank());
    return true;
}

void KvCache::advance(KvSequence& s, int n) {
    s.n_tokens += n;
    CHECK(n_blocks_for(s.n_tokens) <= static_cast<int>(s.blocks.size()), "{} tokens, {} blocks", s.n_tokens,
          s.blocks.size());
}

void KvCache::commit(KvSequence& s, std::span<const int32_t> ids, int n) {
    if (s.blocks.empty()) return;
    s.n_done += n;
    CHECK(s.n_done <= s.n_tokens && static_cast<size_t>(s.n_done) <= ids.size(), "{} of {} tokens, {} ids",
          s.n_done, s.n_tokens, ids.size());
    const auto len = static_cast<size_t>(block_len_);
    for (; s.n_published < s.n_done / block_len_; ++s.n_published) {
        const auto i = static_cast<size_t>(s.n_published);
        const uint64_t parent = i == 0 ? root_of(s) : block(s.blocks[i - 1]).node;
        const Key key = key_of(s, i, parent, ids.subspan(i * len, len));
        const int32_t twin = find(key);
        if (twin == none) {
            publish(s.blocks[i], key);
            continue;
        }
        add_ref(twin);
        if (windows_) windows_->merge(s.blocks[i], twin);
        drop_ref(s.blocks[i]);
        s.blocks[i] = twin;
    }
    drop_parts(s, first_seen(s.n_done));
}

KvSequence KvCache::fork(const KvSequence& s) {
    CHECK(s.n_done == s.n_tokens, "{} of {} tokens are done", s.n_done, s.n_tokens);
    KvSequence copy = s;
    copy.blocks.resize(static_cast<size_t>(n_blocks_for(s.n_tokens)));
    for (const int32_t b : copy.blocks) add_ref(b);
    hold_parts(copy);
    return copy;
}

void KvCache::release(KvSequence& s) {
    drop_parts(s, static_cast<int>(s.blocks.size()));
    for (auto it = s.blocks.rbegin(); it != s.blocks.rend(); ++it) drop_ref(*it);
    s.blocks.clear();
    s.n_tokens = s.n_done = s.n_published = s.first_part = 0;
}

void KvCache::visit_cached(const VisitBlock& visit) const {
    CHECK(n_used() == 0, "{} blocks are in use", n_used());
    std::unordered_map<uint64_t, int32_t> index_of;
    // A sequence gives its last block back first, so that parents are always the newer ones.
    for (int32_t b = newest_; b != none; b = block(b).prev) {
        const uint64_t parent = block(b).parent;
        if (block(b).node == 0) continue;
        CachedBlock cached;
        if (parent >= salted) {
            cached.salt = parent & ~salted;
        } else if (parent != root) {
            CHECK(index_of.contains(parent), "block {} is older than its child", parent);
            cached.parent = index_of[parent];
        }
        const auto ids = ids_of(b);
        cached.ids.assign(ids.begin(), ids.end());
        cached.n_prompt = block(b).n_prompt;
        const int32_t part = windows_ ? windows_->part_of(b) : WindowBlocks::none;
        cached.has_part = part != WindowBlocks::none;
        index_of.emplace(block(b).node, static_cast<int32_t>(index_of.size()));
        visit(cached, b, part);
    }
}

size_t KvCache::restore(std::span<const CachedBlock> list, const VisitBlock& fill) {
    CHECK(n_used() == 0 && n_cached() == 0);
    std::vector<int32_t> held;
    held.reserve(std::min(list.size(), blocks_.size()));
    const auto give_back = [&] {
        for (size_t i = held.size(); i-- > 0;) {
            if (windows_ && list[i].has_part) windows_->drop_ref(held[i], true);
            drop_ref(held[i]);
        }
    };
    for (size_t i = 0; i < list.size() && held.size() < blocks_.size(); ++i) {
        if (windows_ && windows_->n_available() == 0) break;
        const CachedBlock& cached = list[i];
        const int32_t b = take_blank();
        if (windows_ && !cached.has_part) windows_->drop_ref(b, false);
        try {
            fill(cached, b, windows_ ? windows_->part_of(b) : WindowBlocks::none);
        } catch (...) {
            if (windows_ && cached.has_part) windows_->drop_ref(b, false);
            drop_ref(b);
            give_back();
            throw;
        }
        const uint64_t parent = cached.parent >= 0 ? block(held[static_cast<size_t>(cached.parent)]).node
                                : cached.salt != 0 ? cached.salt | salted
                                                   : root;
        held.push_back(b);
        publish(b, {parent, cached.n_prompt, cached.ids});
    }
    give_back();
    return held.size();
}

std::span<const int32_t> KvCache::ids_of(int32_t b) const {
    const auto len = static_cast<size_t>(block_len_);
    return std::span(ids_).subspan(static_cast<size_t>(b) * len, len);
}

KvCache::Key KvCache::key_of(const KvSequence& s, size_t i, uint64_t parent,
                             std::span<const int32_t> ids) const {
    const int64_t first = static_cast<int64_t>(i) * block_len_;
    return {parent, static_cast<int>(std::clamp<int64_t>(s.n_prompt - first, 0, block_len_)), ids};
}

int32_t& KvCache::bucket(uint64_t parent, std::span<const int32_t> ids) {
    uint64_t h = parent;
    for (const int32_t id : ids) {
        h = (h ^ static_cast<uint32_t>(id)) * 0x9e3779b97f4a7c15u;
        h ^= h >> 29;
    }
    return buckets_[h & (buckets_.size() - 1)];
}

int32_t KvCache::find(const Key& key) {
    const auto has = [&](const Block& b, std::span<const int32_t> ids) {
        return b.parent == key.parent && b.n_prompt == key.n_prompt && std::ranges::equal(ids, key.ids);
    };
    int32_t b = bucket(key.parent, key.ids);
    while (b != none && !has(block(b), ids_of(b))) b = block(b).next_in_bucket;
    return b;
}

void KvCache::publish(int32_t b, const Key& key) {
    std::ranges::copy(key.ids, ids_.begin() + static_cast<ptrdiff_t>(b) * block_len_);
    block(b).node = ++last_node_;
    block(b).parent = key.parent;
    block(b).n_prompt = key.n_prompt;
    int32_t& head = bucket(key.parent, key.ids);
    block(b).next_in_bucket = head;
    head = b;
}

void KvCache::unpublish(int32_t b) {
    int32_t* link_to = &bucket(block(b).parent, ids_of(b));
    while (*link_to != b) link_to = &block(*link_to).next_in_bucket;
    *link_to = block(b).next_in_bucket;
    block(b).node = block(b).parent = 0;
    block(b).next_in_bucket = none;
}

int32_t KvCache::take_blank() {
    const int32_t b = oldest_;
    CHECK(b != none);
    unlink(b);
    if (block(b).node != 0) {
        unpublish(b);
        if (windows_) windows_->forget(b);
    }
    block(b).n_refs = 1;
    if (windows_) windows_->take(b);
    return b;
}

void KvCache::add_ref(int32_t b) {
    if (block(b).n_refs++ == 0) unlink(b);
}

void KvCache::drop_ref(int32_t b) {
    CHECK(block(b).n_refs > 0, "block {}", b);
    // Blank blocks are taken before any that hold something.
    if (--block(b).n_refs == 0) link(b, block(b).node != 0 ? none : oldest_);
}

void KvCache::link(int32_t b, int32_t before) {
    const int32_t after = before == none ? newest_ : block(before).prev;
    block(b).prev = after;
    block(b).next = before;
    (after == none ? oldest_ : block(after).next) = b;
    (before == none ? newest_ : block(before).prev) = b;
    ++n_unreferenced_;
    n_cached_ += block(b).node != 0;
}

void KvCache::unlink(int32_t b) {
    const int32_t prev = block(b).prev, next = block(b).next;
    (prev == none ? oldest_ : block(prev).next) = next;
    (next == none ? newest_ : block(next).prev) = prev;
    block(b).prev = block(b).next = none;
    --n_unreferenced_;
    n_cached_ -= block(b).node != 0;
}

void KvCache::check(std::span<const KvSequence* const> sequences) const {
    std::vector<int> n_refs(blocks_.size()), n_part_refs(blocks_.size());
    for (const KvSequence* s : sequences) {
        CHECK(n_blocks_for(s->n_tokens) <= static_cast<int>(s->blocks.size()));
        CHECK(s->n_done <= s->n_tokens, "{} of {}", s->n_done, s->n_tokens);
        CHECK(s->n_published == s->n_done / block_len_, "{} of {}", s->n_published, s->n_done);
        for (size_t i = 0; i < s->blocks.size(); ++i) {
            const Block& b = block(s->blocks[i]);
            const bool published = static_cast<int>(i) < s->n_published;
            CHECK((b.node != 0) == published, "block {} of a sequence", i);
            CHECK(!published || b.parent == (i == 0 ? root_of(*s) : block(s->blocks[i - 1]).node));
            ++n_refs[static_cast<size_t>(s->blocks[i])];
            n_part_refs[static_cast<size_t>(s->blocks[i])] += static_cast<int>(i) >= s->first_part;
        }
    }
    if (windows_) windows_->check(n_part_refs);
    std::vector<uint64_t> nodes = {root};
    for (size_t b = 0; b < blocks_.size(); ++b) {
        CHECK(n_refs[b] == blocks_[b].n_refs, "block {}: {} holders, count {}", b, n_refs[b],
              blocks_[b].n_refs);
        if (blocks_[b].node != 0) nodes.push_back(blocks_[b].node);
    }
    std::ranges::sort(nodes);
    CHECK(std::ranges::adjacent_find(nodes) == nodes.end());

    size_t n_in_buckets = 0;
    for (int32_t b : buckets_) {
        for (; b != none; b = block(b).next_in_bucket) {
            ++n_in_buckets;
            const uint64_t parent = block(b).parent;
            CHECK((parent & salted) != 0 || std::ranges::binary_search(nodes, parent),
                  "block {} lost its parent", b);
        }
    }
    CHECK(n_in_buckets + 1 == nodes.size());

    int n_listed = 0, n_listed_cached = 0;
    for (int32_t b = oldest_; b != none; b = block(b).next) {
        CHECK(block(b).n_refs == 0 &&
              (block(b).next == none ? newest_ == b : block(block(b).next).prev == b));
        ++n_listed;
        n_listed_cached += block(b).node != 0;
    }
    CHECK(n_listed == n_unreferenced_ && n_listed_cached == n_cached_);
    CHECK(n_listed == std::ranges::count(n_refs, 0), "{} listed", n_listed);
}

}  // namespace smelt
