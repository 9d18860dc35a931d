#include "text/bpe.h"

#include <gtest/gtest.h>

#include "unit/text_support.h"

namespace smelt {
namespace {

// The definition: the pair of the lowest rank merges, the leftmost among equals, until none does.
std::vector<int32_t> merge_by_definition(std::vector<int32_t> symbols, const std::vector<Merge>& merges) {
    for (;;) {
        for (size_t rank = 0;; ++rank) {
            if (rank == merges.size()) return symbols;
            size_t i = 0;
            const auto here = [&] {
                return symbols[i] == merges[rank].left && symbols[i + 1] == merges[rank].right;
            };
            while (i + 1 < symbols.size() && !here()) ++i;
            if (i + 1 >= symbols.size()) continue;
            symbols[i] = merges[rank].result;
            symbols.erase(symbols.begin() + static_cast<ptrdiff_t>(i) + 1);
            break;
        }
    }
}

// Merges in any order, also such that a part is made by a later merge than the one that uses it.
Vocabulary random_vocabulary(std::mt19937& rng, int n_merges) {
    Vocabulary v = byte_vocabulary();
    std::vector<int32_t> parts = {'a', 'b', 'c'};
    for (int i = 0; i < n_merges; ++i) {
        const int32_t left = parts[rng() % parts.size()], right = parts[rng() % parts.size()];
        const auto same = [&](const Merge& m) { return m.left == left && m.right == right; };
        if (std::any_of(v.merges.begin(), v.merges.end(), same)) continue;
        parts.push_back(add_merge(v, left, right));
    }
    std::shuffle(v.merges.begin(), v.merges.end(), rng);
    return v;
}

TEST(Bpe, ShortAndLongMergesFollowTheDefinition) {
    std::mt19937 rng(1);
    for (int round = 0; round < 2000; ++round) {
        const Vocabulary v = random_vocabulary(rng, 1 + static_cast<int>(rng() % 20));
        MergeTable table(v.merges.size());
        for (size_t rank = 0; rank < v.merges.size(); ++rank) {
            table.insert(v.merges[rank], static_cast<uint32_t>(rank));
        }
        std::vector<int32_t> symbols(rng() % max_short_piece);
        for (int32_t& s : symbols) s = static_cast<int32_t>('a' + rng() % 3);
        const auto expected = merge_by_definition(symbols, v.merges);

        std::vector<int32_t> by_lists = symbols;
        merge_long(by_lists, table, v.merges);
        ASSERT_EQ(by_lists, expected);

        std::vector<int32_t> by_search = symbols;
        by_search.resize(merge_short(by_search.data(), by_search.size(), table));
        ASSERT_EQ(by_search, expected);
    }
}

TEST(Bpe, PairWithTwoRanksHasTheLast) {
    Vocabulary v = byte_vocabulary();
    const int32_t ab = add_merge(v, 'a', 'b');
    const int32_t bc = add_merge(v, 'b', 'c');
    v.merges.push_back({'a', 'b', ab});
    std::vector<int32_t> ids;
    BytePairEncoder(v).encode("abc", ids);
    EXPECT_EQ(ids, (std::vector<int32_t>{'a', bc}));
}

TEST(Bpe, BytesWithoutTokenAreLeftOut) {
    Vocabulary v;
    v.tokens = {"a", "b"};
    v.types.assign(2, TokenType::normal);
    std::vector<int32_t> ids;
    BytePairEncoder encoder(v);
    encoder.encode("axb", ids);
    encoder.encode("x", ids);
    encoder.encode(std::string(100, 'x'), ids);
    EXPECT_EQ(ids, (std::vector<int32_t>{0, 1}));
}

TEST(TokenTable, FindsFirstOfEqualTokens) {
    const std::vector<std::string> tokens = {"a", "bb", "a", std::string(100, 'x'), ""};
    TokenTable table(tokens);
    for (int32_t id = 0; id < 4; ++id) table.insert(id);
    EXPECT_EQ(table.find("a"), 0);
    EXPECT_EQ(table.find(std::string(100, 'x')), 3);
    EXPECT_EQ(table.find("b"), -1);
    EXPECT_EQ(table.find(""), -1);
}

}  // namespace
}  // namespace smelt
