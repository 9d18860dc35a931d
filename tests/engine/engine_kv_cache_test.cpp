// Paged KV cache: prefix reuse, copy-on-write, eviction, and a random walk with all invariants after each
// step.
#include <gtest/gtest.h>

#include <map>
#include <numeric>
#include <random>

#include "engine/kv_cache.h"

namespace smelt {
namespace {

using Ids = std::vector<int32_t>;

Ids iota_ids(int n, int32_t first = 0) {
    Ids ids(static_cast<size_t>(n));
    std::iota(ids.begin(), ids.end(), first);
    return ids;
}

// A sequence that computes all of `ids` that the cache does not have.
KvSequence run(KvCache& kv, const Ids& ids) {
    KvSequence s;
    const int n = static_cast<int>(ids.size()) - kv.reuse_prefix(s, ids);
    std::vector<BlockCopy> copies;
    EXPECT_TRUE(kv.reserve(s, n, copies));
    kv.advance(s, n);
    kv.commit(s, ids, n);
    return s;
}

TEST(KvCache, PrefixIsReusedInWholeBlocksAndLeavesOneTokenToCompute) {
    KvCache kv(16, 4);
    KvSequence a = run(kv, iota_ids(10));
    EXPECT_EQ(kv.n_used(), 3);
    KvSequence b;
    EXPECT_EQ(kv.reuse_prefix(b, iota_ids(10)), 8);
    EXPECT_EQ(kv.n_used(), 3);
    EXPECT_EQ(b.blocks[1], a.blocks[1]);
    kv.release(a);
    EXPECT_EQ(kv.n_used(), 2);
    kv.release(b);
    EXPECT_EQ(kv.n_used(), 0);
    EXPECT_EQ(kv.n_cached(), 2);

    KvSequence c;
    EXPECT_EQ(kv.reuse_prefix(c, iota_ids(8)), 4);  // 8 would leave nothing to compute
    kv.release(c);
    Ids other = iota_ids(12);
    other[5] = 99;
    EXPECT_EQ(kv.reuse_prefix(c, other), 4);
    kv.release(c);
    EXPECT_EQ(kv.reuse_prefix(c, iota_ids(12, 4)), 0);  // the same tokens elsewhere are another context
    kv.check({});
}

TEST(KvCache, SameContentComputedTwiceIsKeptOnce) {
    KvCache kv(16, 4);
    const Ids ids = iota_ids(9);
    KvSequence a, b;
    std::vector<BlockCopy> copies;
    ASSERT_TRUE(kv.reserve(a, 9, copies) && kv.reserve(b, 9, copies));
    EXPECT_EQ(kv.n_used(), 6);
    for (KvSequence* s : {&a, &b}) {
        kv.advance(*s, 9);
        kv.commit(*s, ids, 9);
    }
    EXPECT_EQ(kv.n_used(), 4);  // two shared, one of its own each
    EXPECT_EQ(a.blocks[0], b.blocks[0]);
    EXPECT_NE(a.blocks[2], b.blocks[2]);
    const KvSequence* const all[] = {&a, &b};
    kv.check(all);
}

// Until the steps that write it are done, a block cannot be found; blocks given back meanwhile stay blank.
TEST(KvCache, BlocksAreFoundOnceTheyAreWritten) {
    KvCache kv(16, 4);
    const Ids ids = iota_ids(12);
    KvSequence a, b;
    std::vector<BlockCopy> copies;
    ASSERT_TRUE(kv.reserve(a, 8, copies));
    kv.advance(a, 8);
    EXPECT_EQ(kv.reuse_prefix(b, ids), 0);
    ASSERT_TRUE(kv.reserve(a, 4, copies));
    kv.advance(a, 4);
    kv.commit(a, ids, 8);
    const KvSequence* const all[] = {&a, &b};
    kv.check(all);
    EXPECT_EQ(kv.reuse_prefix(b, ids), 8);
    kv.release(a);
    kv.commit(a, ids, 4);
    kv.release(b);
    kv.check({});
    EXPECT_EQ(kv.n_cached(), 2);
}

// On a device that computes prompts and answers differently, a prefix is one whose tokens had the same roles.
TEST(KvCache, PrefixesAreFoundInTheRoleThatTheyHad) {
    KvCache kv(16, 4);
    const Ids ids = iota_ids(13);
    const auto cached = [&](int n_prompt) {
        KvSequence s;
        s.n_prompt = n_prompt;
        const int n = kv.reuse_prefix(s, ids);
        kv.release(s);
        return n;
    };
    KvSequence answer;
    answer.n_prompt = 6;
    std::vector<BlockCopy> copies;
    ASSERT_TRUE(kv.reserve(answer, 12, copies));
    kv.advance(answer, 12);
    kv.commit(answer, ids, 12);
    kv.release(answer);
    EXPECT_EQ(cached(6), 12);  // computed again after it was preempted
    EXPECT_EQ(cached(13), 4);  // the same text as a prompt
    EXPECT_EQ(cached(5), 4);
    EXPECT_EQ(cached(3), 0);
    KvSequence prompt;
    prompt.n_prompt = 13;
    ASSERT_EQ(kv.reuse_prefix(prompt, ids), 4);
    ASSERT_TRUE(kv.reserve(prompt, 8, copies));
    kv.advance(prompt, 8);
    kv.commit(prompt, ids, 8);
    kv.release(prompt);
    EXPECT_EQ(cached(13), 12);  // both are kept
    EXPECT_EQ(cached(6), 12);
    kv.check({});
}

TEST(KvCache, SharedBlockIsCopiedBeforeItIsWritten) {
    KvCache kv(4, 4);
    Ids ids = iota_ids(6);
    KvSequence a = run(kv, ids);
    KvSequence b = kv.fork(a);
    EXPECT_EQ(kv.n_used(), 2);
    std::vector<BlockCopy> copies;
    const int32_t shared = a.blocks[1];
    ASSERT_TRUE(kv.reserve(a, 1, copies));
    ASSERT_EQ(copies.size(), 1u);
    EXPECT_EQ(copies[0].from, shared);
    EXPECT_EQ(copies[0].to, a.blocks[1]);
    EXPECT_EQ(b.blocks[1], shared);
    ASSERT_TRUE(kv.reserve(b, 1, copies));  // the last holder writes in place
    EXPECT_EQ(copies.size(), 1u);
    EXPECT_EQ(kv.n_used(), 3);

    // With a third holder of the partial block and no room for its copy, nothing changes.
    KvSequence c = kv.fork(b), d = run(kv, {7, 8});
    ASSERT_EQ(kv.n_available(), 0);
    EXPECT_FALSE(kv.reserve(b, 1, copies));
    EXPECT_EQ(copies.size(), 1u);
    const KvSequence* const all[] = {&a, &b, &c, &d};
    kv.check(all);
}

TEST(KvCache, LeastRecentlyUsedGoesFirstAndTailsBeforeHeads) {
    KvCache kv(6, 2);
    KvSequence a = run(kv, iota_ids(6, 100)), b = run(kv, iota_ids(6, 200));
    kv.release(a);
    kv.release(b);
    EXPECT_EQ(kv.n_cached(), 6);
    KvSequence c = run(kv, {1, 2});  // takes the tail of a
    kv.release(c);
    EXPECT_EQ(kv.reuse_prefix(a, iota_ids(7, 100)), 4);
    EXPECT_EQ(kv.reuse_prefix(b, iota_ids(7, 200)), 6);
}

TEST(KvCache, RandomWalkKeepsEveryInvariant) {
    for (const uint32_t seed : {1u, 2u, 3u, 4u, 5u}) {
        SCOPED_TRACE(seed);
        std::mt19937 rng(seed);
        const auto below = [&](int n) { return static_cast<int>(rng() % static_cast<uint32_t>(n)); };
        constexpr int block_len = 3;
        KvCache kv(24, block_len);
        // What a device would hold: the ids in each slot. Any mistake in sharing shows as a wrong id.
        std::vector<Ids> slots(24, Ids(block_len, -1));
        struct Live {
            KvSequence kv;
            Ids ids;
        };
        std::vector<Live> live;
        int n_forks = 0, n_copies = 0, n_full = 0, n_reused = 0;
        for (int step = 0; step < 4000; ++step) {
            const int what = below(10);
            if (live.empty() || (what < 2 && live.size() < 8)) {
                Live& s = live.emplace_back();
                for (int i = 1 + below(20); i > 0; --i) s.ids.push_back(below(2));  // two ids: prefixes meet
                n_reused += kv.reuse_prefix(s.kv, s.ids);
            } else if (what == 2) {
                const Live& from = live[static_cast<size_t>(below(static_cast<int>(live.size())))];
                n_forks += 1;
                Live copy{kv.fork(from.kv), from.ids};
                live.push_back(std::move(copy));
            } else if (what < 5) {
                const auto at = live.begin() + below(static_cast<int>(live.size()));
                kv.release(at->kv);
                live.erase(at);
            } else {
                Live& s = live[static_cast<size_t>(below(static_cast<int>(live.size())))];
                const int n = 1 + below(7);
                while (static_cast<int>(s.ids.size()) < s.kv.n_tokens + n) s.ids.push_back(below(2));
                std::vector<BlockCopy> copies;
                if (!kv.reserve(s.kv, n, copies)) {
                    ++n_full;
                } else {
                    for (const BlockCopy& c : copies) {
                        slots[static_cast<size_t>(c.to)] = slots[static_cast<size_t>(c.from)];
                        ++n_copies;
                    }
                    for (int pos = s.kv.n_tokens; pos < s.kv.n_tokens + n; ++pos) {
                        const auto b = static_cast<size_t>(s.kv.blocks[static_cast<size_t>(pos / block_len)]);
                        slots[b][static_cast<size_t>(pos % block_len)] = s.ids[static_cast<size_t>(pos)];
                    }
                    kv.advance(s.kv, n);
                    kv.commit(s.kv, s.ids, n);
                }
            }
            std::vector<const KvSequence*> all;
            for (const Live& s : live) {
                all.push_back(&s.kv);
                for (int pos = 0; pos < s.kv.n_tokens; ++pos) {
                    const auto b = static_cast<size_t>(s.kv.blocks[static_cast<size_t>(pos / block_len)]);
                    ASSERT_EQ(slots[b][static_cast<size_t>(pos % block_len)], s.ids[static_cast<size_t>(pos)])
                        << "step " << step << ", position " << pos;
                }
            }
            kv.check(all);
        }
        EXPECT_GT(n_forks, 50);
        EXPECT_GT(n_copies, 50);
        EXPECT_GT(n_full, 50);
        EXPECT_GT(n_reused, 50);
    }
}

}  // namespace
}  // namespace smelt
