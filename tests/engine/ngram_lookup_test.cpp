// What came after the same words before.
#include "engine/ngram_lookup.h"

#include <gtest/gtest.h>

#include <random>

namespace smelt {
namespace {

using Ids = std::vector<int32_t>;

Ids find(const NgramLookup& lookup, int n, int* match = nullptr) {
    Ids next;
    const int found = lookup.find(n, next);
    if (match != nullptr) *match = found;
    return next;
}

TEST(NgramLookup, GoesOnAsTheLongestMatchDid) {
    NgramLookup lookup;
    const Ids ids = {1, 2, 3, 4, 5, 9, 2, 3, 7, 8, 1, 2, 3};
    lookup.update(ids, 10);
    int match = 0;
    EXPECT_EQ(find(lookup, 3, &match), (Ids{4, 5, 9}));
    EXPECT_EQ(match, 3);
}

TEST(NgramLookup, OfEqualMatchesTheLatestCounts) {
    NgramLookup lookup;
    lookup.update(Ids{1, 2, 5, 1, 2, 6, 1, 2}, 6);
    EXPECT_EQ(find(lookup, 2), (Ids{6, 1}));
}

TEST(NgramLookup, FindsNothingWithoutAMatch) {
    NgramLookup lookup;
    lookup.update(Ids{1, 2, 3, 4}, 4);
    EXPECT_EQ(find(lookup, 3), Ids());
    NgramLookup empty;
    empty.update(Ids{1}, 1);
    EXPECT_EQ(find(empty, 3), Ids());
    EXPECT_EQ(find(lookup, 0), Ids());
}

TEST(NgramLookup, ARepeatingTextGoesOnRepeating) {
    NgramLookup lookup;
    lookup.update(Ids{9, 1, 2, 3, 1, 2, 3}, 4);
    EXPECT_EQ(find(lookup, 8), (Ids{1, 2, 3, 1, 2, 3, 1, 2}));
}

TEST(NgramLookup, APredictionIsFollowedFromItsFirstToken) {
    NgramLookup lookup(Ids{5, 6, 7, 8});
    lookup.update(Ids{1, 2, 5}, 2);
    EXPECT_EQ(find(lookup, 9), (Ids{6, 7, 8}));
    lookup.update(Ids{1, 2, 5, 6}, 2);
    EXPECT_EQ(find(lookup, 9), (Ids{7, 8}));
    lookup.update(Ids{1, 2, 5, 6, 4, 7}, 2);
    EXPECT_EQ(find(lookup, 9), Ids());
    NgramLookup ends(Ids{5});
    ends.update(Ids{1, 5}, 1);
    EXPECT_EQ(find(ends, 9), Ids());
}

// Token by token as at once, and never beyond what is there.
TEST(NgramLookup, GrowsLikeTheWhole) {
    std::mt19937 rng(1);
    for (int run = 0; run < 200; ++run) {
        Ids ids(2 + rng() % 60), prediction(rng() % 9);
        for (int32_t& id : ids) id = static_cast<int32_t>(rng() % 4);
        for (int32_t& id : prediction) id = static_cast<int32_t>(rng() % 4);
        const int n_prompt = 1 + static_cast<int>(rng() % (ids.size() - 1)), min = 1 + run % 3;
        NgramLookup whole(prediction, min), grown(prediction, min);
        whole.update(ids, n_prompt);
        for (size_t n = static_cast<size_t>(n_prompt); n <= ids.size(); ++n)
            grown.update(std::span(ids).first(n), n_prompt);
        int a = 0, b = 0;
        EXPECT_EQ(find(whole, 7, &a), find(grown, 7, &b));
        EXPECT_EQ(a, b);
        EXPECT_LE(find(whole, 7).size(), 7u);
    }
}

}  // namespace
}  // namespace smelt
