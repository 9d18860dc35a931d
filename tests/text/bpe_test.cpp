#include "text/bpe.h"

#include <gtest/gtest.h>

#include "text/sentencepiece.h"
#include "text/text_support.h"

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
        merge_long(by_lists, table);
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

// SentencePiece's definition: of all neighbours that make a token, those of the best score merge first, the
// leftmost among equals; what is no token then becomes its bytes' tokens.
std::vector<int32_t> encode_by_scores(const Vocabulary& v, std::string_view text) {
    std::vector<std::string> parts;
    for (const char* p = text.data(); p != text.data() + text.size();) {
        const int n = decode_utf8(p, text.data() + text.size()).length;
        parts.emplace_back(p, static_cast<size_t>(n));
        p += n;
    }
    const auto find = [&](const std::string& part, TokenType type) {
        for (int32_t id = 0; id < v.n_tokens(); ++id) {
            const auto i = static_cast<size_t>(id);
            if (v.types[i] == type && v.tokens[i] == part) return id;
        }
        return -1;
    };
    for (;;) {
        size_t best = 0;
        float best_score = -1e30f;
        for (size_t i = 0; i + 1 < parts.size(); ++i) {
            const int32_t id = find(parts[i] + parts[i + 1], TokenType::normal);
            if (id < 0 || v.scores[static_cast<size_t>(id)] <= best_score) continue;
            best = i;
            best_score = v.scores[static_cast<size_t>(id)];
        }
        if (best_score == -1e30f) break;
        parts[best] += parts[best + 1];
        parts.erase(parts.begin() + static_cast<ptrdiff_t>(best) + 1);
    }
    std::vector<int32_t> ids;
    for (const std::string& part : parts) {
        const int32_t id = find(part, TokenType::normal);
        if (id >= 0) ids.push_back(id);
        for (size_t i = 0; id < 0 && i < part.size(); ++i)
            ids.push_back(find(part.substr(i, 1), TokenType::byte));
    }
    return ids;
}

TEST(Bpe, SentencePieceFollowsTheScores) {
    std::mt19937 rng(3);
    const std::string_view alphabet[] = {"a", "b", " ", "\xc3\xa9", "\xc3\xa8", "\xe4\xbd\xa0", "\xff"};
    for (int round = 0; round < 300; ++round) {
        Vocabulary v = byte_vocabulary();
        v.types.assign(256, TokenType::byte);
        v.sentencepiece = true;
        std::vector<std::string> known;
        for (const std::string_view c : {"a", "b", " ", "\xc3\xa9"}) known.emplace_back(c);
        for (uint32_t n = rng() % 15; n > 0; --n) {
            const std::string joined = known[rng() % known.size()] + known[rng() % known.size()];
            if (std::find(known.begin(), known.end(), joined) == known.end()) known.push_back(joined);
        }
        for (const std::string& token : known) add_token(v, token);
        // Few different scores, so that many merges are equal.
        for (int32_t id = 0; id < v.n_tokens(); ++id) v.scores.push_back(static_cast<float>(rng() % 4));
        v.merges = merges_by_score(v);
        const BytePairEncoder encoder(v);
        for (int i = 0; i < 20; ++i) {
            std::string text;
            // The longer ones take the way of long pieces.
            for (uint32_t n = rng() % (i < 15 ? 12 : 120); n > 0; --n)
                text += alphabet[rng() % std::size(alphabet)];
            std::vector<int32_t> ids;
            encoder.encode(text, ids);
            ASSERT_EQ(ids, encode_by_scores(v, text)) << text;
        }
    }
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

    v.sentencepiece = true;
    v.unk = add_token(v, "<unk>", TokenType::control);
    ids.clear();
    BytePairEncoder(v).encode("axyb\xc3\xa9", ids);
    EXPECT_EQ(ids, (std::vector<int32_t>{0, v.unk, 1, v.unk}));
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
