#include "text/bpe.h"

#include <bit>
#include <cstring>

namespace smelt {

namespace {

uint64_t hash_bytes(std::string_view bytes) {
    constexpr uint64_t multiplier = 0x9e3779b97f4a7c15;  // 2^64 / golden ratio
    uint64_t h = bytes.size() * multiplier;
    const char* p = bytes.data();
    size_t n = bytes.size();
    uint64_t word = 0;
    for (; n >= 8; n -= 8, p += 8) {
        std::memcpy(&word, p, 8);
        h = (h ^ word) * multiplier;
        h ^= h >> 29;
    }
    word = 0;
    std::memcpy(&word, p, n);
    h = (h ^ word) * multiplier;
    return h ^ h >> 32;
}

}  // namespace

MergeTable::MergeTable(size_t n_merges)
    : slots_(std::bit_ceil(n_merges + n_merges / 2 + 2), Entry{empty, no_rank, -1}),
      mask_(slots_.size() - 1) {}

void MergeTable::insert(const Merge& merge, uint32_t rank) {
    const uint64_t pair = key(merge.left, merge.right);
    size_t slot = hash(pair) & mask_;
    while (slots_[slot].pair != pair && slots_[slot].pair != empty) slot = (slot + 1) & mask_;
    slots_[slot] = {pair, rank, merge.result};
}

TokenTable::TokenTable(const std::vector<std::string>& tokens)
    : tokens_(&tokens),
      slots_(std::bit_ceil(tokens.size() + tokens.size() / 2 + 2)),
      mask_(slots_.size() - 1) {}

void TokenTable::insert(int32_t id) {
    const std::string& bytes = (*tokens_)[static_cast<size_t>(id)];
    const uint64_t h = hash_bytes(bytes);
    const auto tag = static_cast<uint32_t>(h >> 32);
    size_t slot = h & mask_;
    for (; slots_[slot].id >= 0; slot = (slot + 1) & mask_) {
        const Slot& s = slots_[slot];
        if (s.tag == tag && (*tokens_)[static_cast<size_t>(s.id)] == bytes) return;
    }
    slots_[slot] = {tag, id};
}

int32_t TokenTable::find(std::string_view bytes) const {
    const uint64_t h = hash_bytes(bytes);
    const auto tag = static_cast<uint32_t>(h >> 32);
    for (size_t slot = h & mask_; slots_[slot].id >= 0; slot = (slot + 1) & mask_) {
        const Slot& s = slots_[slot];
        if (s.tag == tag && (*tokens_)[static_cast<size_t>(s.id)] == bytes) return s.id;
    }
    return -1;
}

size_t merge_short(int32_t* symbols, size_t n, const MergeTable& merges) {
    struct Pair {
        uint32_t rank;
        int32_t result;
    };
    Pair pairs[max_short_piece];  // [i]: symbols i and i + 1
    const auto look_up = [&](size_t i) {
        const auto& entry = merges.find(symbols[i], symbols[i + 1]);
        pairs[i] = {entry.rank, entry.result};
    };
    for (size_t i = 0; i + 1 < n; ++i) look_up(i);
    while (n > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < n; ++i) {
            if (pairs[i].rank < pairs[best].rank) best = i;
        }
        if (pairs[best].rank == MergeTable::no_rank) break;
        symbols[best] = pairs[best].result;
        --n;
        for (size_t i = best + 1; i < n; ++i) {
            symbols[i] = symbols[i + 1];
            pairs[i - 1] = pairs[i];
        }
        if (best + 1 < n) look_up(best);
        if (best > 0) look_up(best - 1);
    }
    return n;
}

BytePairEncoder::BytePairEncoder(const Vocabulary& v)
    : vocabulary_(v),
      merges_(v.merges.size()),
      tokens_(v.tokens),
      whole_(new std::atomic<Whole>[v.tokens.size()]()) {
    for (size_t rank = 0; rank < v.merges.size(); ++rank) {
        merges_.insert(v.merges[rank], static_cast<uint32_t>(rank));
    }
    byte_ids_.fill(-1);
    for (int32_t id = 0; id < v.n_tokens(); ++id) {
        const std::string& bytes = v.tokens[static_cast<size_t>(id)];
        if (v.types[static_cast<size_t>(id)] != TokenType::normal || bytes.empty()) continue;
        tokens_.insert(id);
        longest_token_ = std::max(longest_token_, bytes.size());
        int32_t& byte_id = byte_ids_[static_cast<unsigned char>(bytes[0])];
        if (bytes.size() == 1 && byte_id < 0) byte_id = id;
    }
}

void BytePairEncoder::encode(std::string_view piece, std::vector<int32_t>& ids) const {
    int32_t token = -1;
    if (piece.size() <= longest_token_) {
        token = tokens_.find(piece);
        if (token >= 0) {
            const Whole whole = whole_[static_cast<size_t>(token)].load(std::memory_order_relaxed);
            if (vocabulary_.ignore_merges || whole == yes) {
                ids.push_back(token);
                return;
            }
            if (whole == no) token = -1;  // known: nothing to learn below
        }
    }
    if (piece.size() > max_short_piece) {
        std::vector<int32_t> symbols;
        symbols.reserve(piece.size());
        for (const char byte : piece) {
            const int32_t id = byte_ids_[static_cast<unsigned char>(byte)];
            if (id >= 0) symbols.push_back(id);
        }
        merge_long(symbols, merges_, vocabulary_.merges);
        ids.insert(ids.end(), symbols.begin(), symbols.end());
        return;
    }
    int32_t symbols[max_short_piece];
    size_t n = 0;
    for (const char byte : piece) {
        const int32_t id = byte_ids_[static_cast<unsigned char>(byte)];
        if (id >= 0) symbols[n++] = id;
    }
    n = merge_short(symbols, n, merges_);
    if (token >= 0) {
        whole_[static_cast<size_t>(token)].store(n == 1 && symbols[0] == token ? yes : no,
                                                 std::memory_order_relaxed);
    }
    ids.insert(ids.end(), symbols, symbols + n);
}

}  // namespace smelt
