// Who owns which block of the paged KV cache: reference counts, reuse of known prefixes, copy-on-write, and
// eviction of the least recently used. Knows token ids and block numbers; knows nothing about tensors.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <span>
#include <vector>

#include "engine/window_blocks.h"

namespace smelt {

// Tokens a block holds. A sequence wastes half a block on average and a prefix is reused in whole blocks,
// which asks for few; 32 is where the block table costs one entry per 32 keys, a tile that attention kernels
// of all devices read at once (a SIMD group of 32 lanes, two AVX-512 registers of floats).
constexpr int default_block_len = 32;

// The blocks of one sequence in order of position. A handle: give it back with KvCache::release().
struct KvSequence {
    std::vector<int32_t> blocks;
    int n_tokens = 0;     // positions whose K and V are in the blocks once the steps under way are done
    int n_done = 0;       // of them, those of steps that are done
    int n_published = 0;  // leading blocks that other sequences can find
    int first_part = 0;   // blocks from here on have, and hold, their part of windowed layers
    // Set before the first use. Prefixes are found by sequences of the same salt alone.
    uint64_t salt = 0;
    // Tokens that are computed as a prompt's; those that follow are computed as an answer's, which may give
    // other bits. Prefixes are found where each token has the same role. The default is for devices that
    // compute all tokens alike.
    int n_prompt = std::numeric_limits<int>::max();
};

struct BlockCopy {
    int32_t from, to;
    int32_t part_from = WindowBlocks::none, part_to = WindowBlocks::none;  // of windowed layers
};

// For models with windows, whose layers keep the last tokens alone.
struct WindowPool {
    int window = 0;   // positions that a token sees with its own
    int n_parts = 0;  // of blocks; 0: windowed layers keep all, as others do
};

// A cached block on its way out of a cache, or into one.
struct CachedBlock {
    int32_t parent = -1;  // index in the list of the block before it; -1: it begins a text
    uint64_t salt = 0;
    bool has_part = false;  // of windowed layers
    int n_prompt = 0;       // leading tokens that were computed as a prompt's
    std::vector<int32_t> ids = {};
};

class KvCache {
 public:
    // Of a pool's parts there must be enough for every sequence's window and the tokens of a step; see
    // window_parts_for().
    KvCache(int n_blocks, int block_len, WindowPool pool = {});

    // Gives an empty sequence the cached blocks that hold the beginning of `ids`; returns how many tokens
    // they hold. Leaves at least one token to compute, because its logits are wanted.
    int reuse_prefix(KvSequence& s, std::span<const int32_t> ids);

    // Makes room for n more tokens. A block that is shared and would be written is replaced by a copy, which
    // the caller makes on the device, in order, before it writes. False, and nothing changed, when too few
    // blocks are available.
    bool reserve(KvSequence& s, int n, std::vector<BlockCopy>& copies);

    // A step was launched that writes the K and V of n more tokens. Devices run steps and copies in the order
    // of their launch, so that a block may be given to another sequence while a step under way reads it.
    void advance(KvSequence& s, int n);
    // The K and V of n more of these tokens have been written; `ids` are those of the whole sequence. Blocks
    // that became full can be found from now on; one whose content is cached already is given back for the
    // cached one. Nothing happens where the sequence was released since.
    void commit(KvSequence& s, std::span<const int32_t> ids, int n);

    // What steps that are done wrote beyond the tokens that were committed is forgotten; none is under way.
    void rewind(KvSequence& s) { s.n_tokens = s.n_done; }

    // A second sequence with the same content; both may grow. No step of s is under way.
    KvSequence fork(const KvSequence& s);

    // Cached blocks stay until their room is needed, the last ones of a sequence going first.
    void release(KvSequence& s);

    // With the block's number, and that of its part or WindowBlocks::none.
    using VisitBlock = std::function<void(const CachedBlock& cached, int32_t block, int32_t part)>;
    // What can be reused, while no sequence holds anything: parents before children, last used first.
    void visit_cached(const VisitBlock& visit) const;
    // Fills an empty cache with the beginning of such a list, as much as there is room for. `fill` writes the
    // K and V of each; what it throws leaves those in the cache that were written. Returns how many are.
    size_t restore(std::span<const CachedBlock> list, const VisitBlock& fill);

    // Where windowed layers keep the block; 0 where the window has passed.
    int32_t part_of(const KvSequence& s, size_t i) const {
        return static_cast<int>(i) < s.first_part ? 0 : windows_->part_of(s.blocks[i]);
    }
    bool has_windows() const { return windows_.has_value(); }

    int n_blocks() const { return static_cast<int>(blocks_.size()); }
    int block_len() const { return block_len_; }
    int n_blocks_for(int n_tokens) const { return (n_tokens + block_len_ - 1) / block_len_; }
    int n_available() const { return n_unreferenced_; }  // blank or cached
    int n_cached() const { return n_cached_; }           // unreferenced, with content that can be reused
    int n_used() const { return n_blocks() - n_unreferenced_; }

    // CHECKs every invariant, given all sequences that exist. For tests: linear in the number of blocks.
    void check(std::span<const KvSequence* const> sequences) const;

 private:
    // A published block is a node of a tree of prefixes: its key is its parent's node, its own token ids and
    // how they were computed, compared in full. Node numbers are never used twice, so equal keys mean equal
    // prefixes, whatever the hash does. A sequence that holds a node holds its ancestors, and eviction takes
    // children before parents.
    struct Block {
        int n_refs = 0;
        int32_t prev = none, next = none;  // in the list of unreferenced blocks
        uint64_t node = 0;                 // 0: not published
        uint64_t parent = 0;
        int n_prompt = 0;  // leading tokens that were computed as a prompt's
        int32_t next_in_bucket = none;
    };
    static constexpr int32_t none = -1;
    static constexpr uint64_t root = 1;
    // The root of a salt: no node of the tree is ever numbered that high.
    static constexpr uint64_t salted = uint64_t{1} << 63;
    static uint64_t root_of(const KvSequence& s) { return s.salt == 0 ? root : s.salt | salted; }

    Block& block(int32_t b) { return blocks_[static_cast<size_t>(b)]; }
    const Block& block(int32_t b) const { return blocks_[static_cast<size_t>(b)]; }
    std::span<const int32_t> ids_of(int32_t b) const;
    // What finds a published block.
    struct Key {
        uint64_t parent;
        int n_prompt;
        std::span<const int32_t> ids;
    };
    // Of the i-th block of a sequence whose block before is `parent`.
    Key key_of(const KvSequence& s, size_t i, uint64_t parent, std::span<const int32_t> ids) const;

    int32_t& bucket(uint64_t parent, std::span<const int32_t> ids);
    int32_t find(const Key& key);
    int first_seen(int n_tokens) const;  // block that the next token sees first
    int n_findable(const KvSequence& s) const;
    void hold_parts(const KvSequence& s);
    void drop_parts(KvSequence& s, int end);

    void publish(int32_t b, const Key& key);
    void unpublish(int32_t b);

    int32_t take_blank();
    void add_ref(int32_t b);
    void drop_ref(int32_t b);
    void link(int32_t b, int32_t before);
    void unlink(int32_t b);

    int block_len_;
    int window_ = 0;
    std::optional<WindowBlocks> windows_;
    std::vector<Block> blocks_;
    std::vector<int32_t> ids_;      // (n_blocks, block_len) of published blocks
    std::vector<int32_t> buckets_;  // hash table of published blocks, chained through next_in_bucket
    int32_t oldest_ = none, newest_ = none;
    int n_unreferenced_ = 0;
    int n_cached_ = 0;
    uint64_t last_node_ = root;
};

// Parts that max_seqs sequences need at once when the steps under way have max_tokens together: each its
// window and, as steps may begin and end within a block, two more.
int window_parts_for(int window, int block_len, int max_seqs, int max_tokens);

}  // namespace smelt
