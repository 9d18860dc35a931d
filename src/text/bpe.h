// Byte pair encoding of one piece of text: its bytes are tokens, and of all neighbours that may merge the
// pair of the lowest rank does, the leftmost among equals, until none is left.
#pragma once

#include <array>
#include <atomic>
#include <bitset>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "text/vocabulary.h"

namespace smelt {

// (left, right) -> rank and result, open addressing.
class MergeTable {
 public:
    struct Entry {
        uint64_t pair;
        uint32_t rank;
        int32_t result;
    };
    static constexpr uint32_t no_rank = 0xffffffff;

    explicit MergeTable(size_t n_merges);
    // A pair that is in the table already gets the new rank. At most n_merges calls.
    void insert(const Merge& merge, uint32_t rank);
    // Entry with rank no_rank where the pair does not merge.
    const Entry& find(int32_t left, int32_t right) const {
        const uint64_t pair = key(left, right);
        for (size_t slot = hash(pair) & mask_;; slot = (slot + 1) & mask_) {
            if (slots_[slot].pair == pair || slots_[slot].pair == empty) return slots_[slot];
        }
    }

 private:
    static constexpr uint64_t empty = ~uint64_t{0};
    static uint64_t key(int32_t left, int32_t right) {
        return uint64_t{static_cast<uint32_t>(left)} << 32 | static_cast<uint32_t>(right);
    }
    static size_t hash(uint64_t pair) {
        pair *= 0x9e3779b97f4a7c15;  // 2^64 / golden ratio
        return static_cast<size_t>(pair ^ pair >> 32);
    }

    std::vector<Entry> slots_;
    size_t mask_;
};

// Token bytes -> id, open addressing. The first of several tokens with the same bytes is found.
class TokenTable {
 public:
    // Borrows the tokens.
    explicit TokenTable(const std::vector<std::string>& tokens);
    void insert(int32_t id);                     // at most once for each token
    int32_t find(std::string_view bytes) const;  // -1: none

 private:
    struct Slot {
        uint32_t tag;
        int32_t id = -1;
    };
    const std::vector<std::string>* tokens_;
    std::vector<Slot> slots_;
    size_t mask_;
};

// Merges the symbols in place by repeated search for the best pair: quadratic, for few symbols. Returns how
// many are left.
constexpr size_t max_short_piece = 48;  // symbols; the lists below win from about here
size_t merge_short(int32_t* symbols, size_t n, const MergeTable& merges);

// The same for any number of symbols, near linear.
void merge_long(std::vector<int32_t>& symbols, const MergeTable& merges);

class BytePairEncoder {
 public:
    // Borrows the vocabulary.
    explicit BytePairEncoder(const Vocabulary& vocabulary);
    // Appends the ids. Bytes for which the vocabulary has no token are left out, as the reference
    // implementation does; SentencePiece has the unknown token for a run of them.
    void encode(std::string_view piece, std::vector<int32_t>& ids) const;
    // Id of a token that text can become; -1: none.
    int32_t find(std::string_view bytes) const { return tokens_.find(bytes); }

 private:
    void encode_joined(std::string_view piece, std::vector<int32_t>& ids) const;
    size_t to_symbols(std::string_view piece, int32_t* symbols) const;  // at most one a byte

    const Vocabulary& vocabulary_;
    MergeTable merges_;
    TokenTable tokens_;
    std::array<int32_t, 256> byte_ids_;  // -1: the vocabulary has none
    size_t longest_token_ = 0;           // bytes

    // Whether a token's own bytes encode to that token: learnt when first met. Every thread would write the
    // same.
    enum Whole : uint8_t { unknown, yes, no };
    std::unique_ptr<std::atomic<Whole>[]> whole_;  // by id

    // SentencePiece merges across whole texts. Between two bytes that are neighbours in no token nothing can
    // merge, so the text is cut there first: mostly before each word.
    std::unique_ptr<std::bitset<65536>> neighbours_;  // first byte << 8 | second; null: not cut
};

}  // namespace smelt
