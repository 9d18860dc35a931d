#include "text/bpe.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "text/unicode.h"

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

size_t neighbours(char a, char b) {
    return size_t{static_cast<unsigned char>(a)} << 8 | static_cast<unsigned char>(b);
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
    const auto score = [&](const Merge& m) { return v.scores[static_cast<size_t>(m.result)]; };
    for (size_t i = 0, rank = 0; i < v.merges.size(); ++i) {
        const bool tied = i > 0 && !v.scores.empty() && score(v.merges[i]) == score(v.merges[i - 1]);
        if (!tied) rank = i;
        merges_.insert(v.merges[i], static_cast<uint32_t>(rank));
    }
    if (v.sentencepiece) neighbours_ = std::make_unique<std::bitset<65536>>();
    byte_ids_.fill(-1);
    for (int32_t id = 0; id < v.n_tokens(); ++id) {
        const std::string& bytes = v.tokens[static_cast<size_t>(id)];
        const TokenType type = v.types[static_cast<size_t>(id)];
        const TokenType type_of_bytes = v.sentencepiece ? TokenType::byte : TokenType::normal;
        if (type == type_of_bytes && bytes.size() == 1) {
            int32_t& byte_id = byte_ids_[static_cast<unsigned char>(bytes[0])];
            if (byte_id < 0) byte_id = id;
        }
        if (type != TokenType::normal || bytes.empty()) continue;
        tokens_.insert(id);
        longest_token_ = std::max(longest_token_, bytes.size());
        for (size_t i = 1; neighbours_ != nullptr && i < bytes.size(); ++i) {
            neighbours_->set(neighbours(bytes[i - 1], bytes[i]));
        }
    }
}

void BytePairEncoder::encode(std::string_view piece, std::vector<int32_t>& ids) const {
    if (neighbours_ == nullptr) return encode_joined(piece, ids);
    const size_t n_before = ids.size();
    size_t begin = 0;
    for (size_t i = 1; i < piece.size(); ++i) {
        if (neighbours_->test(neighbours(piece[i - 1], piece[i]))) continue;
        encode_joined(piece.substr(begin, i - begin), ids);
        begin = i;
    }
    encode_joined(piece.substr(begin), ids);
    if (vocabulary_.unk < 0) return;
    const auto both_unknown = [&](int32_t a, int32_t b) { return a == vocabulary_.unk && b == a; };
    ids.erase(std::unique(ids.begin() + static_cast<ptrdiff_t>(n_before), ids.end(), both_unknown),
              ids.end());
}

size_t BytePairEncoder::to_symbols(std::string_view piece, int32_t* symbols) const {
    size_t n = 0;
    const char* const end = piece.data() + piece.size();
    for (const char* p = piece.data(); p != end;) {
        const int length = vocabulary_.sentencepiece ? decode_utf8(p, end).length : 1;
        const char* const next = p + length;
        if (vocabulary_.sentencepiece) {
            const int32_t id = tokens_.find({p, static_cast<size_t>(length)});
            if (id >= 0) {
                symbols[n++] = id;
                p = next;
            }
        }
        for (; p != next; ++p) {
            const int32_t id = byte_ids_[static_cast<unsigned char>(*p)];
            if (id >= 0) {
                symbols[n++] = id;
            } else if (vocabulary_.sentencepiece && vocabulary_.unk >= 0) {
                symbols[n++] = vocabulary_.unk;
            }
        }
    }
    return n;
}

void BytePairEncoder::encode_joined(std::string_view piece, std::vector<int32_t>& ids) const {
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
        std::vector<int32_t> symbols(piece.size());
        symbols.resize(to_symbols(piece, symbols.data()));
        merge_long(symbols, merges_);
        ids.insert(ids.end(), symbols.begin(), symbols.end());
        return;
    }
    int32_t symbols[max_short_piece];
    const size_t n = merge_short(symbols, to_symbols(piece, symbols), merges_);
    if (token >= 0) {
        whole_[static_cast<size_t>(token)].store(n == 1 && symbols[0] == token ? yes : no,
                                                 std::memory_order_relaxed);
    }
    ids.insert(ids.end(), symbols, symbols + n);
}

}  // namespace smelt
